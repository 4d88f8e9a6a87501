#!/bin/sh
# Installs what is missing on Debian 12 or later; what is there already stays as it is.
#
#   install-deps.sh run     what `make run` and `make build` need: a C compiler and Rust
#   install-deps.sh test    that, and what `make test` needs: mmdebstrap, npm, curl and openssl for the peers
#
# Packages come from Debian, as root or through sudo. Rust comes from rustup (rust-lang.org), where no Rust that is new
# enough is found: into the home of this user, at a fixed version, by an installer whose hash is checked.
set -eu

# What is installed where there is nothing: the versions that Q-TLS is developed with.
RUST=1.95.0
RUSTUP=1.29.0
RUSTUP_X86_64=4acc9acc76d5079515b46346a485974457b5a79893cfb01112423c89aeb5aa10
RUSTUP_AARCH64=9732d6c5e2a098d3521fca8145d826ae0aaa067ef2385ead08e6feac88fa5792

cd "$(dirname "$0")/.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH

main() {
    case ${1:-} in
        run) install_packages gcc:gcc make:make curl:curl ;;
        test)
            # Without root, mmdebstrap needs newuidmap.
            [ "$(id -u)" = 0 ] && unprivileged= || unprivileged=newuidmap:uidmap
            # shellcheck disable=SC2086 # nothing or one argument
            install_packages gcc:gcc make:make curl:curl openssl:openssl mmdebstrap:mmdebstrap npm:npm mount:mount \
                $unprivileged
            ;;
        *) echo "usage: install-deps.sh run|test" >&2; exit 2 ;;
    esac
    install_rust
}

say() { echo "install-deps: $*" >&2; }

fail() {
    say "$1"
    [ $# -lt 2 ] || say "hint: $2"
    exit 1
}

# Each argument is COMMAND:PACKAGE; packages are installed for the commands that are missing.
install_packages() {
    missing=
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
    done
    # Without the headers, the compiler is there and compiles nothing.
    [ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
    [ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null 2>&1 ||
        fail "missing:$missing, and this is not Debian" "install these packages with the package manager of this system"
    root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 || fail "missing:$missing" "as root: apt-get install$missing"
        root=sudo
    fi
    say "installing from Debian:$missing"
    # shellcheck disable=SC2086 # lists of words
    $root apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends $missing >&2
}

install_rust() {
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if version=$(cargo --version 2>/dev/null) && at_least "$(echo "$version" | cut -d' ' -f2)" "$needed"; then
        return 0
    fi
    if command -v rustup >/dev/null 2>&1; then
        say "Q-TLS needs Rust $needed or later; installing $RUST with rustup, for this directory"
        rustup toolchain install "$RUST" --profile minimal --component clippy --component rustfmt
        rustup override set "$RUST" --path .
        return 0
    fi
    say "Q-TLS needs Rust $needed or later; installing $RUST with rustup $RUSTUP into ${CARGO_HOME:-$HOME/.cargo}"
    case $(uname -m) in
        x86_64) hash=$RUSTUP_X86_64 ;;
        aarch64) hash=$RUSTUP_AARCH64 ;;
        *) fail "there is no pinned rustup for $(uname -m)" "install Rust $needed or later from https://rustup.rs" ;;
    esac
    directory=$(mktemp -d)
    trap 'rm -rf "$directory"' EXIT
    curl --proto '=https' --tlsv1.2 -fsS -o "$directory/rustup-init" \
        "https://static.rust-lang.org/rustup/archive/$RUSTUP/$(uname -m)-unknown-linux-gnu/rustup-init" ||
        fail "cannot download rustup" "install Rust $needed or later from https://rustup.rs, or check the network"
    echo "$hash  $directory/rustup-init" | sha256sum --check --quiet ||
        fail "the downloaded rustup is not the one that was pinned"
    chmod +x "$directory/rustup-init"
    "$directory/rustup-init" -y --quiet --no-modify-path --profile minimal --default-toolchain "$RUST" \
        --component clippy --component rustfmt
}

# Whether version $1 is $2 or later.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

main "$@"
