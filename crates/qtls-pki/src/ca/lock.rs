//! One writer at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use qtls_core::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Held while the directory is written to. The kernel gives it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says which process holds it.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::configuration(format!("the CA directory can't be locked: {error}"))
                .at(path.display())
                .hint("run this as the user that the CA directory belongs to")
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = (&file).take(32).read_to_string(&mut holder);
                let holder = match holder.trim().parse::<u32>() {
                    Ok(pid) => format!("process {pid}"),
                    Err(_) => "another process".to_owned(),
                };
                return Err(Error::configuration(format!("the CA directory is in use by {holder}"))
                    .at(path.display())
                    .hint("wait until it has finished: two writers would lose each other's records"));
            }
            Err(error) => return Err(failed(error.into())),
        }
        // Only for the message above; the lock is the kernel's.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
