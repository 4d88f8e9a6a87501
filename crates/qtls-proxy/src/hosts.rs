//! Virtual hosts: which server a client reaches by the name it asks for.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use qtls_core::client_hello::{Alpn, Offer};
use qtls_core::credentials::Credential;
use qtls_core::endpoint::{Decision, ServerEndpoint};
use qtls_core::sessions::SessionCounters;

use crate::config::{AlpnProtocol, HostName, VirtualHost};
use crate::observe::metrics::Metrics;
use crate::upstream::{OwnAddresses, Upstream};

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

impl Target {
    /// Whether both are the same place, not only an equal one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Responder, Self::Responder) => true,
            (Self::Http(one), Self::Http(other)) | (Self::Tcp(one), Self::Tcp(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// Which clients a virtual host is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The names that they ask for; none is every name that is no other host's.
    pub names: Vec<HostName>,
    /// The protocols that they offer; none is any protocol.
    pub alpn: Vec<AlpnProtocol>,
}

impl Reach {
    /// As the configuration says.
    pub(crate) fn of(host: &VirtualHost) -> Self {
        Self { names: host.names.clone(), alpn: host.alpn.clone() }
    }
}

impl From<Vec<HostName>> for Reach {
    fn from(names: Vec<HostName>) -> Self {
        Self { names, alpn: Vec::new() }
    }
}

/// For people: `a.example, b.example (h2)`.
impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names.iter().map(HostName::as_str).collect();
        f.write_str(if names.is_empty() { "any name" } else { "" })?;
        f.write_str(&names.join(", "))?;
        if !self.alpn.is_empty() {
            let protocols: Vec<_> = self.alpn.iter().map(AlpnProtocol::as_str).collect();
            write!(f, " ({})", protocols.join(", "))?;
        }
        Ok(())
    }
}

/// All servers behind the port. The first is the one at the top of the configuration, for every name that is no other's.
#[derive(Debug)]
pub struct Hosts {
    hosts: Vec<Host>,
    /// In the order of the hosts behind the first.
    reaches: Vec<Reach>,
    names: Arc<Names>,
}

impl Hosts {
    /// The server at the top, and the virtual hosts with what they are for.
    pub fn new<R: Into<Reach>>(top: Host, virtual_hosts: impl IntoIterator<Item = (R, Host)>) -> Self {
        let mut hosts = vec![top];
        let mut reaches = Vec::new();
        let mut names = Names::default();
        for (reach, host) in virtual_hosts {
            let reach = reach.into();
            names.add(&reach, hosts.len());
            reaches.push(reach);
            hosts.push(host);
        }
        Self { hosts, reaches, names: Arc::new(names) }
    }

    /// All of them, in the order of their indexes.
    pub fn iter(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter()
    }

    /// The server at the top.
    pub fn top(&self) -> &Host {
        &self.hosts[0]
    }

    /// The virtual host that takes this one's place in another configuration: with the same first name, and for the same
    /// protocols.
    pub fn same(&self, reach: &Reach) -> Option<&Host> {
        let is_same = |known: &Reach| known.names.first() == reach.names.first() && known.alpn == reach.alpn;
        self.hosts.get(self.reaches.iter().position(is_same)? + 1)
    }

    /// What is counted of their sessions, all together.
    pub fn session_counters(&self) -> &Arc<SessionCounters> {
        self.hosts[0].endpoint.session_counters()
    }

    /// The certificates of all of them.
    pub fn credentials(&self) -> impl Iterator<Item = &Credential> {
        self.hosts.iter().flat_map(|host| host.endpoint.credentials())
    }

    /// The upstreams of all of them; one that several have comes several times.
    fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.hosts.iter().filter_map(|host| match &host.target {
            Target::Http(upstream) | Target::Tcp(upstream) => Some(upstream),
            Target::Responder => None,
        })
    }

    /// Has the servers behind them counted in `metrics`, and connections to `own` refused.
    pub(crate) fn settle_in(&self, metrics: &Metrics, own: &Arc<OwnAddresses>) {
        self.upstreams().for_each(|upstream| upstream.settle_in(metrics, own));
    }

    /// Begins to look after the servers behind them. Must run inside a runtime that outlives them.
    pub(crate) fn care(&self) {
        self.upstreams().for_each(Upstream::care);
    }

    /// The host with this index, as [`Hosts::decide`] tells it.
    pub fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    /// Which name belongs to which of them.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Decides for a client; which host it reached is put into `reached`.
    pub fn decide(&self, offer: &Offer, client: Option<IpAddr>, reached: &Cell<usize>) -> Decision<'_> {
        reached.set(self.names.host_of(offer.server_name.as_deref(), &offer.alpn));
        self.hosts[reached.get()].endpoint.decide(offer, client)
    }
}

/// Which name, with which protocol, belongs to which host.
#[derive(Debug, Default)]
pub struct Names {
    exact: HashMap<String, Routes>,
    wildcards: HashMap<String, Routes>,
    /// For names that are nobody's.
    any: Routes,
}

/// The hosts of one name, in the order of the configuration.
#[derive(Debug, Default)]
struct Routes(Vec<Route>);

#[derive(Debug)]
struct Route {
    /// None is any protocol.
    alpn: Vec<AlpnProtocol>,
    host: usize,
}

impl Routes {
    /// The first host for a protocol that the client offers, else the one for any protocol.
    fn find(&self, offered: &Alpn) -> Option<usize> {
        let offers = |route: &&Route| route.alpn.iter().any(|protocol| offered.offers(protocol.as_str().as_bytes()));
        let for_any = |route: &&Route| route.alpn.is_empty();
        self.0.iter().find(offers).or_else(|| self.0.iter().find(for_any)).map(|route| route.host)
    }
}

impl Names {
    #[cfg(test)]
    pub(crate) fn of(exact: &[(&str, usize)]) -> Self {
        let mut names = Self::default();
        for (name, host) in exact {
            names.add(&vec![name.parse().unwrap()].into(), *host);
        }
        names
    }

    /// Gives a host what it is for.
    pub(crate) fn add(&mut self, reach: &Reach, host: usize) {
        let route = || Route { alpn: reach.alpn.clone(), host };
        for name in &reach.names {
            let routes = match name.wildcard() {
                Some(parent) => self.wildcards.entry(parent.to_owned()),
                None => self.exact.entry(name.as_str().to_owned()),
            };
            routes.or_default().0.push(route());
        }
        if reach.names.is_empty() {
            self.any.0.push(route());
        }
    }

    /// Whether there is but one host, so that no name can be another's.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.any.0.is_empty()
    }

    /// The index of the host that a name belongs to, for clients that offer these protocols. An exact name comes before a
    /// wildcard, and that before the hosts without names and the one at the top, which is also that of clients who ask for
    /// no name.
    ///
    /// A name is a wall for protocols, too: a client that offers none of the protocols of its hosts gets the first of them,
    /// which tells it so, and not the host of other names.
    pub fn host_of(&self, name: Option<&str>, offered: &Alpn) -> usize {
        const TOP: usize = 0;
        if self.is_empty() {
            return TOP;
        }
        let of_nobody = || self.any.find(offered).unwrap_or(TOP);
        let Some(name) = name else { return of_nobody() };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let wildcard = || name.split_once('.').and_then(|(_, parent)| self.wildcards.get(parent));
        let Some(routes) = self.exact.get(&name).or_else(wildcard) else { return of_nobody() };
        routes.find(offered).or_else(|| routes.0.first().map(|route| route.host)).unwrap_or(TOP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(names: &[&str], alpn: &[&str]) -> Reach {
        let alpn = serde_json::from_value(serde_json::json!(alpn)).unwrap();
        Reach { names: names.iter().map(|name| name.parse().unwrap()).collect(), alpn }
    }

    fn offered(protocols: &[&str]) -> Alpn {
        Alpn::new(protocols.iter().map(|protocol| protocol.as_bytes()))
    }

    #[test]
    fn exact_before_wildcard_before_the_top() {
        let mut names = Names::of(&[("a.example", 1), ("x.b.example", 2)]);
        names.add(&reach(&["*.b.example"], &[]), 3);
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
            assert_eq!(names.host_of(Some(name), &Alpn::default()), host, "{name}");
        }
        assert_eq!(names.host_of(None, &Alpn::default()), 0);
        assert_eq!(Names::default().host_of(Some("a.example"), &Alpn::default()), 0);
    }

    #[test]
    fn a_name_has_a_host_for_each_protocol_and_one_for_the_others() {
        let mut names = Names::default();
        names.add(&reach(&["a.example", "b.example"], &[]), 1);
        names.add(&reach(&["a.example"], &["h2"]), 2);
        names.add(&reach(&["a.example"], &["postgresql", "h3"]), 3);
        names.add(&reach(&["*.a.example"], &["h2"]), 4);
        names.add(&reach(&[], &["redis"]), 5);
        for (name, protocols, host) in [
            ("a.example", &[][..], 1),
            ("a.example", &["http/1.1"], 1),
            ("a.example", &["http/1.1", "h2"], 2),
            ("a.example", &["postgresql"], 3),
            ("a.example", &["h3", "h2"], 2),
            ("b.example", &["h2"], 1),
            // Theirs is the name, whatever they offer.
            ("x.a.example", &["h2"], 4),
            ("x.a.example", &["redis"], 4),
            ("x.a.example", &[], 4),
            ("a.example", &["redis"], 1),
            ("c.example", &["redis"], 5),
            ("c.example", &["h2"], 0),
        ] {
            assert_eq!(names.host_of(Some(name), &offered(protocols)), host, "{name} {protocols:?}");
        }
        assert_eq!(names.host_of(None, &offered(&["redis"])), 5);
        assert_eq!(names.host_of(None, &offered(&["redi"])), 0);
    }
}
