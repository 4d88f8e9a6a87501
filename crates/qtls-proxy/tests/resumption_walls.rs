//! A session is resumed only where its client would get in by a full handshake, and is otherwise refused before any
//! application byte.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use qtls_core::Error;
use qtls_core::credentials::{Credential, Source};
use qtls_core::endpoint::{ServerCredential, ServerEndpoint, ServerOptions};
use qtls_core::policy::{KeyAlgorithm, Policy};
use qtls_core::sessions::{SessionLimits, SessionOptions, TicketKeyFile, TicketKeys};
use qtls_core::verify::{AllowList, ClientVerifier, Crl, Identity, Revocation, RevocationMode};
use qtls_pki::crl::Reason;
use qtls_pki::issue::{Profile, Template, public_key};
use qtls_proxy::client_sessions::ClientSessions;
use rustls::ClientConfig;
use support::{Ca, client, handshake, new_key, on_one_thread, policy, template};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn endpoint(policy: &Arc<Policy>, ca: &Ca, verifier: Option<Arc<ClientVerifier>>) -> ServerEndpoint {
    endpoint_with(policy, ca, verifier, None)
}

fn endpoint_with(
    policy: &Arc<Policy>,
    ca: &Ca,
    verifier: Option<Arc<ClientVerifier>>,
    ticket_keys: Option<Arc<TicketKeys>>,
) -> ServerEndpoint {
    ServerEndpoint::new(ServerOptions {
        names: Vec::new(),
        policy: policy.clone(),
        credentials: vec![ServerCredential::new(ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256))],
        client_verifier: verifier,
        sessions: SessionOptions {
            ticket_keys,
            ..SessionLimits { timeout: Duration::from_secs(60), capacity: 100 }.into()
        },
        alpn: Vec::new(),
        previous: None,
    })
    .unwrap()
}

/// Makes a connection, and takes the tickets that come with the first byte. Whether it was resumed; else the reason and
/// the message of the refusal.
async fn connect(endpoint: &ServerEndpoint, config: &Arc<ClientConfig>) -> Result<bool, (&'static str, String)> {
    let (near, far) = handshake(endpoint, config).await;
    let mut far = match far {
        Ok(far) => far,
        Err(failure) => {
            let reason = failure.reason();
            // Not a byte of plaintext came out of it.
            if let Ok(mut near) = near {
                let mut byte = [0];
                assert!(!matches!(near.stream.read(&mut byte).await, Ok(1..)), "an application byte");
            }
            return Err((reason, Error::from(failure).message().to_owned()));
        }
    };
    let mut near = near.unwrap();
    far.stream.write_all(b"x").await.unwrap();
    near.stream.read_exact(&mut [0]).await.unwrap();
    assert_eq!(near.facts.resumed, far.facts.resumed);
    Ok(far.facts.resumed)
}

/// The other side of it: nobody is asked about the server when its session is resumed.
#[test]
fn a_client_resumes_no_session_beyond_the_end_of_the_servers_chain() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        // Certificates count whole seconds.
        let end = SystemTime::now() + Duration::from_secs(8);
        let key = new_key(KeyAlgorithm::EcdsaP256);
        let short = Template { not_after: end, ..template(Profile::Server, "a.example") };
        let leaf = ca.intermediate.issue(&short, &public_key(key.as_ref()).unwrap()).unwrap();
        let chain = vec![leaf, ca.intermediate.certificate().clone()];
        let serving = |credential: Credential| {
            ServerEndpoint::new(ServerOptions {
                names: Vec::new(),
                policy: policy.clone(),
                credentials: vec![ServerCredential::new(credential)],
                client_verifier: None,
                sessions: SessionLimits { timeout: Duration::from_secs(60), capacity: 100 }.into(),
                alpn: Vec::new(),
                previous: None,
            })
            .unwrap()
        };
        let server = serving(Credential::from_chain("short", "a test's chain", chain, key, "a test's key").unwrap());
        let sessions = ClientSessions::new(8);
        let mut config = ClientConfig::clone(&client(&policy, &ca, None));
        config.resumption = sessions.resumption();
        let config = Arc::new(config);
        let once = async || {
            let (near, far) = handshake(&server, &config).await;
            let (mut near, mut far) =
                (near.map_err(|failure| Error::from(failure).message().to_owned())?, far.unwrap());
            sessions.completed(&near.facts);
            far.stream.write_all(b"x").await.unwrap();
            near.stream.read_exact(&mut [0]).await.unwrap();
            Ok::<_, String>(near.facts.resumed)
        };
        assert_eq!((once().await, once().await), (Ok(false), Ok(true)));
        // There are tickets, and the chain is over: the handshake is a full one, in which that shows.
        while SystemTime::now() < end + Duration::from_secs(2) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let refused = once().await.unwrap_err();
        assert!(refused.contains("expired"), "{refused}");
    });
}

/// The client holds a ticket; the server it meets next is another endpoint: a full handshake, by that one's rules.
#[test]
fn a_ticket_of_another_endpoint_opens_no_door() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let another = Ca::named("Another Root", KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let required = |ca: &Ca| Some(ClientVerifier::new(ca.anchors(&policy, 3), true));
        let with_certificate = ca.credential(Profile::Client, "client", KeyAlgorithm::EcdsaP256);
        let shared = Arc::new(TicketKeys::from_file(&TicketKeyFile::generate().unwrap()).unwrap());

        for keys in [None, Some(shared)] {
            // From a lax host, which is also: from before verify_client was turned on.
            let endpoint = |verifier| endpoint_with(&policy, &ca, verifier, keys.clone());
            let (lax, strict) = (endpoint(None), endpoint(required(&ca)));
            let nobody = client(&policy, &ca, None);
            assert_eq!(connect(&lax, &nobody).await, Ok(false));
            assert_eq!(connect(&lax, &nobody).await, Ok(true), "the ticket is good where it came from");
            assert_eq!(connect(&strict, &nobody).await.unwrap_err().0, "certificate_missing");

            // From a host with another CA.
            let elsewhere = endpoint(required(&another));
            let somebody = client(&policy, &ca, Some(&with_certificate));
            assert_eq!(connect(&strict, &somebody).await, Ok(false));
            assert_eq!(connect(&strict, &somebody).await, Ok(true));
            assert_eq!(connect(&elsewhere, &somebody).await.unwrap_err().0, "certificate_unknown_issuer");

            // And back: a strict host's ticket is nothing to a lax one but a full handshake.
            assert_eq!(connect(&lax, &somebody).await, Ok(false));

            // With the same keys, a twin resumes what was made without certificates, and nothing else.
            let twins = (endpoint(None), endpoint(required(&ca)));
            let nobody = client(&policy, &ca, None);
            assert_eq!(connect(&twins.0, &nobody).await, Ok(false));
            assert_eq!(connect(&lax, &nobody).await, Ok(keys.is_some()));
            let somebody = client(&policy, &ca, Some(&with_certificate));
            assert_eq!(connect(&strict, &somebody).await, Ok(false));
            assert_eq!(connect(&twins.1, &somebody).await, Ok(false));
        }
    });
}

/// A client that was revoked since it got its ticket meets the server that knows so.
#[test]
fn a_ticket_of_a_client_revoked_since_opens_no_door() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let certificate = ca.credential(Profile::Client, "client", KeyAlgorithm::EcdsaP256);
        let serial = Identity::of(&certificate.key.cert[0]).unwrap().serial;
        let serial: Vec<u8> = (0..serial.len())
            .step_by(2)
            .map(|index| u8::from_str_radix(&serial[index..index + 2], 16).unwrap())
            .collect();
        let now = SystemTime::now();
        let minute = Duration::from_secs(60);
        let server = |revoked: &[qtls_pki::crl::Revocation]| {
            let list = |authority, revoked: &[_]| {
                let der = qtls_pki::crl::create(authority, revoked, 1, now - minute, now + minute).unwrap();
                Crl::parse(Source { origin: "a test's list", bytes: &der }).unwrap()
            };
            let lists = [list(&ca.root, &[]), list(&ca.intermediate, revoked)].concat();
            let revocation = Revocation::new(lists, RevocationMode::Hard);
            let (anchors, _) = ca.anchors(&policy, 3).with_revocation(revocation, now).unwrap();
            endpoint(&policy, &ca, Some(ClientVerifier::new(anchors, true)))
        };
        let (before, after) = (
            server(&[]),
            server(&[qtls_pki::crl::Revocation { serial, at: now - minute, reason: Reason::KeyCompromise }]),
        );
        let config = client(&policy, &ca, Some(&certificate));
        assert_eq!(connect(&before, &config).await, Ok(false));
        assert_eq!(connect(&before, &config).await, Ok(true));
        assert_eq!(connect(&after, &config).await.unwrap_err().0, "certificate_revoked");
    });
}

/// Where a client may show no certificate, it may resume without one as well.
#[test]
fn optional_clients_resume_as_they_were() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let optional = endpoint(&policy, &ca, Some(ClientVerifier::new(ca.anchors(&policy, 3), false)));
        let nobody = client(&policy, &ca, None);
        assert_eq!(connect(&optional, &nobody).await, Ok(false));
        assert_eq!(connect(&optional, &nobody).await, Ok(true));
    });
}

/// The stored chain is verified again: here it has expired since.
#[test]
fn a_certificate_that_expired_since_ends_its_sessions() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let verifier = ClientVerifier::new(ca.anchors(&policy, 3), true);
        let strict = endpoint(&policy, &ca, Some(verifier));
        let key = new_key(KeyAlgorithm::EcdsaP256);
        // Long enough for a handshake on a busy machine.
        let short =
            Template { not_after: SystemTime::now() + Duration::from_secs(8), ..template(Profile::Client, "client") };
        let leaf = ca.intermediate.issue(&short, &public_key(key.as_ref()).unwrap()).unwrap();
        let chain = vec![leaf, ca.intermediate.certificate().clone()];
        let credential = Credential::from_chain("client", "a test", chain, key, "a test").unwrap();
        let config = client(&policy, &ca, Some(&credential));
        assert_eq!(connect(&strict, &config).await, Ok(false));
        // What is waited for is the passing of time.
        while credential.validity(SystemTime::now()).is_valid() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let (reason, message) = connect(&strict, &config).await.unwrap_err();
        assert_eq!(reason, "session_refused");
        assert!(
            message.starts_with("the session can't be resumed: the peer's certificate chain expired on "),
            "{message}"
        );
    });
}

/// Who isn't on the list doesn't get in, and it is said who that was.
#[test]
fn only_allowed_identities_get_in() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let allow = AllowList::parse([[("san_dns", "good.example")]]).unwrap();
        let strict =
            endpoint(&policy, &ca, Some(ClientVerifier::with_allow(ca.anchors(&policy, 3), true, Some(allow))));
        let good = ca.credential(Profile::Client, "good.example", KeyAlgorithm::EcdsaP256);
        let bad = ca.credential(Profile::Client, "bad.example", KeyAlgorithm::EcdsaP256);
        let config = client(&policy, &ca, Some(&good));
        assert_eq!(connect(&strict, &config).await, Ok(false));
        assert_eq!(connect(&strict, &config).await, Ok(true));
        let (reason, message) = connect(&strict, &client(&policy, &ca, Some(&bad))).await.unwrap_err();
        assert_eq!(reason, "access_denied");
        assert!(message.contains("bad.example"), "{message}");
    });
}
