//! The names that a server is reached by: DNS names, wildcards and IP addresses, read once and strictly.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use qtls_core::{Error, Result};

/// One name of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerName {
    /// A DNS name as certificates carry it: lower case, in punycode, perhaps with `*` as its left-most label.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl ServerName {
    /// Whether the name stands for many.
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(name) if name.starts_with("*."))
    }

    /// A name that a client can connect to: this one, or for a wildcard one that it covers.
    pub fn example(&self) -> Self {
        match self {
            Self::Dns(name) => {
                Self::Dns(name.strip_prefix("*.").map_or_else(|| name.clone(), |rest| format!("www.{rest}")))
            }
            Self::Ip(_) => self.clone(),
        }
    }

    /// `name:port`, with IPv6 addresses in brackets.
    pub fn with_port(&self, port: u16) -> String {
        match self {
            Self::Ip(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            _ => format!("{self}:{port}"),
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

impl FromStr for ServerName {
    type Err = Error;

    /// Reads `example.com`, `*.example.com`, `한글.한국`, `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]`.
    fn from_str(given: &str) -> Result<Self> {
        let bare = given.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(given);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Ip(address));
        }
        check_shape(given)?;
        let (wildcard, host) = match given.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, given),
        };
        let ascii = to_ascii(given, host)?;
        check_labels(given, &ascii)?;
        if wildcard && !ascii.contains('.') {
            // webpki and browsers refuse such certificates, so that nobody holds one for a whole top-level domain.
            return Err(refused(given, format!("a wildcard needs at least two labels behind it, `{ascii}` is one"))
                .hint("give the hosts by name, or use a domain of your own such as `*.example.com`"));
        }
        Ok(Self::Dns(if wildcard { format!("*.{ascii}") } else { ascii }))
    }
}

/// What people write instead of a name, each with its remedy.
fn check_shape(given: &str) -> Result<()> {
    if given.trim().is_empty() {
        return Err(
            refused(given, "it is empty").hint("give a DNS name such as `server.example.com`, or an IP address")
        );
    }
    if given.contains("://") {
        return Err(refused(given, "it is a URL").hint("give the host alone, without `https://`, port and path"));
    }
    if given.contains('/') {
        return Err(
            refused(given, "it contains `/`").hint("give one host name or address: no path, and no range of addresses")
        );
    }
    if given.chars().any(char::is_whitespace) || given.contains(',') {
        return Err(refused(given, "it contains a space or a comma").hint("give several names as `--name A --name B`"));
    }
    if let Some((host, port)) = given.rsplit_once(':') {
        let hint = if port.chars().all(|digit| digit.is_ascii_digit()) && !host.contains(':') {
            "a certificate names hosts, not ports: leave the port out"
        } else {
            "colons occur in IPv6 addresses only, and this is not one"
        };
        return Err(refused(given, "it contains `:`").hint(hint));
    }
    if given == "*" || given.strip_prefix("*.").unwrap_or(given).contains('*') {
        return Err(refused(given, "`*` stands only for the whole left-most label, as in `*.example.com`")
            .hint("give each further name by its own `--name`"));
    }
    if given.ends_with('.') {
        return Err(refused(given, "it ends in a dot")
            .hint("certificates carry names without the final dot (RFC 5280, 4.2.1.6)"));
    }
    Ok(())
}

/// The punycode form in lower case (UTS 46, without its ASCII restrictions: those get messages of their own).
fn to_ascii(given: &str, host: &str) -> Result<String> {
    if host.is_ascii() && !host.to_ascii_lowercase().split('.').any(|label| label.starts_with("xn--")) {
        return Ok(host.to_ascii_lowercase());
    }
    Uts46::new()
        .to_ascii(host.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
        .map(Cow::into_owned)
        .map_err(|_| {
            refused(given, "it is not a valid internationalized domain name (UTS 46)")
                .hint("check it character by character, or give its punycode form, `xn--…`")
        })
}

/// Letters, digits and hyphens, by RFC 1123, section 2.1.
fn check_labels(given: &str, ascii: &str) -> Result<()> {
    if ascii.len() > 253 {
        return Err(refused(given, format!("it is {} octets long, and the limit is 253", ascii.len())));
    }
    for label in ascii.split('.') {
        if label.is_empty() {
            return Err(
                refused(given, "it has an empty label").hint("two dots follow each other, or it begins with a dot")
            );
        }
        if label.len() > 63 {
            return Err(refused(
                given,
                format!("its label `{label}` is {} octets long, and the limit is 63", label.len()),
            ));
        }
        if let Some(other) = label.chars().find(|octet| !octet.is_ascii_alphanumeric() && *octet != '-') {
            return Err(refused(given, format!("it contains `{other}`"))
                .hint("host names consist of letters, digits, hyphens and dots"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(refused(given, format!("its label `{label}` begins or ends with a hyphen")));
        }
    }
    // A name whose last label is a number is an IPv4 address to clients (WHATWG URL, «ends in a number»).
    if ascii.rsplit('.').next().is_some_and(|last| last.bytes().all(|octet| octet.is_ascii_digit())) {
        return Err(refused(given, "it looks like an IPv4 address, but is none")
            .hint("an IPv4 address is four numbers from 0 to 255, without leading zeros"));
    }
    Ok(())
}

fn refused(given: &str, reason: impl fmt::Display) -> Error {
    Error::configuration(format!("`{given}` is not a name for a server: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &str) -> String {
        given.parse::<ServerName>().unwrap().to_string()
    }

    fn refusal(given: &str) -> String {
        given.parse::<ServerName>().unwrap_err().to_string()
    }

    #[test]
    fn names_are_read_into_the_form_of_certificates() {
        assert_eq!(read("Server.Example.COM"), "server.example.com");
        assert_eq!(read("localhost"), "localhost");
        assert_eq!(read("*.Example.com"), "*.example.com");
        assert_eq!(read("3com.example"), "3com.example");
        assert_eq!(read("서버.한국"), "xn--hk3b17f.xn--3e0b707e");
        assert_eq!(read("*.서버.한국"), "*.xn--hk3b17f.xn--3e0b707e");
        assert_eq!(read("xn--hk3b17f.xn--3e0b707e"), "xn--hk3b17f.xn--3e0b707e");
        assert_eq!(read("192.0.2.1"), "192.0.2.1");
        assert_eq!("[2001:DB8::1]".parse::<ServerName>().unwrap(), ServerName::Ip("2001:db8::1".parse().unwrap()));
        assert_eq!("2001:db8::1".parse::<ServerName>().unwrap().with_port(8443), "[2001:db8::1]:8443");
        assert_eq!("a.example".parse::<ServerName>().unwrap().with_port(443), "a.example:443");
    }

    #[test]
    fn a_wildcard_gives_a_name_to_connect_to() {
        let name: ServerName = "*.example.com".parse().unwrap();
        assert!(name.is_wildcard());
        assert_eq!(name.example().to_string(), "www.example.com");
        let name: ServerName = "a.example.com".parse().unwrap();
        assert!(!name.is_wildcard());
        assert_eq!(name.example(), name);
    }

    #[test]
    fn whatever_else_is_refused_with_its_reason() {
        for (given, reason) in [
            ("", "it is empty"),
            ("https://a.example/", "it is a URL"),
            ("10.0.0.0/8", "contains `/`"),
            ("a.example:8443", "leave the port out"),
            ("2001:db8::zz", "this is not one"),
            ("a.example, b.example", "--name A --name B"),
            ("*", "left-most label"),
            ("a.*.example", "left-most label"),
            ("*.*.example", "left-most label"),
            ("w*.example.com", "left-most label"),
            ("*.com", "at least two labels"),
            ("a.example.", "ends in a dot"),
            ("a..example", "empty label"),
            (".example", "empty label"),
            ("my_host.example", "contains `_`"),
            ("-a.example", "begins or ends with a hyphen"),
            ("a-.example", "begins or ends with a hyphen"),
            ("256.1.1.1", "looks like an IPv4 address"),
            ("10.1", "looks like an IPv4 address"),
            ("xn--a.example", "not a valid internationalized domain name"),
            ("\u{202e}a.example", "not a valid internationalized domain name"),
        ] {
            let error = refusal(given);
            assert!(error.contains(reason), "{given}: {error}");
            assert!(error.starts_with(&format!("`{given}` is not a name for a server")), "{error}");
        }
        assert!(refusal(&format!("{}.example", "a".repeat(64))).contains("64 octets long, and the limit is 63"));
        assert!(refusal(&vec!["abcdefghi"; 26].join(".")).contains("259 octets long, and the limit is 253"));
    }
}
