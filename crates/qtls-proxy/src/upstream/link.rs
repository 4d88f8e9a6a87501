//! A connection to a server behind: a socket, or TLS over one.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use qtls_core::facts::Facts;
use rustls::SignatureScheme;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::handshake::Established;
use crate::observe::metrics::Tally;
use crate::socket::Socket;

/// A connection to a server behind.
#[derive(Debug)]
pub enum Link {
    /// In the clear.
    Plain(Socket),
    /// Over TLS, whose handshake is complete.
    Tls(Box<Established>),
}

/// What was negotiated with a server behind, as far as the access log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Code point of the key exchange group.
    pub group: u16,
    /// The cipher suite.
    pub suite: u16,
    /// What the server signed with; `None` when resumed.
    pub scheme: Option<SignatureScheme>,
    /// Whether a session was resumed.
    pub resumed: bool,
}

impl From<&Facts> for Leg {
    fn from(facts: &Facts) -> Self {
        let Facts { group, suite, scheme, resumed, .. } = facts;
        Self { group: *group, suite: *suite, scheme: *scheme, resumed: *resumed }
    }
}

/// Runs `$body` with what carries the bytes.
macro_rules! either {
    ($link:expr, $inner:ident => $body:expr) => {
        match $link {
            Link::Plain($inner) => $body,
            Link::Tls(established) => {
                let $inner = &mut established.stream;
                $body
            }
        }
    };
}

impl Link {
    /// The address of the server, where it has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Plain(socket) => socket.peer_addr(),
            Self::Tls(established) => established.stream.peer_addr(),
        }
    }

    /// Has the plaintext that goes through counted in `tally`, over TLS.
    pub(super) fn counted(self, tally: Arc<Tally>) -> Self {
        match self {
            Self::Plain(socket) => Self::Plain(socket),
            Self::Tls(established) => {
                let Established { stream, facts } = *established;
                Self::Tls(Box::new(Established { stream: stream.counted(tally), facts }))
            }
        }
    }

    /// What was negotiated, for the access log; `None` in the clear.
    pub fn leg(&self) -> Option<Leg> {
        self.facts().map(Leg::from)
    }

    /// What was negotiated; `None` in the clear.
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(established) => Some(&established.facts),
        }
    }
}

impl From<Socket> for Link {
    fn from(socket: Socket) -> Self {
        Self::Plain(socket)
    }
}

impl From<TcpStream> for Link {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(socket.into())
    }
}

impl From<UnixStream> for Link {
    fn from(socket: UnixStream) -> Self {
        Self::Plain(socket.into())
    }
}

impl From<Established> for Link {
    fn from(established: Established) -> Self {
        Self::Tls(Box::new(established))
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        // Both can.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_shutdown(cx))
    }
}
