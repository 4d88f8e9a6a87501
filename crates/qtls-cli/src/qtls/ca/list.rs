//! `qtls ca list` and `qtls ca show`.

use std::io::Write;
use std::time::SystemTime;

use qtls_core::credentials::date;
use qtls_core::{Error, Result};
use qtls_pki::ca::{Ca, Entry};
use serde::Serialize;

use super::Directory;
use crate::ui::{print, printable, say};

/// List what was issued, and what became of it
#[derive(clap::Args)]
pub(in crate::qtls) struct Arguments {
    #[command(flatten)]
    directory: Directory,
    /// As one JSON array
    #[arg(long)]
    json: bool,
}

/// Print a certificate that was issued, with its chain, as PEM
#[derive(clap::Args)]
pub(in crate::qtls) struct ShowArguments {
    /// The serial number in hex, or its first eight digits or more
    #[arg(value_name = "SERIAL")]
    serial: String,
    #[command(flatten)]
    directory: Directory,
}

/// The shape of one element of `--json`.
#[derive(Serialize)]
struct Row<'a> {
    serial: &'a str,
    status: &'static str,
    ca: &'a str,
    profile: &'a str,
    subject: &'a str,
    names: &'a [String],
    key: &'a str,
    not_before: String,
    not_after: String,
    revoked_at: Option<String>,
    reason: Option<&'static str>,
}

impl<'a> Row<'a> {
    fn new(entry: &'a Entry, now: SystemTime) -> Self {
        let status = match entry.revoked {
            Some(_) => "revoked",
            None if now > entry.not_after => "expired",
            None => "valid",
        };
        Self {
            serial: &entry.serial,
            status,
            ca: &entry.ca,
            profile: &entry.profile,
            subject: &entry.subject,
            names: &entry.names,
            key: &entry.key,
            not_before: date(entry.not_before),
            not_after: date(entry.not_after),
            revoked_at: entry.revoked.map(|(at, _)| date(at)),
            reason: entry.revoked.map(|(_, reason)| reason.name()),
        }
    }
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let ca = Ca::open_to_read(&arguments.directory.dir)?;
    for label in ca.outdated_lists() {
        say("qtls", &format!("the revocation list of {label} lacks a revocation: run `qtls crl`"));
    }
    let now = SystemTime::now();
    let rows: Vec<Row<'_>> = ca.entries().iter().map(|entry| Row::new(entry, now)).collect();
    if arguments.json {
        let text = serde_json::to_string_pretty(&rows)
            .map_err(|error| Error::internal(format!("the list can't be written: {error}")))?;
        return print(out, &(text + "\n"));
    }
    let text: String = rows
        .iter()
        .map(|row| {
            let reason = row.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!(
                "{} {:<7} {:<12} until {} {} {}{reason}\n",
                row.serial,
                row.status,
                row.profile,
                row.not_after,
                row.key,
                name_of(row)
            )
        })
        .collect();
    print(out, &printable(&text))
}

pub(super) fn show(arguments: &ShowArguments, out: &mut dyn Write) -> Result<()> {
    let ca = Ca::open_to_read(&arguments.directory.dir)?;
    let entry = ca.find(&arguments.serial)?;
    print(out, &ca.issued(entry)?.pem()?)
}

fn name_of(row: &Row<'_>) -> String {
    if row.subject.is_empty() { row.names.join(", ") } else { row.subject.to_owned() }
}
