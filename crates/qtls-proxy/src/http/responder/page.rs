//! The page that tells visitors about their own connection. It loads nothing and runs nothing.

use std::borrow::Cow;

use http::header::HeaderValue;
use qtls_core::facts::Facts;

const STYLE: &str = include_str!("page.css");

/// Nothing may be loaded, run, framed or submitted; the one style sheet is allowed by its SHA-256.
pub(super) const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'sha256-n4jrNWdGk8NHfyYe4OSTeI8yqF1LAupdXbhhsGNoQrE='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The page about one connection.
pub(super) fn render(facts: &Facts) -> String {
    let group = escape(&facts.group_name()).into_owned();
    let (class, mark, heading, meaning) = if facts.post_quantum() {
        (
            "yes",
            "✓",
            "Post-quantum: yes",
            format!(
                "<p>The keys of this connection were agreed with {group}: whoever records it today can’t read it later, \
                 not even with a quantum computer.</p>"
            ),
        )
    } else {
        (
            "no",
            "!",
            "Post-quantum: no",
            format!(
                "<p>The keys of this connection were agreed with {group} alone: whoever records it today can read it \
                 once there is a large quantum computer.</p>\
                 <p><strong>What to do:</strong> update your browser or program. Chrome, Edge, Firefox and Safari, \
                 OpenSSL 3.5 and Go 1.24 offer post-quantum key exchange in their current versions. If yours does too, \
                 something in between may be taking part in the connection (a company’s proxy, a virus scanner), or \
                 this server is set up without it.</p>"
            ),
        )
    };
    let rows = rows(facts);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{heading} – your connection</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<section>\n\
         <div class=\"answer {class}\">\n<h1><span aria-hidden=\"true\">{mark} </span>{heading}</h1>\n{meaning}\n</div>\n\
         <h2>Your connection</h2>\n<dl>\n{rows}</dl>\n\
         </section>\n<footer>For programs: <a href=\"/status.json\">status.json</a></footer>\n</main>\n</body>\n</html>\n"
    )
}

fn rows(facts: &Facts) -> String {
    let alpn = facts.alpn_name();
    let scheme = facts.scheme.map(|_| facts.scheme_name());
    let rows: [(&str, Cow<'_, str>); 9] = [
        ("Protocol", facts.version_name().into()),
        ("Key exchange group", facts.group_name().into()),
        ("Cipher suite", facts.suite_name().into()),
        ("Server certificate", facts.certificate.as_deref().unwrap_or("unknown").into()),
        ("Signature scheme", scheme.map_or("none: the session was resumed".into(), Into::into)),
        ("Session", if facts.resumed { "resumed" } else { "new" }.into()),
        ("HelloRetryRequest", if facts.hello_retry_request { "yes" } else { "no" }.into()),
        ("Application protocol (ALPN)", alpn.map_or("none".into(), Into::into)),
        ("Server name (SNI)", facts.server_name.as_deref().unwrap_or("none").into()),
    ];
    rows.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escape(value))).collect()
}

/// Text as HTML, also within quotes: names in the ClientHello are the visitor's to choose.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use qtls_core::policy::{CipherSuite, Group};
    use qtls_core::provider::provider;
    use rustls::{ProtocolVersion, SignatureScheme};

    use super::*;

    fn facts() -> Facts {
        Facts {
            reason: None,
            version: ProtocolVersion::TLSv1_3,
            group: 0x11ec,
            suite: 0x1302,
            scheme: Some(SignatureScheme::ML_DSA_65),
            certificate: Some("server-mldsa65".to_owned()),
            alpn: Some(b"h2".to_vec()),
            server_name: Some("a.example".to_owned()),
            resumed: false,
            hello_retry_request: true,
            peer_chain: Vec::new(),
        }
    }

    #[test]
    fn tells_every_fact() {
        let page = render(&facts());
        for cell in [
            "Protocol</dt><dd>TLSv1.3<",
            "Key exchange group</dt><dd>X25519MLKEM768<",
            "Cipher suite</dt><dd>TLS_AES_256_GCM_SHA384<",
            "Server certificate</dt><dd>server-mldsa65<",
            "Signature scheme</dt><dd>mldsa65<",
            "Session</dt><dd>new<",
            "HelloRetryRequest</dt><dd>yes<",
            "Application protocol (ALPN)</dt><dd>h2<",
            "Server name (SNI)</dt><dd>a.example<",
        ] {
            assert!(page.contains(cell), "{cell} is not in {page}");
        }
        assert!(page.contains("Post-quantum: yes</h1>") && !page.contains("What to do"));
    }

    #[test]
    fn tells_what_to_do_without_post_quantum_key_exchange() {
        let page =
            render(&Facts { group: 0x001d, scheme: None, resumed: true, alpn: None, server_name: None, ..facts() });
        assert!(page.contains("Post-quantum: no</h1>") && page.contains("agreed with x25519 alone"));
        assert!(page.contains("What to do:</strong> update your browser"));
        assert!(page.contains("Signature scheme</dt><dd>none: the session was resumed<"));
        assert!(page.contains("ALPN)</dt><dd>none<") && page.contains("SNI)</dt><dd>none<"));
    }

    #[test]
    fn what_visitors_choose_is_text() {
        let name = "<script>alert(\"1\")</script>&'";
        let page = render(&Facts { server_name: Some(name.to_owned()), alpn: Some(name.into()), ..facts() });
        assert!(!page.contains("<script") && !page.contains("&'"));
        let escaped = "<dd>&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;</dd>";
        assert_eq!(page.matches(escaped).count(), 2);
    }

    #[test]
    fn loads_nothing() {
        let page = render(&facts());
        for word in ["src=", "url(", "@import", "<link", "<script", "http:", "https:", "style="] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn the_policy_allows_the_style_sheet_and_nothing_else() {
        let suites = CipherSuite::from_code_point(0x1301).into_iter().collect::<Vec<_>>();
        let provider = provider(&[Group::X25519], &suites);
        let sha256 = provider.cipher_suites[0].tls13().unwrap().common.hash_provider;
        let hash = base64(sha256.hash(STYLE.as_bytes()).as_ref());
        let policy = POLICY;
        let directives: Vec<_> = policy.to_str().unwrap().split("; ").collect();
        assert!(directives.contains(&format!("style-src 'sha256-{hash}'").as_str()), "the style sheet has {hash}");
        assert_eq!(directives[0], "default-src 'none'");
        assert!(!policy.to_str().unwrap().contains("unsafe"));
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let bits =
                chunk.iter().enumerate().fold(0, |bits, (index, byte)| bits | u32::from(*byte) << (16 - 8 * index));
            for digit in 0..4 {
                let index = (bits >> (18 - 6 * digit)) as usize & 63;
                text.push(if digit <= chunk.len() { char::from(DIGITS[index]) } else { '=' });
            }
        }
        text
    }
}
