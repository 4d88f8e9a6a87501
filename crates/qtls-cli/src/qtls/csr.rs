//! `qtls csr`: a certification request.

use std::io::Write;
use std::path::PathBuf;

use qtls_core::credentials::{Source, files, private_key, signing_key};
use qtls_core::{Error, Result};
use qtls_pki::files::{Readers, create};
use qtls_pki::issue::AlternativeName;
use qtls_pki::{pem, request};

use super::passphrase::PassphraseOptions;
use crate::ui::print;

/// Make a request for a certificate (PKCS#10), signed by its key
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The private key, as `qtls keygen` makes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A name or IP address of the holder, or `URI:…`, or `email:…`; may be given several times
    #[arg(long = "name", value_name = "NAME", num_args = 1..)]
    names: Vec<AlternativeName>,
    /// The common name, in any script; the first DNS name by default
    #[arg(long = "cn", value_name = "TEXT")]
    common_name: Option<String>,
    /// The organization, in any script
    #[arg(long = "org", value_name = "TEXT")]
    organization: Option<String>,
    /// The file to make; standard output by default
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let Arguments { key, names, common_name, organization, out: path, passphrase } = arguments;
    if names.is_empty() && common_name.is_none() {
        return Err(Error::configuration("a request needs a name")
            .hint("give the names that the holder is reached by as --name NAME, or a common name as --cn TEXT"));
    }
    let content = files::read_secret(key)?;
    let origin = key.to_string_lossy();
    let key = private_key(Source { origin: &origin, bytes: &content }, passphrase.read()?.as_ref())?;
    let signer = signing_key(&key).map_err(|error| error.at(&origin))?;
    let common_name = common_name.clone().or_else(|| first_dns_name(names));
    let der = request::create(common_name.as_deref(), organization.as_deref(), names, signer.as_ref())?;
    let text = pem::encode(pem::REQUEST, &der)?;
    match path {
        Some(path) => create(path, text.as_bytes(), Readers::Everybody),
        None => print(out, &text),
    }
}

/// A common name for people to recognize the certificate by, if one fits.
pub(super) fn first_dns_name(names: &[AlternativeName]) -> Option<String> {
    names.iter().find_map(|name| match name {
        AlternativeName::Dns(name) if name.len() <= 64 => Some(name.clone()),
        _ => None,
    })
}
