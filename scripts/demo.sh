#!/bin/sh
# Serves the demonstration on the loopback interface until Ctrl-C: starts qtls-server --demo, makes one verified request
# with qtls-client, and says what was negotiated and which address to open.
#
#   UPSTREAM=127.0.0.1:3000 scripts/demo.sh    in front of a service of your own
#   QTLS_SERVER_PORT=9443 scripts/demo.sh      on another port than 8443
set -eu

cd "$(dirname "$0")/.."
bin=${QTLS_BIN_DIR:-target/release}
port=${QTLS_SERVER_PORT:-8443}
certificates=${XDG_STATE_HOME:-$HOME/.local/state}/qtls/demo

log=$(mktemp)
server=
stop() {
    trap - INT TERM EXIT
    if [ -n "$server" ] && kill -TERM "$server" 2>/dev/null; then
        wait "$server" || true
    fi
    rm -f "$log"
}
trap stop EXIT
trap 'stop; exit 0' INT TERM

# In the background of a script, a program ignores SIGINT: Ctrl-C reaches this script, which sends SIGTERM.
"$bin/qtls-server" --demo ${UPSTREAM:+--upstream "$UPSTREAM"} 2>"$log" &
server=$!

# The first start makes keys, those of RSA by trial: a slow machine may need a minute.
waited=0
until grep -q 'listening on' "$log"; do
    if ! kill -0 "$server" 2>/dev/null || [ "$waited" -ge 1200 ]; then
        cat "$log" >&2
        echo "demo: qtls-server doesn't listen; its messages are above" >&2
        exit 1
    fi
    waited=$((waited + 1))
    sleep 0.1
done
cat "$log" >&2

echo
ca=$certificates/ca-bundle.pem
case ${UPSTREAM:-} in
    tcp://*)
        # What is spoken behind isn't known: the handshake is what can be shown.
        echo "A verified connection: qtls-client localhost:$port --ca $ca --json"
        echo
        "$bin/qtls-client" "localhost:$port" --ca "$ca" --json || { echo "demo: the connection failed" >&2; exit 1; }
        echo
        echo "Connect to it: qtls-client localhost:$port --ca $ca"
        ;;
    *)
        echo "A verified request: qtls-client localhost:$port --ca $ca --request 'GET /'"
        echo
        "$bin/qtls-client" "localhost:$port" --ca "$ca" --request 'GET /' >/dev/null ||
            { echo "demo: the request failed" >&2; exit 1; }
        cat <<END

Open https://localhost:$port/ in a browser. Its certificate is of a CA made for this demonstration alone:
import $ca for the browser to trust it, or accept its warning.
END
        ;;
esac
echo "Ctrl-C stops the server."

tail -n +$(($(wc -l <"$log") + 1)) -f --pid="$server" "$log" >&2 &
wait "$server"
