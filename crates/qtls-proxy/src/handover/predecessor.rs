//! The new process' side.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use qtls_core::version::VERSION;
use qtls_core::{Error, Result};
use tokio::time::timeout;
use tracing::{info, warn};

use super::wire::{Conversation, receive, send};
use super::{Descriptor, Message, PROTOCOL, control_group, place};
use crate::listen::{Listener, Origin, examine};

/// How long the old process may take for an answer. It answers from its main thread, which does nothing long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the old process gave.
#[derive(Debug)]
pub struct Inherited {
    /// The old process itself.
    pub predecessor: Predecessor,
    /// The sockets that it serves on.
    pub listeners: Vec<Listener>,
    /// Where the next process will ask.
    pub control: OwnedFd,
    /// The connected socket of the service manager of both, and its watchdog timeout.
    pub manager: Option<(OwnedFd, Option<Duration>)>,
}

/// The process that serves so far.
#[derive(Debug)]
pub struct Predecessor {
    socket: UnixStream,
    process: u32,
}

/// Whether, and why, the new process may serve.
#[derive(Debug)]
pub enum Consent {
    /// The old process waits for it.
    Given(Conversing),
    /// The old process is gone.
    Alone,
}

/// A hand-over that only lacks the word that the new process serves.
#[derive(Debug)]
pub struct Conversing {
    conversation: Conversation,
    process: u32,
}

/// Asks the process that listens at `path` for its sockets; `None` where there is no such process.
///
/// # Errors
/// It refuses or doesn't answer, or the path is in the reach of others. Without the key, which is the caller's to add.
pub fn ask(path: &Path) -> Result<Option<Inherited>> {
    let Some(socket) = place::reach(path, PATIENCE)? else { return Ok(None) };
    let hello =
        Message::Hello { protocols: vec![PROTOCOL], version: VERSION.to_owned(), control_group: control_group() };
    if send(&socket, &hello, &[]).is_err() {
        return Ok(None);
    }
    let Some((answer, _)) = receive(&socket).map_err(explain)? else { return Ok(None) };
    let (version, process, count, watchdog) = match answer {
        Message::Offer { version, process, descriptors, watchdog_microseconds, .. } => {
            (version, process, descriptors, watchdog_microseconds)
        }
        Message::Refused { reason } => return Err(refused(&reason)),
        other => return Err(unexpected(&other)),
    };
    info!(process, version, "taking over from the process that serves so far");
    let mut listeners = Vec::new();
    let (mut control, mut manager) = (None, None);
    let mut index = 0;
    while index < count {
        let (what, descriptors) = match receive(&socket).map_err(explain)? {
            Some((Message::Descriptors { what }, descriptors))
                if what.len() == descriptors.len() && !what.is_empty() =>
            {
                (what, descriptors)
            }
            Some((other, _)) => return Err(unexpected(&other)),
            None => return Err(Error::internal("the old process ended in the middle of giving its sockets")),
        };
        for (what, descriptor) in what.into_iter().zip(descriptors) {
            match what {
                Descriptor::Handover => control = Some(descriptor),
                Descriptor::ServiceManager => manager = Some((descriptor, watchdog.map(Duration::from_micros))),
                what => {
                    if let Some(role) = what.role() {
                        let (socket, address) = examine(descriptor).map_err(|wrong| {
                            Error::internal(format!("the old process gave a wrong socket: {wrong}"))
                        })?;
                        listeners.push(Listener { role, address, origin: Origin::HandedOver(index), socket });
                    }
                }
            }
            index += 1;
        }
    }
    let control = control.ok_or_else(|| Error::internal("the old process didn't give the hand-over socket"))?;
    Ok(Some(Inherited { predecessor: Predecessor { socket, process }, listeners, control, manager }))
}

impl Predecessor {
    /// The identifier of the process.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Says that everything but accepting works, with the sockets of these indexes, and waits for the answer.
    ///
    /// # Errors
    /// The old process refuses by now, or doesn't answer.
    pub async fn ready(self, taken: Vec<usize>) -> Result<Consent> {
        let Self { socket, process } = self;
        let alone = || {
            warn!(process, "the old process ended during the hand-over: serving in its place");
            Ok(Consent::Alone)
        };
        let conversation = Conversation::from_std(socket).map_err(|error| Error::internal(error.to_string()))?;
        if conversation.send(&Message::Ready { taken }, &[]).await.is_err() {
            return alone();
        }
        let answer = timeout(PATIENCE, conversation.receive()).await;
        match answer.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
            Ok(Some((Message::Go, _))) => Ok(Consent::Given(Conversing { conversation, process })),
            Ok(Some((Message::Refused { reason }, _))) => Err(refused(&reason)),
            Ok(Some((other, _))) => Err(unexpected(&other)),
            Ok(None) => alone(),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => alone(),
            Err(error) => Err(explain(error)),
        }
    }
}

impl Conversing {
    /// Says that this process serves, and waits until the old one has stopped accepting.
    pub async fn serving(self) {
        let Self { conversation, process } = self;
        let answer = async {
            conversation.send(&Message::Serving, &[]).await?;
            conversation.receive().await
        };
        match timeout(PATIENCE, answer).await {
            Ok(Ok(Some((Message::Done { connections }, _)))) => {
                info!(process, connections, "took over; the old process finishes the connections that it has");
            }
            Ok(Ok(None)) => info!(process, "took over; the old process has ended"),
            // What it still accepts, it serves.
            _ => warn!(process, "took over; the old process doesn't say whether it has stopped accepting"),
        }
    }
}

fn explain(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            Error::configuration(format!("the old process doesn't answer within {} s", PATIENCE.as_secs()))
                .hint("look at its log; stop it, and start this one without a hand-over")
        }
        _ => Error::configuration(format!("the hand-over failed: {error}")).hint("look at the log of the old process"),
    }
}

fn refused(reason: &str) -> Error {
    Error::configuration(format!("the old process hands nothing over: {reason}"))
        .hint("look at the log of the old process; where it is to end anyway, stop it first")
}

fn unexpected(message: &Message) -> Error {
    Error::internal(format!("the old process said something unexpected: {message:?}"))
}
