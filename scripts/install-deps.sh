#!/bin/sh
# Installs what is missing; what is there already stays as it is, and a second run does nothing.
#
#   install-deps.sh [--dry-run] MODE
#
#   run      what `make run` and `make build` need: a C compiler and Rust
#   build    that, and what the build with CMake and its `make test` need: CMake, pkg-config
#   test     that, and what `make test` in the sources needs: mmdebstrap, npm, Python, curl, openssl and psql for the peers;
#            logrotate and a journal for the logs; valgrind, a C++ compiler and man for the library
#
#   --dry-run    print the commands instead of running them
#
# Packages come from Debian or Ubuntu (apt-get) or the RHEL family (dnf), as root or through sudo, or from Homebrew on
# macOS. `test` is for Debian 12 and later, and for Ubuntu: the peers are a Debian. Rust comes from rustup (rust-lang.org),
# or on macOS from Homebrew, where no Rust that is new enough is found: into the home of this user, at a fixed version, by
# an installer whose hash is checked.
set -eu

# What is installed where there is nothing: the versions that Q-TLS is developed with.
RUST=1.95.0
RUSTUP=1.29.0
RUSTUP_X86_64=4acc9acc76d5079515b46346a485974457b5a79893cfb01112423c89aeb5aa10
RUSTUP_AARCH64=9732d6c5e2a098d3521fca8145d826ae0aaa067ef2385ead08e6feac88fa5792

cd "$(dirname "$0")/.."
# logrotate is where an ordinary user's PATH doesn't lead. A test that has a system of its own sets QTLS_SYSTEM_PATH.
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH${QTLS_SYSTEM_PATH-:/usr/sbin:/sbin}

usage() {
    echo "usage: install-deps.sh [--dry-run] run|build|test" >&2
    exit 2
}

main() {
    dry=
    mode=
    for argument in "$@"; do
        case $argument in
            --dry-run) dry=yes ;;
            run | build | test) [ -z "$mode" ] || usage; mode=$argument ;;
            *) usage ;;
        esac
    done
    [ -n "$mode" ] || usage
    system=$(the_system)
    # Each word is COMMAND:PACKAGE.
    run="gcc:gcc make:make curl:curl"
    case $system in
        debian)
            build="cmake:cmake pkg-config:pkg-config"
            test="openssl:openssl mmdebstrap:mmdebstrap npm:npm mount:mount logrotate:logrotate ip:iproute2 journalctl:systemd
                psql:postgresql-client python3:python3 valgrind:valgrind g++:g++ man:man-db groff:groff-base"
            # Without root, mmdebstrap needs newuidmap.
            [ "$(id -u)" = 0 ] || test="$test newuidmap:uidmap"
            ;;
        rhel) build="cmake:cmake pkg-config:pkgconf-pkg-config" ;;
        macos)
            # The compiler, make and curl come with Apple's command line tools.
            run=
            build="cmake:cmake pkg-config:pkgconf"
            ;;
    esac
    # shellcheck disable=SC2086 # lists of words
    case $mode in
        run) install_packages $run ;;
        build) install_packages $run $build ;;
        test)
            [ "$system" = debian ] ||
                fail "the mode test is for Debian and Ubuntu: the peers of the tests are a Debian" \
                    "build with CMake, whose make test runs here: install-deps.sh build"
            install_packages $run $build $test
            ;;
    esac
    install_rust
}

say() { echo "install-deps: $*" >&2; }

fail() {
    say "$1"
    [ $# -lt 2 ] || say "hint: $2"
    exit 1
}

# Runs a command, or prints it with --dry-run.
execute() {
    if [ -n "$dry" ]; then
        echo "$*" >&4
    else
        "$@"
    fi
}

# debian, rhel or macos: by the system's own package manager.
the_system() {
    if [ "$(uname -s)" = Darwin ]; then
        echo macos
    elif command -v apt-get >/dev/null 2>&1; then
        echo debian
    elif command -v dnf >/dev/null 2>&1; then
        echo rhel
    else
        fail "there is neither apt-get nor dnf here" \
            "install a C compiler, make, cmake, pkg-config and Rust with the package manager of this system"
    fi
}

install_packages() {
    missing=
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
    done
    case $system in
        macos)
            cc --version >/dev/null 2>&1 ||
                fail "there is no C compiler" "install Apple's command line tools: xcode-select --install"
            ;;
        *)
            # Debian has venv apart from Python.
            case " $* " in
                *" python3:python3 "*) python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv" ;;
            esac
            # Without the headers, the compiler is there and compiles nothing.
            if [ ! -e /usr/include/stdlib.h ]; then
                [ "$system" = debian ] && missing="$missing libc6-dev" || missing="$missing glibc-devel"
            fi
            [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] ||
                missing="$missing ca-certificates"
            ;;
    esac
    [ -n "$missing" ] || return 0
    if [ "$system" = macos ]; then
        command -v brew >/dev/null 2>&1 || fail "missing:$missing, and there is no Homebrew" "install it as https://brew.sh says"
        say "installing from Homebrew:$missing"
        # shellcheck disable=SC2086 # a list of words
        execute brew install $missing
        return 0
    fi
    root=
    if [ "$(id -u)" != 0 ]; then
        root=sudo
        [ -n "$dry" ] || command -v sudo >/dev/null 2>&1 ||
            fail "missing:$missing" "as root: $([ "$system" = debian ] && echo apt-get || echo dnf) install$missing"
    fi
    say "installing:$missing"
    # shellcheck disable=SC2086 # lists of words
    case $system in
        debian)
            execute $root apt-get update -qq
            execute $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 \
                --no-install-recommends $missing >&3
            ;;
        rhel) execute $root dnf install -y $missing >&3 ;;
    esac
}

install_rust() {
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if version=$(cargo --version 2>/dev/null) && at_least "$(echo "$version" | cut -d' ' -f2)" "$needed"; then
        return 0
    fi
    if command -v rustup >/dev/null 2>&1; then
        say "Q-TLS needs Rust $needed or later; installing $RUST with rustup, for this directory"
        execute rustup toolchain install "$RUST" --profile minimal --component clippy --component rustfmt
        execute rustup override set "$RUST" --path .
        return 0
    fi
    if [ "$system" = macos ]; then
        say "Q-TLS needs Rust $needed or later; installing Homebrew's"
        execute brew install rust
        return 0
    fi
    say "Q-TLS needs Rust $needed or later; installing $RUST with rustup $RUSTUP into ${CARGO_HOME:-$HOME/.cargo}"
    case $(uname -m) in
        x86_64) hash=$RUSTUP_X86_64 ;;
        aarch64) hash=$RUSTUP_AARCH64 ;;
        *) fail "there is no pinned rustup for $(uname -m)" "install Rust $needed or later from https://rustup.rs" ;;
    esac
    url=https://static.rust-lang.org/rustup/archive/$RUSTUP/$(uname -m)-unknown-linux-gnu/rustup-init
    if [ -n "$dry" ]; then
        directory=DIRECTORY
    else
        directory=$(mktemp -d)
        trap 'rm -rf "$directory"' EXIT
    fi
    execute curl --proto '=https' --tlsv1.2 -fsS -o "$directory/rustup-init" "$url" ||
        fail "cannot download rustup" "install Rust $needed or later from https://rustup.rs, or check the network"
    if [ -z "$dry" ]; then
        echo "$hash  $directory/rustup-init" | sha256sum --check --quiet ||
            fail "the downloaded rustup is not the one that was pinned"
        chmod +x "$directory/rustup-init"
    fi
    execute "$directory/rustup-init" -y --quiet --no-modify-path --profile minimal --default-toolchain "$RUST" \
        --component clippy --component rustfmt
}

# Whether version $1 is $2 or later.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# What package managers print is no data (3); what --dry-run prints is (4).
main "$@" 3>&2 4>&1
