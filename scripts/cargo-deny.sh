#!/bin/sh
# Checks the dependencies against deny.toml: bans, licenses, sources and, where the advisory database can be fetched,
# advisories. cargo-deny is built once, at a fixed version, into a cache of this user.
set -eu

VERSION=0.20.2

cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/qtls
installed=$cache/cargo-deny-$VERSION

if [ ! -d "$installed" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/.cargo-deny.lock"
    flock 9
fi
if [ ! -d "$installed" ]; then
    echo "building cargo-deny $VERSION"
    new=$cache/.new-cargo-deny
    rm -rf "$new"
    # It runs for a second: time spent on optimising it would never come back.
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_TARGET_DIR="$new/target" cargo install --quiet --locked --root "$new" --version "=$VERSION" cargo-deny
    rm -rf "$new/target"
    mv "$new" "$installed"
fi

deny=$installed/bin/cargo-deny
"$deny" check bans licenses sources
if reason=$("$deny" fetch db 2>&1); then
    "$deny" check --disable-fetch advisories
else
    echo "SKIPPED: advisories. The advisory database cannot be fetched:"
    echo "$reason" | sed 's/^/    /'
fi
