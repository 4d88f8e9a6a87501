//! A program's own word on its peers, and on their secrets.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::ffi::c_int;
use std::sync::atomic::Ordering;

use qtls::abi::qtls_client_auth;
use qtls_core::policy::KeyAlgorithm;
use support::{Asked, Ca, Config, Conn, Judge, Lines, carry, connected};

const REFUSE: c_int = 0;
const ACCEPT: c_int = 1;

#[test]
fn it_is_told_what_the_library_thinks() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let pair = ca.server(&["a.example"]);
    let server = Config::server().key_pair(&pair).frozen();
    let judge = Judge::with(ACCEPT);
    let client = Config::client().ca(&ca.pem()).judged_by(&judge, false).frozen();
    assert_eq!(client.notes(), Vec::<String>::new());
    let (client, server) = (Conn::client(&client, "a.example"), Conn::server(&server));
    client.set_user(42);
    assert_eq!(client.user(), 42);
    carry(&client, &server, usize::MAX).unwrap();
    assert_eq!((client.handshake(), server.handshake()), (Ok(0), Ok(0)));
    let expected = Asked {
        chain: vec![pair.der],
        server_name: Some("a.example".to_owned()),
        verdict: "QTLS_OK",
        message: None,
        conn_user: 42,
    };
    assert_eq!(*judge.asked.lock().unwrap(), [expected]);
}

#[test]
fn it_can_refuse_and_can_t_let_in() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().key_pair(&ca.server(&["a.example"])).frozen();
    let judge = Judge::with(REFUSE);
    let client = Config::client().ca(&ca.pem()).judged_by(&judge, false).frozen();
    let (client, peer) = (Conn::client(&client, "a.example"), Conn::server(&server));
    let failed = carry(&client, &peer, usize::MAX).unwrap_err();
    assert_eq!((failed.status, failed.fault, failed.sent), ("QTLS_E_PEER_REFUSED", 6, 49));
    assert_eq!(failed.message, "the verify callback refused the peer");

    let judge = Judge::with(ACCEPT);
    let other = Ca::new(KeyAlgorithm::EcdsaP256);
    let client = Config::client().ca(&other.pem()).judged_by(&judge, false).frozen();
    let (client, peer) = (Conn::client(&client, "a.example"), Conn::server(&server));
    let failed = carry(&client, &peer, usize::MAX).unwrap_err();
    assert_eq!((failed.status, failed.sent), ("QTLS_E_PEER_UNKNOWN_ISSUER", 48));
    let asked = judge.asked.lock().unwrap();
    assert_eq!((asked.len(), asked[0].verdict), (1, "QTLS_E_PEER_UNKNOWN_ISSUER"));
    assert_eq!(asked[0].message.as_deref(), Some("the peer's certificate chain leads to no trust anchor"));
}

#[test]
fn alone_it_decides_alone() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().key_pair(&ca.server(&["b.example"])).frozen();
    let judge = Judge::with(ACCEPT);
    let client = Config::client().judged_by(&judge, true).frozen();
    assert_eq!(client.notes(), ["a callback of the program alone decides whom to trust: it can let in anyone"]);
    let (client, _) = connected(&client, &server);
    assert_eq!(client.identity().as_deref(), Some("CN=b.example, DNS b.example"));
    assert_eq!(judge.asked.lock().unwrap()[0].verdict, "QTLS_E_PEER_UNKNOWN_ISSUER");
    // With trust anchors, the verdict says what else there is against the peer.
    let client = Config::client().ca(&ca.pem()).judged_by(&judge, true).frozen();
    connected(&client, &server);
    assert_eq!(judge.asked.lock().unwrap()[1].verdict, "QTLS_E_PEER_WRONG_NAME");
    let judge = Judge::with(REFUSE);
    let client = Config::client().judged_by(&judge, true).frozen();
    let failed = carry(&Conn::client(&client, "b.example"), &Conn::server(&server), usize::MAX).unwrap_err();
    assert_eq!(failed.status, "QTLS_E_PEER_REFUSED");
}

#[test]
fn an_answer_that_is_none_ends_the_handshake() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().key_pair(&ca.server(&["a.example"])).frozen();
    for (answer, alone) in [(-1, false), (2, false), (2, true)] {
        let judge = Judge::with(answer);
        let client = Config::client().ca(&ca.pem()).judged_by(&judge, alone).frozen();
        let failed = carry(&Conn::client(&client, "a.example"), &Conn::server(&server), usize::MAX).unwrap_err();
        assert_eq!((failed.status, failed.fault, failed.sent), ("QTLS_E_CALLBACK", 2, 46));
        let message = format!("the verify callback failed: it returned {answer}, which is none of its answers");
        assert_eq!(failed.message, message);
    }
}

#[test]
fn it_can_t_use_the_connection_that_it_is_asked_about() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().key_pair(&ca.server(&["a.example"])).frozen();
    let judge = Judge::with(ACCEPT);
    let client = Config::client().ca(&ca.pem()).judged_by(&judge, false).frozen();
    let (client, server) = (Conn::client(&client, "a.example"), Conn::server(&server));
    judge.meddles.store(client.0, Ordering::Relaxed);
    carry(&client, &server, usize::MAX).unwrap();
    let refused = judge.refused.lock().unwrap();
    assert_eq!(refused.len(), 5);
    for failed in refused.iter() {
        assert_eq!((failed.status, failed.fault), ("QTLS_E_BUSY", 2));
        assert_eq!(failed.message, "the connection is in use by another call");
    }
    assert_eq!(client.info().unwrap().group, "X25519MLKEM768", "and nothing happened to it");
}

#[test]
fn servers_ask_about_clients_that_resume_too() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let judge = Judge::with(ACCEPT);
    let required = qtls_client_auth::QTLS_CLIENT_AUTH_REQUIRED as c_int;
    let server = Config::server()
        .number(qtls::abi::qtls_config_set_client_auth, required)
        .ca(&ca.pem())
        .judged_by(&judge, false)
        .key_pair(&ca.server(&["a.example"]))
        .frozen();
    let client = Config::client().ca(&ca.pem()).key_pair(&ca.client("worker")).frozen();
    for round in 0..2 {
        let (_, peer) = connected(&client, &server);
        assert_eq!(peer.info().unwrap().resumed, round == 1);
    }
    let asked = judge.asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert_eq!((&asked[0].chain, asked[0].server_name.as_ref()), (&asked[1].chain, None));
}

#[test]
fn secrets_are_given_to_those_who_ask_for_them_and_the_same_on_both_sides() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let (ours, theirs) = (Lines::default(), Lines::default());
    let server = Config::server().key_pair(&ca.server(&["a.example"])).logging_to(&theirs).frozen();
    let client = Config::client().ca(&ca.pem()).logging_to(&ours).frozen();
    for config in [&client, &server] {
        let note = "the secrets of all connections are given to the program: whoever gets them can decrypt recordings";
        assert_eq!(config.notes().last().map(String::as_str), Some(note));
    }
    connected(&client, &server);
    let sorted = |lines: &Lines| {
        let mut lines = lines.0.lock().unwrap().clone();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&ours), sorted(&theirs));
    let lines = sorted(&ours);
    let words: Vec<_> = lines[0].split(' ').collect();
    assert_eq!((words[0], words[1].len(), words[2].len()), ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", 64, 96));
    assert_eq!(lines.len(), 5, "{lines:?}");
}
