//! A file of whole lines that rotates by size and outlives what happens to its disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qtls_core::{Error, Result};
use rustix::fs::{Access, access};
use rustix::io::Errno;

/// How long the same trouble stays unmentioned after it was reported.
const QUIET: Duration = Duration::from_secs(60);

/// A log file. Rotated files are named `FILE.1`, the youngest, to `FILE.N`.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    /// In octets.
    max_size: u64,
    /// With the current one.
    max_files: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Lines that could not be written since the last one that could.
    unwritten: u64,
    reported: Option<Instant>,
}

impl RotatingFile {
    /// Opens the file at `path`, or makes it, readable by its group.
    ///
    /// # Errors
    /// The file can't be opened.
    pub(super) fn open(path: &Path, max_size: u64, max_files: u32) -> Result<Self> {
        let file = open(path).map_err(|error| unopened(path, &error))?;
        let state = Mutex::new(State { file, unwritten: 0, reported: None });
        Ok(Self { path: path.to_owned(), max_size, max_files, state })
    }

    /// Opens the path anew.
    ///
    /// # Errors
    /// The file can't be opened: the open one stays.
    pub(super) fn reopen(&self) -> Result<()> {
        let file = open(&self.path).map_err(|error| unopened(&self.path, &error))?;
        self.lock().file = file;
        Ok(())
    }

    /// Appends a line, which ends with its line feed. What must be said about trouble is returned, now and then.
    pub(super) fn write(&self, line: &str) -> Option<String> {
        let path = self.path.display();
        let mut state = self.lock();
        let length = line.len() as u64;
        let trouble = match self.follow(&mut state).and_then(|()| self.make_room(&mut state, length)) {
            Ok(room) => room.err().map(|error| format!("can't rotate the log file {path}, it grows on: {error}")),
            Err(error) => return state.lose(format!("can't open the log file {path}, lines are lost: {error}")),
        };
        if let Err(error) = state.catch_up().and_then(|()| append(&state.file, &mut &state.file, line)) {
            return state.lose(format!("can't write the log file {path}, lines are lost: {error}"));
        }
        trouble.and_then(|trouble| state.report(trouble))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A removed file still takes lines, and nobody would ever read them.
    fn follow(&self, state: &mut State) -> io::Result<()> {
        if state.file.metadata()?.nlink() == 0 {
            state.file = open(&self.path)?;
        }
        Ok(())
    }

    /// Rotates when `length` octets more would exceed the size. The inner error leaves a file that can be written.
    fn make_room(&self, state: &mut State, length: u64) -> io::Result<io::Result<()>> {
        let open_file = state.file.metadata()?;
        if open_file.len() == 0 || open_file.len() + length <= self.max_size {
            return Ok(Ok(()));
        }
        let is_current = match fs::metadata(&self.path) {
            Ok(current) => (current.dev(), current.ino()) == (open_file.dev(), open_file.ino()),
            Err(_) => false,
        };
        // Where another program has moved the file away, rotating would push out what it has just put there.
        let rotated = if is_current { self.rotate() } else { Ok(()) };
        Ok(rotated.and_then(|()| {
            state.file = open(&self.path)?;
            Ok(())
        }))
    }

    fn rotate(&self) -> io::Result<()> {
        if self.max_files == 1 {
            return fs::remove_file(&self.path);
        }
        let oldest = self.max_files - 1;
        // A smaller `max_files` than before leaves older ones behind.
        let mut surplus = self.max_files;
        while fs::remove_file(self.rotated(surplus)).is_ok() {
            surplus += 1;
        }
        let vacant = (1..oldest).find(|&number| !self.rotated(number).exists()).unwrap_or(oldest);
        for number in (1..vacant).rev() {
            fs::rename(self.rotated(number), self.rotated(number + 1))?;
        }
        fs::rename(&self.path, self.rotated(1))
    }

    fn rotated(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

impl State {
    /// Says in the file how many lines it lacks, where it lacks some.
    fn catch_up(&mut self) -> io::Result<()> {
        if self.unwritten > 0 {
            let mut line = super::Line::new(std::time::SystemTime::now(), tracing::Level::WARN);
            line.message(&"lines of this log could not be written");
            line.field("count", &self.unwritten.to_string());
            append(&self.file, &mut &self.file, &line.finish())?;
            self.unwritten = 0;
        }
        Ok(())
    }

    fn lose(&mut self, trouble: String) -> Option<String> {
        self.unwritten += 1;
        self.report(trouble)
    }

    fn report(&mut self, trouble: String) -> Option<String> {
        if self.reported.is_some_and(|reported| reported.elapsed() < QUIET) {
            return None;
        }
        self.reported = Some(Instant::now());
        Some(trouble)
    }
}

/// Whether a file at `path` could be opened or made, without doing either.
///
/// # Errors
/// It could not.
pub(super) fn check(path: &Path) -> Result<()> {
    let checked = match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(Errno::ISDIR),
        Ok(_) => access(path, Access::WRITE_OK),
        Err(_) => access(directory_of(path), Access::WRITE_OK | Access::EXEC_OK),
    };
    checked.map_err(|error| unopened(path, &error.into()))
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

fn unopened(path: &Path, error: &io::Error) -> Error {
    let directory = directory_of(path);
    let (reason, hint) = match error.kind() {
        ErrorKind::NotFound => (
            format!("there is no directory {}", directory.display()),
            "create the directory, owned by the user that runs the program, or remove the key to log to the console only",
        ),
        ErrorKind::PermissionDenied => (
            "permission denied".to_owned(),
            "give the user that runs the program write access to the directory (rotation renames files in it) and to the file",
        ),
        ErrorKind::IsADirectory => ("it is a directory".to_owned(), "name a file in it"),
        ErrorKind::ReadOnlyFilesystem => (
            "the file system is read-only".to_owned(),
            "under systemd's ProtectSystem=, add the directory to ReadWritePaths=; in a container, mount a volume there",
        ),
        _ => (error.to_string(), "name another file, or remove the key to log to the console only"),
    };
    Error::configuration(format!("can't open the log file {}: {reason}", path.display())).key("logging.file").hint(hint)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

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
        let log = RotatingFile::open(&directory.path().join("l"), 1000, 1000).unwrap();
        let line = |thread: usize, number: usize| format!("{thread}:{number}:{}\n", "x".repeat(number % 60));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let log = &log;
                scope.spawn(move || (0..LINES).for_each(|number| assert_eq!(log.write(&line(thread, number)), None)));
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
        let log = RotatingFile::open(&directory.path().join("l"), 10, 3).unwrap();
        for line in ["aaaa\n", "bbbb\n", "c\n", "longer than a file\n", "d\n"] {
            assert_eq!(log.write(line), None);
        }
        let expected = [("l", "d\n"), ("l.1", "longer than a file\n"), ("l.2", "c\n")];
        assert!(
            contents(directory.path()).iter().map(|(name, content)| (name.as_str(), content.as_str())).eq(expected)
        );
    }

    #[test]
    fn the_count_includes_the_current_file() {
        for max_files in 1..=4 {
            let directory = tempfile::tempdir().unwrap();
            let log = RotatingFile::open(&directory.path().join("l"), 3, max_files).unwrap();
            for number in 1..=9 {
                assert_eq!(log.write(&format!("{number}\n")), None);
            }
            let contents = contents(directory.path());
            assert_eq!(contents.len(), max_files as usize, "{contents:?}");
            let kept: String = contents.into_values().collect();
            let expected: String = (0..max_files).map(|back| format!("{}\n", 9 - back)).collect();
            assert_eq!(kept, expected);
        }
    }

    #[test]
    fn a_gap_is_filled_and_what_is_too_many_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        for (name, content) in
            [("l", "new\n"), ("l.1", "1\n"), ("l.3", "3\n"), ("l.4", "4\n"), ("l.5", "5\n"), ("l.old", "o\n")]
        {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let log = RotatingFile::open(&path, 4, 4).unwrap();
        assert_eq!(log.write("next\n"), None);
        let expected = [("l", "next\n"), ("l.1", "new\n"), ("l.2", "1\n"), ("l.3", "3\n"), ("l.old", "o\n")];
        assert!(
            contents(directory.path()).iter().map(|(name, content)| (name.as_str(), content.as_str())).eq(expected)
        );
    }

    #[test]
    fn a_new_file_is_readable_by_owner_and_group_and_an_old_one_continued() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        RotatingFile::open(&path, 100, 2).unwrap().write("one\n");
        RotatingFile::open(&path, 100, 2).unwrap().write("two\n");
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
        let log = RotatingFile::open(&path, 1000, 2).unwrap();
        assert_eq!(log.write("before\n"), None);
        fs::remove_dir_all(&directory).unwrap();
        let report = log.write("lost 1\n").unwrap();
        assert_eq!(
            report,
            format!(
                "can't open the log file {}, lines are lost: No such file or directory (os error 2)",
                path.display()
            )
        );
        assert_eq!(log.write("lost 2\n"), None);
        fs::create_dir(&directory).unwrap();
        assert_eq!(log.write("after\n"), None);
        let content = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = content.lines().collect();
        assert!(lines[0].ends_with(" WARN  lines of this log could not be written count=2"), "{lines:?}");
        assert_eq!(lines[1..], ["after"]);
        assert_eq!(log.write("again\n"), None);
        assert!(fs::read_to_string(&path).unwrap().ends_with("after\nagain\n"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn trouble_is_reported_again_after_a_while() {
        let log = RotatingFile::open(Path::new("/dev/full"), 1000, 2).unwrap();
        let report = log.write("lost 1\n").unwrap();
        assert_eq!(report, "can't write the log file /dev/full, lines are lost: No space left on device (os error 28)");
        assert_eq!(log.write("lost 2\n"), None);
        log.lock().reported = Instant::now().checked_sub(QUIET);
        assert_eq!(log.write("lost 3\n"), Some(report));
        assert_eq!(log.lock().unwritten, 3);
    }

    #[test]
    fn a_rotation_that_fails_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        let log = RotatingFile::open(&path, 4, 2).unwrap();
        // A directory that is not empty can't be replaced by a file, whoever runs this test.
        fs::create_dir_all(directory.path().join("l.1/x")).unwrap();
        assert_eq!(log.write("one\n"), None);
        let report = log.write("two\n").unwrap();
        assert!(
            report.starts_with(&format!("can't rotate the log file {}, it grows on: ", path.display())),
            "{report}"
        );
        assert_eq!(log.write("three\n"), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        fs::remove_dir_all(directory.path().join("l.1")).unwrap();
        assert_eq!(log.write("four\n"), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
        assert_eq!(names(directory.path()), ["l", "l.1"]);
    }

    #[test]
    fn what_another_process_rotated_is_not_rotated_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        let (one, two) = (RotatingFile::open(&path, 4, 9).unwrap(), RotatingFile::open(&path, 4, 9).unwrap());
        one.write("1\n");
        two.write("2\n");
        one.write("3\n");
        two.write("4\n");
        let expected = [("l", "3\n4\n"), ("l.1", "1\n2\n")];
        assert!(
            contents(directory.path()).iter().map(|(name, content)| (name.as_str(), content.as_str())).eq(expected)
        );
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
        check(&path).unwrap();
        assert_eq!(names(directory.path()), [""; 0]);
        fs::write(&path, "old\n").unwrap();
        check(&path).unwrap();
        assert!(contents(directory.path()).into_iter().eq([("l".to_owned(), "old\n".to_owned())]));
        assert_eq!(check(directory.path()), RotatingFile::open(directory.path(), 100, 2).map(|_| ()));
        let missing = directory.path().join("none/l");
        assert_eq!(check(&missing), RotatingFile::open(&missing, 100, 2).map(|_| ()));
    }

    #[test]
    fn a_file_that_cant_be_opened_is_an_error_with_a_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("none/server.log");
        let error = RotatingFile::open(&missing, 100, 2).unwrap_err();
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
        let error = RotatingFile::open(directory.path(), 100, 2).unwrap_err();
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
