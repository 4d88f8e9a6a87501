# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_qtls_global_optspecs
    string join \n h/help V/version
end

function __fish_qtls_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_qtls_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_qtls_using_subcommand
    set -l cmd (__fish_qtls_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c qtls -n "__fish_qtls_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls -n "__fish_qtls_needs_command" -s V -l version -d 'Print version'
complete -c qtls -n "__fish_qtls_needs_command" -f -a "ca" -d 'Run a certification authority: issue, list, revoke, back up'
complete -c qtls -n "__fish_qtls_needs_command" -f -a "crl" -d 'Make the revocation lists of a CA anew: each in DER and in PEM'
complete -c qtls -n "__fish_qtls_needs_command" -f -a "csr" -d 'Make a request for a certificate (PKCS#10), signed by its key'
complete -c qtls -n "__fish_qtls_needs_command" -f -a "inspect" -d 'Show what is in a certificate, chain, request, revocation list or key, or what a server sends; with its problems'
complete -c qtls -n "__fish_qtls_needs_command" -f -a "keygen" -d 'Make a private key'
complete -c qtls -n "__fish_qtls_needs_command" -f -a "quickstart" -d 'Make a CA, certificates for a server and a client, and configurations that use them'
complete -c qtls -n "__fish_qtls_needs_command" -f -a "explain" -d 'Tell which group and certificate a client would get, and why, without connecting'
complete -c qtls -n "__fish_qtls_needs_command" -f -a "report" -d 'Tell from logs who would break under a stricter policy, and what to do about it'
complete -c qtls -n "__fish_qtls_needs_command" -f -a "ticket-keys" -d 'Make and rotate the keys of session tickets that several servers share (`tls.ticket_keys`)'
complete -c qtls -n "__fish_qtls_needs_command" -f -a "verify" -d 'Verify a certificate as a TLS handshake would: prints the path, and on failure which certificate broke which rule'
complete -c qtls -n "__fish_qtls_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and not __fish_seen_subcommand_from init issue revoke list show backup restore help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and not __fish_seen_subcommand_from init issue revoke list show backup restore help" -f -a "init" -d 'Make a CA: for each algorithm a root (20 years), and below it a TLS CA and a signing CA (10 years)'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and not __fish_seen_subcommand_from init issue revoke list show backup restore help" -f -a "issue" -d 'Issue a certificate (1 year): from a request, or with a new key'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and not __fish_seen_subcommand_from init issue revoke list show backup restore help" -f -a "revoke" -d 'Revoke a certificate, and write the new revocation list'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and not __fish_seen_subcommand_from init issue revoke list show backup restore help" -f -a "list" -d 'List what was issued, and what became of it'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and not __fish_seen_subcommand_from init issue revoke list show backup restore help" -f -a "show" -d 'Print a certificate that was issued, with its chain, as PEM'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and not __fish_seen_subcommand_from init issue revoke list show backup restore help" -f -a "backup" -d 'Write the whole CA into one file (tar), readable by its owner alone'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and not __fish_seen_subcommand_from init issue revoke list show backup restore help" -f -a "restore" -d 'Make the directory of a CA from a backup'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and not __fish_seen_subcommand_from init issue revoke list show backup restore help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from init" -l dir -d 'The directory of the CA' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from init" -l alg -d 'The algorithms; with several, certificates are issued in matching sets, as `ecdsa-p384,ml-dsa-65`' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from init" -l name -d 'What the names of the CAs begin with, in any script' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from init" -l org -d 'The organization in the names of the CAs, in any script' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from init" -l crl-url -d 'Where the revocation lists will be found; {ca} stands for the CA\'s file name: http://pki.example/{ca}.crl' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from init" -l issuer-url -d 'Where the CAs\' own certificates will be found, in DER; {ca} as above' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from init" -l ocsp-url -d 'Where an OCSP responder is found' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from init" -l path-length -d 'How many further CAs may stand below the TLS CA' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from init" -l passphrase-file -d 'A file whose one line is the passphrase of the private keys' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from init" -l passphrase-env -d 'The environment variable that holds the passphrase of the private keys' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l dir -d 'The directory of the CA' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l csr -d 'The request to answer; its key stays where it is' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l name -d 'A name of the holder: host, IP address, `URI:…` or `email:…`; with --csr, a name of it to grant' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l cn -d 'The common name, in any script; the first DNS name by default' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l org -d 'The organization, in any script' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l alg -d 'Which algorithms of the CA issue; all by default, and for a request the one of its key, or else the first' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l issuer -d 'Which CA issues: by default the TLS CA for servers and clients, the signing CA for signers, the root for CAs' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l path-length -d 'For an intermediate: how many further CAs may stand below it' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l days -d 'How many days the certificate holds' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l crl-url -d 'Where the issuer\'s revocation list is found, instead of what `ca init` was given; {ca} stands for its file name' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l issuer-url -d 'Where the issuer\'s certificate is found, instead of what `ca init` was given' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l ocsp-url -d 'Where an OCSP responder is found, instead of what `ca init` was given' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l out -d 'The directory for the certificate; the CA\'s certs/ by default' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l as -d 'What the files are called; by default after what the certificate is for' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l passphrase-file -d 'A file whose one line is the passphrase of the private keys' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -l passphrase-env -d 'The environment variable that holds the passphrase of the private keys' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from issue" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from revoke" -l dir -d 'The directory of the CA' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from revoke" -l reason -d 'Why: keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from revoke" -l passphrase-file -d 'A file whose one line is the passphrase of the private keys' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from revoke" -l passphrase-env -d 'The environment variable that holds the passphrase of the private keys' -r
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from revoke" -l no-crl -d 'Only record it; the list is then made with `qtls crl`'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from list" -l dir -d 'The directory of the CA' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from list" -l json -d 'As one JSON array'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from show" -l dir -d 'The directory of the CA' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from backup" -l dir -d 'The directory of the CA' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from backup" -l out -d 'The file to make' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from backup" -s h -l help -d 'Print help'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from restore" -l dir -d 'The directory to make; it must not exist yet, or be empty' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from restore" -s h -l help -d 'Print help'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from help" -f -a "init" -d 'Make a CA: for each algorithm a root (20 years), and below it a TLS CA and a signing CA (10 years)'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from help" -f -a "issue" -d 'Issue a certificate (1 year): from a request, or with a new key'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from help" -f -a "revoke" -d 'Revoke a certificate, and write the new revocation list'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from help" -f -a "list" -d 'List what was issued, and what became of it'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from help" -f -a "show" -d 'Print a certificate that was issued, with its chain, as PEM'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from help" -f -a "backup" -d 'Write the whole CA into one file (tar), readable by its owner alone'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from help" -f -a "restore" -d 'Make the directory of a CA from a backup'
complete -c qtls -n "__fish_qtls_using_subcommand ca; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c qtls -n "__fish_qtls_using_subcommand crl" -l dir -d 'The directory of the CA' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand crl" -l issuer -d 'Whose: root, tls or signing; all by default. The keys of the others may then be elsewhere' -r
complete -c qtls -n "__fish_qtls_using_subcommand crl" -l alg -d 'Of which algorithms; all by default' -r
complete -c qtls -n "__fish_qtls_using_subcommand crl" -l days -d 'How many days a list holds: the next one must be published within this time' -r
complete -c qtls -n "__fish_qtls_using_subcommand crl" -l passphrase-file -d 'A file whose one line is the passphrase of the private keys' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand crl" -l passphrase-env -d 'The environment variable that holds the passphrase of the private keys' -r
complete -c qtls -n "__fish_qtls_using_subcommand crl" -s h -l help -d 'Print help'
complete -c qtls -n "__fish_qtls_using_subcommand csr" -l key -d 'The private key, as `qtls keygen` makes it' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand csr" -l name -d 'A name or IP address of the holder, or `URI:…`, or `email:…`; may be given several times' -r
complete -c qtls -n "__fish_qtls_using_subcommand csr" -l cn -d 'The common name, in any script; the first DNS name by default' -r
complete -c qtls -n "__fish_qtls_using_subcommand csr" -l org -d 'The organization, in any script' -r
complete -c qtls -n "__fish_qtls_using_subcommand csr" -l out -d 'The file to make; standard output by default' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand csr" -l passphrase-file -d 'A file whose one line is the passphrase of the private keys' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand csr" -l passphrase-env -d 'The environment variable that holds the passphrase of the private keys' -r
complete -c qtls -n "__fish_qtls_using_subcommand csr" -s h -l help -d 'Print help'
complete -c qtls -n "__fish_qtls_using_subcommand inspect" -l starttls -d 'Ask the server for TLS in the words of this protocol: postgres' -r
complete -c qtls -n "__fish_qtls_using_subcommand inspect" -l passphrase-file -d 'A file whose one line is the passphrase of the private keys' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand inspect" -l passphrase-env -d 'The environment variable that holds the passphrase of the private keys' -r
complete -c qtls -n "__fish_qtls_using_subcommand inspect" -l json -d 'As one JSON object'
complete -c qtls -n "__fish_qtls_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls -n "__fish_qtls_using_subcommand keygen" -l alg -d 'The kind of key: ml-dsa-44, -65 or -87, ecdsa-p256, -p384 or -p521, ed25519, rsa-2048, -3072 or -4096' -r
complete -c qtls -n "__fish_qtls_using_subcommand keygen" -l out -d 'The file to make' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand keygen" -l passphrase-file -d 'A file whose one line is the passphrase of the private keys' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand keygen" -l passphrase-env -d 'The environment variable that holds the passphrase of the private keys' -r
complete -c qtls -n "__fish_qtls_using_subcommand keygen" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls -n "__fish_qtls_using_subcommand quickstart" -l dir -d 'The directory to make; it must not exist yet, or be empty' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand quickstart" -l name -d 'A name or IP address that clients reach the server by; may be given several times' -r
complete -c qtls -n "__fish_qtls_using_subcommand quickstart" -l alg -d 'Which certificates get the plain names such as server-cert.pem; browsers accept the default and rsa-4096' -r -f -a "ecdsa-p384\t''
rsa-4096\t''
ml-dsa-65\t''"
complete -c qtls -n "__fish_qtls_using_subcommand quickstart" -l port -d 'The port that the server of server.json listens on' -r
complete -c qtls -n "__fish_qtls_using_subcommand quickstart" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls -n "__fish_qtls_using_subcommand explain" -l config -d 'The server\'s configuration' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand explain" -l clienthello -d 'What a client sends first, in binary: TLS records, or the handshake message alone' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand explain" -l client -d 'A program whose ClientHello is built in' -r -f -a "chromium\t''
openssl-3.5\t''
openssl-3.0\t''
curl-openssl-3.5\t''
curl-openssl-3.0\t''
node-24\t''
go-1.26\t''"
complete -c qtls -n "__fish_qtls_using_subcommand explain" -l server-name -d 'Have the client ask for this name instead of the one in its ClientHello, which is localhost in those built in' -r
complete -c qtls -n "__fish_qtls_using_subcommand explain" -l from -d 'The address that the client comes from, for certificates that are kept to networks' -r
complete -c qtls -n "__fish_qtls_using_subcommand explain" -l json -d 'Print one JSON object'
complete -c qtls -n "__fish_qtls_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls -n "__fish_qtls_using_subcommand report" -l config -d 'The configuration that was in force: policies and certificates of each name, and its tls.report is tried too' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand report" -l policy -d 'Another configuration of the server, whose policies and certificates are tried; without --try, only these' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand report" -l try -d 'Try only this; may be given several times' -r -f -a "pqc_only\t'Post-quantum key exchange only: `tls.pqc_only`'
cnsa2\t'The profile of CNSA 2.0: `tls.profile`'
without-rsa\t'No RSA certificates: `algorithms.signature` without them'"
complete -c qtls -n "__fish_qtls_using_subcommand report" -l since -d 'Leave out what was before: 2026-11-22, 2026-11-22T10:00:00Z, or 7d, 12h, 30m ago' -r
complete -c qtls -n "__fish_qtls_using_subcommand report" -l until -d 'Leave out what was then or later' -r
complete -c qtls -n "__fish_qtls_using_subcommand report" -l limit -d 'How many networks and names to show for each cause' -r
complete -c qtls -n "__fish_qtls_using_subcommand report" -l json -d 'Print one JSON object, with all networks and names'
complete -c qtls -n "__fish_qtls_using_subcommand report" -l fail-if-any -d 'End with exit code 20 where somebody would break under something that is tried'
complete -c qtls -n "__fish_qtls_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls -n "__fish_qtls_using_subcommand ticket-keys; and not __fish_seen_subcommand_from generate rotate help" -s h -l help -d 'Print help'
complete -c qtls -n "__fish_qtls_using_subcommand ticket-keys; and not __fish_seen_subcommand_from generate rotate help" -f -a "generate" -d 'Make a file with a key and the one after it, or with `--secret` a secret that servers derive their keys from'
complete -c qtls -n "__fish_qtls_using_subcommand ticket-keys; and not __fish_seen_subcommand_from generate rotate help" -f -a "rotate" -d 'Let the prepared key encrypt, prepare another, and leave out the oldest'
complete -c qtls -n "__fish_qtls_using_subcommand ticket-keys; and not __fish_seen_subcommand_from generate rotate help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c qtls -n "__fish_qtls_using_subcommand ticket-keys; and __fish_seen_subcommand_from generate" -l secret -d 'Make a secret (`tls.ticket_keys.secret_file`): its keys follow from the time, and nothing is ever rotated'
complete -c qtls -n "__fish_qtls_using_subcommand ticket-keys; and __fish_seen_subcommand_from generate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls -n "__fish_qtls_using_subcommand ticket-keys; and __fish_seen_subcommand_from rotate" -l keep -d 'How many of the keys that only decrypt stay: enough for all rotations within `session_timeout`' -r
complete -c qtls -n "__fish_qtls_using_subcommand ticket-keys; and __fish_seen_subcommand_from rotate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls -n "__fish_qtls_using_subcommand ticket-keys; and __fish_seen_subcommand_from help" -f -a "generate" -d 'Make a file with a key and the one after it, or with `--secret` a secret that servers derive their keys from'
complete -c qtls -n "__fish_qtls_using_subcommand ticket-keys; and __fish_seen_subcommand_from help" -f -a "rotate" -d 'Let the prepared key encrypt, prepare another, and leave out the oldest'
complete -c qtls -n "__fish_qtls_using_subcommand ticket-keys; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c qtls -n "__fish_qtls_using_subcommand verify" -l ca -d 'The trust anchors, a file or a directory; the system\'s by default' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand verify" -l untrusted -d 'Further intermediates, for a file that has none' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand verify" -l name -d 'The name or address that a client asks for' -r
complete -c qtls -n "__fish_qtls_using_subcommand verify" -l purpose -d 'Which side of a connection it is for' -r -f -a "server\t'A TLS server'
client\t'A TLS client'"
complete -c qtls -n "__fish_qtls_using_subcommand verify" -l depth -d 'How many intermediates may stand between the leaf and the anchor, as verify_depth' -r
complete -c qtls -n "__fish_qtls_using_subcommand verify" -l crl -d 'Revocation lists in PEM or DER; with any, each certificate but the anchor needs one of its issuer' -r -F
complete -c qtls -n "__fish_qtls_using_subcommand verify" -l at -d 'When, as 2027-01-31 or 2027-01-31T12:00:00Z; now by default' -r
complete -c qtls -n "__fish_qtls_using_subcommand verify" -l json -d 'As one JSON object'
complete -c qtls -n "__fish_qtls_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls -n "__fish_qtls_using_subcommand help; and not __fish_seen_subcommand_from ca crl csr inspect keygen quickstart explain report ticket-keys verify help" -f -a "ca" -d 'Run a certification authority: issue, list, revoke, back up'
complete -c qtls -n "__fish_qtls_using_subcommand help; and not __fish_seen_subcommand_from ca crl csr inspect keygen quickstart explain report ticket-keys verify help" -f -a "crl" -d 'Make the revocation lists of a CA anew: each in DER and in PEM'
complete -c qtls -n "__fish_qtls_using_subcommand help; and not __fish_seen_subcommand_from ca crl csr inspect keygen quickstart explain report ticket-keys verify help" -f -a "csr" -d 'Make a request for a certificate (PKCS#10), signed by its key'
complete -c qtls -n "__fish_qtls_using_subcommand help; and not __fish_seen_subcommand_from ca crl csr inspect keygen quickstart explain report ticket-keys verify help" -f -a "inspect" -d 'Show what is in a certificate, chain, request, revocation list or key, or what a server sends; with its problems'
complete -c qtls -n "__fish_qtls_using_subcommand help; and not __fish_seen_subcommand_from ca crl csr inspect keygen quickstart explain report ticket-keys verify help" -f -a "keygen" -d 'Make a private key'
complete -c qtls -n "__fish_qtls_using_subcommand help; and not __fish_seen_subcommand_from ca crl csr inspect keygen quickstart explain report ticket-keys verify help" -f -a "quickstart" -d 'Make a CA, certificates for a server and a client, and configurations that use them'
complete -c qtls -n "__fish_qtls_using_subcommand help; and not __fish_seen_subcommand_from ca crl csr inspect keygen quickstart explain report ticket-keys verify help" -f -a "explain" -d 'Tell which group and certificate a client would get, and why, without connecting'
complete -c qtls -n "__fish_qtls_using_subcommand help; and not __fish_seen_subcommand_from ca crl csr inspect keygen quickstart explain report ticket-keys verify help" -f -a "report" -d 'Tell from logs who would break under a stricter policy, and what to do about it'
complete -c qtls -n "__fish_qtls_using_subcommand help; and not __fish_seen_subcommand_from ca crl csr inspect keygen quickstart explain report ticket-keys verify help" -f -a "ticket-keys" -d 'Make and rotate the keys of session tickets that several servers share (`tls.ticket_keys`)'
complete -c qtls -n "__fish_qtls_using_subcommand help; and not __fish_seen_subcommand_from ca crl csr inspect keygen quickstart explain report ticket-keys verify help" -f -a "verify" -d 'Verify a certificate as a TLS handshake would: prints the path, and on failure which certificate broke which rule'
complete -c qtls -n "__fish_qtls_using_subcommand help; and not __fish_seen_subcommand_from ca crl csr inspect keygen quickstart explain report ticket-keys verify help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c qtls -n "__fish_qtls_using_subcommand help; and __fish_seen_subcommand_from ca" -f -a "init" -d 'Make a CA: for each algorithm a root (20 years), and below it a TLS CA and a signing CA (10 years)'
complete -c qtls -n "__fish_qtls_using_subcommand help; and __fish_seen_subcommand_from ca" -f -a "issue" -d 'Issue a certificate (1 year): from a request, or with a new key'
complete -c qtls -n "__fish_qtls_using_subcommand help; and __fish_seen_subcommand_from ca" -f -a "revoke" -d 'Revoke a certificate, and write the new revocation list'
complete -c qtls -n "__fish_qtls_using_subcommand help; and __fish_seen_subcommand_from ca" -f -a "list" -d 'List what was issued, and what became of it'
complete -c qtls -n "__fish_qtls_using_subcommand help; and __fish_seen_subcommand_from ca" -f -a "show" -d 'Print a certificate that was issued, with its chain, as PEM'
complete -c qtls -n "__fish_qtls_using_subcommand help; and __fish_seen_subcommand_from ca" -f -a "backup" -d 'Write the whole CA into one file (tar), readable by its owner alone'
complete -c qtls -n "__fish_qtls_using_subcommand help; and __fish_seen_subcommand_from ca" -f -a "restore" -d 'Make the directory of a CA from a backup'
complete -c qtls -n "__fish_qtls_using_subcommand help; and __fish_seen_subcommand_from ticket-keys" -f -a "generate" -d 'Make a file with a key and the one after it, or with `--secret` a secret that servers derive their keys from'
complete -c qtls -n "__fish_qtls_using_subcommand help; and __fish_seen_subcommand_from ticket-keys" -f -a "rotate" -d 'Let the prepared key encrypt, prepare another, and leave out the oldest'
