//! A file of whole lines that rotates by size and outlives what happens to its disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qtls_core::{Error, Result};
use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::{counts, rotated};

/// How long the same trouble stays unmentioned after it was reported.
const QUIET: Duration = Duration::from_secs(60);

/// Which of the files it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The log.
    Log,
    /// The access log, where it has a file of its own.
    Access,
    /// The audit log.
    Audit,
}

/// When a file is rotated, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// In octets.
    pub(crate) max_size: u64,
    /// With the current one.
    pub(crate) max_files: u32,
}

/// A log file. It is opened when it can be: what it lacks meanwhile is counted, and said in it afterwards.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    kind: Kind,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Option<File>,
    /// `None` leaves it to others.
    rotation: Option<Rotation>,
    /// Lines that could not be written since the last one that could.
    unwritten: u64,
    reported: Option<Instant>,
}

/// What must be said, elsewhere, about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Lines are lost, or the file outgrows its size.
    Trouble(String),
    /// Lines are written again.
    Recovered(String),
}

/// Whether no path is looked at.
static HELD: AtomicBool = AtomicBool::new(false);

/// Whether lines go to what is open, and nothing is opened, renamed or removed. That is for as long as the process has
/// more rights than it will have: what it makes would be root's, and who owns the directory could make root write
/// elsewhere, by a link.
pub(super) fn hold(held: bool) {
    HELD.store(held, Relaxed);
}

impl Kind {
    /// What messages call it.
    fn name(self) -> &'static str {
        match self {
            Self::Log => "log file",
            Self::Access => "access log file",
            Self::Audit => "audit file",
        }
    }

    /// The key of the configuration that names it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Log => "logging.file",
            Self::Access => "logging.access_file",
            Self::Audit => "logging.audit_file",
        }
    }

    /// The label of metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Access => "access",
            Self::Audit => "audit",
        }
    }
}

impl LogFile {
    /// The file at `path`, open if it can be opened or made; it is readable by its group. If it can't, the error says
    /// so, and each line tries again.
    pub(crate) fn new(path: &Path, kind: Kind, rotation: Option<Rotation>) -> (Self, Option<Error>) {
        let (file, error) = match open(path) {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(unopened(path, kind, &error))),
        };
        // The error is the report.
        let reported = error.is_some().then(Instant::now);
        let state = Mutex::new(State { file, rotation, unwritten: 0, reported });
        (Self { path: path.to_owned(), kind, state }, error)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Which one it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Rotates as this says from now on.
    pub(crate) fn set_rotation(&self, rotation: Option<Rotation>) {
        self.lock().rotation = rotation;
    }

    /// Opens the path anew.
    ///
    /// # Errors
    /// The file can't be opened: the open one stays.
    pub(crate) fn reopen(&self) -> Result<()> {
        let file = open(&self.path).map_err(|error| unopened(&self.path, self.kind, &error))?;
        self.lock().file = Some(file);
        Ok(())
    }

    /// Appends a line, which ends with its line feed; before it, where lines are missing, the line that `missing` makes
    /// of their number. What must be said about trouble is returned, now and then.
    pub(crate) fn write(&self, line: &str, missing: impl FnOnce(u64) -> String) -> Option<Notice> {
        let (what, path) = (self.kind.name(), self.path.display());
        let mut guard = self.lock();
        let state = &mut *guard;
        let trouble = match self.prepare(state, line.len() as u64) {
            Ok(room) => room.err().map(|error| format!("can't rotate the {what} {path}, it grows on: {error}")),
            Err(error) => {
                return state.lose(self.kind, format!("can't open the {what} {path}, lines are lost: {error}"));
            }
        };
        let Some(file) = &state.file else { return None };
        let unwritten = state.unwritten;
        let caught_up = if unwritten > 0 { append(file, &mut &*file, &missing(unwritten)) } else { Ok(()) };
        if caught_up.is_ok() {
            state.unwritten = 0;
        }
        if let Err(error) = caught_up.and_then(|()| append(file, &mut &*file, line)) {
            return state.lose(self.kind, format!("can't write the {what} {path}, lines are lost: {error}"));
        }
        if let Some(trouble) = trouble {
            return state.report(trouble);
        }
        (unwritten > 0).then(|| {
            // What comes next is another trouble.
            state.reported = None;
            let lines = if unwritten == 1 { "1 line is".to_owned() } else { format!("{unwritten} lines are") };
            Notice::Recovered(format!("the {what} {path} is written again; {lines} missing in it"))
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens what isn't open, follows the path where the file was removed, and rotates when `length` octets more would
    /// exceed the size; none of it while paths are held. The inner error leaves a file that can be written.
    fn prepare(&self, state: &mut State, length: u64) -> io::Result<io::Result<()>> {
        if HELD.load(Relaxed) {
            return if state.file.is_some() { Ok(Ok(())) } else { Err(ErrorKind::PermissionDenied.into()) };
        }
        let found = match &state.file {
            Some(file) => file.metadata()?,
            None => state.file.insert(open(&self.path)?).metadata()?,
        };
        // A removed file still takes lines, and nobody would ever read them.
        let found = if found.nlink() == 0 { state.file.insert(open(&self.path)?).metadata()? } else { found };
        let Some(rotation) = state.rotation else { return Ok(Ok(())) };
        if found.len() == 0 || found.len() + length <= rotation.max_size {
            return Ok(Ok(()));
        }
        let is_current = match fs::metadata(&self.path) {
            Ok(current) => (current.dev(), current.ino()) == (found.dev(), found.ino()),
            Err(_) => false,
        };
        // Where another program has moved the file away, what lies there now is not ours to move.
        let moved = if is_current { rotated::move_away(&self.path) } else { Ok(()) };
        let opened = moved.and_then(|()| {
            state.file = Some(open(&self.path)?);
            Ok(())
        });
        // Also where there is no room for a new file: this makes room.
        let pruned = rotated::prune(&self.path, rotation.max_files.saturating_sub(1));
        Ok(opened.and(pruned))
    }
}

impl State {
    fn lose(&mut self, kind: Kind, trouble: String) -> Option<Notice> {
        self.unwritten += 1;
        counts::lost(kind.label());
        self.report(trouble)
    }

    fn report(&mut self, trouble: String) -> Option<Notice> {
        if self.reported.is_some_and(|reported| reported.elapsed() < QUIET) {
            return None;
        }
        self.reported = Some(Instant::now());
        Some(Notice::Trouble(trouble))
    }
}

/// Whether a file at `path` could be opened or made, without doing either.
///
/// # Errors
/// It could not.
pub(super) fn check(path: &Path, kind: Kind) -> Result<()> {
    let checked = match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(Errno::ISDIR),
        Ok(_) => access(path, Access::WRITE_OK),
        Err(_) => access(directory_of(path), Access::WRITE_OK | Access::EXEC_OK),
    };
    checked.map_err(|error| unopened(path, kind, &error.into()))
}

/// The directory that a file lies in.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Writes all of `line` to `file`, or none of it. `writer` is the file's own.
fn append(file: &File, writer: &mut impl Write, line: &str) -> io::Result<()> {
    let before = file.metadata()?.len();
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match writer.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                let written = (line.len() - rest.len()) as u64;
                // A disk that fills up takes the beginning of a line. Taken back only where it is the end of the file:
                // another process may log to it too.
                if written > 0 && file.metadata()?.len() == before + written {
                    file.set_len(before)?;
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

fn unopened(path: &Path, kind: Kind, error: &io::Error) -> Error {
    let directory = directory_of(path);
    let remove_the_key = match kind {
        Kind::Log => "remove the key to log to the console only",
        Kind::Access => "remove the key to have these lines in the log itself",
        Kind::Audit => "remove the key to have no audit log",
    };
    let (reason, hint) = match error.kind() {
        ErrorKind::NotFound => (
            format!("there is no directory {}", directory.display()),
            format!("create the directory, owned by the user that runs the program, or {remove_the_key}"),
        ),
        ErrorKind::PermissionDenied => (
            "permission denied".to_owned(),
            "give the user that runs the program write access to the directory (rotation renames files in it) and to the file"
                .to_owned(),
        ),
        ErrorKind::IsADirectory => ("it is a directory".to_owned(), "name a file in it".to_owned()),
        ErrorKind::ReadOnlyFilesystem => (
            "the file system is read-only".to_owned(),
            "under systemd's ProtectSystem=, add the directory to ReadWritePaths=; in a container, mount a volume there"
                .to_owned(),
        ),
        _ => (error.to_string(), format!("name another file, or {remove_the_key}")),
    };
    let message = format!("can't open the {} {}: {reason}", kind.name(), path.display());
    Error::configuration(message).key(kind.key()).hint(hint)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    impl LogFile {
        fn line(&self, line: &str) -> Option<String> {
            self.write(line, |count| format!("{count} missing\n")).map(|notice| match notice {
                Notice::Trouble(text) | Notice::Recovered(text) => text,
            })
        }
    }

    fn rotating(path: &Path, max_size: u64, max_files: u32) -> LogFile {
        let (file, error) = LogFile::new(path, Kind::Log, Some(Rotation { max_size, max_files }));
        assert_eq!(error, None);
        file
    }

    fn unopenable(path: &Path) -> Error {
        LogFile::new(path, Kind::Log, None).1.unwrap()
    }

    /// The contents of the files in `directory`, in the order of their rotation.
    fn in_order(directory: &Path) -> Vec<String> {
        let mut contents = contents(directory);
        let current = contents.remove("l");
        contents.into_values().chain(current).collect()
    }

    /// The content of each file in `directory`, by name.
    fn contents(directory: &Path) -> BTreeMap<String, String> {
        fs::read_dir(directory)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
            })
            .collect()
    }

    fn names(directory: &Path) -> Vec<String> {
        contents(directory).into_keys().collect()
    }

    #[test]
    fn eight_threads_leave_each_line_exactly_once() {
        const LINES: usize = 500;
        let directory = tempfile::tempdir().unwrap();
        let log = rotating(&directory.path().join("l"), 1000, 1000);
        let line = |thread: usize, number: usize| format!("{thread}:{number}:{}\n", "x".repeat(number % 60));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let log = &log;
                scope.spawn(move || (0..LINES).for_each(|number| assert_eq!(log.line(&line(thread, number)), None)));
            }
        });
        let contents = contents(directory.path());
        let total: usize = (0..8 * LINES).map(|index| line(index / LINES, index % LINES).len()).sum();
        assert!(contents.len() > total / 1000 && contents.len() < 2 * total / 1000, "{} files", contents.len());
        let mut written: Vec<&str> = contents.values().flat_map(|content| content.split_inclusive('\n')).collect();
        let mut expected: Vec<String> = (0..8 * LINES).map(|index| line(index / LINES, index % LINES)).collect();
        written.sort_unstable();
        expected.sort_unstable();
        assert!(written == expected, "{} lines of {}", written.len(), expected.len());
        for (name, content) in &contents {
            assert!(content.len() <= 1000, "{name} has {} octets", content.len());
        }
    }

    #[test]
    fn a_file_takes_lines_up_to_its_size_exactly() {
        let directory = tempfile::tempdir().unwrap();
        let log = rotating(&directory.path().join("l"), 10, 3);
        for line in ["aaaa\n", "bbbb\n", "c\n", "longer than a file\n", "d\n"] {
            assert_eq!(log.line(line), None);
        }
        assert_eq!(in_order(directory.path()), ["c\n", "longer than a file\n", "d\n"]);
    }

    #[test]
    fn the_count_includes_the_current_file() {
        for max_files in 1..=4 {
            let directory = tempfile::tempdir().unwrap();
            let log = rotating(&directory.path().join("l"), 3, max_files);
            for number in 1..=9 {
                assert_eq!(log.line(&format!("{number}\n")), None);
            }
            let expected: Vec<String> = (10 - max_files..=9).map(|number| format!("{number}\n")).collect();
            assert_eq!(in_order(directory.path()), expected);
        }
    }

    #[test]
    fn what_other_programs_have_rotated_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        let theirs = [("l.1", "1\n"), ("l.2.gz", "2\n"), ("l.old", "o\n")];
        for (name, content) in theirs.into_iter().chain([("l", "new\n")]) {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let log = rotating(&path, 4, 2);
        assert_eq!(log.line("next\n"), None);
        assert_eq!(log.line("last\n"), None);
        let mut contents = contents(directory.path());
        for (name, content) in theirs {
            assert_eq!(contents.remove(name).as_deref(), Some(content), "{name}");
        }
        assert!(contents.values().eq(["last\n", "next\n"]), "{contents:?}");
    }

    #[test]
    fn without_a_rotation_it_grows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        let (log, _) = LogFile::new(&path, Kind::Audit, None);
        let line = "x".repeat(1 << 20) + "\n";
        for _ in 0..3 {
            assert_eq!(log.line(&line), None);
        }
        assert_eq!(names(directory.path()), ["l"]);
        log.set_rotation(Some(Rotation { max_size: 1 << 20, max_files: 2 }));
        assert_eq!(log.line("now\n"), None);
        assert_eq!((names(directory.path()).len(), fs::read_to_string(&path).unwrap().as_str()), (2, "now\n"));
    }

    #[test]
    fn a_new_file_is_readable_by_owner_and_group_and_an_old_one_continued() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        rotating(&path, 100, 2).line("one\n");
        rotating(&path, 100, 2).line("two\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        // Whatever the umask takes away, it never gives others a bit.
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o137, 0);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o600, 0o600);
    }

    #[test]
    fn a_removed_directory_is_reported_once_and_recovered_from() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("logs");
        let path = directory.join("l");
        fs::create_dir(&directory).unwrap();
        let log = rotating(&path, 1000, 2);
        assert_eq!(log.line("before\n"), None);
        fs::remove_dir_all(&directory).unwrap();
        let report = log.line("lost 1\n").unwrap();
        assert_eq!(
            report,
            format!(
                "can't open the log file {}, lines are lost: No such file or directory (os error 2)",
                path.display()
            )
        );
        assert_eq!(log.line("lost 2\n"), None);
        fs::create_dir(&directory).unwrap();
        let path = path.display();
        assert_eq!(
            log.line("after\n").unwrap(),
            format!("the log file {path} is written again; 2 lines are missing in it")
        );
        assert_eq!(log.line("again\n"), None);
        assert_eq!(fs::read_to_string(directory.join("l")).unwrap(), "2 missing\nafter\nagain\n");
        // The next trouble is reported at once.
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(log.line("lost 3\n"), Some(report));
    }

    #[test]
    fn what_cannot_be_opened_at_first_is_opened_as_soon_as_it_can() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("logs/l");
        let (log, error) = LogFile::new(&path, Kind::Access, None);
        assert_eq!(error.unwrap().key_path(), Some("logging.access_file"));
        // The error was the report.
        assert_eq!(log.line("lost\n"), None);
        log.reopen().unwrap_err();
        fs::create_dir(root.path().join("logs")).unwrap();
        let notice = log.line("one\n").unwrap();
        assert_eq!(notice, format!("the access log file {} is written again; 1 line is missing in it", path.display()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "1 missing\none\n");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn trouble_is_reported_again_after_a_while() {
        let log = rotating(Path::new("/dev/full"), 1000, 2);
        let report = log.line("lost 1\n").unwrap();
        assert_eq!(report, "can't write the log file /dev/full, lines are lost: No space left on device (os error 28)");
        assert_eq!(log.line("lost 2\n"), None);
        log.lock().reported = Instant::now().checked_sub(QUIET);
        assert_eq!(log.line("lost 3\n"), Some(report));
        assert_eq!(log.lock().unwritten, 3);
    }

    #[test]
    fn a_rotation_that_fails_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        let log = rotating(&path, 4, 2);
        // A directory can't be removed as a file, whoever runs this test.
        let obstacle = directory.path().join("l.20010101T000000.000Z");
        fs::create_dir(&obstacle).unwrap();
        assert_eq!(log.line("one\n"), None);
        let report = log.line("two\n").unwrap();
        let expected =
            format!("can't rotate the log file {}, it grows on: {} can't be", path.display(), obstacle.display());
        assert!(report.starts_with(&expected), "{report}");
        assert_eq!(log.line("three\n"), None);
        fs::remove_dir(obstacle).unwrap();
        assert_eq!(log.line("four\n"), None);
        assert_eq!(in_order(directory.path()), ["three\n", "four\n"]);
    }

    #[test]
    fn what_another_process_rotated_is_not_rotated_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        let (one, two) = (rotating(&path, 4, 9), rotating(&path, 4, 9));
        one.line("1\n");
        two.line("2\n");
        one.line("3\n");
        two.line("4\n");
        assert_eq!(in_order(directory.path()), ["1\n2\n", "3\n4\n"]);
    }

    #[test]
    fn a_disk_that_fills_within_a_line_gets_none_of_it() {
        struct FillsUp<'a>(&'a File, usize);
        impl Write for FillsUp<'_> {
            fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
                if self.1 == 0 {
                    return Err(ErrorKind::StorageFull.into());
                }
                let written = self.0.write(&octets[..self.1.min(octets.len())])?;
                self.1 -= written;
                Ok(written)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        let file = open(&path).unwrap();
        append(&file, &mut &file, "whole\n").unwrap();
        let error = append(&file, &mut FillsUp(&file, 3), "broken\n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        append(&file, &mut FillsUp(&file, 9), "fits in\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nfits in\n");
    }

    #[test]
    fn checking_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        check(&path, Kind::Log).unwrap();
        assert_eq!(names(directory.path()), [""; 0]);
        fs::write(&path, "old\n").unwrap();
        check(&path, Kind::Log).unwrap();
        assert!(contents(directory.path()).into_iter().eq([("l".to_owned(), "old\n".to_owned())]));
        assert_eq!(check(directory.path(), Kind::Log), Err(unopenable(directory.path())));
        let missing = directory.path().join("none/l");
        assert_eq!(check(&missing, Kind::Log), Err(unopenable(&missing)));
    }

    #[test]
    fn a_file_that_cant_be_opened_is_an_error_with_a_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("none/server.log");
        let error = unopenable(&missing);
        assert_eq!(
            error.to_string(),
            format!(
                "logging.file: can't open the log file {}: there is no directory {}\n  hint: create the directory, owned by \
                 the user that runs the program, or remove the key to log to the console only",
                missing.display(),
                directory.path().join("none").display()
            )
        );
        assert_eq!(error.exit_code(), 2);
        let error = unopenable(directory.path());
        assert_eq!(
            error.to_string(),
            format!(
                "logging.file: can't open the log file {}: it is a directory\n  hint: name a file in it",
                directory.path().display()
            )
        );
        assert!(!missing.exists());
    }
}
