//! One line of a log of qtls-server: text or JSON.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A connection that has ended.
    Connection(Connection<'a>),
    /// A handshake that was not completed, and its reason.
    Failed { time: Time, reason: Cow<'a, str> },
    /// Something else that the server has logged.
    Other,
}

/// A time as the log writes it, in UTC with milliseconds: such texts are in the order of the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time([u8; 24]);

/// What the line of a connection says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connection<'a> {
    pub(super) time: Time,
    pub(super) client: IpAddr,
    pub(super) server_name: Option<Cow<'a, str>>,
    /// The protocol that was agreed on.
    pub(super) alpn: Option<Cow<'a, str>>,
    pub(super) post_quantum: bool,
    /// The group that was negotiated.
    pub(super) group: Cow<'a, str>,
    /// In both directions.
    pub(super) bytes: u64,
    pub(super) offered: Offered<'a>,
}

/// What the client offered, each a list with commas, as the line has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offered<'a> {
    pub(super) groups: Cow<'a, str>,
    pub(super) schemes: Cow<'a, str>,
    /// Schemes for certificates, where the client has sent a list of its own for these.
    pub(super) chain_schemes: Option<Cow<'a, str>>,
    pub(super) suites: Cow<'a, str>,
}

impl Time {
    /// Reads `2026-11-22T10:00:00.123Z`.
    pub(super) fn read(text: &str) -> Option<Self> {
        const SHAPE: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
        let octets: [u8; 24] = text.as_bytes().try_into().ok()?;
        let fits = |(octet, shape): (&u8, &u8)| if *shape == b'0' { octet.is_ascii_digit() } else { octet == shape };
        octets.iter().zip(SHAPE).all(fits).then_some(Self(octets))
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

/// Reads a line, without its end; `None` where it is no line of such a log, or lacks what it must have.
pub(super) fn read(line: &str) -> Option<Line<'_>> {
    if line.starts_with('{') { read_json(line) } else { read_text(line) }
}

#[derive(Deserialize)]
struct Json<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    client: Option<Cow<'a, str>>,
    #[serde(borrow)]
    server_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    alpn: Option<Cow<'a, str>>,
    #[serde(borrow)]
    group: Option<Cow<'a, str>>,
    #[serde(borrow)]
    suite: Option<Cow<'a, str>>,
    pq: Option<bool>,
    received: Option<u64>,
    sent: Option<u64>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    offered_groups: Option<Cow<'a, str>>,
    #[serde(borrow)]
    offered_schemes: Option<Cow<'a, str>>,
    #[serde(borrow)]
    offered_chain_schemes: Option<Cow<'a, str>>,
    #[serde(borrow)]
    offered_suites: Option<Cow<'a, str>>,
}

fn read_json(line: &str) -> Option<Line<'_>> {
    let fields: Json<'_> = serde_json::from_str(line).ok()?;
    let time = Time::read(&fields.timestamp)?;
    match fields.event.as_deref() {
        Some(CONNECTION) => Some(Line::Connection(Connection {
            time,
            client: address(&fields.client?)?,
            server_name: fields.server_name,
            alpn: fields.alpn,
            post_quantum: fields.pq?,
            group: fields.group?,
            bytes: fields.received?.checked_add(fields.sent?)?,
            offered: Offered {
                groups: fields.offered_groups?,
                schemes: fields.offered_schemes?,
                chain_schemes: fields.offered_chain_schemes,
                suites: fields.offered_suites.or(fields.suite)?,
            },
        })),
        Some(FAILED) => Some(Line::Failed { time, reason: fields.reason? }),
        _ => Some(Line::Other),
    }
}

fn read_text(line: &str) -> Option<Line<'_>> {
    let (time, rest) = line.split_at_checked(24)?;
    let time = Time::read(time)?;
    let (level, rest) = rest.strip_prefix(' ')?.split_at_checked(5)?;
    if !["ERROR", "WARN ", "INFO ", "DEBUG", "TRACE"].contains(&level) {
        return None;
    }
    let rest = rest.strip_prefix(' ')?;
    // Messages are the server's own. What a peer has made stands in quoted values, which come after them.
    if let Some(fields) = rest.strip_prefix("connection ended ").filter(|fields| fields.starts_with(&event(CONNECTION)))
    {
        return connection(time, fields).map(Line::Connection);
    }
    let failed = format!(" {}", event(FAILED));
    match rest.split_once(&failed).filter(|(message, _)| message.starts_with("handshake ") && !message.contains("=\""))
    {
        None => Some(Line::Other),
        Some((_, fields)) => {
            let mut reason = None;
            for field in Fields(fields) {
                let (key, value) = field?;
                if key == "reason" {
                    reason = Some(value);
                }
            }
            Some(Line::Failed { time, reason: reason? })
        }
    }
}

fn connection(time: Time, fields: &str) -> Option<Connection<'_>> {
    let (mut client, mut server_name, mut group, mut suite, mut pq) = (None, None, None, None, None);
    let (mut alpn, mut received, mut sent) = (None, None, None);
    let (mut groups, mut schemes, mut chain_schemes, mut suites) = (None, None, None, None);
    for field in Fields(fields) {
        let (key, value) = field?;
        let slot = match key {
            "client" => &mut client,
            "server_name" => &mut server_name,
            "alpn" => &mut alpn,
            "group" => &mut group,
            "suite" => &mut suite,
            "pq" => &mut pq,
            "received" => &mut received,
            "sent" => &mut sent,
            "offered_groups" => &mut groups,
            "offered_schemes" => &mut schemes,
            "offered_chain_schemes" => &mut chain_schemes,
            "offered_suites" => &mut suites,
            _ => continue,
        };
        *slot = Some(value);
    }
    let number = |text: Option<Cow<'_, str>>| text?.parse::<u64>().ok();
    Some(Connection {
        time,
        client: address(&client?)?,
        server_name,
        alpn,
        post_quantum: pq?.parse().ok()?,
        group: group?,
        bytes: number(received)?.checked_add(number(sent)?)?,
        offered: Offered { groups: groups?, schemes: schemes?, chain_schemes, suites: suites.or(suite)? },
    })
}

fn address(text: &str) -> Option<IpAddr> {
    let address: SocketAddr = text.parse().ok()?;
    Some(address.ip().to_canonical())
}

/// The fields of a line of text: `key=value key="a \"quoted\" value"`. Ends with `None` where that isn't so.
struct Fields<'a>(&'a str);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(&'a str, Cow<'a, str>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = "";
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(&'a str, Cow<'a, str>)> {
        let (key, rest) = self.0.split_once('=')?;
        if key.is_empty() || key.contains([' ', '"']) {
            return None;
        }
        let (value, rest) = match rest.strip_prefix('"') {
            None => {
                let (value, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                (Cow::Borrowed(value), rest)
            }
            Some(quoted) => {
                let end = end_of_quote(quoted)?;
                let rest = &quoted[end + 1..];
                let rest = if rest.is_empty() { rest } else { rest.strip_prefix(' ')? };
                (unescaped(&quoted[..end])?, rest)
            }
        };
        self.0 = rest;
        Some((key, value))
    }
}

fn end_of_quote(quoted: &str) -> Option<usize> {
    let mut escaped = false;
    quoted.bytes().position(|octet| match octet {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        octet => octet == b'"',
    })
}

/// The value behind the escapes of the log, which are those of a Rust string.
fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('\\') {
        return Some(Cow::Borrowed(text));
    }
    let mut value = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        value.push_str(before);
        let kind = escape.chars().next()?;
        rest = &escape[kind.len_utf8()..];
        value.push(match kind {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '0' => '\0',
            'u' => {
                let (digits, after) = rest.strip_prefix('{')?.split_once('}')?;
                rest = after;
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
            }
            '\\' | '"' | '\'' => kind,
            _ => return None,
        });
    }
    value.push_str(rest);
    Some(Cow::Owned(value))
}

const CONNECTION: &str = "connection";
const FAILED: &str = "handshake_failed";

fn event(name: &str) -> String {
    format!("event={name} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "2026-11-22T10:00:00.123Z INFO  connection ended event=connection client=192.0.2.7:51034 \
        server_name=a.example alpn=h2 group=x25519 pq=false scheme=ecdsa_secp384r1_sha384 \
        suite=TLS_AES_256_GCM_SHA384 certificate=server-cert certificate_reason=\"ecdsa-p384: offered\" resumed=false \
        hrr=false identity=\"CN=a \\\"b\\\" event=connection client=10.0.0.1:1,O=\\u{1b}\" received=10 sent=32 \
        handshake_ms=1.5 duration_ms=20 reason=client_closed offered_groups=x25519,secp256r1 \
        offered_schemes=ecdsa_secp384r1_sha384,rsa_pss_rsae_sha256 \
        offered_suites=TLS_AES_256_GCM_SHA384,TLS_AES_128_GCM_SHA256";
    const JSON: &str = r#"{"timestamp":"2026-11-22T10:00:00.123Z","level":"info","message":"connection ended","event":"connection","client":"192.0.2.7:51034","server_name":"a.example","alpn":"h2","group":"x25519","pq":false,"suite":"TLS_AES_256_GCM_SHA384","resumed":false,"identity":"CN=\"x\" \u001b","received":10,"sent":32,"handshake_ms":1.5,"reason":"client_closed","offered_groups":"x25519,secp256r1","offered_schemes":"ecdsa_secp384r1_sha384,rsa_pss_rsae_sha256","offered_suites":"TLS_AES_256_GCM_SHA384,TLS_AES_128_GCM_SHA256"}"#;

    fn expected() -> Connection<'static> {
        Connection {
            time: Time::read("2026-11-22T10:00:00.123Z").unwrap(),
            client: "192.0.2.7".parse().unwrap(),
            server_name: Some("a.example".into()),
            alpn: Some("h2".into()),
            post_quantum: false,
            group: "x25519".into(),
            bytes: 42,
            offered: Offered {
                groups: "x25519,secp256r1".into(),
                schemes: "ecdsa_secp384r1_sha384,rsa_pss_rsae_sha256".into(),
                chain_schemes: None,
                suites: "TLS_AES_256_GCM_SHA384,TLS_AES_128_GCM_SHA256".into(),
            },
        }
    }

    #[test]
    fn a_connection_in_text_and_in_json() {
        assert_eq!(read(TEXT), Some(Line::Connection(expected())));
        assert_eq!(read(JSON), Some(Line::Connection(expected())));
    }

    #[test]
    fn without_the_offered_suites_there_is_the_one_that_was_taken() {
        let text = TEXT.split(" offered_suites").next().unwrap();
        let Some(Line::Connection(found)) = read(text) else { panic!("{text}") };
        assert_eq!(found.offered.suites, "TLS_AES_256_GCM_SHA384");
    }

    #[test]
    fn addresses_are_ipv6_or_ipv4_in_ipv6_too() {
        for (shown, address) in [("[2001:db8::1]:5", "2001:db8::1"), ("[::ffff:192.0.2.1]:5", "192.0.2.1")] {
            let text = TEXT.replace("client=192.0.2.7:51034", &format!("client={shown}"));
            let Some(Line::Connection(found)) = read(&text) else { panic!("{text}") };
            assert_eq!(found.client.to_string(), address);
        }
    }

    #[test]
    fn a_failed_handshake_has_its_reason() {
        let time = Time::read("2026-11-22T10:00:00.123Z").unwrap();
        let failed = |reason: &'static str| Some(Line::Failed { time, reason: reason.into() });
        assert_eq!(
            read(
                "2026-11-22T10:00:00.123Z WARN  handshake refused: the peer offers no key exchange group that the policy \
                 allows; it offered: x25519 event=handshake_failed client=192.0.2.7:1 reason=no_common_group duration_ms=1"
            ),
            failed("no_common_group")
        );
        assert_eq!(
            read(
                r#"{"timestamp":"2026-11-22T10:00:00.123Z","level":"warn","message":"handshake refused: x","event":"handshake_failed","client":"192.0.2.7:1","reason":"timeout"}"#
            ),
            failed("timeout")
        );
    }

    #[test]
    fn other_lines_of_the_log_are_no_connections_and_no_garbage() {
        for line in [
            "2026-11-22T10:00:00.123Z INFO  listening on 127.0.0.1:8443 with 2 workers",
            r#"2026-11-22T10:00:00.123Z WARN  odd name="connection ended event=connection client=10.0.0.1:1""#,
            r#"2026-11-22T10:00:00.123Z WARN  handshake odd="x event=handshake_failed client=1 reason=none""#,
            r#"{"timestamp":"2026-11-22T10:00:00.123Z","level":"info","message":"listening"}"#,
        ] {
            assert_eq!(read(line), Some(Line::Other), "{line}");
        }
    }

    #[test]
    fn what_is_no_line_of_a_log_is_none() {
        for end in 1..TEXT.len() {
            if let Some(Line::Connection(found)) = read(&TEXT[..end]) {
                // Cut within a value: nothing can tell.
                assert!(end > TEXT.find(" offered_schemes=").unwrap(), "{found:?}");
            }
        }
        for end in 0..JSON.len() {
            assert_eq!(read(&JSON[..end]), None, "{}", &JSON[..end]);
        }
        for line in [
            "",
            "garbage",
            "GET / HTTP/1.1",
            "2026-11-22 10:00:00 INFO  x",
            "2026-11-22T10:00:00.123Z NOTE  x",
            "{}",
            r#"{"timestamp":"yesterday","event":"connection"}"#,
        ] {
            assert_eq!(read(line), None, "{line}");
        }
        for (from, to) in [
            ("client=192.0.2.7:51034", "client=somewhere"),
            ("received=10", "received=-1"),
            ("received=10", "received=18446744073709551615"),
            ("pq=false", "pq=maybe"),
            ("group=x25519 ", ""),
            ("O=\\u{1b}\"", "O=\\u{110000}\""),
            ("O=\\u{1b}\"", "O=\\q\""),
            ("O=\\u{1b}\"", "O=\"x"),
        ] {
            assert!(TEXT.contains(from));
            assert_eq!(read(&TEXT.replacen(from, to, 1)), None, "{from} → {to}");
        }
    }

    #[test]
    fn every_changed_octet_is_survived() {
        for line in [TEXT, JSON] {
            for index in 0..line.len() {
                for octet in [b'"', b'\\', b'=', b' ', b'{', 0, 0xc3, 0xff] {
                    let mut changed = line.as_bytes().to_vec();
                    changed[index] = octet;
                    let _ = read(&String::from_utf8_lossy(&changed));
                }
            }
        }
    }
}
