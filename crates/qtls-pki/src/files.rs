//! Files that appear whole or not at all, and never in the place of another.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use qtls_core::credentials::random;
use qtls_core::{Error, Result};

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
    let draft = path.with_file_name(format!(".{}.new-{tag}", name.to_string_lossy()));
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
}
