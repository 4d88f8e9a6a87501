//! A directory that appears with all of its files at once, or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use qtls_core::credentials::random;
use qtls_core::{Error, Result};
use zeroize::Zeroizing;

/// One file to be.
pub(crate) struct Content {
    path: PathBuf,
    mode: u32,
    bytes: Zeroizing<Vec<u8>>,
}

impl Content {
    /// A file that everyone may read who reaches it.
    pub(crate) fn public(path: impl Into<PathBuf>, text: String) -> Self {
        Self { path: path.into(), mode: 0o644, bytes: Zeroizing::new(text.into_bytes()) }
    }

    /// A file for its owner alone, whose content is wiped from memory.
    pub(crate) fn secret(path: impl Into<PathBuf>, text: String) -> Self {
        Self { path: path.into(), mode: 0o600, bytes: Zeroizing::new(text.into_bytes()) }
    }

    /// As [`Self::public`], with content that need not be text.
    pub(crate) fn binary(path: impl Into<PathBuf>, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), mode: 0o644, bytes: Zeroizing::new(bytes) }
    }

    /// As [`Self::secret`], with content that need not be text.
    pub(crate) fn secret_bytes(path: impl Into<PathBuf>, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), mode: 0o600, bytes: Zeroizing::new(bytes) }
    }

    /// Where it goes, relative to the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn into_path(self) -> PathBuf {
        self.path
    }
}

/// A directory that can be made: it is not there, or empty.
pub(crate) struct Target {
    dir: PathBuf,
}

impl Target {
    /// Finds out whether the directory can be made, and its absolute path.
    pub(crate) fn new(given: &Path) -> Result<Self> {
        let absolute = std::path::absolute(given).map_err(|error| failed("use", given, &error))?;
        // Symbolic links and `..` are followed where something exists: the configurations name the real place.
        let dir = match fs::canonicalize(&absolute) {
            Ok(dir) => dir,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if absolute.is_symlink() {
                    return Err(unusable(&absolute, "is a symbolic link to nowhere"));
                }
                return below_existing(&absolute).map(|dir| Self { dir });
            }
            Err(error) => return Err(failed("use", &absolute, &error)),
        };
        let mut entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotADirectory => return Err(unusable(&dir, "is a file")),
            Err(error) => return Err(failed("read", &dir, &error)),
        };
        if entries.next().is_some() {
            return Err(not_empty(&dir));
        }
        // It is going to be replaced, which would leave the shell in a directory that is no more.
        if std::env::current_dir().is_ok_and(|current| current == dir) {
            return Err(Error::configuration("is the current directory, which can't be replaced")
                .at(dir.display())
                .hint("name a new directory below it, such as `--dir ./qtls`"));
        }
        Ok(Self { dir })
    }

    /// The absolute path of a file in it.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub(crate) fn into_dir(self) -> PathBuf {
        self.dir
    }

    /// Makes the directory with these files: under another name beside it, then renamed, so that a crash in between
    /// never leaves half of it. A failure leaves nothing.
    pub(crate) fn publish(&self, contents: &[Content]) -> Result<()> {
        let (Some(parent), Some(name)) = (self.dir.parent(), self.dir.file_name()) else {
            return Err(unusable(&self.dir, "is the root of the file system"));
        };
        let mut made = Made::default();
        for ancestor in missing(parent) {
            made.directory(ancestor, 0o755)?;
        }
        let tag = random::<4>()?.map(|octet| format!("{octet:02x}")).concat();
        let draft = parent.join(format!(".{}.new-{tag}", name.to_string_lossy()));
        made.directory(&draft, 0o700)?;
        let mut directories = vec![draft.clone()];
        for content in contents {
            let path = draft.join(&content.path);
            if let Some(directory) =
                path.parent().filter(|directory| !directories.iter().any(|known| known == directory))
            {
                made.directory(directory, 0o700)?;
                directories.push(directory.to_owned());
            }
            made.file(&path, content)?;
        }
        // Names are on the disk before the rename, or a power failure could leave files without content.
        for directory in &directories {
            synchronize(directory);
        }
        fs::rename(&draft, &self.dir).map_err(|error| match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => not_empty(&self.dir),
            ErrorKind::ResourceBusy => Error::configuration("is a mount point, which can't be replaced")
                .at(self.dir.display())
                .hint("name a new directory below it"),
            _ => failed("make", &self.dir, &error),
        })?;
        made.keep();
        synchronize(parent);
        Ok(())
    }
}

/// What has been made so far; dropped, it is removed again.
#[derive(Default)]
struct Made {
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Made {
    fn directory(&mut self, path: &Path, mode: u32) -> Result<()> {
        DirBuilder::new().mode(mode).create(path).map_err(|error| failed("make", path, &error))?;
        self.directories.push(path.to_owned());
        Ok(())
    }

    fn file(&mut self, path: &Path, content: &Content) -> Result<()> {
        let fail = |error: io::Error| failed("write", path, &error);
        // The mode from the start: a secret must never be readable by others, not even before it is written.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(content.mode).open(path).map_err(fail)?;
        self.files.push(path.to_owned());
        // The process' umask only took permissions away; whether the service may read them is not its to decide.
        file.set_permissions(Permissions::from_mode(content.mode)).map_err(fail)?;
        file.write_all(&content.bytes).map_err(fail)?;
        file.sync_all().map_err(fail)
    }

    fn keep(&mut self) {
        self.directories.clear();
        self.files.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // Only what is known to be ours, and not recursively: nothing that others put there meanwhile is lost.
        // An error here has no one left to tell: the first one is what the caller gets to see.
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        for directory in self.directories.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// The absolute path, with all of it that exists free of symbolic links.
fn below_existing(absolute: &Path) -> Result<PathBuf> {
    for ancestor in absolute.ancestors().skip(1) {
        match fs::canonicalize(ancestor) {
            Ok(real) if real.is_dir() => {
                let rest = absolute.strip_prefix(ancestor).unwrap_or(Path::new(""));
                if rest.components().any(|part| matches!(part, std::path::Component::ParentDir)) {
                    return Err(unusable(absolute, "goes through `..` in a directory that does not exist"));
                }
                return Ok(real.join(rest));
            }
            Ok(real) => return Err(unusable(&real, "is a file, not a directory")),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("use", ancestor, &error)),
        }
    }
    Err(unusable(absolute, "is not below any directory"))
}

/// The directories above that are not there yet, the topmost first.
fn missing(parent: &Path) -> Vec<&Path> {
    let mut missing: Vec<&Path> = parent.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    missing.reverse();
    missing
}

/// As well as the file system can: some don't synchronize directories, and what is lost then is all of it, not a part.
fn synchronize(directory: &Path) {
    let _ = File::open(directory).and_then(|open| open.sync_all());
}

fn not_empty(dir: &Path) -> Error {
    Error::configuration("already exists and is not empty; keys are never overwritten")
        .at(dir.display())
        .hint("choose another directory, or remove this one first if nothing in it is needed any more")
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::configuration(why).at(path.display()).hint("choose a directory that does not exist yet")
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let told = Error::configuration(format!("can't {what} it: {error}")).at(path.display());
    match error.kind() {
        ErrorKind::PermissionDenied => told.hint("choose a directory in a place where this user may write"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => told.hint("free some space; nothing was left behind"),
        ErrorKind::ReadOnlyFilesystem => told.hint("choose a directory on a file system that can be written to"),
        _ => told,
    }
}
