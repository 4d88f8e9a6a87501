//! The journal: everything that the authority ever issued and revoked, in the order in which it happened.
//!
//! One line an event: JSON, a tab, and a check value over the line and all before it. A line counts once it is on the
//! disk with its line ending; a torn last line, which a kill or a power failure leaves behind, was never acknowledged to
//! anybody; it is cut off and kept in `journal.torn`. Damage anywhere else is an error: nothing is guessed about what was issued.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use qtls_core::credentials::sha256;
use qtls_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Event {
    /// A certificate was issued.
    Issued {
        /// The label of the authority.
        ca: String,
        /// What it is for.
        profile: String,
        /// The certificate: DER in base64.
        certificate: String,
    },
    /// A certificate was revoked.
    Revoked {
        /// Its serial number, in hex.
        serial: String,
        /// Why, as RFC 5280 names it.
        reason: String,
    },
    /// A revocation list was made.
    Crl {
        /// The label of the authority.
        ca: String,
        /// The number of the list.
        number: u64,
    },
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// When, in seconds since 1970.
    pub(super) at: u64,
    #[serde(flatten)]
    pub(super) event: Event,
}

/// An open journal, and the check value that the next line continues.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    check: String,
    /// After an append that failed it is not known what is on the disk.
    broken: bool,
}

impl Journal {
    /// Reads every record without changing anything: a torn last line is passed over.
    pub(super) fn read(path: &Path) -> Result<Vec<Record>> {
        let mut content = Vec::new();
        File::open(path).and_then(|mut file| file.read_to_end(&mut content)).map_err(|error| failed(path, &error))?;
        replay(path, &content).map(|replayed| replayed.records)
    }

    /// Opens it for appending, and cuts a torn last line off. The caller holds the lock of the directory.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Record>)> {
        let fail = |error: std::io::Error| failed(path, &error);
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(fail)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(fail)?;
        let replayed = replay(path, &content)?;
        if replayed.length < content.len() {
            // Kept for the case that it was not torn but damaged later: a person may still read it.
            let torn = path.with_extension("torn");
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&torn)
                .and_then(|mut kept| kept.write_all(&content[replayed.length..]).and_then(|()| kept.sync_all()))
                .map_err(|error| failed(&torn, &error))?;
            file.set_len(replayed.length as u64).and_then(|()| file.sync_all()).map_err(fail)?;
        }
        file.seek(SeekFrom::Start(replayed.length as u64)).map_err(fail)?;
        Ok((Self { path: path.to_owned(), file, check: replayed.check, broken: false }, replayed.records))
    }

    /// Writes a record and waits until it is on the disk.
    pub(super) fn append(&mut self, record: &Record) -> Result<()> {
        if self.broken {
            return Err(
                Error::internal("the journal could not be written before; open it again").at(self.path.display())
            );
        }
        let (line, check) = line(&self.check, record)?;
        self.broken = true;
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_all())
            .map_err(|error| failed(&self.path, &error))?;
        self.broken = false;
        self.check = check;
        Ok(())
    }
}

/// The content of a new journal with these records.
pub(super) fn text(records: &[Record]) -> Result<String> {
    let mut check = String::new();
    let mut text = String::new();
    for record in records {
        let (line, next) = line(&check, record)?;
        text.push_str(&line);
        check = next;
    }
    Ok(text)
}

fn line(check: &str, record: &Record) -> Result<(String, String)> {
    let json = serde_json::to_string(record)
        .map_err(|error| Error::internal(format!("a record of the journal can't be written: {error}")))?;
    let next = next_check(check, &json);
    Ok((format!("{json}\t{next}\n"), next))
}

fn next_check(check: &str, json: &str) -> String {
    sha256(format!("{check}{json}").as_bytes())[..16].iter().map(|octet| format!("{octet:02x}")).collect()
}

struct Replayed {
    records: Vec<Record>,
    check: String,
    /// How much of the file that is.
    length: usize,
}

fn replay(path: &Path, content: &[u8]) -> Result<Replayed> {
    let mut replayed = Replayed { records: Vec::new(), check: String::new(), length: 0 };
    let mut rest = content;
    while let Some(end) = rest.iter().position(|octet| *octet == b'\n') {
        let read =
            str::from_utf8(&rest[..end]).ok().and_then(|line| line.rsplit_once('\t')).and_then(|(json, check)| {
                (next_check(&replayed.check, json) == check)
                    .then(|| serde_json::from_str(json).ok().map(|record| (record, check.to_owned())))
                    .flatten()
            });
        rest = &rest[end + 1..];
        let Some((record, check)) = read else {
            // With nothing behind it, it may be a line that a power failure tore in its middle.
            if rest.is_empty() {
                break;
            }
            let number = replayed.records.len() + 1;
            return Err(Error::certificate(format!("line {number} of the journal is damaged, and others follow it"))
                .at(path.display())
                .hint("restore the directory from a backup into another place: `qtls ca restore --dir DIR BACKUP`"));
        };
        replayed.records.push(record);
        replayed.check = check;
        replayed.length += end + 1;
    }
    Ok(replayed)
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    let told = Error::configuration(format!("the journal can't be used: {error}")).at(path.display());
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => told.hint("run this as the user that the CA directory belongs to"),
        std::io::ErrorKind::StorageFull => told.hint("free some space: nothing was issued or revoked"),
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn record(number: u64) -> Record {
        Record { at: 1_800_000_000, event: Event::Crl { ca: "tls-ca-ed25519".to_owned(), number } }
    }

    #[test]
    fn a_kill_after_any_octet_loses_nothing_that_was_acknowledged() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("journal");
        let records: Vec<Record> = (1..=3).map(record).collect();
        let whole = text(&records).unwrap();
        let ends: Vec<usize> = whole.match_indices('\n').map(|(at, _)| at + 1).collect();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let complete = ends.iter().filter(|end| **end <= length).count();
            assert_eq!(Journal::read(&path).unwrap(), records[..complete]);
            let (mut journal, read) = Journal::open(&path).unwrap();
            assert_eq!(read, records[..complete]);
            // And it goes on from there.
            journal.append(&record(9)).unwrap();
            let again = Journal::read(&path).unwrap();
            assert_eq!(again[..complete], records[..complete]);
            assert_eq!(again[complete..], [record(9)]);
        }
    }

    #[test]
    fn a_last_line_of_garbage_was_never_acknowledged() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("journal");
        let mut content = text(&[record(1)]).unwrap().into_bytes();
        // What file systems show for a block whose size was written and whose content wasn't.
        content.extend([0; 300]);
        content.push(b'\n');
        fs::write(&path, &content).unwrap();
        let (mut journal, read) = Journal::open(&path).unwrap();
        assert_eq!(read, [record(1)]);
        assert_eq!(fs::read(place.path().join("journal.torn")).unwrap().len(), 301);
        journal.append(&record(2)).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), [record(1), record(2)]);
    }

    #[test]
    fn damage_before_the_end_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("journal");
        let whole = text(&[record(1), record(2), record(3)]).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        for damaged in [
            whole.replacen("\"number\":1", "\"number\":7", 1),
            // A line that is missing, and one that was moved.
            format!("{}\n{}\n", lines[0], lines[2]) + lines[1] + "\n",
            format!("{}\n{}\n{}\n", lines[1], lines[0], lines[2]),
        ] {
            fs::write(&path, &damaged).unwrap();
            let error = Journal::open(&path).unwrap_err();
            assert!(error.message().contains("of the journal is damaged, and others follow it"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged, "it is left as it was");
        }
    }
}
