//! curl, which names what was negotiated only in its progress messages.

use std::path::Path;
use std::process::Command;

use crate::negotiated::group_name;

/// Makes a command of curl ask `localhost:port` and verify it against `ca`, with progress messages and without waiting
/// for ever.
pub fn towards<'a>(command: &'a mut Command, ca: &Path) -> &'a mut Command {
    // The name must not resolve to ::1, where nothing listens.
    command
        .args(["--silent", "--show-error", "--verbose", "--ipv4", "--noproxy", "*", "--max-time", "25", "--cacert"])
        .arg(ca)
}

/// Suite and, where curl knows it, group, of the line `SSL connection using TLSv1.3 / SUITE / GROUP / KEY`.
///
/// # Panics
/// When there is no such line.
#[track_caller]
pub fn connection(stderr: &str) -> (String, Option<String>) {
    let line = stderr.lines().find_map(|line| line.strip_prefix("* SSL connection using "));
    let line = line.unwrap_or_else(|| panic!("curl made no TLS connection:\n{stderr}"));
    let mut parts = line.split(" / ");
    assert_eq!(parts.next(), Some("TLSv1.3"), "{line}");
    let suite = parts.next().unwrap_or_else(|| panic!("no suite in {line}"));
    // An unnamed group is shown as "[blank]".
    let group = parts.next().filter(|group| !group.starts_with('['));
    (suite.to_owned(), group.map(|group| group_name(group).to_owned()))
}
