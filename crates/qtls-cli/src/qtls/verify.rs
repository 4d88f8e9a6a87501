//! `qtls verify`: whether a chain would be accepted, and if not, what is at fault.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use qtls_core::credentials::{Source, certificates, files};
use qtls_core::{Error, Result};
use qtls_pki::names::ServerName;
use qtls_pki::verify::{Question, Verdict, verify};
use qtls_pki::{crl::List, pem};
use rustls::pki_types::CertificateDer;
use x509_cert::der::DateTime;

use crate::ui::{print, printable};

/// Verify a certificate as a TLS handshake would: prints the path, and on failure which certificate broke which rule
///
/// The exit code is 0 for a chain that verifies, and 4 for one that doesn't.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The certificate, followed by its intermediates, in PEM; or one in DER
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The trust anchors, a file or a directory; the system's by default
    #[arg(long, value_name = "BUNDLE")]
    ca: Option<PathBuf>,
    /// Further intermediates, for a file that has none
    #[arg(long, value_name = "FILE")]
    untrusted: Vec<PathBuf>,
    /// The name or address that a client asks for
    #[arg(long, value_name = "NAME")]
    name: Option<ServerName>,
    /// Which side of a connection it is for
    #[arg(long, value_enum, default_value_t = Purpose::Server)]
    purpose: Purpose,
    /// How many intermediates may stand between the leaf and the anchor, as verify_depth
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Revocation lists in PEM or DER; with any, each certificate but the anchor needs one of its issuer
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// When, as 2027-01-31 or 2027-01-31T12:00:00Z; now by default
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<SystemTime>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// Which side of a connection shows the certificate.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Purpose {
    /// A TLS server
    Server,
    /// A TLS client
    Client,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let mut chain = read(&arguments.file)?;
    for path in &arguments.untrusted {
        chain.extend(read(path)?);
    }
    let anchors = match &arguments.ca {
        Some(path) => files::roots(path)?,
        None => files::system_roots()?,
    };
    let mut lists = Vec::new();
    for path in &arguments.crl {
        lists.extend(read_lists(path)?);
    }
    let name = arguments.name.as_ref().map(|name| name.example().to_string());
    let verdict = verify(&Question {
        chain: &chain,
        anchors: &anchors,
        purpose: match arguments.purpose {
            Purpose::Server => qtls_core::credentials::Purpose::Server,
            Purpose::Client => qtls_core::credentials::Purpose::Client,
        },
        name: name.as_deref(),
        depth: arguments.depth,
        lists: &lists,
        at: arguments.at.unwrap_or_else(SystemTime::now),
    })?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&verdict)
            .map_err(|error| Error::internal(format!("the verdict can't be written: {error}")))?;
        print(out, &(text + "\n"))?;
    } else {
        print(out, &printable(&render(&verdict)))?;
    }
    match &verdict.failure {
        None => Ok(()),
        Some(failure) => Err(failure.to_error()),
    }
}

fn render(verdict: &Verdict) -> String {
    let fault = verdict.failure.as_ref().and_then(|failure| failure.step);
    let steps = verdict.path.iter().enumerate().map(|(index, step)| {
        let mark = if fault == Some(index) { "!" } else { " " };
        format!("{mark} {:<12} {}, until {}, serial {}\n", step.role, step.subject, step.not_after, step.serial)
    });
    let mut text: String = steps.collect();
    text.push_str(if verdict.verified { "verified\n" } else { "NOT verified\n" });
    text
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    certificates(Source { origin: &path.to_string_lossy(), bytes: &files::read(path)? })
}

fn read_lists(path: &Path) -> Result<Vec<Vec<u8>>> {
    let content = files::read(path)?;
    let sections = pem::sections(&content).map_err(|error| error.at(path.display()))?;
    let mut found: Vec<Vec<u8>> =
        sections.into_iter().filter(|section| section.label == pem::CRL).map(|section| section.der).collect();
    if found.is_empty() {
        found.push(content);
    }
    for list in &found {
        List::parse(list)
            .map_err(|error| error.at(path.display()).hint("a revocation list is one `X509 CRL` in PEM, or DER"))?;
    }
    Ok(found)
}

fn time(given: &str) -> Result<SystemTime> {
    let whole = if given.contains('T') { given.to_owned() } else { format!("{given}T00:00:00Z") };
    let date: DateTime = whole.parse().map_err(|_| {
        Error::configuration(format!("`{}` is no time", given.escape_debug()))
            .hint("give it in UTC, as 2027-01-31 or 2027-01-31T12:00:00Z")
    })?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(date.unix_duration().as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_or_moments() {
        let seconds = |text| time(text).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(seconds("2027-01-31"), 1_801_353_600);
        assert_eq!(seconds("2027-01-31T12:00:00Z"), 1_801_396_800);
        assert_eq!(seconds("2050-01-01"), 2_524_608_000);
        for wrong in ["", "tomorrow", "2027-13-01", "2027-01-31T12:00:00", "31.1.2027"] {
            assert!(time(wrong).unwrap_err().hint_text().is_some(), "{wrong}");
        }
    }
}
