//! The secrets of connections in a file, for those who look for a fault with a recording: Wireshark, tshark.
//!
//! Whoever reads the file can decrypt every recording of these connections. It takes the variable `SSLKEYLOGFILE` *and*
//! the key `tls.dangerous_key_log`: a variable alone may have come from anywhere.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use qtls_core::{Error, Result};
use rustix::fs::{Access, access};
use tracing::error;
use zeroize::Zeroizing;

/// The variable that names the file, as in browsers and curl.
pub(crate) const VARIABLE: &str = "SSLKEYLOGFILE";

/// The one that is in use: a state that replaces another goes on with its file.
static CURRENT: Mutex<Weak<KeyLog>> = Mutex::new(Weak::new());

/// A file in the NSS key log format: `LABEL CLIENT_RANDOM SECRET`, in hexadecimal digits.
#[derive(Debug)]
pub(crate) struct KeyLog {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    complained: bool,
}

impl KeyLog {
    /// The log at `path`. Nothing is opened yet.
    pub(crate) fn at(path: &Path) -> Arc<Self> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = current.upgrade().filter(|known| known.path == path) {
            return known;
        }
        let new = Arc::new(Self { path: path.to_owned(), state: Mutex::default() });
        *current = Arc::downgrade(&new);
        new
    }

    /// Whether the file could be opened or made, without doing either.
    ///
    /// # Errors
    /// It could not.
    pub(crate) fn check(&self) -> Result<()> {
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let checked = match self.path.metadata() {
            Ok(found) if found.is_dir() => Err(rustix::io::Errno::ISDIR),
            Ok(_) => access(&self.path, Access::WRITE_OK),
            Err(_) => access(directory, Access::WRITE_OK | Access::EXEC_OK),
        };
        checked.map_err(|error| self.unopened(&error.into()))
    }

    fn open<'a>(&self, state: &'a mut State) -> io::Result<&'a mut File> {
        match &mut state.file {
            Some(file) => Ok(file),
            none => Ok(none.insert(OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?)),
        }
    }

    fn unopened(&self, error: &io::Error) -> Error {
        Error::configuration(format!("can't open {}, which {VARIABLE} names: {error}", self.path.display()))
            .hint(format!("set {VARIABLE} to a file that this user may write, or remove `dangerous_key_log`"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the file of the log that is in use, if there is one. To be called while it can still be opened: before a sandbox.
///
/// # Errors
/// The file can't be opened or made.
pub(crate) fn open() -> Result<()> {
    let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
    let Some(log) = current else { return Ok(()) };
    let mut state = log.lock();
    log.open(&mut state).map(|_| ()).map_err(|error| log.unopened(&error))
}

impl rustls::KeyLog for KeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        // Whole, so that it is never moved to a larger place and left behind in the old one.
        let length = label.len() + 2 * (client_random.len() + secret.len()) + 3;
        let mut line = Zeroizing::new(String::with_capacity(length));
        line.push_str(label);
        for octets in [client_random, secret] {
            line.push(' ');
            for octet in octets {
                // Writing to a string never fails.
                let _ = write!(line, "{octet:02x}");
            }
        }
        line.push('\n');
        let mut state = self.lock();
        let written = self.open(&mut state).and_then(|file| file.write_all(line.as_bytes()));
        if let Err(error) = written
            && !std::mem::replace(&mut state.complained, true)
        {
            error!("can't write {}, secrets are missing in it: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls::KeyLog as _;

    use super::*;

    #[test]
    fn a_line_is_label_random_and_secret_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let log = KeyLog::at(&path);
        log.check().unwrap();
        assert!(!path.exists(), "a check makes nothing");
        open().unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        log.log("CLIENT_TRAFFIC_SECRET_0", &[0x0a; 32], &[0xff, 0]);
        let again = KeyLog::at(&path);
        assert!(Arc::ptr_eq(&log, &again));
        again.log("X", &[], &[1]);
        let expected = format!("CLIENT_TRAFFIC_SECRET_0 {} ff00\nX  01\n", "0a".repeat(32));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        drop((log, again));
        open().unwrap();

        let log = KeyLog::at(&directory.path().join("none/keys"));
        let error = log.check().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "can't open {}, which SSLKEYLOGFILE names: No such file or directory (os error 2)\n  hint: set SSLKEYLOGFILE to \
                 a file that this user may write, or remove `dangerous_key_log`",
                directory.path().join("none/keys").display()
            )
        );
        assert_eq!(open().unwrap_err(), error);
        assert_eq!(error.exit_code(), 2);
    }
}
