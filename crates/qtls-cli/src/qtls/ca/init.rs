//! `qtls ca init`.

use std::io::Write;

use qtls_core::Result;
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::ca::{BUNDLE, Options, init};
use qtls_pki::issue::Links;

use super::Directory;
use crate::qtls::passphrase::PassphraseOptions;
use crate::qtls::shell_quoted;
use crate::ui::{print, say};

/// Make a CA: for each algorithm a root (20 years), and below it a TLS CA and a signing CA (10 years)
#[derive(clap::Args)]
pub(in crate::qtls) struct Arguments {
    #[command(flatten)]
    directory: Directory,
    /// The algorithms; with several, certificates are issued in matching sets, as `ecdsa-p384,ml-dsa-65`
    #[arg(long = "alg", value_name = "ALG[,ALG…]", value_delimiter = ',', default_value = "ecdsa-p384")]
    algorithms: Vec<KeyAlgorithm>,
    /// What the names of the CAs begin with, in any script
    #[arg(long, value_name = "TEXT", default_value = "QSIGN")]
    name: String,
    /// The organization in the names of the CAs, in any script
    #[arg(long = "org", value_name = "TEXT")]
    organization: Option<String>,
    /// Where the revocation lists will be found; {ca} stands for the CA's file name: http://pki.example/{ca}.crl
    #[arg(long, value_name = "URL")]
    crl_url: Vec<String>,
    /// Where the CAs' own certificates will be found, in DER; {ca} as above
    #[arg(long, value_name = "URL")]
    issuer_url: Vec<String>,
    /// Where an OCSP responder is found
    #[arg(long, value_name = "URL")]
    ocsp_url: Vec<String>,
    /// How many further CAs may stand below the TLS CA
    #[arg(long, value_name = "N", default_value_t = 0)]
    path_length: u8,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let passphrase = arguments.passphrase.read()?;
    let encrypted = passphrase.is_some();
    let dir = init(&Options {
        dir: arguments.directory.dir.clone(),
        name: arguments.name.clone(),
        organization: arguments.organization.clone(),
        algorithms: arguments.algorithms.clone(),
        links: Links {
            crl: arguments.crl_url.clone(),
            issuer: arguments.issuer_url.clone(),
            ocsp: arguments.ocsp_url.clone(),
        },
        path_len: arguments.path_length,
        passphrase,
    })?;
    if !encrypted {
        say("qtls", "the CA's keys are not encrypted: give --passphrase-file FILE next time, or guard the directory");
    }
    let algorithms = arguments.algorithms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let quoted = shell_quoted(&dir.to_string_lossy());
    print(
        out,
        &format!(
            "\
A CA ({algorithms}) is in {dir}:

  {BUNDLE}  the roots: what the other side trusts
  private/                    the keys; those of the roots may be kept elsewhere
  crl/                        the revocation lists, to be renewed with `qtls crl`

Issue a certificate:

  qtls ca issue server --dir {quoted} --name HOST
",
            dir = dir.display(),
        ),
    )
}
