//! A program's descriptor: reading and writing without signals, and without giving up at interruptions.

use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketType, recv, send, sendmsg, sockopt::socket_type};

use crate::failure::Failure;

/// A connected stream socket that the program keeps open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket(BorrowedFd<'static>);

#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
/// There it is an option of the socket.
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

impl Socket {
    /// Checks what the descriptor is.
    pub(crate) fn new(fd: BorrowedFd<'static>) -> Result<Self, Failure> {
        match socket_type(fd) {
            Ok(SocketType::STREAM) => {}
            Ok(_) => return Err(Failure::misuse("the descriptor is a socket, but not one for streams")),
            Err(Errno::BADF) => return Err(Failure::misuse("the descriptor is not open")),
            Err(Errno::NOTSOCK) => return Err(Failure::misuse("the descriptor is not a socket")),
            Err(error) => return Err(Failure::misuse(format!("the descriptor can't be used: {error}"))),
        }
        #[cfg(target_vendor = "apple")]
        rustix::net::sockopt::set_socket_nosigpipe(fd, true)
            .map_err(|error| Failure::misuse(format!("the descriptor can't be kept from raising SIGPIPE: {error}")))?;
        Ok(Self(fd))
    }

    /// Receives into memory that nobody has written to, and answers with what came; empty at the end. May be interrupted.
    pub(crate) fn receive(self, room: &mut [MaybeUninit<u8>], wait: bool) -> io::Result<&[u8]> {
        let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        let ((received, _), _) = recv(self.0, room, flags)?;
        Ok(received)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| send(self.0, bytes, NO_SIGNAL))?)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(retry_on_intr(|| sendmsg(self.0, parts, &mut SendAncillaryBuffer::default(), NO_SIGNAL))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
