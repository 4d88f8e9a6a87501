//! A signature that takes long holds up nobody else on its worker.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use qtls_core::endpoint::{ServerEndpoint, Signing};
use qtls_core::policy::KeyAlgorithm;
use qtls_core::verify::ClientVerifier;
use qtls_pki::issue::Profile;
use qtls_proxy::handshake;
use qtls_proxy::signing::SigningPool;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use support::{Ca, client, endpoint, name, new_key, on_one_thread, policy, sockets};
use tokio::task::spawn_local;

/// A key whose signatures are made by another one, after `before` has returned.
#[derive(Clone)]
struct Delayed {
    key: Arc<dyn SigningKey>,
    before: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Delayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Delayed")
    }
}

impl SigningKey for Delayed {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.key.choose_scheme(offered)?;
        Some(Box::new(DelayedSigner { signer, before: self.before.clone() }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.key.public_key()
    }
}

struct DelayedSigner {
    signer: Box<dyn Signer>,
    before: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for DelayedSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DelayedSigner")
    }
}

impl Signer for DelayedSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        (self.before)();
        self.signer.sign(message)
    }

    fn scheme(&self) -> SignatureScheme {
        self.signer.scheme()
    }
}

/// Signers wait here until they are let through.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// While every slow signer is stuck, 50 handshakes with a fast key complete on the same thread.
#[test]
fn handshakes_complete_while_every_slow_signer_is_stuck() {
    on_one_thread(async {
        const SLOW: usize = 4;
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let gate = Arc::new(Gate::default());
        let stuck = Delayed {
            key: new_key(KeyAlgorithm::EcdsaP256),
            before: Arc::new({
                let gate = gate.clone();
                move || gate.pass()
            }),
        };
        let slow = endpoint(
            &policy,
            ca.credential_with(Profile::Server, "a.example", Arc::new(stuck)),
            Signing::OffWorker,
            None,
        );
        let fast_credential = ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
        let fast = endpoint(&policy, fast_credential, Signing::Inline, None);
        let config = client(&policy, &ca, None);
        let pool = Arc::new(SigningPool::new(SLOW).unwrap());

        let mut slow_ones = Vec::new();
        for _ in 0..SLOW {
            let (near, far) = sockets().await;
            let (slow, pool, config) = (slow.clone(), pool.clone(), config.clone());
            slow_ones.push(spawn_local(async move {
                let (client, server) = tokio::join!(
                    handshake::connect(near, config, name("a.example")),
                    handshake::accept(far, Vec::new(), |offer| slow.decide(offer, None), &pool)
                );
                (client.unwrap().facts, server.unwrap().facts)
            }));
        }
        while gate.waiting.load(Ordering::SeqCst) < SLOW {
            tokio::task::yield_now().await;
        }
        for _ in 0..50 {
            let (near, far) = sockets().await;
            let (client, server) = tokio::join!(
                handshake::connect(near, config.clone(), name("a.example")),
                handshake::accept(far, Vec::new(), |offer| fast.decide(offer, None), &pool)
            );
            client.unwrap();
            assert_eq!(server.unwrap().facts.group_name(), "X25519MLKEM768");
        }
        assert!(slow_ones.iter().all(|task| !task.is_finished()), "the slow signers are still stuck");
        gate.open();
        for task in slow_ones {
            let (client, server) = task.await.unwrap();
            assert_eq!(server.scheme_name(), "ecdsa_secp256r1_sha256");
            assert_eq!(client.group, server.group);
        }
    });
}

/// The other side of it: the client's own key, as towards an upstream that asks for a certificate.
#[test]
fn handshakes_complete_while_every_slow_signer_of_a_client_is_stuck() {
    on_one_thread(async {
        const SLOW: usize = 4;
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let gate = Arc::new(Gate::default());
        let stuck = Delayed {
            key: new_key(KeyAlgorithm::EcdsaP256),
            before: Arc::new({
                let gate = gate.clone();
                move || gate.pass()
            }),
        };
        let server = |verifier: Option<Arc<ClientVerifier>>| {
            let credential = ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
            endpoint(&policy, credential, Signing::Inline, verifier)
        };
        let asking = server(Some(ClientVerifier::new(ca.anchors(&policy, 3), true)));
        let other = server(None);
        let slow = client(&policy, &ca, Some(&ca.credential_with(Profile::Client, "client.example", Arc::new(stuck))));
        let fast = client(&policy, &ca, None);
        let pool = Arc::new(SigningPool::new(SLOW).unwrap());

        let mut slow_ones = Vec::new();
        for _ in 0..SLOW {
            let (near, far) = sockets().await;
            let (asking, pool, slow) = (asking.clone(), pool.clone(), slow.clone());
            slow_ones.push(spawn_local(async move {
                let (client, server) = tokio::join!(
                    handshake::connect_signing(near, slow, name("a.example"), Some(&pool)),
                    handshake::accept(far, Vec::new(), |offer| asking.decide(offer, None), &pool)
                );
                (client.unwrap().facts, server.unwrap().facts)
            }));
        }
        while gate.waiting.load(Ordering::SeqCst) < SLOW {
            tokio::task::yield_now().await;
        }
        for _ in 0..50 {
            let (near, far) = sockets().await;
            let (client, server) = tokio::join!(
                handshake::connect_signing(near, fast.clone(), name("a.example"), None),
                handshake::accept(far, Vec::new(), |offer| other.decide(offer, None), &pool)
            );
            client.unwrap();
            assert!(server.unwrap().facts.peer_chain.is_empty());
        }
        assert!(slow_ones.iter().all(|task| !task.is_finished()), "the slow signers are still stuck");
        gate.open();
        for task in slow_ones {
            let (client, server) = task.await.unwrap();
            assert_eq!(client.scheme_name(), "ecdsa_secp256r1_sha256", "what the server signed with is still seen");
            assert_eq!(server.peer_chain.len(), 2, "the client has shown its certificate");
        }
    });
}

/// The same with a signer that takes 25 ms each time. Prints what it did to the others; asserts that all complete.
#[test]
fn a_signer_of_25_ms_leaves_the_others_their_latency() {
    on_one_thread(async {
        const DELAY: Duration = Duration::from_millis(25);
        // More would fill the thread with their key exchanges, and not with waiting: it plays the clients, too.
        const SLOW: u32 = 8;
        const FAST: usize = 400;
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let delayed = Delayed { key: new_key(KeyAlgorithm::EcdsaP256), before: Arc::new(|| std::thread::sleep(DELAY)) };
        let slow = endpoint(
            &policy,
            ca.credential_with(Profile::Server, "a.example", Arc::new(delayed)),
            Signing::OffWorker,
            None,
        );
        let fast_credential = ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
        let fast = endpoint(&policy, fast_credential, Signing::Inline, None);
        let config = client(&policy, &ca, None);
        let pool = Arc::new(SigningPool::new(SLOW as usize).unwrap());
        let one = move |endpoint: Arc<ServerEndpoint>| {
            let (pool, config) = (pool.clone(), config.clone());
            async move {
                let (near, far) = sockets().await;
                let start = Instant::now();
                let (client, server) = tokio::join!(
                    handshake::connect(near, config, name("a.example")),
                    handshake::accept(far, Vec::new(), |offer| endpoint.decide(offer, None), &pool)
                );
                client.unwrap();
                server.unwrap();
                start.elapsed()
            }
        };
        let mut alone = Vec::new();
        for _ in 0..FAST {
            alone.push(one(fast.clone()).await);
        }
        // So many at a time, and never fewer: each that ends is followed by another.
        let ended = Rc::new(Cell::new(false));
        let slow_ones: Vec<_> = (0..SLOW)
            .map(|place| {
                let (ended, one, slow) = (ended.clone(), one.clone(), slow.clone());
                spawn_local(async move {
                    // Evenly, as clients of their own would come: all at once, they would be a burst every 25 ms.
                    tokio::time::sleep(DELAY * place / SLOW).await;
                    let mut times = Vec::new();
                    while !ended.get() {
                        times.push(one(slow.clone()).await);
                    }
                    times
                })
            })
            .collect();
        let mut beside = Vec::new();
        for _ in 0..FAST {
            beside.push(one(fast.clone()).await);
        }
        ended.set(true);
        let mut signed = 0;
        for task in slow_ones {
            let times = task.await.unwrap();
            assert!(!times.is_empty() && times.iter().all(|time| *time >= DELAY), "{times:?}");
            signed += times.len();
        }
        for (what, mut times) in [("alone", alone), ("beside slow ones", beside)] {
            times.sort();
            println!("{FAST} fast handshakes {what}: p50 {:?}, p99 {:?}", times[FAST / 2], times[FAST * 99 / 100]);
        }
        println!("{signed} slow ones, {SLOW} at a time");
    });
}

/// A signer that panics ends its handshake, and nothing else.
#[test]
fn a_signer_that_panics_ends_its_own_handshake_only() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let broken =
            Delayed { key: new_key(KeyAlgorithm::EcdsaP256), before: Arc::new(|| panic!("an injected fault")) };
        let broken = endpoint(
            &policy,
            ca.credential_with(Profile::Server, "a.example", Arc::new(broken)),
            Signing::OffWorker,
            None,
        );
        let config = client(&policy, &ca, None);
        let (client, server) = support::handshake(&broken, &config).await;
        assert_eq!(server.unwrap_err().reason(), "signing");
        assert!(client.is_err());
    });
}
