//! What `--help` says beyond the options themselves.

/// The top of `--help`.
pub(super) const ABOUT: &str = "\
Connect to a TLS 1.3 server with post-quantum key exchange, and show what was negotiated.

The server is verified. What was negotiated is printed on standard error (or, with --json, on standard output). Then \
standard input goes to the server and what the server sends to standard output, byte for byte, until the server \
closes; or with --request one HTTP request is made.";

/// The end of `-h`.
pub(super) const SHORT: &str = "\
Exit codes: 0 success, 1 internal error, 2 usage or configuration, 3 connection, 4 verification, 5 handshake refused, \
6 policy, 22 HTTP status with --fail. `--help` says more.";

/// The end of `--help`. Lines fit 80 columns: where a terminal is narrower, they are broken once more.
pub(super) const LONG: &str = "\
Input and output:
  The end of standard input is passed on (close_notify), and the client goes on
  reading until the server closes. A server's end without close_notify may have
  been cut off by someone on the way: what came is printed, and the exit code
  is 3.

  --json prints one object, on one line of standard output:
    version, group, post_quantum, suite, scheme, alpn, server_name, resumed,
    hello_retry_request, certificate (which one the server chose: always null)
    address    the address and port that were connected to
    verified   whether the server was verified
    peer       subject, issuer, not_after, dns_names, ip_addresses and key of
               its certificate; null where that can't be read
  Then the connection is closed. For up to 2 seconds the client waits for the
  server to refuse it after all: in TLS 1.3 a server judges the client's
  certificate when the client's handshake is complete. With --stdio it goes on
  as without --json instead. With --request the line is printed after the
  response, and has it inside:
    response   status, version, headers (each name with a list of values), and
               body, or body_base64 where the body is not UTF-8; up to 16 MiB

  --quiet leaves errors, and the warning that the server is not verified.

Configuration:
  Precedence: command line, environment, file, default. The keys are:
    client         server_host, server_port, connect_timeout, read_timeout,
                   write_timeout, max_retries, worker_threads,
                   max_connections, drain_timeout, user
    tls            protocol_version, profile, hybrid_mode, pqc_only,
                   server_name_indication, verify_peer
    certificates   client_cert, client_key, client_key_passphrase,
                   client_key_passphrase_file, ca_bundle,
                   crl (paths, mode), pins
    algorithms     kem, signature, signature_chain, cipher
    logging        level, format, file, max_size_mb, max_files, console,
                   access, access_file, audit_file
    tunnels        a list of: listen, connect, server_name, alpn, starttls,
                   local_starttls, mode
    limits         idle_timeout, connection_timeout, per_address,
                   per_network, network_prefix_v4, network_prefix_v6,
                   handshakes_per_second, memory_mb, when_full
    metrics        enabled, address, port, path
    reload         watch_credentials, watch_config
    sandbox        \"off\", \"best-effort\" or \"required\"

  connect_timeout (30 s) is for one attempt: finding the address, the TCP
  connection and the handshake together. read_timeout (60 s) is how long the
  server may be silent while an answer is due: after something was sent to it,
  after the end of standard input, and during an HTTP exchange. write_timeout
  (60 s) is how long it may refuse to take data.

  max_retries (3): an attempt that fails because the server can't be reached (no
  address, refused, reset, timed out) is repeated, after pauses of 0.25 s,
  0.5 s, 1 s and so on up to 8 s, each shorter by up to a half by chance. A
  server that fails verification or refuses the handshake is not tried again.
  Every attempt offers the same: nothing is ever weakened.

Tunnels:
  With --tunnel, or with tunnels in the configuration and no HOST, the program
  runs until SIGTERM or SIGINT; open connections may then finish within
  client.drain_timeout, and a second signal closes them. SIGHUP reads the
  configuration and its files again. A connection to LOCAL waits for REMOTE for
  connect_timeout at most, all attempts together; if that is in vain, it is
  reset. The log goes to standard error, unless logging says otherwise. Unix
  sockets are their owner's alone. docs/CLIENT.md says more.

Environment:
  QTLS_SERVER_HOST     client.server_host
  QTLS_SERVER_PORT     client.server_port
  QTLS_HYBRID_MODE     tls.hybrid_mode: true or false
  QTLS_LOG_LEVEL       logging.level: error, warn, info, debug or trace
  QTLS__SECTION__KEY   any key, such as QTLS__CLIENT__MAX_RETRIES=0
  SSL_CERT_FILE, SSL_CERT_DIR
                       where the trust anchors of the system are

Files:
  /etc/qtls/config/client.json
                       the configuration, where there is no --config

Exit codes:
  0   success
  1   an internal error, or standard input or output failed
  2   wrong usage or configuration, or the client's own certificate or key can't
      be used
  3   the server can't be reached, or the connection failed, timed out, or ended
      without close_notify
  4   the server's certificate or name did not verify
  5   the handshake was refused, or the server broke the protocol; also where
      the server refuses the client's certificate
  6   the server and this client's policy have nothing in common
  22  with --fail: the response's status is 400 or higher

Examples:
  Connect, verify with the system's trust anchors, and talk:
      qtls-client qtls-server 8443
  One HTTP request:
      qtls-client localhost:8443 --ca ca-bundle.pem --request 'GET /status.json'
  The group that was negotiated, for a script:
      qtls-client localhost:8443 --ca ca-bundle.pem --json | jq -r .group
  With a client certificate, and only with post-quantum key exchange:
      qtls-client 192.0.2.1:8443 --server-name www.example.com --pqc-only \\
          --cert client-cert.pem --key client-key.pem
  A sidecar for an old psql, until it is stopped:
      qtls-client --tunnel 127.0.0.1:5432=db.example:5432 --starttls postgres
  Any other protocol:
      printf 'PING\\r\\n' | qtls-client redis.example.com:6380 --quiet";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use qtls_core::Fault;

    use super::super::{Arguments, HTTP_STATUS};
    use super::*;

    #[test]
    fn every_exit_code_is_documented_with_its_number() {
        let faults = [
            Fault::Internal,
            Fault::Configuration,
            Fault::Certificate,
            Fault::Connection,
            Fault::Verification,
            Fault::Handshake,
            Fault::Policy,
        ];
        for code in faults.map(Fault::exit_code).into_iter().chain([0, HTTP_STATUS]) {
            assert!(LONG.lines().any(|line| line.starts_with(&format!("  {code:<4}"))), "{code} in --help");
            assert!(SHORT.contains(&format!("{code} ")), "{code} in -h");
        }
    }

    #[test]
    fn every_key_of_the_configuration_is_documented() {
        let schema: serde_json::Value = serde_json::from_str(&qtls_proxy::config::client_schema()).unwrap();
        let definitions = schema["$defs"].as_object().unwrap();
        let mut keys = 0;
        for (name, section) in schema["properties"].as_object().unwrap() {
            if name == "$schema" {
                continue;
            }
            let section = section["anyOf"].get(0).unwrap_or(section);
            let section = if section["type"] == "array" { &section["items"] } else { section };
            let reference = section["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
            let mut lines = LONG.lines().skip_while(|line| !line.starts_with(&format!("    {name:<15}")));
            let first = lines.next().unwrap_or_else(|| panic!("{name} in --help"));
            let more = lines.take_while(|line| line.starts_with(&" ".repeat(19)));
            let listed: Vec<&str> =
                [&first[19..]].into_iter().chain(more).flat_map(|line| line.split([' ', ','])).collect();
            let keys_of_section = definitions[reference]["properties"].as_object();
            for key in keys_of_section.into_iter().flat_map(|keys| keys.keys()) {
                assert!(listed.contains(&key.as_str()), "{name}.{key} in --help");
                keys += 1;
            }
        }
        assert!(keys >= 20, "{keys} keys were looked for");
    }

    #[test]
    fn lines_fit_a_terminal_of_80_columns() {
        let help = Arguments::command().term_width(80).render_long_help().to_string();
        for line in LONG.lines() {
            assert!(help.lines().any(|shown| shown == line), "broken: {line}");
        }
    }
}
