//! What clients are able to do: the groups and schemes that their ClientHellos offer.

use prometheus::{IntCounter, IntCounterVec};
use qtls_core::client_hello::Offer;
use qtls_core::policy::{Group, Named, SCHEMES, is_grease};

use super::table::{CLIENT_GROUPS, CLIENT_SCHEMES};

/// Counts offers. Each ClientHello adds one at most to each counter.
#[derive(Debug)]
pub(super) struct Offers {
    hellos: IntCounter,
    /// In the order of the policy table; behind it, the one for all others.
    groups: Vec<IntCounter>,
    schemes: Vec<IntCounter>,
}

impl Offers {
    pub(super) fn new(hellos: IntCounter, groups: &IntCounterVec, schemes: &IntCounterVec) -> Self {
        let all = |counters: &IntCounterVec, names: Option<Vec<&str>>| {
            names.unwrap_or_default().into_iter().map(|name| counters.with_label_values(&[name])).collect()
        };
        Self {
            hellos,
            groups: all(groups, CLIENT_GROUPS.labels[0].values.known()),
            schemes: all(schemes, CLIENT_SCHEMES.labels[0].values.known()),
        }
    }

    pub(super) fn count(&self, offer: &Offer) {
        self.hellos.inc();
        let groups = offer.groups.iter().map(|offered| {
            let place = Group::ALL.iter().position(|group| group.code_point() == *offered);
            (*offered, place.unwrap_or(Group::ALL.len()))
        });
        count_each(&self.groups, groups);
        let schemes = offer.schemes.iter().map(|offered| {
            let place = SCHEMES.iter().position(|(scheme, _)| scheme == offered);
            (u16::from(*offered), place.unwrap_or(SCHEMES.len()))
        });
        count_each(&self.schemes, schemes);
    }
}

/// Adds one to each counter whose place occurs, however often it does.
fn count_each(counters: &[IntCounter], offered: impl Iterator<Item = (u16, usize)>) {
    let seen =
        offered.filter(|(code_point, _)| !is_grease(*code_point)).fold(0_u64, |seen, (_, place)| seen | 1 << place);
    for (place, counter) in counters.iter().enumerate() {
        if seen & 1 << place != 0 {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;
    use rustls::SignatureScheme;

    use super::*;

    #[test]
    fn each_hello_counts_once_for_each_name_and_grease_for_none() {
        let vec = |label| IntCounterVec::new(Opts::new("x", "y"), &[label]).unwrap();
        let (groups, schemes) = (vec("group"), vec("scheme"));
        let hellos = IntCounter::new("hellos", "z").unwrap();
        let offers = Offers::new(hellos.clone(), &groups, &schemes);
        let scheme = SignatureScheme::from;
        for _ in 0..2 {
            offers.count(&Offer {
                // GREASE, X25519MLKEM768, x25519 twice, secp521r1, and the draft of Kyber.
                groups: vec![0x2a2a, 0x11ec, 0x001d, 0x001d, 0x0019, 0x6399],
                schemes: vec![scheme(0x0905), scheme(0x0403), scheme(0x3a3a)],
                ..Offer::default()
            });
        }
        offers.count(&Offer { groups: vec![0x4a4a], schemes: vec![scheme(0x0808)], ..Offer::default() });
        let group = |name: &str| groups.with_label_values(&[name]).get();
        let scheme = |name: &str| schemes.with_label_values(&[name]).get();
        assert_eq!(hellos.get(), 3);
        assert_eq!(["X25519MLKEM768", "x25519", "secp256r1", "other"].map(group), [2, 2, 0, 2]);
        assert_eq!(["mldsa65", "ecdsa_secp256r1_sha256", "ed25519", "other"].map(scheme), [2, 2, 0, 1]);
    }
}
