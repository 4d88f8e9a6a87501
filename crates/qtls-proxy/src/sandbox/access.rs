//! Whether what a server goes on needing can be had by the user that it is, where it is.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use qtls_core::Error;
use qtls_core::credentials::files;
use rustix::fs::{Access, access};

use super::needs::{FileNeed, Needs, Role};
use super::user::Account;
use crate::config::Origins;

/// Tries everything that a reload and a rotation will do, with the rights of the calling thread, and changes nothing.
/// Returns what fails, with place, key and the way out.
pub(super) fn check(needs: &Needs, account: &Account, origins: &Origins) -> Vec<Error> {
    needs.files.iter().filter_map(|need| trouble(need, account, origins)).collect()
}

fn trouble(need: &FileNeed, account: &Account, origins: &Origins) -> Option<Error> {
    let written = need.role == Role::Log;
    let (path, tried) = match need.role {
        Role::Configuration | Role::Credential => readable(files::resolve(&need.path)),
        Role::Log => writable(&need.path),
        // One that is left behind does no harm: the next process knows that nobody listens there.
        Role::Socket => return None,
    };
    // What isn't there, or isn't what it should be, has been told by those who wanted it.
    if tried.err()?.kind() != io::ErrorKind::PermissionDenied {
        return None;
    }
    let (verb, consequence) = if written {
        ("written", "the log can't be rotated or opened anew")
    } else {
        ("read", "a reload will be refused")
    };
    let without = if account.is_root() { ", without capabilities" } else { "" };
    let message = format!(
        "{} may not be {verb} by user {account}, as whom the server runs{without}: {consequence}",
        path.display()
    );
    let error = Error::configuration(message);
    let error = if need.key.is_empty() { error } else { origins.locate(&need.key, error) };
    Some(error.hint(if written {
        "make the directory, and the files in it, that user's (chown)"
    } else {
        "give that user, or a group that it is in, read access to the file (chgrp, chmod g+r) and search access (x) to each \
         directory above it"
    }))
}

/// The path that matters, and whether it can be read.
fn readable(path: PathBuf) -> (PathBuf, io::Result<()>) {
    let listed = if path.is_dir() { fs::read_dir(&path) } else { return open(path) };
    let entries = match listed {
        Ok(entries) => entries.flatten().map(|entry| entry.path()),
        Err(error) => return (path, Err(error)),
    };
    let refused = entries.filter(|entry| entry.is_file()).map(open).find(|(_, opened)| opened.is_err());
    refused.unwrap_or((path, Ok(())))
}

fn open(path: PathBuf) -> (PathBuf, io::Result<()>) {
    let opened = File::open(&path).map(drop);
    (path, opened)
}

/// The path that matters, the file or its directory, and whether it can be written.
fn writable(path: &Path) -> (PathBuf, io::Result<()>) {
    // Not to wait for the other end, where it is a pipe.
    let opened = OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(path);
    match (opened, path.parent()) {
        (Err(error), _) if error.kind() == io::ErrorKind::PermissionDenied => (path.to_owned(), Err(error)),
        (opened, Some(directory)) if opened.is_err() || path.is_file() => {
            let tried = access(directory, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from);
            (directory.to_owned(), tried)
        }
        _ => (path.to_owned(), Ok(())),
    }
}
