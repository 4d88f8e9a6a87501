//! The side of a relay that faces the upstream: a socket, or TLS over one.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::End;
use crate::observe::metrics::Tally;
use crate::socket::Socket;
use crate::stream::{Scratch, Tls, Waiting, poll_drain, poll_read, poll_write};

/// What a relay does with its upstream. Nothing of it is decided at run time: in the clear, it costs what it cost without
/// this.
pub(super) trait Far {
    /// Whether there is a farewell beside the end of the socket.
    const SAYS_GOODBYE: bool;

    fn socket(&self) -> &Socket;

    /// Whether something waits, because the socket takes no more.
    fn is_stalled(&self) -> bool;

    /// Writes what waits; ready when all of it is gone.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>>;

    /// Passes plaintext on as far as the socket takes it; the rest waits. `output` is for its ciphertext.
    fn pass(&mut self, plain: &[u8], output: &mut [u8], cx: &mut Context<'_>) -> Result<(), End>;

    /// One read, with its plaintext at the front of `scratch.plain`.
    fn poll_take(&mut self, scratch: &mut Scratch, cx: &mut Context<'_>) -> Poll<Result<Taken, End>>;

    /// That nothing more comes, behind what waits. Not to be called where that was not the end that the client meant.
    fn queue_end(&mut self);
}

/// What one read from the upstream brought.
pub(super) struct Taken {
    /// So much plaintext, which is genuine whatever the outcome.
    pub(super) plain: usize,
    /// What comes after it.
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    More,
    /// Mostly overhead: the other connections of the worker have their turn.
    Crumbs,
    /// It has said that nothing more comes.
    Closed,
    /// Its TCP connection ended, and it has not said so.
    Truncated,
    Broken(End),
}

/// In the clear.
pub(super) struct Plain<'s> {
    pub(super) socket: &'s Socket,
    /// Plaintext that the upstream has not taken.
    pub(super) waiting: Waiting,
}

impl Far for Plain<'_> {
    const SAYS_GOODBYE: bool = false;

    fn socket(&self) -> &Socket {
        self.socket
    }

    fn is_stalled(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        poll_drain(self.socket, &mut self.waiting, cx).map_err(End::Upstream)
    }

    fn pass(&mut self, plain: &[u8], _: &mut [u8], cx: &mut Context<'_>) -> Result<(), End> {
        write_or_keep(self.socket, plain, &mut self.waiting, cx)
    }

    fn poll_take(&mut self, scratch: &mut Scratch, cx: &mut Context<'_>) -> Poll<Result<Taken, End>> {
        let plain = ready!(poll_read(self.socket, &mut scratch.plain, cx)).map_err(End::Upstream)?;
        let outcome = if plain == 0 { Outcome::Closed } else { Outcome::More };
        Poll::Ready(Ok(Taken { plain, outcome }))
    }

    fn queue_end(&mut self) {
        // The end of the socket's direction says it.
    }
}

/// Over TLS.
pub(super) struct Secured<'s> {
    pub(super) socket: &'s Socket,
    pub(super) tls: Tls,
    /// What goes over it.
    pub(super) tally: Arc<Tally>,
}

impl Far for Secured<'_> {
    const SAYS_GOODBYE: bool = true;

    fn socket(&self) -> &Socket {
        self.socket
    }

    fn is_stalled(&self) -> bool {
        !self.tls.outgoing.is_empty()
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        poll_drain(self.socket, &mut self.tls.outgoing, cx).map_err(End::Upstream)
    }

    fn pass(&mut self, plain: &[u8], output: &mut [u8], cx: &mut Context<'_>) -> Result<(), End> {
        if plain.is_empty() {
            return Ok(());
        }
        let length = self.tls.encrypt(plain, output).map_err(End::UpstreamTls)?;
        self.tally.sent(plain.len());
        write_or_keep(self.socket, &output[..length], &mut self.tls.outgoing, cx)
    }

    fn poll_take(&mut self, scratch: &mut Scratch, cx: &mut Context<'_>) -> Poll<Result<Taken, End>> {
        let Self { socket, tls, tally } = self;
        let held = tls.lay_out(&mut scratch.input);
        let end = tls.appetite(scratch.input.len());
        let count = ready!(poll_read(socket, &mut scratch.input[held..end], cx)).map_err(End::Upstream)?;
        if count == 0 {
            return Poll::Ready(Ok(Taken { plain: 0, outcome: Outcome::Truncated }));
        }
        let mut length = 0;
        let plain = &mut scratch.plain;
        let processed = tls.process(&mut scratch.input[..held + count], |payload| {
            plain[length..length + payload.len()].copy_from_slice(payload);
            length += payload.len();
        });
        tally.received(length);
        let crumbs = tls.judge(count, length);
        let outcome = match processed {
            Err(error) => Outcome::Broken(End::UpstreamTls(error)),
            Ok(()) if tls.received_close() => Outcome::Closed,
            Ok(()) if crumbs => Outcome::Crumbs,
            Ok(()) => Outcome::More,
        };
        // Answers to key updates, and the alert for a broken record. A socket that takes nothing any more is told by the
        // next one who writes; what was read comes first, for it may say why.
        let _ = poll_drain(socket, &mut tls.outgoing, cx);
        Poll::Ready(Ok(Taken { plain: length, outcome }))
    }

    fn queue_end(&mut self) {
        self.tls.queue_close_notify();
    }
}

/// Past what waits only where nothing waits.
fn write_or_keep(socket: &Socket, mut rest: &[u8], waiting: &mut Waiting, cx: &mut Context<'_>) -> Result<(), End> {
    while !rest.is_empty() && waiting.is_empty() {
        match poll_write(socket, rest, cx) {
            Poll::Ready(written) => rest = &rest[written.map_err(End::Upstream)?..],
            Poll::Pending => break,
        }
    }
    waiting.push(rest);
    Ok(())
}
