# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_qtls_bench_global_optspecs
    string join \n h/help V/version
end

function __fish_qtls_bench_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_qtls_bench_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_qtls_bench_using_subcommand
    set -l cmd (__fish_qtls_bench_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c qtls-bench -n "__fish_qtls_bench_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls-bench -n "__fish_qtls_bench_needs_command" -s V -l version -d 'Print version'
complete -c qtls-bench -n "__fish_qtls_bench_needs_command" -f -a "handshakes" -d 'Full handshakes, each on a connection of its own, without resumption'
complete -c qtls-bench -n "__fish_qtls_bench_needs_command" -f -a "resume" -d 'Handshakes that resume a session, each with the ticket of the one before'
complete -c qtls-bench -n "__fish_qtls_bench_needs_command" -f -a "requests" -d 'HTTP/1.1 requests on connections that stay open'
complete -c qtls-bench -n "__fish_qtls_bench_needs_command" -f -a "throughput" -d 'Bodies of HTTP/1.1, down from the server, up to it, or both'
complete -c qtls-bench -n "__fish_qtls_bench_needs_command" -f -a "idle" -d 'The memory of idle connections, and what handshakes cost beside them'
complete -c qtls-bench -n "__fish_qtls_bench_needs_command" -f -a "crypto" -d 'What the cryptography of a handshake and a plain TCP connection cost on this machine: the floor of all servers'
complete -c qtls-bench -n "__fish_qtls_bench_needs_command" -f -a "backend" -d 'A server of plain HTTP/1.1 to stand behind the one that is measured: /bytes/N has N bytes, POST takes any number'
complete -c qtls-bench -n "__fish_qtls_bench_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l ca -d 'Trust the CA certificates in this PEM file; without it, those of the system' -r -F
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l server-name -d 'Ask for, and verify, this name instead of HOST' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l group -d 'Offer this group alone, such as x25519mlkem768 or secp384r1mlkem1024' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l suite -d 'Offer this suite alone: aes-256-gcm, aes-128-gcm or chacha20-poly1305' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l signature -d 'Accept this kind of key alone in the server\'s certificate, such as ecdsa-p256, rsa-2048 or ml-dsa-65' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l certificate -d 'The server has to show the first certificate of this PEM file' -r -F
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l pid -d 'Measure this process and all its children: the port has to be theirs' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -s c -l count -d 'How many to measure' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l warm-up -d 'Do so many before measuring' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l concurrency -d 'So many at a time' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l threads -d 'Generate the load with so many threads' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l rate -d 'Begin so many a second, whatever the server does, and count the latency from when each was due; without it, each begins when one has ended' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l request -d 'On each connection, also make one request for this path' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -l json -d 'Print one line of JSON instead of text'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand handshakes" -s h -l help -d 'Print help'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l ca -d 'Trust the CA certificates in this PEM file; without it, those of the system' -r -F
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l server-name -d 'Ask for, and verify, this name instead of HOST' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l group -d 'Offer this group alone, such as x25519mlkem768 or secp384r1mlkem1024' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l suite -d 'Offer this suite alone: aes-256-gcm, aes-128-gcm or chacha20-poly1305' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l signature -d 'Accept this kind of key alone in the server\'s certificate, such as ecdsa-p256, rsa-2048 or ml-dsa-65' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l certificate -d 'The server has to show the first certificate of this PEM file' -r -F
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l pid -d 'Measure this process and all its children: the port has to be theirs' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -s c -l count -d 'How many to measure' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l warm-up -d 'Do so many before measuring' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l concurrency -d 'So many at a time' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l threads -d 'Generate the load with so many threads' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l rate -d 'Begin so many a second, whatever the server does, and count the latency from when each was due; without it, each begins when one has ended' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l request -d 'On each connection, also make one request for this path' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -l json -d 'Print one line of JSON instead of text'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand resume" -s h -l help -d 'Print help'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l ca -d 'Trust the CA certificates in this PEM file; without it, those of the system' -r -F
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l server-name -d 'Ask for, and verify, this name instead of HOST' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l group -d 'Offer this group alone, such as x25519mlkem768 or secp384r1mlkem1024' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l suite -d 'Offer this suite alone: aes-256-gcm, aes-128-gcm or chacha20-poly1305' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l signature -d 'Accept this kind of key alone in the server\'s certificate, such as ecdsa-p256, rsa-2048 or ml-dsa-65' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l certificate -d 'The server has to show the first certificate of this PEM file' -r -F
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l pid -d 'Measure this process and all its children: the port has to be theirs' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -s c -l count -d 'How many to measure' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l warm-up -d 'Do so many before measuring' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l concurrency -d 'So many at a time' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l threads -d 'Generate the load with so many threads' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l rate -d 'Begin so many a second, whatever the server does, and count the latency from when each was due; without it, each begins when one has ended' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l path -d 'What to ask for' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l per-connection -d 'So many requests on each connection, then a new one; without it, one connection for all' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -l json -d 'Print one line of JSON instead of text'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand requests" -s h -l help -d 'Print help'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -l ca -d 'Trust the CA certificates in this PEM file; without it, those of the system' -r -F
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -l server-name -d 'Ask for, and verify, this name instead of HOST' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -l group -d 'Offer this group alone, such as x25519mlkem768 or secp384r1mlkem1024' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -l suite -d 'Offer this suite alone: aes-256-gcm, aes-128-gcm or chacha20-poly1305' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -l signature -d 'Accept this kind of key alone in the server\'s certificate, such as ecdsa-p256, rsa-2048 or ml-dsa-65' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -l certificate -d 'The server has to show the first certificate of this PEM file' -r -F
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -l pid -d 'Measure this process and all its children: the port has to be theirs' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -l bytes -d 'So many bytes in all, such as 2G or 500M' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -l body -d 'So many bytes in one body' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -l direction -d 'Which way' -r -f -a "down\t'From the server: GET /bytes/N'
up\t'To the server: POST /'
both\t'Half of the connections each'"
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -l concurrency -d 'So many connections at a time' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -l json -d 'Print one line of JSON instead of text'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand throughput" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -l ca -d 'Trust the CA certificates in this PEM file; without it, those of the system' -r -F
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -l server-name -d 'Ask for, and verify, this name instead of HOST' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -l group -d 'Offer this group alone, such as x25519mlkem768 or secp384r1mlkem1024' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -l suite -d 'Offer this suite alone: aes-256-gcm, aes-128-gcm or chacha20-poly1305' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -l signature -d 'Accept this kind of key alone in the server\'s certificate, such as ecdsa-p256, rsa-2048 or ml-dsa-65' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -l certificate -d 'The server has to show the first certificate of this PEM file' -r -F
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -l pid -d 'Measure this process and all its children: the port has to be theirs' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -s c -l connections -d 'How many idle connections' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -l request -d 'First make one request for this path on each' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -l newcomers -d 'Before and beside the idle ones, measure so many handshakes' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -l settle -d 'Let the server come to rest for so many seconds before its memory is read' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -l json -d 'Print one line of JSON instead of text'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand idle" -s h -l help -d 'Print help'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand crypto" -s c -l count -d 'Repeat each so many times' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand crypto" -l group -d 'Measure this group alone, such as x25519mlkem768' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand crypto" -l signature -d 'Measure signatures of this kind of key alone, such as ecdsa-p256' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand crypto" -l json -d 'Print one line of JSON instead of text'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand crypto" -s h -l help -d 'Print help'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand backend" -l listen -d 'Where to listen; port 0 has the system choose one, which is printed' -r
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand backend" -s h -l help -d 'Print help'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand help; and not __fish_seen_subcommand_from handshakes resume requests throughput idle crypto backend help" -f -a "handshakes" -d 'Full handshakes, each on a connection of its own, without resumption'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand help; and not __fish_seen_subcommand_from handshakes resume requests throughput idle crypto backend help" -f -a "resume" -d 'Handshakes that resume a session, each with the ticket of the one before'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand help; and not __fish_seen_subcommand_from handshakes resume requests throughput idle crypto backend help" -f -a "requests" -d 'HTTP/1.1 requests on connections that stay open'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand help; and not __fish_seen_subcommand_from handshakes resume requests throughput idle crypto backend help" -f -a "throughput" -d 'Bodies of HTTP/1.1, down from the server, up to it, or both'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand help; and not __fish_seen_subcommand_from handshakes resume requests throughput idle crypto backend help" -f -a "idle" -d 'The memory of idle connections, and what handshakes cost beside them'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand help; and not __fish_seen_subcommand_from handshakes resume requests throughput idle crypto backend help" -f -a "crypto" -d 'What the cryptography of a handshake and a plain TCP connection cost on this machine: the floor of all servers'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand help; and not __fish_seen_subcommand_from handshakes resume requests throughput idle crypto backend help" -f -a "backend" -d 'A server of plain HTTP/1.1 to stand behind the one that is measured: /bytes/N has N bytes, POST takes any number'
complete -c qtls-bench -n "__fish_qtls_bench_using_subcommand help; and not __fish_seen_subcommand_from handshakes resume requests throughput idle crypto backend help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
