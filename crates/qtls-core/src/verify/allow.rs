//! Which verified identities may come in (`certificates.allow`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{Ia5StringRef, ObjectIdentifier, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::{Encode, Tag, Tagged};
use x509_cert::name::Name;

use super::identity::{Identity, SpkiHash};
use crate::error::nearest;
use crate::{Error, Result};

/// One condition on an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowRule {
    /// `san_dns`: an alternative name of kind DNS, compared without case. A first label `*` stands for any one label.
    SanDns(String),
    /// `san_ip`: an alternative name of kind IP.
    SanIp(IpAddr),
    /// `san_uri`: an alternative name of kind URI. A path segment `*` stands for any one segment.
    SanUri(String),
    /// `san_email`: an alternative name of kind mail address; the part behind the `@` is compared without case.
    SanEmail(String),
    /// `subject`: the whole subject, in the notation of RFC 4514.
    Subject(Subject),
    /// `spki_sha256`: the key itself.
    SpkiSha256(SpkiHash),
}

/// A subject's relative names, most significant first, free of how the certificate encodes its strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    shown: String,
    names: Vec<Vec<(ObjectIdentifier, Value)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Text(String),
    Der(Vec<u8>),
}

impl AllowRule {
    /// The kinds, as the keys of a configuration.
    pub const KINDS: [&str; 6] = ["san_dns", "san_ip", "san_uri", "san_email", "subject", "spki_sha256"];

    /// Parses the value of one kind.
    ///
    /// # Errors
    /// An unknown kind, and a value that no certificate could ever match. Each names the kind as its key.
    pub fn parse(kind: &str, value: &str) -> Result<Self> {
        Self::of(kind, value).map_err(|error| error.key(kind))
    }

    fn of(kind: &str, value: &str) -> Result<Self> {
        match kind {
            "san_dns" => dns_name(value).map(Self::SanDns),
            "san_ip" => value.parse().map(Self::SanIp).map_err(|_| {
                Error::configuration(format!("\"{value}\" is not an IP address"))
                    .hint("write one address, such as 192.0.2.1 or 2001:db8::1; a name is `san_dns`")
            }),
            "san_uri" => uri(value).map(Self::SanUri),
            "san_email" => email(value).map(Self::SanEmail),
            "subject" => Subject::parse(value).map(Self::Subject),
            "spki_sha256" => SpkiHash::parse(value).map(Self::SpkiSha256),
            _ => {
                let error = Error::configuration(format!("unknown kind of identity \"{kind}\""));
                Err(match nearest(kind, Self::KINDS) {
                    Some(near) => error.hint(format!("did you mean \"{near}\"?")),
                    None => error.hint(format!("known are: {}", Self::KINDS.join(", "))),
                })
            }
        }
    }

    fn matches(&self, identity: &Identity) -> bool {
        match self {
            Self::SanDns(rule) => identity.dns_names.iter().any(|name| dns_matches(rule, name)),
            Self::SanIp(rule) => identity.ip_addresses.contains(rule),
            Self::SanUri(rule) => identity.uris.iter().any(|uri| uri_matches(rule, uri)),
            Self::SanEmail(rule) => identity.emails.iter().any(|address| same_mailbox(rule, address)),
            Self::Subject(rule) => rule.names == relative_names(&identity.name),
            Self::SpkiSha256(rule) => identity.spki_sha256 == *rule,
        }
    }
}

/// As a configuration writes it: `san_dns app.example`.
impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SanDns(name) => write!(f, "san_dns {name}"),
            Self::SanIp(address) => write!(f, "san_ip {address}"),
            Self::SanUri(uri) => write!(f, "san_uri {uri}"),
            Self::SanEmail(address) => write!(f, "san_email {address}"),
            Self::Subject(subject) => write!(f, "subject {}", subject.shown),
            Self::SpkiSha256(hash) => write!(f, "spki_sha256 {hash}"),
        }
    }
}

/// The entries of `certificates.allow`. An identity is let in that meets *every* rule of *some* entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList {
    entries: Vec<Vec<AllowRule>>,
}

impl AllowList {
    /// Parses entries, each a list of kind and value.
    ///
    /// # Errors
    /// No entry at all, an entry without a rule, and what [`AllowRule::parse`] refuses. Each names the entry as its
    /// key: `[2].san_dns`.
    pub fn parse<'a, E>(entries: impl IntoIterator<Item = E>) -> Result<Self>
    where
        E: IntoIterator<Item = (&'a str, &'a str)>,
    {
        let mut parsed = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let rules = entry
                .into_iter()
                .map(|(kind, value)| AllowRule::of(kind, value).map_err(|error| error.key(format!("[{index}].{kind}"))))
                .collect::<Result<Vec<_>>>()?;
            if rules.is_empty() {
                return Err(Error::configuration("this entry names no identity")
                    .key(format!("[{index}]"))
                    .hint(format!("give it one of {}, or remove it", AllowRule::KINDS.join(", "))));
            }
            parsed.push(rules);
        }
        if parsed.is_empty() {
            return Err(Error::configuration("the list is empty: no client could come in")
                .hint("name the identities that may, or remove the key to let in every client that verifies"));
        }
        Ok(Self { entries: parsed })
    }

    /// Whether a leaf's holder is let in, and by which entry.
    ///
    /// The chain must have been verified before.
    pub fn permits(&self, leaf: &[u8]) -> Result<Matched, Refused> {
        let identity = Identity::of(leaf).map_err(|error| Refused { identity: error.message().to_owned() })?;
        let entry = self.entries.iter().find(|rules| rules.iter().all(|rule| rule.matches(&identity)));
        match entry {
            Some(rules) => {
                Ok(Matched { entry: rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ") })
            }
            None => Err(Refused { identity: identity.to_string() }),
        }
    }
}

/// The entry that let an identity in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Its rules, as a configuration writes them.
    pub entry: String,
}

/// No entry lets this identity in. Displayed as a sentence for logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The identity, in one line.
    pub identity: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the peer's certificate is valid, but certificates.allow doesn't name it: {}", self.identity)
    }
}

impl std::error::Error for Refused {}

impl Subject {
    /// Parses the notation of RFC 4514 (`CN=worker,O=Example`), the least significant name first. Spaces around
    /// commas and equals signs, as OpenSSL shows them, are no part of the names.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |part: &str| {
            Error::configuration(format!("\"{text}\" is not a subject in the notation of RFC 4514: see \"{part}\""))
                .hint("it looks like `CN=worker,OU=Payments,O=Example`, as `openssl x509 -subject -nameopt RFC2253` shows it")
        };
        let mut names = Vec::new();
        for part in split(text, ',') {
            let mut attributes = Vec::new();
            for attribute in split(part, '+') {
                let (kind, text) = trim(attribute).split_once('=').ok_or_else(|| wrong(attribute))?;
                let parsed = AttributeTypeAndValue::from_str(&format!("{}={}", trim(kind), trim(text)))
                    .map_err(|_| wrong(attribute))?;
                let value = value(&parsed).ok_or_else(|| wrong(attribute))?;
                if value == Value::Text(String::new()) {
                    return Err(wrong(attribute));
                }
                attributes.push((parsed.oid, value));
            }
            attributes.sort();
            names.push(attributes);
        }
        names.reverse();
        Ok(Self { shown: text.to_owned(), names })
    }
}

fn relative_names(name: &Name) -> Vec<Vec<(ObjectIdentifier, Value)>> {
    name.iter_rdn()
        .map(|relative| {
            let mut attributes: Vec<_> =
                relative.iter().filter_map(|attribute| Some((attribute.oid, value(attribute)?))).collect();
            attributes.sort();
            attributes
        })
        .collect()
}

/// The text of any type of string, so that PrintableString and UTF8String of the same characters are the same name.
fn value(attribute: &AttributeTypeAndValue) -> Option<Value> {
    text(attribute).map(Value::Text).or_else(|| attribute.value.to_der().ok().map(Value::Der))
}

/// The text of an attribute, if it is one.
pub(super) fn text(attribute: &AttributeTypeAndValue) -> Option<String> {
    let any = &attribute.value;
    match any.tag() {
        Tag::PrintableString => PrintableStringRef::try_from(any).ok().map(|text| text.as_str().to_owned()),
        Tag::Utf8String => Utf8StringRef::try_from(any).ok().map(|text| text.as_str().to_owned()),
        Tag::Ia5String => Ia5StringRef::try_from(any).ok().map(|text| text.as_str().to_owned()),
        Tag::TeletexString => TeletexStringRef::try_from(any).ok().map(|text| text.as_str().to_owned()),
        _ => None,
    }
}

/// At every separator that no backslash escapes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, character) in text.char_indices() {
        if character == separator && !escaped {
            parts.push(&text[start..index]);
            start = index + separator.len_utf8();
        }
        escaped = character == '\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

/// Without the spaces around it; an escaped one at the end belongs to the value.
fn trim(text: &str) -> &str {
    let text = text.trim_start_matches(' ');
    let trimmed = text.trim_end_matches(' ');
    if trimmed.ends_with('\\') && trimmed.len() < text.len() { &text[..=trimmed.len()] } else { trimmed }
}

fn dns_name(text: &str) -> Result<String> {
    let wrong = |why: &str, hint: &str| {
        Err(Error::configuration(format!("\"{text}\" is not a DNS name: {why}")).hint(hint.to_owned()))
    };
    if !text.is_ascii() {
        return wrong("it has characters outside ASCII", "write it as certificates hold it: `xn--…` for each label");
    }
    if text.parse::<IpAddr>().is_ok() {
        return wrong("it is an IP address", "give it as san_ip");
    }
    let labels = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    if labels.len() > 253 || !labels.split('.').all(is_label) {
        return wrong("its labels don't have the form of such names", "a first label `*` stands for any one label");
    }
    Ok(text.to_ascii_lowercase())
}

fn uri(text: &str) -> Result<String> {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| !scheme.is_empty());
    let well_formed = scheme.is_some_and(|scheme| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet))
    });
    if !well_formed || !text.is_ascii() || text.bytes().any(|octet| octet <= b' ' || octet == 0x7f) {
        return Err(Error::configuration(format!("\"{text}\" is not a URI"))
            .hint("it begins with its scheme and is in ASCII: `spiffe://example.org/worker`"));
    }
    Ok(text.to_owned())
}

fn email(text: &str) -> Result<String> {
    match text.rsplit_once('@') {
        Some((local, domain)) if !local.is_empty() && text.is_ascii() && dns_name(domain).is_ok() => {
            Ok(text.to_owned())
        }
        _ => {
            Err(Error::configuration(format!("\"{text}\" is not a mail address"))
                .hint("it looks like `who@example.org`"))
        }
    }
}

fn dns_matches(rule: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    match rule.strip_prefix('*') {
        Some(parent) => name.strip_suffix(parent).is_some_and(|label| !label.is_empty() && !label.contains('.')),
        None => rule == name,
    }
}

/// Octet by octet, but for path segments that are `*` in the rule: RFC 3986 leaves it to the scheme what else is equal.
fn uri_matches(rule: &str, uri: &str) -> bool {
    let (rule, uri): (Vec<_>, Vec<_>) = (rule.split('/').collect(), uri.split('/').collect());
    // Scheme, nothing, and authority come before the path (`spiffe:`, ``, `example.org`).
    const PATH: usize = 3;
    rule.len() == uri.len()
        && rule.iter().zip(&uri).enumerate().all(|(index, (rule, segment))| {
            rule == segment || (index >= PATH && *rule == "*" && !segment.is_empty() && *segment != "..")
        })
}

fn same_mailbox(rule: &str, address: &str) -> bool {
    match (rule.rsplit_once('@'), address.rsplit_once('@')) {
        (Some((rule_local, rule_domain)), Some((local, domain))) => {
            rule_local == local && rule_domain.eq_ignore_ascii_case(domain)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_chain::{build, extension, tlv};
    use crate::credentials::{generate, signing_key};
    use crate::policy::KeyAlgorithm;

    fn leaf(common_name: &str, names: &[(u8, &[u8])]) -> Vec<u8> {
        let key = signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap();
        let names: Vec<u8> = names.iter().flat_map(|(tag, value)| tlv(*tag, value)).collect();
        build(common_name, "CA", key.as_ref(), (-60, 60), &[extension(0x11, &tlv(0x30, &names))]).to_vec()
    }

    fn allows(kind: &str, value: &str, leaf: &[u8]) -> bool {
        AllowList::parse([[(kind, value)]]).unwrap().permits(leaf).is_ok()
    }

    #[test]
    fn each_kind_matches_its_own_kind_of_name_only() {
        let leaf = leaf(
            "worker",
            &[
                (0x82, b"App.example"),
                (0x87, &[192, 0, 2, 1]),
                (0x86, b"spiffe://example/ns/a/sa/b"),
                (0x81, b"Who@Example.org"),
            ],
        );
        let spki = Identity::of(&leaf).unwrap().spki_sha256.to_string();
        for (kind, right, wrong) in [
            ("san_dns", "app.EXAMPLE", "pp.example"),
            ("san_dns", "*.example", "*.app.example"),
            ("san_ip", "192.0.2.1", "192.0.2.2"),
            ("san_uri", "spiffe://example/ns/a/sa/b", "spiffe://example/ns/a/sa/B"),
            ("san_uri", "spiffe://example/ns/*/sa/b", "spiffe://example/ns/*"),
            ("san_uri", "spiffe://example/*/a/*/*", "spiffe://*/ns/a/sa/b"),
            ("san_email", "Who@EXAMPLE.org", "who@example.org"),
            ("subject", "CN=worker", "CN=Worker"),
            ("subject", "cn= worker", "CN=worker,O=Example"),
            ("spki_sha256", &spki, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ] {
            assert!(allows(kind, right, &leaf), "{kind} {right}");
            assert!(!allows(kind, wrong, &leaf), "{kind} {wrong}");
        }
        // A name of one kind never counts as another: a mail address is no DNS name, nor is the common name.
        assert!(!allows("san_dns", "worker", &leaf));
        assert!(!allows("san_dns", "*.org", &leaf));
    }

    #[test]
    fn every_rule_of_an_entry_and_any_entry() {
        let leaf = leaf("worker", &[(0x82, b"a.example")]);
        let list = |entries: &[&[(&'static str, &'static str)]]| {
            AllowList::parse(entries.iter().map(|entry| entry.iter().copied())).unwrap()
        };
        let both = list(&[&[("san_dns", "b.example")], &[("subject", "CN=worker"), ("san_dns", "a.example")]]);
        assert_eq!(both.permits(&leaf).unwrap().entry, "subject CN=worker and san_dns a.example");
        let refused = list(&[&[("subject", "CN=worker"), ("san_dns", "b.example")]]).permits(&leaf).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the peer's certificate is valid, but certificates.allow doesn't name it: CN=worker, DNS a.example"
        );
        assert!(list(&[&[("san_dns", "a.example")]]).permits(b"no certificate").is_err());
    }

    #[test]
    fn a_subject_as_it_is_shown_is_a_rule_for_it() {
        for name in ["일꾼", "a, b + c", " leading and trailing ", "#1", "back\\slash", "quo\"te", "x=y;z<>"] {
            let leaf = leaf(name, &[]);
            let shown = Identity::of(&leaf).unwrap().subject;
            assert!(allows("subject", &shown, &leaf), "{shown}");
        }
    }

    #[test]
    fn the_type_of_string_makes_no_difference_but_the_order_does() {
        let name = |text: &str| Subject::parse(text).unwrap().names;
        // C is a PrintableString, CN a UTF8String, and certificates mix them as they like.
        assert_eq!(name("CN=a,C=KR")[0][0].1, Value::Text("KR".to_owned()));
        assert_eq!(name("CN=a, C=KR"), name("cn=a,c=KR"));
        assert_ne!(name("CN=a,C=KR"), name("C=KR,CN=a"));
        assert_eq!(name("CN=a+UID=b,C=KR"), name("UID=b+CN=a,C=KR"));
    }

    #[test]
    fn an_entry_that_parses_as_nothing_is_told_with_its_place() {
        let refusal = |entry: &[(&'static str, &'static str)]| {
            AllowList::parse([&[("subject", "CN=x")][..], entry].map(|entry| entry.iter().copied()))
                .unwrap_err()
                .to_string()
        };
        assert!(refusal(&[]).starts_with("[1]: this entry names no identity"));
        for (kind, value, part) in [
            ("san_dns", "*", "is not a DNS name"),
            ("san_dns", "a..example", "is not a DNS name"),
            ("san_dns", "일꾼.example", "outside ASCII"),
            ("san_dns", "192.0.2.1", "give it as san_ip"),
            ("san_ip", "192.0.2.0/24", "is not an IP address"),
            ("san_uri", "example.org/worker", "is not a URI"),
            ("san_email", "example.org", "is not a mail address"),
            ("subject", "worker", "see \"worker\""),
            ("subject", "CN=", "see \"CN=\""),
            ("subject", "NOSUCH=x", "see \"NOSUCH=x\""),
            ("subject", "", "is not a subject"),
            ("spki_sha256", "abc", "is not the SHA-256"),
        ] {
            let error = refusal(&[(kind, value)]);
            assert!(error.starts_with(&format!("[1].{kind}: ")) && error.contains(part), "{error}");
        }
        assert!(refusal(&[("san_dsn", "a")]).contains("did you mean \"san_dns\"?"));
        let none: [[(&str, &str); 0]; 0] = [];
        assert!(AllowList::parse(none).unwrap_err().message().contains("no client could come in"));
    }
}
