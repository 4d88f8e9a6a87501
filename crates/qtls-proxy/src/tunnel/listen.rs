//! The plain side's listening sockets: TCP, or Unix.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use qtls_core::{Error, Result};
use rustix::fs::Mode;
use rustix::process::umask;

use crate::config::{ListenAddress, SocketMode};
use crate::listen;
use crate::socket::Socket;

/// A listening socket, which doesn't block.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The same, in a runtime.
pub(super) enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// Removes the path of a Unix socket when it is dropped, if it is still the same.
#[derive(Debug)]
pub(super) struct Trace {
    path: PathBuf,
    identity: (u64, u64),
}

impl Listener {
    /// Opens the socket.
    ///
    /// # Errors
    /// Somebody listens there already, or this user may not.
    pub(super) fn bind(address: &ListenAddress, mode: SocketMode) -> Result<(Self, Option<Trace>)> {
        match address {
            ListenAddress::Tcp(address) => {
                let mut sockets = listen::bind(*address, 1)?;
                let socket = sockets.pop().ok_or_else(|| Error::internal("no socket was opened"))?;
                Ok((Self::Tcp(socket), None))
            }
            ListenAddress::Unix(path) => {
                let socket = open(path, mode).map_err(|error| explain(path, &error))?;
                let found = fs::symlink_metadata(path).map_err(|error| explain(path, &error))?;
                let trace = Trace { path: path.clone(), identity: (found.dev(), found.ino()) };
                Ok((Self::Unix(socket), Some(trace)))
            }
        }
    }

    /// One more descriptor of the same socket.
    pub(super) fn share(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        }
    }

    /// Puts it into the current runtime.
    pub(super) fn into_runtime(self) -> io::Result<Accepting> {
        match self {
            Self::Tcp(socket) => tokio::net::TcpListener::from_std(socket).map(Accepting::Tcp),
            Self::Unix(socket) => tokio::net::UnixListener::from_std(socket).map(Accepting::Unix),
        }
    }
}

impl Accepting {
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(socket) => socket.accept().await.map(|(socket, _)| socket.into()),
            Self::Unix(socket) => socket.accept().await.map(|(socket, _)| socket.into()),
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Another process may listen there by now.
        let is_same = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if is_same {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path, mode: SocketMode) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            // Its process is gone, and has left it behind.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            // Another process was as quick.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        },
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Nobody may connect before the permissions are what they will be. There is one thread.
    let before = umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let socket = bound?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode.0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn explain(path: &Path, error: &io::Error) -> Error {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::AddrInUse => Error::configuration(format!("another process listens on {shown}"))
            .hint(format!("see which one with `ss -lxp src {shown}`, or choose another path")),
        io::ErrorKind::AlreadyExists => Error::configuration(format!("{shown} is there already, and is no socket"))
            .hint("choose another path, or remove the file yourself"),
        io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(path).display();
            Error::configuration(format!("can't listen on {shown}: there is no directory {directory}"))
                .hint("make it; in a systemd unit, RuntimeDirectory= does")
        }
        io::ErrorKind::PermissionDenied => {
            Error::configuration(format!("this user may not listen on {shown}: the directory may not be written"))
                .hint("choose a directory of this user's; in a systemd unit, RuntimeDirectory= makes one")
        }
        _ => Error::configuration(format!("can't listen on {shown}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path, mode: u32) -> Result<(Listener, Option<Trace>)> {
        Listener::bind(&ListenAddress::Unix(path.to_owned()), SocketMode(mode))
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let (listening, trace) = bind(&path, 0o660).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660);
        let error = bind(&path, 0o600).unwrap_err();
        assert_eq!(error.message(), format!("another process listens on {}", path.display()));
        assert!(UnixStream::connect(&path).is_ok(), "the first one still listens");
        drop((listening, trace));
        assert!(!path.exists(), "it is removed at the end");
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "mine").unwrap();
        let error = bind(&path, 0o600).unwrap_err();
        assert!(error.message().ends_with("is there already, and is no socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let error = bind(&directory.path().join("no/x.sock"), 0o600).unwrap_err();
        assert!(error.message().contains("there is no directory"), "{error}");
    }

    #[test]
    fn another_socket_under_the_same_path_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let (_listening, trace) = bind(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(trace);
        assert!(path.exists());
    }
}
