//! Reading logs line by line, whatever is in them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read as _, Take};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use qtls_core::{Error, Result};

use super::line::{self, Line, Time};
use super::period::Period;

/// What was read, beside the lines that were handed on.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// How many files.
    pub(super) files: usize,
    /// Lines of a log of the server, whatever they are about.
    pub(super) lines: u64,
    /// Lines about connections that the period leaves out.
    pub(super) outside: u64,
    /// Lines that are none of a log.
    pub(super) unreadable: u64,
    /// The place of the first of them.
    pub(super) example: Option<String>,
    /// Last lines without their end.
    pub(super) cut_off: u64,
    /// What else has to be said, a sentence each.
    pub(super) notes: Vec<String>,
}

/// The longest line that is read, in octets: many times the longest that the server writes.
const LONGEST: u64 = 256 * 1024;

/// Reads all of `logs`, and hands the lines about connections in `period` to `each`.
///
/// # Errors
/// A log can't be opened or read, or is compressed.
pub(super) fn all(logs: &[PathBuf], period: &Period, mut each: impl FnMut(Line<'_>)) -> Result<Read> {
    let mut read = Read::default();
    let mut seen = HashSet::new();
    for path in logs {
        let shown = path.display().to_string();
        if shown == "-" {
            if !seen.insert(None) {
                return Err(Error::configuration("standard input can be read once").at("-").hint("give - once"));
            }
            one(&shown, &mut std::io::stdin().lock(), period, &mut read, &mut each)?;
            continue;
        }
        let (file, identity) = open(path)?;
        if !seen.insert(Some(identity)) {
            read.notes.push(format!("{shown} was given twice, and is read once"));
            continue;
        }
        one(&shown, &mut BufReader::with_capacity(1 << 18, file), period, &mut read, &mut each)?;
    }
    Ok(read)
}

fn open(path: &Path) -> Result<(File, (u64, u64))> {
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            ErrorKind::NotFound => "check the path".to_owned(),
            ErrorKind::PermissionDenied => format!("read it as a user who may: ls -l {}", path.display()),
            _ => "check the path and the disk".to_owned(),
        };
        Error::configuration(format!("can't be read: {error}")).at(path.display()).hint(hint)
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        let error = Error::configuration("is a directory, not a log").at(path.display());
        return Err(error.hint(format!("give the files in it: {}/*", path.display())));
    }
    Ok((file, (metadata.dev(), metadata.ino())))
}

fn one(
    shown: &str,
    input: &mut impl BufRead,
    period: &Period,
    read: &mut Read,
    each: &mut impl FnMut(Line<'_>),
) -> Result<()> {
    read.files += 1;
    let failed = |error: std::io::Error| {
        Error::configuration(format!("can't be read: {error}")).at(shown).hint("check the disk, and give it again")
    };
    let mut buffer = Vec::new();
    for number in 1u64.. {
        buffer.clear();
        let mut limited: Take<&mut _> = input.by_ref().take(LONGEST);
        if limited.read_until(b'\n', &mut buffer).map_err(failed)? == 0 {
            break;
        }
        if number == 1 && (buffer.starts_with(GZIP) || buffer.starts_with(ZSTD)) {
            let unpack = if buffer.starts_with(GZIP) { "zcat" } else { "zstdcat" };
            return Err(Error::configuration("is compressed")
                .at(shown)
                .hint(format!("unpack it first: {unpack} {shown} | qtls report -")));
        }
        let Some(line) = buffer.strip_suffix(b"\n") else {
            if (buffer.len() as u64) < LONGEST {
                // The server was interrupted while it wrote this, or is writing it.
                read.cut_off += 1;
                break;
            }
            skip_line(input).map_err(failed)?;
            unreadable(read, shown, number);
            continue;
        };
        let text = std::str::from_utf8(line).ok().map(|text| text.trim_end_matches('\r'));
        match text.and_then(line::read) {
            None if text.is_some_and(str::is_empty) => {}
            None => unreadable(read, shown, number),
            Some(line) => {
                read.lines += 1;
                match time(&line) {
                    Some(time) if !period.has(time) => read.outside += 1,
                    Some(_) => each(line),
                    None => {}
                }
            }
        }
    }
    Ok(())
}

fn time(line: &Line<'_>) -> Option<Time> {
    match line {
        Line::Connection(connection) => Some(connection.time),
        Line::Failed { time, .. } => Some(*time),
        Line::Other => None,
    }
}

fn unreadable(read: &mut Read, shown: &str, number: u64) {
    read.unreadable += 1;
    read.example.get_or_insert_with(|| format!("{shown}:{number}"));
}

fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    input.skip_until(b'\n').map(|_| ())
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: &str = "2026-11-22T10:00:00.123Z INFO  listening";
    const FAILED: &str = "2026-11-22T10:00:00.123Z INFO  handshake not completed: x event=handshake_failed client=192.0.2.1:1 reason=timeout";

    fn read(text: &[u8], since: Option<&str>) -> (Read, usize) {
        let mut read = Read::default();
        let mut handed = 0;
        let period = Period::new(since.map(|since| since.parse().unwrap()), None).unwrap();
        one("server.log", &mut &text[..], &period, &mut read, &mut |_| handed += 1).unwrap();
        (read, handed)
    }

    #[test]
    fn what_is_no_line_is_counted_and_the_rest_is_read() {
        let long = "x".repeat(3 * LONGEST as usize);
        let text = format!("{OTHER}\ngarbage\n{FAILED}\r\n\n{long}\n{FAILED}\n");
        let (found, handed) = read(text.as_bytes(), None);
        assert_eq!((found.lines, found.unreadable, found.cut_off, handed), (3, 2, 0, 2));
        assert_eq!(found.example.as_deref(), Some("server.log:2"));
        let (found, handed) = read(b"\xff\xfe\n", None);
        assert_eq!((found.unreadable, handed), (1, 0));
    }

    #[test]
    fn a_last_line_without_its_end_is_left_out() {
        let (found, handed) = read(format!("{FAILED}\n{FAILED}").as_bytes(), None);
        assert_eq!((found.cut_off, found.unreadable, handed), (1, 0, 1));
    }

    #[test]
    fn the_period_counts_what_it_leaves_out() {
        let (found, handed) = read(format!("{FAILED}\n{OTHER}\n").as_bytes(), Some("2026-11-23"));
        assert_eq!((found.lines, found.outside, handed), (2, 1, 0));
    }

    #[test]
    fn what_is_compressed_says_how_to_read_it() {
        let mut read = Read::default();
        let period = Period::new(None, None).unwrap();
        let error = one("a.gz", &mut &b"\x1f\x8b\x08\x00"[..], &period, &mut read, &mut |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "a.gz: is compressed\n  hint: unpack it first: zcat a.gz | qtls report -");
    }

    #[test]
    fn a_file_is_read_once_and_a_directory_never() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("server.log");
        std::fs::write(&file, format!("{FAILED}\n")).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let period = Period::new(None, None).unwrap();
        let found = all(&[file, link.clone()], &period, |_| ()).unwrap();
        assert_eq!((found.lines, found.notes.len()), (1, 1));
        assert_eq!(found.notes[0], format!("{} was given twice, and is read once", link.display()));
        let error = all(&[directory.path().to_owned()], &period, |_| ()).unwrap_err();
        assert_eq!(error.message(), "is a directory, not a log");
        let error = all(&[directory.path().join("none")], &period, |_| ()).unwrap_err();
        assert!(error.message().starts_with("can't be read: No such file"), "{error}");
    }
}
