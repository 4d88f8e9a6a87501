//! Who a certificate is going to be for: from the command line, or from a request and what of it is granted.

use qtls_core::{Error, Result};
use qtls_pki::issue::{AlternativeName, Profile};
use qtls_pki::names::ServerName;
use qtls_pki::request::Request;

use crate::qtls::csr::first_dns_name;

/// The names that go into a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) common_name: Option<String>,
    pub(super) organization: Option<String>,
    pub(super) names: Vec<AlternativeName>,
    /// What was asked for and isn't granted, in words.
    pub(super) withheld: Vec<String>,
}

/// What the command line says.
pub(super) struct Given<'a> {
    pub(super) common_name: Option<&'a str>,
    pub(super) organization: Option<&'a str>,
    pub(super) names: &'a [AlternativeName],
}

/// As many names as anybody has use for.
const MOST_NAMES: usize = 100;

impl Subject {
    /// The subject of a certificate whose key is made here.
    pub(super) fn given(given: &Given<'_>, profile: Profile) -> Result<Self> {
        let common_name = given.common_name.map(str::to_owned).or_else(|| first_dns_name(given.names));
        Self {
            common_name,
            organization: given.organization.map(str::to_owned),
            names: given.names.to_vec(),
            withheld: Vec::new(),
        }
        .checked(profile)
    }

    /// The subject that a request asks for. Names on the command line are all that is granted of it; without them every
    /// name that fits the profile is.
    pub(super) fn requested(request: &Request, given: &Given<'_>, profile: Profile) -> Result<Self> {
        if let Some(name) = given.names.iter().find(|name| !request.names.contains(name)) {
            return Err(Error::configuration(format!("the request doesn't ask for {name}"))
                .hint(format!("with a request, --name says which of its names to grant: {}", list(&request.names))));
        }
        if request.names.len() > MOST_NAMES {
            return Err(Error::certificate(format!("the request asks for {} names", request.names.len()))
                .hint(format!("at most {MOST_NAMES} are granted: say which with --name NAME")));
        }
        let mut withheld = request.ignored.clone();
        let mut names = Vec::new();
        for name in &request.names {
            let refusal = if !given.names.is_empty() && !given.names.contains(name) {
                Some("is not among the names to grant".to_owned())
            } else {
                unfit(name, profile)
            };
            match refusal {
                Some(why) => withheld.push(format!("{name}: {why}")),
                None => names.push(name.clone()),
            }
        }
        let mut common_name = given.common_name.map(str::to_owned).or_else(|| request.common_name.clone());
        // Some programs still take a common name for a host name: it must not smuggle in one that isn't granted.
        if let Some(host) = common_name.as_deref().and_then(host_name)
            && !names.contains(&host)
        {
            withheld.push(format!("the common name {}: is a host name that is not granted", request.subject));
            common_name = None;
        }
        let common_name = common_name.or_else(|| first_dns_name(&names));
        let organization = given.organization.map(str::to_owned).or_else(|| request.organization.clone());
        Self { common_name, organization, names, withheld }.checked(profile)
    }

    fn checked(self, profile: Profile) -> Result<Self> {
        if profile == Profile::Server && self.names.is_empty() {
            return Err(Error::configuration("a server's certificate needs a name that clients can check")
                .hint("give its host names and addresses as --name NAME: clients ignore the common name"));
        }
        if self.common_name.is_none() && self.names.is_empty() {
            return Err(Error::configuration("a certificate needs a name")
                .hint("give a common name as --cn TEXT, or an alternative name as --name NAME"));
        }
        if matches!(profile, Profile::Intermediate { .. }) && self.common_name.is_none() {
            return Err(Error::configuration("a CA needs a common name").hint("give it as --cn TEXT"));
        }
        Ok(self)
    }
}

/// The names, for people.
pub(super) fn list(names: &[AlternativeName]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn unfit(name: &AlternativeName, profile: Profile) -> Option<String> {
    match (name, profile) {
        (AlternativeName::Dns(text), _) => match text.parse::<ServerName>() {
            Ok(ServerName::Dns(plain)) if plain == *text => None,
            Ok(_) => Some("is not written as certificates write it".to_owned()),
            Err(error) => Some(error.message().to_owned()),
        },
        (AlternativeName::Uri(_) | AlternativeName::Email(_), Profile::Server) => {
            Some("is no name of a server".to_owned())
        }
        _ => None,
    }
}

fn host_name(text: &str) -> Option<AlternativeName> {
    if !text.contains('.') && text.parse::<std::net::IpAddr>().is_err() {
        return None;
    }
    text.parse::<ServerName>().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use qtls_core::credentials::KeyKind;

    use super::*;

    fn names(texts: &[&str]) -> Vec<AlternativeName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn request(common_name: Option<&str>, texts: &[&str]) -> Request {
        Request {
            common_name: common_name.map(str::to_owned),
            organization: Some("양자".to_owned()),
            subject: common_name.map(|name| format!("CN={name}")).unwrap_or_default(),
            names: names(texts),
            ignored: vec!["the extension 1.2.3".to_owned()],
            spki: Vec::new(),
            kind: KeyKind::Ed25519,
            signature_algorithm: "Ed25519".to_owned(),
        }
    }

    fn granted(request: &Request, texts: &[&str], profile: Profile) -> Result<Subject> {
        let names = names(texts);
        Subject::requested(request, &Given { common_name: None, organization: None, names: &names }, profile)
    }

    #[test]
    fn a_request_gets_its_names_and_no_others() {
        let asked = request(Some("시험"), &["a.example", "b.example", "URI:spiffe://a/b"]);
        let all = granted(&asked, &[], Profile::Client).unwrap();
        assert_eq!((all.names.len(), all.common_name.as_deref()), (3, Some("시험")));
        assert_eq!(all.withheld, ["the extension 1.2.3"]);
        let server = granted(&asked, &[], Profile::Server).unwrap();
        assert_eq!(server.names, names(&["a.example", "b.example"]));
        assert!(server.withheld[1].contains("is no name of a server"), "{:?}", server.withheld);
        let one = granted(&asked, &["b.example"], Profile::Server).unwrap();
        assert_eq!(one.names, names(&["b.example"]));
        assert!(one.withheld.iter().any(|told| told.starts_with("DNS:a.example: is not among")), "{:?}", one.withheld);
        let error = granted(&asked, &["c.example"], Profile::Server).unwrap_err();
        assert!(error.message().contains("doesn't ask for DNS:c.example"), "{error}");
    }

    #[test]
    fn a_common_name_does_not_smuggle_in_a_host() {
        let asked = request(Some("bank.example"), &["a.example"]);
        let subject = granted(&asked, &[], Profile::Server).unwrap();
        assert_eq!(subject.common_name.as_deref(), Some("a.example"));
        assert!(subject.withheld[1].contains("a host name that is not granted"), "{:?}", subject.withheld);
    }

    #[test]
    fn strange_names_are_withheld_and_a_server_needs_one() {
        let mut asked = request(None, &[]);
        asked.names =
            vec![AlternativeName::Dns("a_b..example".to_owned()), AlternativeName::Dns("A.example".to_owned())];
        let error = granted(&asked, &[], Profile::Server).unwrap_err();
        assert!(error.message().contains("needs a name that clients can check"), "{error}");
        asked.names = (0..101).map(|number| AlternativeName::Dns(format!("a{number}.example"))).collect();
        assert!(granted(&asked, &[], Profile::Server).unwrap_err().message().contains("101 names"));
    }
}
