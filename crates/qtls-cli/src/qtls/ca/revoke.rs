//! `qtls ca revoke`.

use std::io::Write;
use std::path::Path;

use qtls_core::credentials::{Source, certificates, date, files};
use qtls_core::{Error, Result};
use qtls_pki::ca::{CRL_LIFETIME, Ca};
use qtls_pki::crl::Reason;

use super::Directory;
use crate::qtls::crl::report;
use crate::qtls::passphrase::PassphraseOptions;
use crate::ui::print;

/// Revoke a certificate, and write the new revocation list
#[derive(clap::Args)]
pub(in crate::qtls) struct Arguments {
    /// The serial number in hex, or the file of the certificate
    #[arg(value_name = "SERIAL|FILE")]
    certificate: String,
    #[command(flatten)]
    directory: Directory,
    /// Why: keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn
    #[arg(long, value_name = "REASON", default_value = "unspecified")]
    reason: Reason,
    /// Only record it; the list is then made with `qtls crl`
    #[arg(long)]
    no_crl: bool,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let passphrase = arguments.passphrase.read()?;
    let mut ca = Ca::open(&arguments.directory.dir)?;
    let serial = serial(&ca, &arguments.certificate)?;
    // Recorded first: a list that can't be made, for want of a passphrase, must not undo the revocation.
    let entry = ca.revoke(&serial, arguments.reason)?;
    let at = entry.revoked.map(|(at, _)| date(at)).unwrap_or_default();
    let mut told = format!("revoked {} ({}) on {at}: {}\n", entry.serial, entry.subject, arguments.reason);
    if arguments.no_crl {
        told.push_str("the revocation list still lacks it: run `qtls crl`\n");
        return print(out, &told);
    }
    match ca.publish(&entry.ca, CRL_LIFETIME, passphrase.as_ref()) {
        Ok(published) => {
            told.push_str(&report(&published));
            print(out, &told)
        }
        Err(error) => {
            print(out, &told)?;
            let hint = format!(
                "{}; the revocation is recorded, and `qtls crl --dir {}` makes the list",
                error.hint_text().unwrap_or("mend that"),
                arguments.directory.dir.display()
            );
            let told = format!("the new revocation list could not be made: {}", error.message());
            Err(Error::new(error.fault(), told).at(error.place().unwrap_or("revocation list")).hint(hint))
        }
    }
}

fn serial(ca: &Ca, given: &str) -> Result<String> {
    let path = Path::new(given);
    if !path.is_file() {
        return ca.find(given).map(|entry| entry.serial.clone());
    }
    let content = files::read(path)?;
    let found = certificates(Source { origin: given, bytes: &content })?;
    let entry = ca.entries().iter().find(|entry| entry.certificate == found[0]);
    entry.map(|entry| entry.serial.clone()).ok_or_else(|| {
        Error::configuration("the first certificate of this file was not issued by this CA")
            .at(path.display())
            .hint("`qtls ca list` shows all that were")
    })
}
