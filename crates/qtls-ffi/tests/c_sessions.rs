//! Who resumes, and who doesn't.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use qtls::abi::*;
use qtls_core::policy::KeyAlgorithm;
use qtls_core::sessions::TicketKeyFile;
use support::{Ca, Config, connected};

/// Whether each of two connections, one after the other, is resumed; both sides agree on it.
fn twice(client: &Config, server: &Config) -> [bool; 2] {
    [(); 2].map(|()| {
        let (client, server) = connected(client, server);
        let (ours, theirs) = (client.info().unwrap(), server.info().unwrap());
        assert_eq!((ours.resumed, &ours.scheme, &ours.group), (theirs.resumed, &theirs.scheme, &theirs.group));
        assert_eq!(ours.scheme.is_none(), ours.resumed, "nobody signs where a session is resumed");
        assert_eq!((ours.peer_chain, ours.post_quantum), (1, true));
        ours.resumed
    })
}

#[test]
fn sessions_are_resumed_within_a_configuration_and_not_beyond() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let pair = ca.server(&["a.example"]);
    let server = || Config::server().key_pair(&pair);
    let client = || Config::client().ca(&ca.pem());
    let (one, other) = (client().frozen(), client().frozen());
    let serving = server().frozen();
    assert_eq!(twice(&one, &serving), [false, true]);
    assert_eq!(twice(&other, &serving), [false, true]);
    assert_eq!(twice(&one, &server().frozen()), [false, true], "another server knows nothing of it");
    assert_eq!(twice(&client().sessions(0).frozen(), &serving), [false, false]);
    assert_eq!(twice(&client().frozen(), &server().sessions(0).frozen()), [false, false]);
    let without = server();
    assert_eq!(without.try_timeout(0), Ok(0));
    assert_eq!(twice(&client().frozen(), &without.frozen()), [false, false]);
}

#[test]
fn servers_with_the_same_ticket_keys_resume_each_other_s_sessions() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let pair = ca.server(&["a.example"]);
    let keys = TicketKeyFile::generate().unwrap();
    let server = |keys: &TicketKeyFile| {
        Config::server().key_pair(&pair).sessions(0).text(qtls_config_set_ticket_keys, &keys.text()).frozen()
    };
    let client = Config::client().ca(&ca.pem()).frozen();
    assert_eq!(twice(&client, &server(&keys)), [false, true]);
    assert_eq!(twice(&client, &server(&keys)), [true, true]);
    assert_eq!(twice(&client, &server(&TicketKeyFile::generate().unwrap())), [false, true]);
    let asking = Config::server()
        .key_pair(&pair)
        .ca(&ca.pem())
        .number(qtls_config_set_client_auth, qtls_client_auth::QTLS_CLIENT_AUTH_OPTIONAL as i32)
        .text(qtls_config_set_ticket_keys, &keys.text())
        .frozen();
    let note = "the ticket keys have no effect: where clients are verified, their sessions stay in this configuration";
    assert_eq!(asking.notes().last().map(String::as_str), Some(note));
}
