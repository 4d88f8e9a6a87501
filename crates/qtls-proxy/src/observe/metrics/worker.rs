//! What one worker counts, without looking anything up that it has looked up before.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use qtls_core::client_hello::Offer;
use qtls_core::facts::Facts;
use qtls_core::policy::{Group, known_scheme_name};

use super::exposure::{Tallies, Tally};
use super::offers::Seen;
use super::table::{NONE, OTHER};
use super::{Metrics, flag};

/// One worker's way to the metrics.
#[derive(Debug)]
pub struct WorkerMetrics {
    metrics: Arc<Metrics>,
    tallies: Arc<Tallies>,
    offers: Arc<Seen>,
    /// Few: one for each combination that was ever negotiated here.
    handshakes: RefCell<Vec<(Negotiated, IntCounter)>>,
    /// As few, by certificate and reason.
    selected: RefCell<Vec<(String, String, IntCounter)>>,
}

/// What the labels of a handshake are made of: group, suite, scheme, resumed, HelloRetryRequest.
type Negotiated = (u16, u16, Option<u16>, bool, bool);

impl WorkerMetrics {
    /// For one more worker.
    pub fn new(metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self {
            tallies: metrics.exposure.worker(),
            offers: metrics.offers.worker(),
            metrics,
            handshakes: RefCell::default(),
            selected: RefCell::default(),
        })
    }

    /// A client offered this in its ClientHello.
    pub fn offer(&self, offer: &Offer) {
        self.offers.count(offer);
    }

    /// A handshake with `client` completed, this long after its connection was accepted.
    pub fn handshake(&self, facts: &Facts, client: IpAddr, after: Duration) {
        self.negotiated(facts, after);
        if !facts.post_quantum() {
            self.metrics.fallbacks.count(client, facts.server_name.as_deref());
        }
        if let (Some(certificate), Some(reason)) = (&facts.certificate, &facts.reason) {
            self.selected(certificate, reason);
        }
    }

    fn selected(&self, certificate: &str, reason: &str) {
        /// More than there are, but for certificates that come and go with reloads for years.
        const MOST: usize = 64;

        let mut known = self.selected.borrow_mut();
        if let Some((.., count)) = known.iter().find(|(one, why, _)| one == certificate && why == reason) {
            return count.inc();
        }
        let count = self.metrics.selected.with_label_values(&[certificate, reason]);
        count.inc();
        if known.len() == MOST {
            known.clear();
        }
        known.push((certificate.to_owned(), reason.to_owned(), count));
    }

    /// A handshake completed, this long after the connection that it is for was accepted.
    pub fn negotiated(&self, facts: &Facts, after: Duration) {
        let negotiated =
            (facts.group, facts.suite, facts.scheme.map(u16::from), facts.resumed, facts.hello_retry_request);
        let mut known = self.handshakes.borrow_mut();
        match known.iter().find(|(other, _)| *other == negotiated) {
            Some((_, count)) => count.inc(),
            None => {
                let count = self.metrics.handshakes.with_label_values(&labels(facts));
                count.inc();
                known.push((negotiated, count));
            }
        }
        self.metrics.seconds.observe(after.as_secs_f64());
    }

    /// Where the bytes of connections with this server name are counted. `server_name` has to be one of a bounded set.
    pub fn tally(&self, post_quantum: bool, server_name: &str) -> Arc<Tally> {
        self.tallies.of(post_quantum, server_name)
    }
}

fn labels(facts: &Facts) -> [&'static str; 6] {
    [
        Group::from_code_point(facts.group).map_or(OTHER, Group::iana_name),
        flag(facts.post_quantum()),
        facts.scheme.map_or(NONE, |scheme| known_scheme_name(scheme).unwrap_or(OTHER)),
        facts.suite_name(),
        flag(facts.resumed),
        flag(facts.hello_retry_request),
    ]
}
