//! What a reload replaces, whole: workers and their connections see one state or the next, never a mixture.

use crate::config::ServerConfig;
use crate::hosts::Hosts;

/// The state of a server that a reload replaces. It never changes; a connection keeps the one that it began with.
#[derive(Debug)]
pub(crate) struct Live {
    /// Counts the states, from 1 at start.
    pub(crate) generation: u64,
    /// The configuration in force. What only a restart can change has the value that it had at start.
    pub(crate) config: ServerConfig,
    pub(crate) hosts: Hosts,
    pub(crate) names: ServerNames,
}

impl Live {
    pub(crate) fn new(generation: u64, config: ServerConfig, hosts: Hosts) -> Self {
        Self { generation, config, names: ServerNames::of(&hosts), hosts }
    }
}

/// The server names that metrics know by name. A client may ask for any name: unbounded labels would be a leak.
#[derive(Debug, Default)]
pub(crate) struct ServerNames(Vec<String>);

impl ServerNames {
    fn of(hosts: &Hosts) -> Self {
        let mut names: Vec<_> = hosts
            .iter()
            .flat_map(|host| host.endpoint.credentials())
            .flat_map(|credential| &credential.dns_names)
            .map(|name| name.to_ascii_lowercase())
            .collect();
        names.sort();
        names.dedup();
        Self(names)
    }

    /// The certificate's name that covers the one asked for, or `other`, or `none`.
    pub(crate) fn label(&self, asked: Option<&str>) -> &str {
        let Some(asked) = asked else { return "none" };
        self.covering(asked).unwrap_or("other")
    }

    /// Whether there is a certificate for this name.
    pub(crate) fn covers(&self, asked: &str) -> bool {
        self.covering(asked).is_some()
    }

    fn covering(&self, asked: &str) -> Option<&str> {
        let covers = |name: &&String| {
            name.eq_ignore_ascii_case(asked)
                || name.strip_prefix("*.").is_some_and(|parent| {
                    asked.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent))
                })
        };
        self.0.iter().find(covers).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_names_of_certificates_and_two_more() {
        let names = ServerNames(vec!["*.b.example".to_owned(), "a.example".to_owned()]);
        assert_eq!(names.label(Some("A.example")), "a.example");
        assert_eq!(names.label(Some("x.b.example")), "*.b.example");
        assert_eq!(names.label(Some("x.y.b.example")), "other");
        assert_eq!(names.label(Some("b.example")), "other");
        assert_eq!(names.label(None), "none");
        assert!(names.covers("a.example") && !names.covers("b.example") && !names.covers("other"));
    }
}
