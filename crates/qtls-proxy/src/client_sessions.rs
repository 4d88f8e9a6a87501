//! Sessions with servers, on the client's side: none is resumed beyond the time for which its server's chain was verified.
//!
//! A resumed handshake shows no certificate, and rustls asks no verifier. Servers check their clients' chains anew then
//! (`crate::handshake`); here, the end of a chain is known when it is verified, and sessions end with it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qtls_core::credentials::chain_end;
use qtls_core::facts::Facts;
use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;

/// For ever, as far as is known.
const UNKNOWN: u64 = u64::MAX;

/// The sessions with one server, by the names that it is asked for.
#[derive(Debug)]
pub struct ClientSessions {
    /// As rustls counts them.
    size: usize,
    store: RwLock<Arc<ClientSessionMemoryCache>>,
    /// When the first chain ends of those that were verified, in seconds of Unix time.
    end: AtomicU64,
}

impl ClientSessions {
    /// Without a session yet. There will be `size` at most.
    pub fn new(size: usize) -> Arc<Self> {
        let store = RwLock::new(Arc::new(ClientSessionMemoryCache::new(size)));
        Arc::new(Self { size, store, end: AtomicU64::new(UNKNOWN) })
    }

    /// What rustls takes.
    pub fn resumption(self: &Arc<Self>) -> Resumption {
        Resumption::store(self.clone())
    }

    /// A handshake has completed: sessions are good for as long as the chain that was verified in it. Several servers may
    /// share a name and an address; then the chain that ends first ends all sessions, once.
    pub fn completed(&self, facts: &Facts) {
        if !facts.resumed
            && let Some(end) = chain_end(&facts.peer_chain)
        {
            self.end.fetch_min(seconds(end), Relaxed);
        }
    }

    fn forget(&self) {
        self.end.store(UNKNOWN, Relaxed);
        let empty = Arc::new(ClientSessionMemoryCache::new(self.size));
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = empty;
    }

    fn store(&self) -> Arc<ClientSessionMemoryCache> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientSessionStore for ClientSessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.store().set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.store().kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.store().set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.store().tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.store().remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.store().insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if seconds(SystemTime::now()) > self.end.load(Relaxed) {
            self.forget();
            return None;
        }
        self.store().take_tls13_ticket(server_name)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
