//! What a server opens before a sandbox closes in: the sockets to serve on, wherever they come from, the hand-over, and
//! the way to the service manager.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use qtls_core::{Error, Result};
use tracing::{info, warn};

use crate::config::{self, covers};
use crate::handover::{self, Control, Inherited, Offer, Predecessor};
use crate::listen::{self, Assembled, Listener, Origin, Role, Wanted, activation};
use crate::notify::Notifier;
use crate::plan::Plan;

/// Everything that is open when a server starts.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) tls: Vec<Listener>,
    pub(crate) metrics: Vec<Listener>,
    pub(crate) redirect: Vec<Listener>,
    pub(crate) notifier: Notifier,
    pub(crate) succession: Option<Succession>,
}

/// The hand-over from the process before, and to the one after.
#[derive(Debug)]
pub(crate) struct Succession {
    /// The process that serves until this one does, and which of its descriptors are used.
    pub(crate) predecessor: Option<(Predecessor, Vec<usize>)>,
    pub(crate) control: Control,
    pub(crate) offer: Offer,
}

impl Sockets {
    /// Opens them.
    ///
    /// # Errors
    /// A port is in use or not allowed, systemd passed something that can't be served, or the old process refuses.
    pub(crate) fn open(plan: &Plan) -> Result<Self> {
        let located = |key: &str, error: Error| plan.origins.locate(key, error);
        let mut notifier = Notifier::of_process();
        let metrics = plan.config.metrics.as_ref().map(|metrics| SocketAddr::new(metrics.address, metrics.port));
        let redirect = plan.config.redirect.as_ref().map(|redirect| redirect.socket(&plan.config.server));
        let activated = activation::take(activation::Ports {
            tls: plan.address.port(),
            metrics: metrics.map(|address| address.port()),
            redirect: redirect.map(|address| address.port()),
        })?;

        let path = plan.config.server.handover.as_deref();
        let ask = |path: &Path| handover::ask(path).map_err(|error| located("server.handover", error));
        let (mut inherited, mut predecessor, mut control) = (Vec::new(), None, None);
        if let Some(Inherited { predecessor: old, listeners, control: socket, manager }) =
            path.map(ask).transpose()?.flatten()
        {
            if let Some((manager, watchdog)) = manager {
                notifier = Notifier::inherited(manager, watchdog);
            }
            (inherited, predecessor, control) = (listeners, Some(old), Some(socket));
        }

        let tls = Wanted {
            role: Role::Tls,
            address: plan.address,
            key: "server.listen_port",
            sockets: plan.config.server.workers(),
        };
        // A socket of systemd's may be wider than the configuration says, and is served as it is.
        let is_passed = |wanted: SocketAddr| {
            let mut passed = activated.iter().filter(|listener| listener.role == Role::Metrics);
            passed.any(|passed| passed.address.port() == wanted.port() && covers(passed.address.ip(), wanted.ip()))
        };
        let metrics = plan.config.metrics.iter().flat_map(config::Metrics::sockets);
        let metrics = metrics.zip([Role::Metrics, Role::Dashboard]).filter_map(|((key, address), role)| {
            let wanted = Wanted { role, address, key, sockets: 1 };
            (role == Role::Metrics || !is_passed(address)).then_some(wanted)
        });
        let redirect =
            redirect.map(|address| Wanted { role: Role::Redirect, address, key: "redirect.port", sockets: 1 });
        let wanted: Vec<_> = std::iter::once(tls).chain(metrics).chain(redirect).collect();
        let assembled = listen::assemble(&wanted, activated, inherited).map_err(|error| {
            let key = error.key_path().map(str::to_owned);
            key.map_or(error.clone(), |key| located(&key, error))
        })?;
        let Assembled { listeners, warnings, notes } = assembled;
        warnings.iter().for_each(|warning| warn!("{warning}"));
        notes.iter().for_each(|note| info!("{note}"));

        let succession = match path {
            Some(path) => {
                let manager = (notifier.socket(), notifier.watchdog_timeout());
                let open = || open_succession(path, control, predecessor, &listeners, manager);
                Some(open().map_err(|error| located("server.handover", error))?)
            }
            None => None,
        };
        let (tls, others): (_, Vec<_>) = listeners.into_iter().partition(|listener| listener.role == Role::Tls);
        let (redirect, metrics) = others.into_iter().partition(|listener| listener.role == Role::Redirect);
        Ok(Self { tls, metrics, redirect, notifier, succession })
    }
}

fn open_succession(
    path: &Path,
    control: Option<OwnedFd>,
    predecessor: Option<Predecessor>,
    listeners: &[Listener],
    (manager, watchdog): (Option<OwnedFd>, Option<Duration>),
) -> Result<Succession> {
    let control = match control {
        Some(socket) => Control::inherited(socket, path),
        None => Control::open(path)?,
    };
    let offer = Offer::new(listeners, manager.map(|socket| (socket, watchdog)));
    let offer = offer.map_err(|error| Error::internal(format!("no hand-over can be offered: {error}")))?;
    let taken = listeners.iter().filter_map(|listener| match listener.origin {
        Origin::HandedOver(index) => Some(index),
        Origin::Bound | Origin::Activated => None,
    });
    Ok(Succession { predecessor: predecessor.map(|predecessor| (predecessor, taken.collect())), control, offer })
}
