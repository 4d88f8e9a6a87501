#!/bin/sh
# Everything that `make test` checks, in sections: each prints its name and its time, and the first one that fails
# prints its log and ends the run.
#
#   test.sh                  all sections
#   test.sh SECTION...       these, for example: test.sh fmt clippy interop:openssl_clients
set -eu

cd "$(dirname "$0")/.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
export CARGO_TERM_COLOR=never

logs=target/test-logs
mkdir -p "$logs"
started=$(date +%s)

# One package selection and one profile for everything, so that nothing is compiled twice.
cargo_test() { cargo test --quiet --workspace "$@"; }

# The integration tests in a directory, as arguments for cargo: --test NAME --test NAME…
targets() { ls "$@" 2>/dev/null | sed -e 's|.*/||' -e 's|\.rs$||' -e 's|^|--test |'; }

interop=$(ls tests/interop/tests/*.rs | sed -e 's|.*/||' -e 's|\.rs$||')

run_section() {
    case $1 in
        fmt) cargo fmt --all --check -- --color never ;;
        peers) tests/interop/peers/setup.sh ;;
        build) cargo build --workspace --bins && cargo test --workspace --no-run ;;
        clippy) cargo clippy --workspace --all-targets -- -D warnings ;;
        deny) scripts/cargo-deny.sh ;;
        xtask) target/debug/xtask check ;;
        # shellcheck disable=SC2046 # a list of arguments
        unit) cargo_test --lib --bins $(targets crates/*/tests/*.rs xtask/tests/*.rs) ;;
        doc) cargo_test --doc ;;
        # Its own workspace, in the same target directory.
        fuzz) (cd fuzz && export CARGO_TARGET_DIR=../target && cargo fmt --check &&
                cargo clippy --quiet --all-targets --locked -- -D warnings && cargo test --quiet --locked &&
                cargo run --quiet --locked --bin replay) ;;
        interop:*) cargo_test --test "${1#interop:}" ;;
        *) echo "no such section: $1" >&2; return 2 ;;
    esac
}

# Sets `ended` and `took`. A subshell with `set -e` of its own: in a condition, it would be switched off.
section() {
    printf '== %-28s ' "$1"
    begin=$(date +%s)
    log=$logs/$(echo "$1" | tr : -).log
    set +e
    (set -e; run_section "$1") >"$log" 2>&1
    ended=$?
    set -e
    took=$(($(date +%s) - begin))
    if [ "$ended" != 0 ]; then
        echo "FAILED after ${took} s; its log:"
        cat "$log"
        echo "== $1 failed: $log"
        exit 1
    fi
    echo "ok, ${took} s$(sed -n 's/^SKIPPED: /; skipped: /p' "$log")"
}

if [ $# = 0 ]; then
    set -- fmt peers build clippy deny xtask unit doc fuzz
    for suite in $interop; do
        set -- "$@" "interop:$suite"
    done
fi
for name in "$@"; do
    section "$name"
done
echo "== all ok, $(($(date +%s) - started)) s"
