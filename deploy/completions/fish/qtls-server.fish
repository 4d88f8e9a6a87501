complete -c qtls-server -l config -d 'The configuration: JSON with comments' -r -F
complete -c qtls-server -l upstream -d 'With --demo: the service to put it in front of, as HOST:PORT or http://HOST:PORT, or tcp://HOST:PORT for any protocol' -r
complete -c qtls-server -l set -d 'Set one key of the configuration, such as server.listen_port=9443; may be given several times' -r
complete -c qtls-server -l test-config -d 'Do everything that a start does, short of opening sockets, and tell what was found'
complete -c qtls-server -l health -d 'Ask the running server of this configuration whether it works (/health), print one line, and exit with 0 or 1. Where the metrics are off, a TLS handshake is made instead'
complete -c qtls-server -l ready -d 'As --health, but ask whether it wants new clients (/ready)'
complete -c qtls-server -l demo -d 'Serve on 127.0.0.1 with certificates of a demo CA, which is made where there is none yet'
complete -c qtls-server -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls-server -s V -l version -d 'Print version'
