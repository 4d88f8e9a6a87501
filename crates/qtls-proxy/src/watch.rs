//! Which files a state was read from, and whether they are still the same.
//!
//! Files are looked at, rather than watched by the kernel: that sees every way to replace one (writing in place, an atomic
//! rename, the swap of a directory link that Kubernetes does), on every file system, and whatever directory in the path
//! was exchanged. A look costs a system call a file.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qtls_core::credentials::files;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

/// How often files are looked at. Two looks that agree end the wait for whoever is writing: a certificate and its key are
/// two files.
const INTERVAL: Duration = Duration::from_secs(1);

/// Files and directories of files, and how they looked at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    paths: Vec<PathBuf>,
    /// Of each path.
    looks: Vec<Vec<Entry>>,
}

type Entry = (PathBuf, Option<Stamp>);

/// What tells one state of a file from another, whatever clock its times are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Moves with owner and mode, too: a file that has become readable is another one.
    changed: (i64, i64),
}

impl Watched {
    /// Looks at `paths` now. A directory stands for the files in it. Names are tried as [`files::resolve`] says.
    pub fn new(mut paths: Vec<PathBuf>) -> Self {
        paths.sort();
        paths.dedup();
        let looks = paths.iter().map(|path| look(path).unwrap_or_default()).collect();
        Self { paths, looks }
    }

    /// Looks once more. Who became another user since may see less than before: that is no change of a file.
    fn again(&self) -> Self {
        self.again_with(look)
    }

    fn again_with(&self, look: impl Fn(&Path) -> io::Result<Vec<Entry>>) -> Self {
        let looks = self.paths.iter().zip(&self.looks);
        let looks = looks.map(|(path, before)| look(path).unwrap_or_else(|_| before.clone())).collect();
        Self { paths: self.paths.clone(), looks }
    }
}

/// An error where this process may not look.
fn look(path: &Path) -> io::Result<Vec<Entry>> {
    let path = files::resolve(path);
    let mut entries = vec![(path.clone(), stamp(&path)?)];
    match fs::read_dir(&path) {
        Ok(directory) => {
            for entry in directory.flatten() {
                entries.push((entry.path(), stamp(&entry.path())?));
            }
            entries.sort_by(|one, other| one.0.cmp(&other.0));
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
        // A file, or nothing.
        Err(_) => {}
    }
    Ok(entries)
}

/// Follows links. `None` for what isn't there.
fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
        Err(_) => return Ok(None),
    };
    Ok(Some(Stamp {
        device: found.dev(),
        inode: found.ino(),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    }))
}

/// Waits for changes of files.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// What was read last, whether it was applied or refused.
    read: Watched,
}

impl Watcher {
    pub(crate) fn new(read: Watched) -> Self {
        Self { read }
    }

    /// Waits until files are others than those that were read last, and have stayed the same for an interval. May be
    /// dropped and called again.
    pub(crate) async fn changed(&mut self) {
        let mut tick = interval(INTERVAL);
        // After a suspension of the machine, one look is enough.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before: Option<Watched> = None;
        loop {
            tick.tick().await;
            if self.read.paths.is_empty() {
                continue;
            }
            let read = self.read.clone();
            // A network file system may take its time.
            let Ok(now) = spawn_blocking(move || read.again()).await else { continue };
            if now == self.read {
                before = None;
            } else if before.as_ref() == Some(&now) {
                return;
            } else {
                before = Some(now);
            }
        }
    }

    /// From now on, waits for changes of what was just read. Where that was refused, only another change is worth another
    /// attempt.
    pub(crate) fn follow(&mut self, read: Watched) {
        self.read = read;
    }

    /// How the files look now. To be asked before they are read.
    pub(crate) fn look(&self) -> Watched {
        self.read.again()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_way_to_replace_a_file_is_seen_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for version in ["..1", "..2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("tls.crt"), "same size").unwrap();
        }
        fs::create_dir(at("crls")).unwrap();
        symlink("..1", at("..data")).unwrap();
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        fs::write(at("server-key.pem"), "one").unwrap();
        let mut watched = Watched::new(vec![at("tls.crt"), at("server-key"), at("crls"), at("missing")]);
        let mut step = |what: &str, act: &dyn Fn(), differs: bool| {
            act();
            let now = watched.again();
            assert_eq!(now != watched, differs, "{what}");
            watched = now;
        };
        step("nothing", &|| {}, false);
        step("reading", &|| drop(fs::read(at("tls.crt")).unwrap()), false);
        step("a file beside", &|| fs::write(at("other"), "x").unwrap(), false);
        let swap = || {
            symlink("..2", at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        step("a swapped link in the path", &swap, true);
        step("writing in place, to the same size", &|| fs::write(at("server-key.pem"), "two").unwrap(), true);
        let rename = || {
            fs::write(at("new"), "two").unwrap();
            fs::rename(at("new"), at("server-key.pem")).unwrap();
        };
        step("an atomic rename", &rename, true);
        step("a new file in a directory", &|| fs::write(at("crls/a.crl"), "").unwrap(), true);
        step("its removal", &|| fs::remove_file(at("crls/a.crl")).unwrap(), true);
        step("what was missing", &|| fs::write(at("missing"), "").unwrap(), true);
        step("the end of a link", &|| fs::remove_file(at("..data")).unwrap(), true);
    }

    #[test]
    fn what_may_no_longer_be_looked_at_has_not_changed() {
        let directory = tempfile::tempdir().unwrap();
        let (key, list) = (directory.path().join("key.pem"), directory.path().join("list.crl"));
        fs::write(&key, "one").unwrap();
        fs::write(&list, "one").unwrap();
        let watched = Watched::new(vec![key.clone(), list.clone()]);
        let barred = |path: &Path| if path == key { Err(ErrorKind::PermissionDenied.into()) } else { look(path) };
        assert_eq!(watched.again_with(barred), watched);
        fs::write(&list, "other").unwrap();
        assert_ne!(watched.again_with(barred), watched, "the other one is still looked at");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once_it_has_settled_and_a_refused_one_only_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cert.pem");
        fs::write(&path, "1").unwrap();
        let mut watcher = Watcher::new(Watched::new(vec![path.clone()]));
        let quiet = |watcher: &mut Watcher| {
            let mut watcher = Watcher::new(watcher.read.clone());
            async move { tokio::time::timeout(20 * INTERVAL, watcher.changed()).await.is_err() }
        };
        assert!(quiet(&mut watcher).await);
        fs::write(&path, "22").unwrap();
        watcher.changed().await;
        watcher.follow(watcher.look());
        assert!(quiet(&mut watcher).await);
        fs::write(&path, "333").unwrap();
        watcher.changed().await;
        watcher.follow(Watched::new(vec![path.clone()]));
        assert!(quiet(&mut watcher).await);
        watcher.follow(Watched::default());
        fs::write(&path, "4444").unwrap();
        assert!(quiet(&mut watcher).await, "nothing is watched");
    }
}
