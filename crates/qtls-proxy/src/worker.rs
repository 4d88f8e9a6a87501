//! A worker: one thread, one runtime, one listening socket, and the connections that it accepted.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use qtls_core::{Error, Result};
use tokio::runtime::Builder;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{LocalSet, spawn_local};
use tracing::error;

use crate::config::Limits;
use crate::connection;
use crate::hosts::Hosts;
use crate::http;
use crate::observe::metrics::Metrics;
use crate::shutdown::{Phase, Shutdown};
use crate::signing::SigningPool;
use crate::upstream::Upstream;

/// What all workers share, read only.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) address: SocketAddr,
    pub(crate) hosts: Hosts,
    pub(crate) signing: SigningPool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    pub(crate) names: ServerNames,
    /// A place for each connection that may be open.
    pub(crate) places: Semaphore,
}

/// What the connections of one worker share.
pub(crate) struct Shared {
    pub(crate) common: Arc<Common>,
    /// By the index of the host.
    pub(crate) services: Vec<Service>,
}

/// What is done with plaintext.
pub(crate) enum Service {
    Http(Rc<http::Service>),
    Tcp(Arc<Upstream>),
}

/// The server names that metrics know by name. A client may ask for any name: unbounded labels would be a leak.
#[derive(Debug, Default)]
pub(crate) struct ServerNames(Vec<String>);

impl ServerNames {
    pub(crate) fn of(hosts: &Hosts) -> Self {
        let mut names: Vec<_> = hosts
            .iter()
            .flat_map(|host| host.endpoint.credentials())
            .flat_map(|credential| &credential.dns_names)
            .map(|name| name.to_ascii_lowercase())
            .collect();
        names.sort();
        names.dedup();
        Self(names)
    }

    /// The certificate's name that covers the one asked for, or `other`, or `none`.
    pub(crate) fn label(&self, asked: Option<&str>) -> &str {
        let Some(asked) = asked else { return "none" };
        let covers = |name: &&String| {
            name.eq_ignore_ascii_case(asked)
                || name.strip_prefix("*.").is_some_and(|parent| {
                    asked.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent))
                })
        };
        self.0.iter().find(covers).map_or("other", String::as_str)
    }
}

/// Serves the connections that `listener` accepts, until the shutdown is complete.
///
/// # Errors
/// The operating system gives no runtime.
pub(crate) fn run(
    listener: TcpListener,
    common: Arc<Common>,
    services: impl FnOnce() -> Vec<Service>,
    shutdown: Shutdown,
) -> Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("a worker can't start: {error}")))?;
    LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|error| Error::internal(format!("a worker can't listen: {error}")))?;
        let shared = Rc::new(Shared { common, services: services() });
        accept(listener, shared, shutdown).await;
        Ok(())
    })
}

async fn accept(listener: tokio::net::TcpListener, shared: Rc<Shared>, mut shutdown: Shutdown) {
    /// How long to wait where the process has no descriptor left: connections that end give some back.
    const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

    let open = Rc::new(Open::default());
    let mut complained = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.draining() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, client)) => {
                complained = false;
                start(socket, client, &shared, &open, &shutdown).await;
            }
            // The client has gone between knocking and being let in.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    error!("can't accept connections: {error}; trying again");
                }
                tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
            }
        }
    }
    // Connections that the kernel has completed and we have not accepted would be reset by closing the socket.
    while shutdown.phase() < Phase::Closing {
        let waiting = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        let Ok(Ok((socket, client))) = waiting else { break };
        start(socket, client, &shared, &open, &shutdown).await;
    }
    drop(listener);
    open.none().await;
}

/// Starts serving a connection, when there is a place for it.
async fn start(
    socket: tokio::net::TcpStream,
    client: SocketAddr,
    shared: &Rc<Shared>,
    open: &Rc<Open>,
    shutdown: &Shutdown,
) {
    let mut closing = shutdown.clone();
    // The semaphore is never closed. While there is no place, new connections wait in the kernel's queue.
    tokio::select! {
        biased;
        place = shared.common.places.acquire() => if let Ok(place) = place { place.forget() },
        () = closing.closing() => return,
    }
    let (shared, shutdown) = (shared.clone(), shutdown.clone());
    let place = Open::enter(open, shared.common.clone());
    spawn_local(async move {
        connection::serve(socket, client, shared, shutdown).await;
        drop(place);
    });
}

/// How many connections of this worker are open.
#[derive(Default)]
struct Open {
    count: Cell<usize>,
    ended: Notify,
}

struct Place {
    open: Rc<Open>,
    common: Arc<Common>,
}

impl Open {
    fn enter(this: &Rc<Self>, common: Arc<Common>) -> Place {
        this.count.update(|count| count + 1);
        Place { open: this.clone(), common }
    }

    async fn none(&self) {
        while self.count.get() > 0 {
            self.ended.notified().await;
        }
    }
}

/// Also where the task panicked: a place that is never given back would shrink the server.
impl Drop for Place {
    fn drop(&mut self) {
        self.common.places.add_permits(1);
        self.open.count.update(|count| count - 1);
        self.open.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_names_of_certificates_and_two_more() {
        let names = ServerNames(vec!["*.b.example".to_owned(), "a.example".to_owned()]);
        assert_eq!(names.label(Some("A.example")), "a.example");
        assert_eq!(names.label(Some("x.b.example")), "*.b.example");
        assert_eq!(names.label(Some("x.y.b.example")), "other");
        assert_eq!(names.label(Some("b.example")), "other");
        assert_eq!(names.label(None), "none");
    }
}
