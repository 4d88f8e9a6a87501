//! Virtual hosts: which server a client reaches by the name it asks for.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use qtls_core::client_hello::Offer;
use qtls_core::endpoint::{Decision, ServerEndpoint};

use crate::config::HostName;
use crate::upstream::Upstream;

/// One server behind the port.
#[derive(Debug)]
pub struct Host {
    /// Its TLS side.
    pub endpoint: ServerEndpoint,
    /// Where its plaintext goes.
    pub target: Target,
}

/// Where plaintext goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// To this program itself: the built-in pages.
    Responder,
    /// To an HTTP server.
    Http(Arc<Upstream>),
    /// To anything, as it comes.
    Tcp(Arc<Upstream>),
}

/// All servers behind the port. The first is the one at the top of the configuration, for every name that is no other's.
#[derive(Debug)]
pub struct Hosts {
    hosts: Vec<Host>,
    names: Arc<Names>,
}

impl Hosts {
    /// The server at the top, and the virtual hosts with their names.
    pub fn new(top: Host, virtual_hosts: impl IntoIterator<Item = (Vec<HostName>, Host)>) -> Self {
        let mut hosts = vec![top];
        let mut names = Names::default();
        for (own, host) in virtual_hosts {
            for name in own {
                match name.wildcard() {
                    Some(parent) => names.wildcards.insert(parent.to_owned(), hosts.len()),
                    None => names.exact.insert(name.as_str().to_owned(), hosts.len()),
                };
            }
            hosts.push(host);
        }
        Self { hosts, names: Arc::new(names) }
    }

    /// All of them, in the order of their indexes.
    pub fn iter(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter()
    }

    /// Which name belongs to which of them.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Decides for a client; which host it reached is put into `reached`.
    pub fn decide(&self, offer: &Offer, client: Option<IpAddr>, reached: &Cell<usize>) -> Decision<'_> {
        reached.set(self.names.host_of(offer.server_name.as_deref()));
        self.hosts[reached.get()].endpoint.decide(offer, client)
    }
}

/// Which name belongs to which host.
#[derive(Debug, Default)]
pub struct Names {
    exact: HashMap<String, usize>,
    wildcards: HashMap<String, usize>,
}

impl Names {
    #[cfg(test)]
    pub(crate) fn of(exact: &[(&str, usize)]) -> Self {
        Self { exact: exact.iter().map(|(name, host)| ((*name).to_owned(), *host)).collect(), ..Self::default() }
    }

    /// Whether there is but one host, so that no name can be another's.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }

    /// The index of the host that a name belongs to. An exact name comes before a wildcard, and that before the host at
    /// the top, which is also that of clients who ask for no name.
    pub fn host_of(&self, name: Option<&str>) -> usize {
        const TOP: usize = 0;
        let Some(name) = name.filter(|_| !self.is_empty()) else { return TOP };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let wildcard = || name.split_once('.').and_then(|(_, parent)| self.wildcards.get(parent));
        self.exact.get(&name).or_else(wildcard).copied().unwrap_or(TOP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_before_wildcard_before_the_top() {
        let names = Names {
            exact: HashMap::from([("a.example".to_owned(), 1), ("x.b.example".to_owned(), 2)]),
            wildcards: HashMap::from([("b.example".to_owned(), 3)]),
        };
        for (name, host) in [
            ("a.example", 1),
            ("A.EXAMPLE", 1),
            ("a.example.", 1),
            ("x.b.example", 2),
            ("y.b.example", 3),
            ("b.example", 0),
            ("z.y.b.example", 0),
            ("c.example", 0),
        ] {
            assert_eq!(names.host_of(Some(name)), host, "{name}");
        }
        assert_eq!(names.host_of(None), 0);
        assert_eq!(Names::default().host_of(Some("a.example")), 0);
    }
}
