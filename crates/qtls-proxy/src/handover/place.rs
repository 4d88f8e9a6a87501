//! The path of the hand-over socket: whom it may belong to, connecting to it, listening at it.

use std::fs::{self, Metadata, Permissions};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use qtls_core::{Error, Result};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_socket, connect, listen, socket_with,
};
use rustix::process::geteuid;

/// Processes that ask wait here; there is hardly ever one.
const BACKLOG: i32 = 8;

/// What there is where the socket is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory that is good for it.
    Good,
    /// No directory yet.
    Missing,
}

/// Whether a socket at `path` would be out of the reach of others.
///
/// # Errors
/// The path is no place for it: too long, or in a directory that others can write to; or something else is there. Without
/// the key, which is the caller's to add.
pub fn check(path: &Path) -> Result<Place> {
    SocketAddrUnix::new(path).map_err(|_| {
        Error::configuration(format!("{} is too long for the path of a socket", path.display()))
            .hint("the kernel takes 107 bytes, such as /run/qtls/handover.sock")
    })?;
    let directory = directory(path);
    let shown = directory.display();
    let found = match fs::metadata(&directory) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Missing),
        Err(error) => {
            return Err(Error::configuration(format!("the directory {shown} can't be looked at: {error}"))
                .hint("this user must be able to reach it"));
        }
    };
    if !found.is_dir() {
        return Err(Error::configuration(format!("{shown} is no directory")).hint("name a file in a directory"));
    }
    // Who can write there could listen in our place, and be given, or give, the sockets.
    if found.mode() & 0o022 != 0 {
        return Err(Error::configuration(format!("others than its owner can write to the directory {shown}"))
            .hint(format!("chmod go-w {shown}, or choose a directory of its own such as /run/qtls")));
    }
    ours(&found).map_err(|owner| {
        Error::configuration(format!("the directory {shown} belongs to the user {owner}"))
            .hint(format!("it must be root's, or that of the user {} that runs this program", geteuid().as_raw()))
    })?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err(Error::configuration(format!("{} is something else than a socket", path.display()))
                .hint("remove it, or choose another path"))
        }
        Ok(found) => ours(&found).map(|()| Place::Good).map_err(|owner| {
            Error::configuration(format!("the socket {} belongs to the user {owner}", path.display()))
                .hint("remove it, if the server of that user is not to be replaced")
        }),
        // Nobody serves yet.
        Err(_) => Ok(Place::Good),
    }
}

/// The error for a directory that isn't there when it is needed.
pub fn missing(path: &Path) -> Error {
    let directory = directory(path);
    let shown = directory.display();
    Error::configuration(format!("there is no directory {shown}"))
        .hint(format!("make it (`install -d -m 0750 {shown}`), or have systemd make it (RuntimeDirectory=)"))
}

/// Connects to the process that listens at `path`; `None` where there is none.
pub(super) fn reach(path: &Path, patience: Duration) -> Result<Option<UnixStream>> {
    if check(path)? == Place::Missing {
        return Ok(None);
    }
    let failed = |errno: Errno| {
        let error = Error::configuration(format!("{} can't be reached: {errno}", path.display()));
        match errno {
            Errno::ACCESS | Errno::PERM => error.hint("run this program as the user of the old process, or as root"),
            Errno::AGAIN => error.hint("the process that listens there doesn't answer: look at its log, or stop it"),
            _ => error.hint("stop the old process, and remove the socket"),
        }
    };
    let socket = UnixStream::from(new_socket(SocketFlags::empty()).map_err(failed)?);
    let limited = socket.set_read_timeout(Some(patience)).and_then(|()| socket.set_write_timeout(Some(patience)));
    limited.map_err(|error| Error::internal(error.to_string()))?;
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    match connect(&socket, &address) {
        Ok(()) => Ok(Some(socket)),
        // Never there, or left behind by a process that was killed.
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// Listens at `path`, where nobody listens any more.
pub(super) fn bind(path: &Path) -> Result<UnixListener> {
    if check(path)? == Place::Missing {
        return Err(missing(path));
    }
    let failed = |errno: Errno| {
        Error::configuration(format!("can't listen at {}: {errno}", path.display())).hint(format!(
            "the user {} must be able to write to {}",
            geteuid().as_raw(),
            directory(path).display()
        ))
    };
    let socket = new_socket(SocketFlags::NONBLOCK).map_err(failed)?;
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    // The sockets to serve on are bound by now: of two processes that start at the same moment, one gets here.
    let _ = fs::remove_file(path);
    bind_socket(&socket, &address).map_err(failed)?;
    let private = fs::set_permissions(path, Permissions::from_mode(0o600));
    private.map_err(|error| Error::internal(format!("{}: {error}", path.display())))?;
    listen(&socket, BACKLOG).map_err(failed)?;
    Ok(UnixListener::from(socket))
}

/// Packets keep their descriptors to themselves; a stream would have to say where they belong.
fn new_socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags | SocketFlags::CLOEXEC, None)
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Whether a file is root's or this user's; else whose it is.
fn ours(found: &Metadata) -> Result<(), u32> {
    if [0, geteuid().as_raw()].contains(&found.uid()) { Ok(()) } else { Err(found.uid()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_that_is_out_of_the_reach_of_others_will_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let shown = directory.path().display().to_string();
        assert_eq!(check(&path).unwrap(), Place::Good);
        let refused = |path: &Path| check(path).unwrap_err().message().to_owned();
        for mode in [0o770, 0o707, 0o1777] {
            fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(refused(&path), format!("others than its owner can write to the directory {shown}"), "{mode:o}");
        }
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(refused(&path), format!("{} is something else than a socket", path.display()));
        assert_eq!(refused(&path.join("x")), format!("{} is no directory", path.display()));
        let nowhere = directory.path().join("no/x");
        assert_eq!(check(&nowhere).unwrap(), Place::Missing);
        assert_eq!(bind(&nowhere).unwrap_err().message(), format!("there is no directory {shown}/no"));
        let long = directory.path().join("x".repeat(120));
        assert_eq!(refused(&long), format!("{} is too long for the path of a socket", long.display()));
    }

    #[test]
    fn a_socket_that_was_left_behind_is_nobody_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let patience = Duration::from_secs(5);
        assert!(reach(&path, patience).unwrap().is_none());
        let listener = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(reach(&path, patience).unwrap().is_some());
        drop(listener);
        assert!(reach(&path, patience).unwrap().is_none());
        let _again = bind(&path).unwrap();
        assert!(reach(&path, patience).unwrap().is_some());
    }
}
