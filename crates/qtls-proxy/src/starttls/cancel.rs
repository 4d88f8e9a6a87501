//! Requests to cancel: each is passed on to the server that has its session, and to no other.
//!
//! A request comes on a connection of its own, and names the session by what the server told its client when it began. So
//! that is noted down for as long as the session lasts: at most once a connection, for all workers together. A request
//! for a session that isn't known goes nowhere: nobody can try secrets out on a server behind.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tracing::{info, warn};

use super::postgres::{CancelRequest, SessionKey};
use crate::observe::metrics::{Metrics, PostgresSession};
use crate::observe::repeats;
use crate::upstream::{Peer, ServerId, Upstream};

/// Which server has which session. One for the process.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    places: HashMap<SessionKey, (u64, Place)>,
    /// Tells apart those that had the same key one after the other.
    next: u64,
}

/// A server that has a session.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) server: ServerId,
    /// A name can have several addresses.
    pub(crate) peer: Option<Peer>,
}

impl Sessions {
    /// Notes down where a session is, until the value is dropped.
    pub(crate) fn begin(&self, key: SessionKey, place: Place, metrics: &Metrics) -> Session {
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        table.places.insert(key, (number, place));
        Session { sessions: self.clone(), key, number, _counted: metrics.postgres_session() }
    }

    fn find(&self, key: &SessionKey) -> Option<Place> {
        self.lock().places.get(key).map(|(_, place)| place.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sessions").field(&self.lock().places.len()).finish()
    }
}

/// A session that is known, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Session {
    sessions: Sessions,
    key: SessionKey,
    number: u64,
    _counted: PostgresSession,
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut table = self.sessions.lock();
        if table.places.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            table.places.remove(&self.key);
        }
    }
}

/// What came of a request to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server has it.
    Forwarded,
    /// No session of this process has such a key.
    Unknown,
    /// The server didn't take it.
    Failed,
}

impl Outcome {
    /// The label `result` of `qtls_postgres_cancel_requests_total`.
    pub(crate) const NAMES: &[&str] = &["failed", "forwarded", "unknown"];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}

/// Passes a request on, and waits for the server to have looked at it, which is when it closes. `encrypted` says how it
/// came. The address is that of the server that got it.
pub(crate) async fn pass_on(
    request: &CancelRequest,
    encrypted: bool,
    client: SocketAddr,
    sessions: &Sessions,
    metrics: &Metrics,
) -> (Outcome, Option<Peer>) {
    let place = sessions.find(&request.key());
    let peer = place.as_ref().and_then(|place| place.peer.clone());
    let outcome = match place {
        None => {
            // Whose it is can't be told: the session has ended, or is another process', or there is none.
            if repeats::admit("request to cancel not passed on", "unknown session") {
                warn!(
                    %client,
                    encrypted,
                    "a request to cancel was not passed on: no session that is open through this process has its key"
                );
            }
            Outcome::Unknown
        }
        Some(place) => match deliver(request, &place).await {
            Ok(()) => {
                info!(%client, encrypted, upstream = peer.as_ref().map(tracing::field::display), "a request to cancel was passed on");
                Outcome::Forwarded
            }
            Err(error) => {
                if repeats::admit("request to cancel not passed on", "upstream") {
                    let upstream = peer.as_ref().map(tracing::field::display);
                    warn!(%client, encrypted, upstream, "a request to cancel was not passed on: {error}");
                }
                Outcome::Failed
            }
        },
    };
    metrics.cancel_request(encrypted, outcome.name());
    (outcome, peer)
}

async fn deliver(request: &CancelRequest, place: &Place) -> io::Result<()> {
    /// PostgreSQL answers nothing, and closes when it has told the session's process.
    const PATIENCE: Duration = Duration::from_secs(5);
    const PURPOSE: &str = "a request to cancel";

    let Place { upstream, server, peer } = place;
    let mut link = upstream.connect_to_same(*server, peer.as_ref(), PURPOSE).await.map_err(io::Error::other)?;
    let exchange = async {
        link.write_all(request.packet()).await?;
        link.flush().await?;
        link.read(&mut [0]).await
    };
    match timeout(PATIENCE, exchange).await {
        Ok(Ok(_)) => Ok(()),
        // It was told; how it ends the connection, with a reset or without close_notify, is its own business.
        Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => {
            Ok(())
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no end of the connection within {PATIENCE:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::tests::upstream;

    #[test]
    fn a_session_is_known_for_as_long_as_it_lasts() {
        let (sessions, metrics) = (Sessions::default(), Metrics::new().unwrap());
        let upstream = upstream(&[("127.0.0.1", 1), ("127.0.0.1", 2)]);
        let servers: Vec<_> = upstream.order(std::net::Ipv4Addr::LOCALHOST.into()).collect();
        let place = |index: usize| Place { upstream: upstream.clone(), server: servers[index], peer: None };
        let key = |secret: &[u8]| SessionKey::announced(&[b"\0\0\0\x01", secret].concat()).unwrap();
        let first = sessions.begin(key(b"1234"), place(0), &metrics);
        let second = sessions.begin(key(b"5678"), place(1), &metrics);
        assert_eq!(sessions.find(&key(b"1234")).unwrap().server, servers[0]);
        assert_eq!(sessions.find(&key(b"5678")).unwrap().server, servers[1]);
        drop(first);
        assert!(sessions.find(&key(b"1234")).is_none());
        // The identifier of a process may come again, and be noted down before the end of the first is seen.
        let again = sessions.begin(key(b"5678"), place(0), &metrics);
        drop(second);
        assert_eq!(sessions.find(&key(b"5678")).unwrap().server, servers[0]);
        drop(again);
        assert_eq!(sessions.lock().places.len(), 0);
    }
}
