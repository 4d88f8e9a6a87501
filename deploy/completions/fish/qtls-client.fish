complete -c qtls-client -l config -d 'Read this configuration' -r -F
complete -c qtls-client -l ca -d 'Trust the CA certificates in this PEM file' -r -F
complete -c qtls-client -l cert -d 'Show this certificate to the server: a PEM chain, leaf first' -r -F
complete -c qtls-client -l key -d 'The private key of the certificate, in PEM' -r -F
complete -c qtls-client -l server-name -d 'Ask for, and verify, this name instead of HOST' -r
complete -c qtls-client -l alpn -d 'Offer these application protocols, separated by commas and most preferred first' -r
complete -c qtls-client -l starttls -d 'Ask for TLS in the words of this protocol: postgres' -r
complete -c qtls-client -l request -d 'Make one HTTP request, such as \'GET /path\', and print the response\'s body' -r
complete -c qtls-client -l tunnel -d 'Carry plain connections to LOCAL over TLS to the server REMOTE, until stopped; may be given several times' -r
complete -c qtls-client -l local-starttls -d 'As --starttls, but on this side only: the servers of --tunnel take TLS at once' -r
complete -c qtls-client -l insecure -d 'Don\'t verify the server: anyone can pretend to be it'
complete -c qtls-client -l pqc-only -d 'Refuse servers without post-quantum key exchange'
complete -c qtls-client -s i -l include -d 'Print the response\'s status line and header before its body'
complete -c qtls-client -l fail -d 'Exit with 22 when the response\'s status is 400 or higher'
complete -c qtls-client -l json -d 'Print what was negotiated as one line of JSON on standard output, then close'
complete -c qtls-client -l stdio -d 'After the line of JSON, connect standard input and output with the server as without --json'
complete -c qtls-client -s q -l quiet -d 'Print nothing but errors on standard error'
complete -c qtls-client -l test-config -d 'Do everything that a start of the tunnels does, short of opening sockets, and tell what was found'
complete -c qtls-client -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls-client -s V -l version -d 'Print version'
