//! The command line, from text to types.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use clap::Parser;
use http::Method;
use http::uri::PathAndQuery;
use qtls_core::version::VERSION;
use qtls_core::{Error, Result};
use qtls_pki::names::ServerName as CertificateName;
use qtls_proxy::config::{BadAddress, Tunnel};
use qtls_proxy::starttls::Starttls;
use rustls::pki_types::ServerName;

use super::help;

/// Connect to a TLS 1.3 server with post-quantum key exchange, and show what was negotiated
#[derive(Parser, Debug)]
#[command(name = super::PROGRAM, version = VERSION)]
#[command(long_about = help::ABOUT, after_help = help::SHORT, after_long_help = help::LONG)]
#[command(override_usage = "qtls-client [OPTIONS] HOST [PORT]\n       qtls-client [OPTIONS] HOST:PORT\n       \
    qtls-client [OPTIONS] --tunnel LOCAL=REMOTE...")]
pub(super) struct Arguments {
    /// The server's name or IP address, or both parts as HOST:PORT
    ///
    /// An IPv6 address stands in brackets where a port follows: [::1]:8443. Without HOST the configuration's
    /// client.server_host is used.
    #[arg(value_name = "HOST")]
    pub(super) host: Option<String>,

    /// The server's TCP port
    ///
    /// Without PORT the configuration's client.server_port is used, and without that 8443.
    #[arg(value_name = "PORT")]
    pub(super) port: Option<String>,

    /// Read this configuration
    ///
    /// Without it /etc/qtls/config/client.json is read, if it is there.
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub(super) config: Option<PathBuf>,

    /// Trust the CA certificates in this PEM file
    ///
    /// Overrides certificates.ca_bundle. Without either, the trust anchors of the system are used.
    #[arg(long, value_name = "FILE", help_heading = "Verification")]
    pub(super) ca: Option<PathBuf>,

    /// Show this certificate to the server: a PEM chain, leaf first
    ///
    /// Overrides certificates.client_cert. Needs --key.
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "Verification")]
    pub(super) cert: Option<PathBuf>,

    /// The private key of the certificate, in PEM
    ///
    /// Overrides certificates.client_key. Needs --cert.
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "Verification")]
    pub(super) key: Option<PathBuf>,

    /// Ask for, and verify, this name instead of HOST
    ///
    /// It is sent in the ClientHello (SNI), the certificate has to be valid for it, and --request puts it into Host.
    #[arg(long, value_name = "NAME", help_heading = "Verification")]
    pub(super) server_name: Option<String>,

    /// Don't verify the server: anyone can pretend to be it
    ///
    /// The same as tls.verify_peer: false. A warning is printed that --quiet doesn't silence.
    #[arg(long, conflicts_with = "ca", help_heading = "Verification")]
    pub(super) insecure: bool,

    /// Refuse servers without post-quantum key exchange
    ///
    /// The same as tls.pqc_only: true. With tls.hybrid_mode (the default) hybrid groups are offered, without it pure
    /// ML-KEM.
    #[arg(long, help_heading = "Protocol")]
    pub(super) pqc_only: bool,

    /// Offer these application protocols, separated by commas and most preferred first
    ///
    /// Without it --request offers h2,http/1.1 and everything else nothing.
    #[arg(long, value_name = "LIST", help_heading = "Protocol")]
    pub(super) alpn: Option<String>,

    /// Ask for TLS in the words of this protocol: postgres
    ///
    /// What it has to say before the handshake is said. Unless --alpn is given, the protocol's own name is offered
    /// (postgresql). Where the server takes TLS at once, its name as --alpn suffices. With --tunnel, local clients that ask
    /// for encryption are told to go on without.
    #[arg(long, value_name = "PROTOCOL", conflicts_with = "request", help_heading = "Protocol")]
    pub(super) starttls: Option<Starttls>,

    /// Make one HTTP request, such as 'GET /path', and print the response's body
    ///
    /// Over HTTP/2 or HTTP/1.1, as agreed by ALPN. No body is sent. Redirects are not followed.
    #[arg(long, value_name = "'METHOD /PATH'", help_heading = "HTTP")]
    pub(super) request: Option<String>,

    /// Print the response's status line and header before its body
    #[arg(short, long, requires = "request", conflicts_with = "json", help_heading = "HTTP")]
    pub(super) include: bool,

    /// Exit with 22 when the response's status is 400 or higher
    ///
    /// The body is printed all the same. Without it the exit code doesn't depend on the status.
    #[arg(long, requires = "request", help_heading = "HTTP")]
    pub(super) fail: bool,

    /// Print what was negotiated as one line of JSON on standard output, then close
    ///
    /// Instead of the text on standard error. Standard input is not read, unless --stdio asks for it.
    #[arg(long, help_heading = "Output")]
    pub(super) json: bool,

    /// After the line of JSON, connect standard input and output with the server as without --json
    #[arg(long, requires = "json", conflicts_with = "request", help_heading = "Output")]
    pub(super) stdio: bool,

    /// Print nothing but errors on standard error
    #[arg(short, long, help_heading = "Output")]
    pub(super) quiet: bool,

    /// Carry plain connections to LOCAL over TLS to the server REMOTE, until stopped; may be given several times
    ///
    /// LOCAL is 127.0.0.1:5432, [::1]:5432 or unix:/run/app/db.sock, REMOTE is db.example:8443. --server-name and --alpn
    /// are for these tunnels. Those of the configuration (`tunnels`) are there as well.
    #[arg(
        long = "tunnel",
        value_name = "LOCAL=REMOTE",
        value_parser = tunnel,
        conflicts_with_all = ["host", "port", "request", "json", "quiet"],
        help_heading = "Tunnels"
    )]
    pub(super) tunnels: Vec<Tunnel>,

    /// As --starttls, but on this side only: the servers of --tunnel take TLS at once
    #[arg(long, value_name = "PROTOCOL", conflicts_with = "starttls", help_heading = "Tunnels")]
    pub(super) local_starttls: Option<Starttls>,

    /// Do everything that a start of the tunnels does, short of opening sockets, and tell what was found
    #[arg(long, conflicts_with_all = ["host", "port", "request", "json", "quiet"], help_heading = "Tunnels")]
    pub(super) test_config: bool,
}

fn tunnel(text: &str) -> std::result::Result<Tunnel, BadAddress> {
    Tunnel::parse(text)
}

/// The server as the command line names it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
}

/// Reads `HOST`, `HOST PORT`, `HOST:PORT`, `[V6]`, `[V6]:PORT` or a bare IPv6 address.
pub(crate) fn target(host: Option<&str>, port: Option<&str>) -> Result<Target> {
    let Some(given) = host else { return Ok(Target::default()) };
    let wrong = |message: String| Error::configuration(message).at("HOST");
    if given.contains("://") || given.contains('/') {
        return Err(wrong(format!("{given:?} is a URL or a path, not a server"))
            .hint("write HOST:PORT; --request 'GET /path' asks for a path"));
    }
    if given.chars().any(char::is_whitespace) {
        return Err(
            wrong(format!("{given:?} has a space in it")).hint("write HOST PORT as two arguments, or HOST:PORT")
        );
    }
    let (host, inner_port) = split(given)?;
    if host.is_empty() {
        return Err(wrong(format!("{given:?} names no host")).hint("write HOST:PORT, such as localhost:8443"));
    }
    let port = match (inner_port, port) {
        (Some(inner), Some(outer)) => {
            return Err(Error::configuration(format!("the port is given twice: {inner} in {given:?}, and {outer}"))
                .at("PORT")
                .hint("leave one of them out"));
        }
        (port, None) | (None, port) => port.map(number).transpose()?,
    };
    Ok(Target { host: Some(ascii(host)?), port })
}

/// The name to ask for and to verify.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(ascii(bare)?).map_err(|_| {
        Error::configuration(format!("{host:?} is neither a DNS name nor an IP address"))
            .hint("give the name that the server's certificate is for, such as server.example.com")
    })
}

/// One HTTP request, without a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
}

/// Reads `METHOD /path`, or `/path` alone for `GET`.
pub(super) fn request(given: &str) -> Result<Request> {
    let wrong = |message: String| {
        Error::configuration(message).at("--request").hint("write --request 'GET /path', with the quotes")
    };
    let words: Vec<&str> = given.split_whitespace().collect();
    let (method, path) = match words[..] {
        [path] if path.starts_with('/') => ("GET", path),
        [method, path] => (method, path),
        _ => return Err(wrong(format!("{given:?} is not a method and a path"))),
    };
    // Methods are case-sensitive (RFC 9110, section 9.1); the registered ones have no lower case.
    let method = match Method::from_bytes(method.as_bytes()) {
        Ok(Method::CONNECT) => return Err(wrong("CONNECT asks for a tunnel, not for a path".to_owned())),
        Ok(method) if !method.as_str().bytes().any(|letter| letter.is_ascii_lowercase()) => method,
        _ => return Err(wrong(format!("{method:?} is not an HTTP method"))),
    };
    match PathAndQuery::try_from(path) {
        Ok(parsed) if path.starts_with('/') && !path.contains('#') => Ok(Request { method, path: parsed }),
        _ => Err(wrong(format!("{path:?} is not a path that begins with /"))),
    }
}

/// Reads a list of ALPN protocols (RFC 7301).
pub(super) fn alpn(list: &str) -> Result<Vec<Vec<u8>>> {
    let mut protocols: Vec<Vec<u8>> = Vec::new();
    for name in list.split(',').map(str::trim) {
        let wrong = |message: String| Error::configuration(message).at("--alpn").hint("write --alpn h2,http/1.1");
        if name.is_empty() || name.len() > 255 {
            return Err(wrong(format!("{name:?} is not a protocol: it has 1 to 255 bytes")));
        }
        if protocols.iter().any(|known| known == name.as_bytes()) {
            return Err(wrong(format!("{name:?} stands in the list twice")));
        }
        protocols.push(name.as_bytes().to_vec());
    }
    Ok(protocols)
}

fn split(given: &str) -> Result<(&str, Option<&str>)> {
    let wrong = |message: &str| {
        Error::configuration(format!("{given:?} {message}")).at("HOST").hint("write an IPv6 address as [::1]:8443")
    };
    if let Some(rest) = given.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return Err(wrong("has `[` without `]`"));
        };
        if address.parse::<Ipv6Addr>().is_err() {
            return Err(wrong("has something in brackets that is not an IPv6 address"));
        }
        return match port {
            "" => Ok((address, None)),
            port => port.strip_prefix(':').map(|port| (address, Some(port))).ok_or_else(|| wrong("goes on after `]`")),
        };
    }
    if given.parse::<IpAddr>().is_ok() {
        return Ok((given, None));
    }
    match given.split_once(':') {
        None => Ok((given, None)),
        Some((_, port)) if port.contains(':') => Err(wrong("has too many colons for HOST:PORT, and is not an address")),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

fn number(port: &str) -> Result<u16> {
    port.parse().ok().filter(|number| *number > 0 && port.bytes().all(|byte| byte.is_ascii_digit())).ok_or_else(|| {
        Error::configuration(format!("{port:?} is not a port")).at("PORT").hint("a port is a number from 1 to 65535")
    })
}

/// Names in other scripts as DNS and certificates carry them.
fn ascii(name: &str) -> Result<String> {
    if name.is_ascii() {
        return Ok(name.to_owned());
    }
    name.parse::<CertificateName>().map(|name| name.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn of(host: &str, port: Option<&str>) -> (String, Option<u16>) {
        let Target { host, port } = target(Some(host), port).unwrap();
        (host.unwrap(), port)
    }

    fn message(host: &str, port: Option<&str>) -> String {
        target(Some(host), port).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_server_is_given_in_every_usual_shape() {
        let host = |host: &str| host.to_owned();
        assert_eq!(of("qtls-server", Some("8443")), (host("qtls-server"), Some(8443)));
        assert_eq!(of("qtls-server:8443", None), (host("qtls-server"), Some(8443)));
        assert_eq!(of("qtls-server", None), (host("qtls-server"), None));
        assert_eq!(of("192.0.2.1:1", None), (host("192.0.2.1"), Some(1)));
        assert_eq!(of("[::1]:8443", None), (host("::1"), Some(8443)));
        assert_eq!(of("[::1]", Some("65535")), (host("::1"), Some(65535)));
        assert_eq!(of("::1", None), (host("::1"), None));
        assert_eq!(of("2001:db8::1", Some("9")), (host("2001:db8::1"), Some(9)));
        assert_eq!(of("시험.example:9", None), (host("xn--vv4b606a.example"), Some(9)));
        assert_eq!(target(None, None).unwrap(), Target::default());
    }

    #[test]
    fn a_wrong_server_says_what_to_write() {
        assert_eq!(
            message("https://localhost:8443/x", None),
            "HOST: \"https://localhost:8443/x\" is a URL or a path, not a server\n  \
             hint: write HOST:PORT; --request 'GET /path' asks for a path"
        );
        assert!(
            message("localhost:1", Some("2")).starts_with("PORT: the port is given twice: 1 in \"localhost:1\", and 2")
        );
        assert!(
            message("localhost", Some("0")).starts_with("PORT: \"0\" is not a port\n  hint: a port is a number from 1")
        );
        assert!(message("localhost:", None).starts_with("PORT: \"\" is not a port"));
        assert!(message("localhost:+1", None).starts_with("PORT: \"+1\" is not a port"));
        assert!(message(":8443", None).starts_with("HOST: \":8443\" names no host"));
        assert!(message("::1:8443:x", None).contains("too many colons"));
        assert!(message("[::1", None).contains("`[` without `]`"));
        assert!(message("[::1]8443", None).contains("goes on after `]`"));
        assert!(message("[localhost]:1", None).contains("not an IPv6 address"));
        assert!(message("localhost 8443", None).contains("has a space in it"));
    }

    #[test]
    fn server_names_are_names_or_addresses() {
        assert!(matches!(server_name("localhost").unwrap(), ServerName::DnsName(_)));
        assert!(matches!(server_name("::1").unwrap(), ServerName::IpAddress(_)));
        assert!(matches!(server_name("[::1]").unwrap(), ServerName::IpAddress(_)));
        assert_eq!(server_name("시험.example").unwrap().to_str(), "xn--vv4b606a.example");
        assert!(server_name("a b").unwrap_err().message().contains("neither a DNS name nor an IP address"));
    }

    #[test]
    fn a_request_is_a_method_and_a_path() {
        let made = request("POST /a?b=c").unwrap();
        assert_eq!((made.method, made.path.as_str()), (Method::POST, "/a?b=c"));
        assert_eq!(request("/only").unwrap().method, Method::GET);
        assert_eq!(request("PROPFIND /x").unwrap().method.as_str(), "PROPFIND");
        for wrong in
            ["", "GET", "get /", "GET path", "GET / HTTP/1.1", "CONNECT /", "GET /a#b", "G@T /", "GET http://x/"]
        {
            let error = request(wrong).unwrap_err().to_string();
            assert!(
                error.starts_with("--request: ") && error.ends_with("write --request 'GET /path', with the quotes"),
                "{error}"
            );
        }
    }

    #[test]
    fn alpn_lists_are_checked() {
        assert_eq!(alpn("h2, http/1.1").unwrap(), [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert!(alpn("h2,,x").unwrap_err().to_string().starts_with("--alpn: \"\" is not a protocol"));
        assert!(alpn("h2,h2").unwrap_err().message().contains("twice"));
        assert!(alpn(&"x".repeat(256)).is_err());
    }
}
