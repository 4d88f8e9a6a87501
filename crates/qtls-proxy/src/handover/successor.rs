//! The old process' side.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qtls_core::Result;
use qtls_core::version::VERSION;
use rustix::process::geteuid;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::wire::{BATCH, Conversation};
use super::{Descriptor, Message, PROTOCOL, control_group, place};
use crate::listen::{Listener, Role};
use crate::observe::audit;

/// How long a new process may take for what it has at hand.
const PROMPT: Duration = Duration::from_secs(10);

/// How long a new process may take to start.
const START: Duration = Duration::from_secs(120);

/// The socket where a new process asks.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    control_group: Option<String>,
}

/// What a new process is offered.
#[derive(Debug)]
pub struct Offer {
    /// The sockets that this process serves on.
    listeners: Vec<(Role, OwnedFd)>,
    /// The connected socket of the service manager, and its watchdog timeout.
    manager: Option<(OwnedFd, Option<Duration>)>,
}

/// A new process that serves, and waits for this one to stop accepting.
#[derive(Debug)]
pub struct Takeover {
    /// Its identifier.
    pub process: u32,
    /// Whether it is of the same service, as the service manager tells them apart.
    pub same_service: bool,
    /// Whether all of the TLS sockets go on being served.
    pub complete: bool,
    conversation: Conversation,
}

/// Answers new processes, on the runtime that it was made on.
#[derive(Debug)]
pub struct Attendant {
    desk: Arc<Desk>,
    reception: AbortHandle,
    path: PathBuf,
}

#[derive(Debug)]
struct Desk {
    /// Gone when there is nothing to be had any more.
    offer: Mutex<Option<Arc<Offer>>>,
    control: OwnedFd,
    control_group: Option<String>,
    /// Who is being attended to.
    guest: Mutex<Option<(u32, AbortHandle)>>,
    takeovers: mpsc::UnboundedSender<Takeover>,
}

impl Control {
    /// Listens at `path`, where nobody listens.
    ///
    /// # Errors
    /// The path is in the reach of others, or out of ours. Without the key, which is the caller's to add.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { listener: place::bind(path)?, path: path.to_owned(), control_group: control_group() })
    }

    /// Goes on listening where another process did, at `path`.
    pub fn inherited(socket: OwnedFd, path: &Path) -> Self {
        Self { listener: UnixListener::from(socket), path: path.to_owned(), control_group: control_group() }
    }

    /// Begins to answer, on the current runtime. Each new process that serves comes out of the channel.
    ///
    /// # Errors
    /// The socket can't be used.
    pub fn attend(self, offer: Offer) -> io::Result<(Attendant, mpsc::UnboundedReceiver<Takeover>)> {
        let Self { listener, path, control_group } = self;
        listener.set_nonblocking(true)?;
        let control = listener.as_fd().try_clone_to_owned()?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let (takeovers, come) = mpsc::unbounded_channel();
        let offer = Mutex::new(Some(Arc::new(offer)));
        let desk = Arc::new(Desk { offer, control, control_group, guest: Mutex::default(), takeovers });
        let reception = tokio::spawn(receive_guests(listener, desk.clone())).abort_handle();
        Ok((Attendant { desk, reception, path }, come))
    }
}

impl Offer {
    /// The sockets, each with a descriptor of its own: as long as the offer stands, they stay open.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new(listeners: &[Listener], manager: Option<(OwnedFd, Option<Duration>)>) -> io::Result<Self> {
        let copy = |listener: &Listener| Ok((listener.role, listener.socket.as_fd().try_clone_to_owned()?));
        Ok(Self { listeners: listeners.iter().map(copy).collect::<io::Result<_>>()?, manager })
    }
}

impl Attendant {
    /// Takes the offer back, and sends away who is being attended to. The path stays: it is somebody else's by now, or
    /// [`Attendant::remove`] is called.
    pub fn close(&self) {
        self.reception.abort();
        *lock(&self.desk.offer) = None;
        if let Some((_, conversation)) = lock(&self.desk.guest).take() {
            conversation.abort();
        }
    }

    /// Takes the path away. Where this user may not, it stays, and the next process replaces it.
    pub fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Takeover {
    /// Tells the new process that this one accepts nothing more, and still has so many connections.
    pub async fn done(self, connections: u64) {
        // It serves, whether or not it hears this.
        let _ = timeout(PROMPT, self.conversation.send(&Message::Done { connections }, &[])).await;
    }
}

async fn receive_guests(listener: tokio::net::UnixListener, desk: Arc<Desk>) {
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                error!("no hand-over is possible at the moment: {error}");
                sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let Some(process) = admit(&socket) else {
            tokio::spawn(refuse(socket, STRANGER.to_owned()));
            continue;
        };
        let other = lock(&desk.guest).as_ref().map(|(other, _)| *other);
        if let Some(other) = other {
            let reason = format!("process {other} is taking over at this moment");
            warn!(process, "refused to hand over: {reason}");
            audit::handed_over(process, None, "refused", Some(&reason));
            tokio::spawn(refuse(socket, reason));
            continue;
        }
        // Nothing runs between spawning and noting: this runtime has one thread.
        let guest = tokio::spawn(attend_to(socket, process, desk.clone())).abort_handle();
        *lock(&desk.guest) = Some((process, guest));
    }
}

/// The identifier of the process at the other end, if it may take over.
fn admit(socket: &UnixStream) -> Option<u32> {
    let peer = match socket.peer_cred() {
        Ok(peer) => peer,
        Err(error) => {
            warn!("refused to hand over to a process that can't be told: {error}");
            return None;
        }
    };
    // 0 where it is in another namespace.
    let process = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    if [0, geteuid().as_raw()].contains(&peer.uid()) {
        return Some(process);
    }
    warn!(process, user = peer.uid(), "refused to hand over to a process of another user");
    audit::handed_over(process, Some(peer.uid()), "refused", Some(STRANGER));
    None
}

async fn refuse(socket: UnixStream, reason: String) {
    let conversation = Conversation::new(socket);
    // What is closed with something unread in it is reset, and the reason is lost.
    let _ = hear(&conversation, PROMPT).await;
    let _ = timeout(PROMPT, conversation.send(&Message::Refused { reason }, &[])).await;
}

async fn attend_to(socket: UnixStream, process: u32, desk: Arc<Desk>) {
    let conversation = Conversation::new(socket);
    match converse(&conversation, process, &desk).await {
        // There is nothing left for the next one, who asks the new process.
        Ok(Heard { same_service, complete }) => {
            audit::handed_over(process, None, "ok", None);
            let _ = desk.takeovers.send(Takeover { process, same_service, complete, conversation });
        }
        Err(why) => {
            *lock(&desk.guest) = None;
            audit::handed_over(process, None, "failed", Some(&why));
            warn!(process, "the hand-over failed, and this process goes on as before: {why}");
            let _ = timeout(PROMPT, conversation.send(&Message::Refused { reason: why }, &[])).await;
        }
    }
}

/// What a new process said of itself.
struct Heard {
    same_service: bool,
    complete: bool,
}

async fn converse(conversation: &Conversation, process: u32, desk: &Desk) -> Result<Heard, String> {
    let (protocols, version, group) = match hear(conversation, PROMPT).await? {
        Message::Hello { protocols, version, control_group } => (protocols, version, control_group),
        other => return Err(unexpected(&other)),
    };
    let offer = lock(&desk.offer).clone().ok_or("this process is stopping")?;
    if !protocols.contains(&PROTOCOL) {
        return Err(format!("version {version} speaks other versions of the hand-over than this one ({VERSION})"));
    }
    let same_service = group.is_some() && group == desk.control_group;
    info!(process, version, same_service, "a new process is taking over");
    give(conversation, &offer, desk, same_service).await.map_err(|error| error.to_string())?;
    let taken: BTreeSet<usize> = match hear(conversation, START).await? {
        Message::Ready { taken } => taken.into_iter().collect(),
        other => return Err(unexpected(&other)),
    };
    info!(process, "the new process is ready, and may serve");
    say(conversation, &Message::Go).await?;
    match hear(conversation, PROMPT).await? {
        Message::Serving => {}
        other => return Err(unexpected(&other)),
    }
    let complete = offer
        .listeners
        .iter()
        .enumerate()
        .all(|(index, (role, _))| !matches!(role, Role::Tls | Role::Redirect) || taken.contains(&index));
    Ok(Heard { same_service, complete })
}

async fn give(conversation: &Conversation, offer: &Offer, desk: &Desk, same_service: bool) -> io::Result<()> {
    let manager = offer.manager.as_ref().filter(|_| same_service);
    let mut all: Vec<(Descriptor, BorrowedFd<'_>)> =
        offer.listeners.iter().map(|(role, socket)| (Descriptor::from(*role), socket.as_fd())).collect();
    all.push((Descriptor::Handover, desk.control.as_fd()));
    all.extend(manager.map(|(socket, _)| (Descriptor::ServiceManager, socket.as_fd())));
    let watchdog = manager.and_then(|(_, watchdog)| *watchdog);
    let message = Message::Offer {
        protocol: PROTOCOL,
        version: VERSION.to_owned(),
        process: std::process::id(),
        descriptors: all.len(),
        watchdog_microseconds: watchdog.and_then(|timeout| u64::try_from(timeout.as_micros()).ok()),
    };
    conversation.send(&message, &[]).await?;
    for batch in all.chunks(BATCH) {
        let (what, descriptors): (Vec<_>, Vec<_>) = batch.iter().copied().unzip();
        conversation.send(&Message::Descriptors { what }, &descriptors).await?;
    }
    Ok(())
}

async fn say(conversation: &Conversation, message: &Message) -> Result<(), String> {
    conversation.send(message, &[]).await.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ENDED.to_owned(),
        _ => error.to_string(),
    })
}

async fn hear(conversation: &Conversation, patience: Duration) -> Result<Message, String> {
    match timeout(patience, conversation.receive()).await {
        Ok(Ok(Some((message, _)))) => Ok(message),
        Ok(Ok(None)) => Err(ENDED.to_owned()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => Err(ENDED.to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the new process wasn't ready within {} s", patience.as_secs())),
    }
}

const STRANGER: &str = "only root, and the user that this process runs as, may take over";
const ENDED: &str = "the new process ended before it served";

fn unexpected(message: &Message) -> String {
    format!("the new process said something unexpected: {message:?}")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
