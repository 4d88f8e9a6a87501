//! The failure of a socket that nobody reads from for now: its reset would be seen with the next write only, or never.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::socket::Socket;

/// Waits for the failure of a socket. It costs nothing before it is asked for the first time.
pub(super) struct Failing<'s> {
    socket: &'s Socket,
    failure: Option<Pin<Box<dyn Future<Output = io::Error> + 's>>>,
}

impl<'s> Failing<'s> {
    pub(super) fn new(socket: &'s Socket) -> Self {
        Self { socket, failure: None }
    }

    /// Ready once the socket has failed. Not to be asked again then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.failure.get_or_insert_with(|| Box::pin(self.socket.fails())).as_mut().poll(cx)
    }
}
