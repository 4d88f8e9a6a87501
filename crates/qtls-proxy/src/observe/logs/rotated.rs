//! What has been rotated: `FILE.20261122T095959.999Z`, by the time of its rotation in UTC.
//!
//! Such a file keeps its name, and no name is one that logrotate gives (`FILE.1`, `FILE.1.gz`, `FILE-20261122`): were the
//! two to share numbers, each would overwrite, compress and remove what the other has just put there.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qtls_core::credentials::date;

use super::file::directory_of;

/// Gives the file at `path` the name of a rotated one, later than all that there are.
///
/// # Errors
/// It can't be renamed.
pub(super) fn move_away(path: &Path) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // A clock that was set back must not make the youngest file look like the oldest, which is removed first.
    let newest = all(path)?.last().and_then(|newest| parse(stamp_of(path, newest)?));
    let mut at = newest.map_or(now, |newest| now.max(newest + Duration::from_millis(1)));
    loop {
        match rename_to_new(path, &named(path, at)) {
            // Another process that logs to the same file.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => at += Duration::from_millis(1),
            outcome => return outcome,
        }
    }
}

/// Removes the oldest rotated files of `path` beyond `keep`.
///
/// # Errors
/// The directory can't be read, or a file can't be removed.
pub(super) fn prune(path: &Path, keep: u32) -> io::Result<()> {
    let all = all(path)?;
    let surplus = all.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    for old in &all[..surplus] {
        match fs::remove_file(old) {
            // Somebody else was faster.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io::Error::new(error.kind(), format!("{} can't be removed: {error}", old.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The rotated files of `path`, the oldest first.
fn all(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory_of(path))? {
        let candidate = path.with_file_name(entry?.file_name());
        if stamp_of(path, &candidate).and_then(parse).is_some() {
            found.push(candidate);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What stands behind `FILE.` in the name of a rotated file.
fn stamp_of<'a>(path: &Path, rotated: &'a Path) -> Option<&'a str> {
    let (name, rotated) = (path.file_name()?, rotated.file_name()?);
    let stamp = rotated.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b".")?;
    std::str::from_utf8(stamp).ok()
}

fn named(path: &Path, at: Duration) -> PathBuf {
    let seconds = Duration::from_secs(at.as_secs());
    let text: String = date(UNIX_EPOCH + seconds).chars().filter(|c| !matches!(c, '-' | ':' | 'Z')).collect();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{text}.{:03}Z", at.subsec_millis()));
    PathBuf::from(name)
}

/// The time that `20261122T095959.999Z` stands for, since 1970.
fn parse(stamp: &str) -> Option<Duration> {
    const FORM: &[u8] = b"00000000T000000.000Z";
    let fits = |(octet, form): (u8, &u8)| if *form == b'0' { octet.is_ascii_digit() } else { octet == *form };
    if stamp.len() != FORM.len() || !stamp.bytes().zip(FORM).all(fits) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| stamp[range].parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(9..11)?, number(11..13)?, number(13..15)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59
    {
        return None;
    }
    // Years begin in March here, so that the day that leap years add is the last one of a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    const UNTIL_1970: u64 = 719_468;
    let seconds = (((days - UNTIL_1970) * 24 + hour) * 60 + minute) * 60 + second;
    Some(Duration::from_secs(seconds) + Duration::from_millis(number(16..19)?))
}

#[cfg(target_os = "linux")]
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems can't.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_unless_there(from, to),
        outcome => Ok(outcome?),
    }
}

#[cfg(not(target_os = "linux"))]
use rename_unless_there as rename_to_new;

fn rename_unless_there(from: &Path, to: &Path) -> io::Result<()> {
    if to.try_exists()? { Err(io::ErrorKind::AlreadyExists.into()) } else { fs::rename(from, to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn names_say_the_time_and_the_time_is_read_from_names() {
        let path = Path::new("/var/log/qtls/server.log");
        // As `date -u -d @1795341599` says it; the others are the ends of months and of leap years.
        for (milliseconds, stamp) in [
            (1_795_341_599_999, "20261122T095959.999Z"),
            (0, "19700101T000000.000Z"),
            (1_835_395_199_007, "20280228T235959.007Z"),
            (1_835_395_200_000, "20280229T000000.000Z"),
            (1_835_481_600_000, "20280301T000000.000Z"),
            (4_107_542_400_000, "21000301T000000.000Z"),
        ] {
            let at = Duration::from_millis(milliseconds);
            let rotated = named(path, at);
            assert_eq!(rotated, Path::new(&format!("/var/log/qtls/server.log.{stamp}")));
            assert_eq!(stamp_of(path, &rotated).and_then(parse), Some(at), "{stamp}");
        }
        for other in
            ["1", "1.gz", "20261122", "20261122T095959.999Z.gz", "20261322T095959.999Z", "2026112xT095959.999Z", ""]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_make_the_youngest_the_oldest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        fs::write(directory.path().join("l.29991231T235959.999Z"), "of a wrong clock\n").unwrap();
        for content in ["one\n", "two\n"] {
            fs::write(&path, content).unwrap();
            move_away(&path).unwrap();
        }
        prune(&path, 2).unwrap();
        assert_eq!(names(directory.path()), ["l.30000101T000000.000Z", "l.30000101T000000.001Z"]);
        assert_eq!(fs::read_to_string(directory.path().join("l.30000101T000000.001Z")).unwrap(), "two\n");
    }

    #[test]
    fn a_name_that_is_taken_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        for rename in [rename_to_new, rename_unless_there] {
            assert_eq!(rename(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!((fs::read_to_string(&to).unwrap().as_str(), from.exists()), ("old", true));
    }

    #[test]
    fn only_rotated_files_of_this_log_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.log");
        let kept = [
            "audit.log.20261122T095959.999Z",
            "server.log",
            "server.log-20261122",
            "server.log.1",
            "server.log.2.gz",
            "server.log.20261122T095959.999Z.gz",
        ];
        for name in kept.into_iter().chain(["server.log.20261122T095959.999Z", "server.log.20261122T100000.000Z"]) {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        prune(&path, 0).unwrap();
        assert_eq!(names(directory.path()), kept);
        prune(&path, 0).unwrap();
    }
}
