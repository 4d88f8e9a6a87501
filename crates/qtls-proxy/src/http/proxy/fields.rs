//! Header fields on their way through: what ends here, what nobody outside may say, and what is said instead.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Fields of a request that end here, by their names or the beginning of their names.
///
/// Those of one connection: RFC 9110, section 7.6.1, and RFC 7540, section 3.2.1. `Proxy-Authorization` is for a proxy
/// that asked for it; as a gateway we never ask, and the origin is no business of it (section 11.7.2). `Expect` and
/// `Upgrade` are said anew where they are passed on. `Proxy` is no field at all, but becomes the variable HTTP_PROXY of a CGI program.
/// The rest is what upstreams take the word of a proxy for, and so no one else's.
fn ends_here(name: &[u8]) -> bool {
    match name.first() {
        Some(b'c') => {
            same(name, b"connection")
                || same(name, b"client-cert")
                || same(name, b"client-cert-chain")
                // The one with a hyphen is genuine; servers that make no difference must not see two.
                || (same(name, b"content-length") && name != b"content-length")
        }
        Some(b'e') => same(name, b"expect"),
        Some(b'f') => same(name, b"forwarded"),
        Some(b'h') => same(name, b"http2-settings"),
        Some(b'k') => same(name, b"keep-alive"),
        Some(b'p') => same(name, b"proxy") || same(name, b"proxy-connection") || same(name, b"proxy-authorization"),
        Some(b't') => same(name, b"te") || same(name, b"transfer-encoding"),
        Some(b'u') => same(name, b"upgrade"),
        Some(b'x') => starts(name, b"x-forwarded-") || starts(name, b"x-qtls-") || same(name, b"x-real-ip"),
        _ => false,
    }
}

/// Fields of a response that end here.
fn response_ends_here(name: &[u8]) -> bool {
    match name.first() {
        Some(b'c') => name == b"connection",
        Some(b'k') => name == b"keep-alive",
        Some(b'p') => {
            matches!(name, b"proxy-connection" | b"proxy-authenticate" | b"proxy-authentication-info")
        }
        Some(b't') => matches!(name, b"te" | b"transfer-encoding"),
        Some(b'u') => name == b"upgrade",
        _ => false,
    }
}

/// What must not come behind a message that was acted on without it: framing, routing, authentication, and what the
/// content means (RFC 9110, section 6.5.1).
fn never_in_trailers(name: &[u8]) -> bool {
    matches!(
        name,
        b"authorization"
            | b"content-encoding"
            | b"content-length"
            | b"content-range"
            | b"content-type"
            | b"cookie"
            | b"host"
            | b"set-cookie"
            | b"trailer"
    )
}

/// Takes out of a request what ends here. `TE: trailers` is said again: hyper passes trailers on.
pub(super) fn strip_request(headers: &mut HeaderMap) {
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        let members = value.as_bytes().split(|byte| *byte == b',');
        members.map(<[u8]>::trim_ascii).any(|member| member.eq_ignore_ascii_case(b"trailers"))
    });
    strip(headers, ends_here);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        // RFC 9110, section 10.1.4: not without the option.
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Takes out of a response what ends here.
pub(super) fn strip_response(headers: &mut HeaderMap) {
    strip(headers, response_ends_here);
}

/// Takes out of a request's trailers what may not be there.
pub(super) fn strip_request_trailers(trailers: &mut HeaderMap) {
    strip(trailers, |name| ends_here(name) || never_in_trailers(name));
}

/// Takes out of a response's trailers what may not be there.
pub(super) fn strip_response_trailers(trailers: &mut HeaderMap) {
    strip(trailers, |name| response_ends_here(name) || never_in_trailers(name));
}

fn strip(headers: &mut HeaderMap, ends_here: impl Fn(&[u8]) -> bool) {
    // Most messages have one such field or none.
    let mut ending: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if !option.eq_ignore_ascii_case(b"keep-alive") && !option.eq_ignore_ascii_case(b"close") {
                // An option that is no name of a field nominates none.
                ending.extend(HeaderName::from_bytes(option));
            }
        }
    }
    ending.extend(headers.keys().filter(|name| ends_here(name.as_str().as_bytes())).cloned());
    for name in ending {
        headers.remove(name);
    }
}

/// Whether two names are the same to a program behind. `name` is in lower case, as [`HeaderName`] has it.
///
/// Many map names to variables, where everything that is neither letter nor digit becomes `_`: to them `X_Real.IP` is
/// `X-Real-IP`.
fn same(name: &[u8], known: &[u8]) -> bool {
    name.len() == known.len() && starts(name, known)
}

fn starts(name: &[u8], known: &[u8]) -> bool {
    name.len() >= known.len()
        && name.iter().zip(known).all(|(byte, known)| match known {
            b'-' => !byte.is_ascii_alphanumeric(),
            known => byte == known,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn forged_fields_go_in_every_disguise() {
        let forged = [
            "Forwarded",
            "X-Forwarded-For",
            "x_forwarded_for",
            "X_Forwarded-Proto",
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "X-Forwarded-Prefix",
            "X.Forwarded.For",
            "X-Real-IP",
            "x_real_ip",
            "Client-Cert",
            "Client_Cert",
            "CLIENT-CERT-CHAIN",
            "client_cert-chain",
            "X-QTLS-PQ",
            "X_QTLS_PQ",
            "x-qtls_group",
            "X-Qtls-Anything",
            "X~QTLS!Cipher",
            "Proxy",
            "Content_Length",
            "Transfer_Encoding",
        ];
        for name in forged {
            let mut headers = map(&[(name, "forged"), (name, "twice"), ("Accept", "*/*")]);
            strip_request(&mut headers);
            assert_eq!(names(&headers), ["accept"], "{name}");
        }
    }

    #[test]
    fn what_only_looks_alike_stays() {
        let innocent =
            ["x-real-ips", "x-forwardedfor", "xforwarded-for", "client-certificate", "x-qtl-s", "content-length", "p"];
        for name in innocent {
            let mut headers = map(&[(name, "1")]);
            strip_request(&mut headers);
            assert_eq!(names(&headers), [name]);
        }
    }

    #[test]
    fn hop_by_hop_fields_and_nominees_go() {
        let mut headers = map(&[
            ("Connection", "keep-alive, X-Custom ,, Upgrade"),
            ("Connection", "X-Other, not a name, authorization"),
            ("X-Custom", "1"),
            ("X-Other", "2"),
            ("Authorization", "Basic eDp5"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authorization", "Basic eDp5"),
            ("TE", "gzip"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "websocket"),
            ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
            ("Expect", "100-continue"),
            ("Cookie", "a=b"),
        ]);
        strip_request(&mut headers);
        assert_eq!(names(&headers), ["cookie"]);

        let mut headers = map(&[
            ("Connection", "close, X-Internal"),
            ("X-Internal", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authenticate", "Basic"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("Server", "x"),
        ]);
        strip_response(&mut headers);
        assert_eq!(names(&headers), ["server"]);
    }

    #[test]
    fn trailers_are_still_accepted() {
        for te in ["trailers", "gzip;q=0.5, Trailers", "trailers, deflate"] {
            let mut headers = map(&[("TE", te), ("Connection", "TE")]);
            strip_request(&mut headers);
            assert_eq!(
                (&headers["te"], &headers["connection"]),
                (&"trailers".parse().unwrap(), &"te".parse().unwrap())
            );
        }
        let mut headers = map(&[("TE", "gzip")]);
        strip_request(&mut headers);
        assert_eq!(names(&headers), Vec::<&str>::new());
    }

    #[test]
    fn trailers_carry_neither_forged_fields_nor_framing() {
        let mut trailers = map(&[
            ("X-QTLS-PQ", "yes"),
            ("x_forwarded_for", "192.0.2.1"),
            ("Content-Length", "1"),
            ("Host", "b"),
            ("Authorization", "Basic eDp5"),
            ("X-Checksum", "1"),
        ]);
        strip_request_trailers(&mut trailers);
        assert_eq!(names(&trailers), ["x-checksum"]);
        let mut trailers = map(&[("Set-Cookie", "a=b"), ("Connection", "close"), ("Grpc-Status", "0")]);
        strip_response_trailers(&mut trailers);
        assert_eq!(names(&trailers), ["grpc-status"]);
    }
}
