//! Files that appear whole or not at all, and never in the place of another.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use qtls_core::credentials::random;
use qtls_core::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Everybody who reaches it: mode 0644.
    Everybody,
    /// Its owner alone: mode 0600.
    Owner,
}

/// Makes a file that did not exist. What is there already stays as it is, and is an error.
pub fn create(path: &Path, content: &[u8], readers: Readers) -> Result<()> {
    vacant(path)?;
    let draft = write_draft(path, content, readers)?;
    // A link fails where a rename would replace what somebody else put there meanwhile.
    let linked = fs::hard_link(&draft, path);
    let _ = fs::remove_file(&draft);
    linked.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => taken(path),
        _ => failed(path, &error),
    })?;
    synchronize_parent(path);
    Ok(())
}

/// Makes a file, or replaces it in one step.
pub fn replace(path: &Path, content: &[u8], readers: Readers) -> Result<()> {
    let draft = write_draft(path, content, readers)?;
    fs::rename(&draft, path).map_err(|error| {
        let _ = fs::remove_file(&draft);
        failed(path, &error)
    })?;
    synchronize_parent(path);
    Ok(())
}

/// A file that is to be replaced with something that follows from what it holds, by one program at a time.
#[derive(Debug)]
pub struct Exclusive {
    path: PathBuf,
    /// Locked; the kernel gives the lock back when the process ends, however it ends.
    file: File,
}

impl Exclusive {
    /// Locks the file. A symbolic link stands for what it points to.
    ///
    /// # Errors
    /// It isn't there, can't be read, or another program has locked it.
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |error: io::Error| {
            let told = Error::configuration(format!("can't be opened: {error}")).at(path.display());
            match error.kind() {
                ErrorKind::NotFound => told.hint("correct the path, or make the file first"),
                ErrorKind::PermissionDenied => told.hint("run this as the user that the file belongs to"),
                _ => told,
            }
        };
        let path = fs::canonicalize(path).map_err(fail)?;
        loop {
            let file = File::open(&path).map_err(fail)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::configuration("is being replaced by another process")
                        .at(path.display())
                        .hint("wait until that has finished: of two replacements, one would be lost"));
                }
                Err(error) => return Err(fail(error.into())),
            }
            // Between opening and locking, another process may have put a new file in its place.
            let (held, there) = (file.metadata().map_err(fail)?, fs::metadata(&path).map_err(fail)?);
            if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
                return Ok(Self { path, file });
            }
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file in one step. Owner, group and mode stay as they are.
    ///
    /// # Errors
    /// It can't be written, or not be given to its owner. Then the file is as it was.
    pub fn replace(self, content: &[u8]) -> Result<()> {
        let Self { path, file } = &self;
        let fail = |error: &io::Error| failed(path, error);
        let kept = file.metadata().map_err(|error| fail(&error))?;
        // What a replacement left behind that was killed. Nobody else makes one now.
        remove_drafts(path);
        let draft = write_draft(path, content, Readers::Owner)?;
        let give = || {
            let new = fs::metadata(&draft)?;
            if (new.uid(), new.gid()) != (kept.uid(), kept.gid()) {
                chown(&draft, Some(kept.uid()), Some(kept.gid()))?;
            }
            fs::set_permissions(&draft, kept.permissions())
        };
        if let Err(error) = give() {
            let _ = fs::remove_file(&draft);
            let (uid, gid) = (kept.uid(), kept.gid());
            return Err(Error::configuration(format!(
                "can't be replaced by a file of uid {uid} and gid {gid}: {error}"
            ))
            .at(path.display())
            .hint("run this as the user that the file belongs to, or as root; nothing was changed"));
        }
        fs::rename(&draft, path).map_err(|error| {
            let _ = fs::remove_file(&draft);
            fail(&error)
        })?;
        synchronize_parent(path);
        Ok(())
    }
}

fn remove_drafts(path: &Path) {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
    let start = draft_start(name);
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let tag = found.to_string_lossy().strip_prefix(&start).map(str::to_owned);
        if tag.is_some_and(|tag| tag.len() == 8 && tag.bytes().all(|octet| octet.is_ascii_hexdigit())) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Fails where something is in the place of a file to be made: told before the work that goes into it.
pub fn vacant(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(taken(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path, &error)),
    }
}

fn write_draft(path: &Path, content: &[u8], readers: Readers) -> Result<PathBuf> {
    let tag = random::<4>()?.map(|octet| format!("{octet:02x}")).concat();
    let name = path.file_name().ok_or_else(|| Error::configuration("is no name of a file").at(path.display()))?;
    let draft = path.with_file_name(format!("{}{tag}", draft_start(name)));
    let mode = match readers {
        Readers::Everybody => 0o644,
        Readers::Owner => 0o600,
    };
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(draft),
        Err(error) => {
            let _ = fs::remove_file(&draft);
            Err(failed(path, &error))
        }
    }
}

/// Hidden, so that nothing that reads the files of a directory takes it for one of them.
fn draft_start(name: &OsStr) -> String {
    format!(".{}.new-", name.to_string_lossy())
}

/// As well as the file system can: some don't synchronize directories.
fn synchronize_parent(path: &Path) {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(parent).and_then(|directory| directory.sync_all());
}

fn taken(path: &Path) -> Error {
    Error::configuration("already exists, and is not overwritten")
        .at(path.display())
        .hint("choose another name, or move the file away first")
}

fn failed(path: &Path, error: &io::Error) -> Error {
    let told = Error::configuration(format!("can't be written: {error}")).at(path.display());
    match error.kind() {
        ErrorKind::NotFound => told.hint("make its directory first"),
        ErrorKind::PermissionDenied => told.hint("choose a place where this user may write"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => told.hint("free some space; nothing was left behind"),
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_never_written_over_and_leaves_no_draft() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key.pem");
        create(&path, b"first", Readers::Owner).unwrap();
        let error = create(&path, b"second", Readers::Owner).unwrap_err();
        assert!(error.message().contains("already exists"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        replace(&path, b"third", Readers::Everybody).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_dangling_link_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key.pem");
        std::os::unix::fs::symlink(place.path().join("elsewhere"), &path).unwrap();
        assert!(create(&path, b"secret", Readers::Owner).unwrap_err().message().contains("already exists"));
        assert!(!place.path().join("elsewhere").exists());
        let error = create(&place.path().join("none/key.pem"), b"", Readers::Owner).unwrap_err();
        assert_eq!(error.hint_text(), Some("make its directory first"));
    }

    #[test]
    fn a_replaced_file_keeps_mode_and_link_and_what_was_left_behind_goes() {
        let place = tempfile::tempdir().unwrap();
        let (path, link) = (place.path().join("ticket.keys"), place.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("ticket.keys", &link).unwrap();
        for name in [".ticket.keys.new-0123abcd", ".ticket.keys.new-other", ".other.new-0123abcd"] {
            fs::write(place.path().join(name), "x").unwrap();
        }
        Exclusive::open(&link).unwrap().replace(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mut left: Vec<_> = fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".other.new-0123abcd", ".ticket.keys.new-other", "link", "ticket.keys"]);
    }

    #[test]
    fn only_one_program_replaces_a_file_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("ticket.keys");
        let error = Exclusive::open(&path).unwrap_err();
        assert!(error.message().starts_with("can't be opened: No such file"), "{error}");
        fs::write(&path, "old").unwrap();
        let first = Exclusive::open(&path).unwrap();
        let error = Exclusive::open(&path).unwrap_err();
        assert_eq!(error.message(), "is being replaced by another process");
        first.replace(b"new").unwrap();
        Exclusive::open(&path).unwrap().replace(b"newer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
    }
}
