//! `qtls keygen`: a private key.

use std::io::Write;
use std::path::PathBuf;

use qtls_core::Result;
use qtls_core::credentials::generate;
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::files::{Readers, create, vacant};
use qtls_pki::keys::private_key_pem;

use super::passphrase::PassphraseOptions;
use crate::ui::print;

/// Make a private key
///
/// It is written as PKCS#8 in PEM, readable by its owner alone, and nothing is ever overwritten. With a passphrase it
/// is encrypted (PBES2 with AES-256-CBC), as OpenSSL reads it.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The kind of key: ml-dsa-44, -65 or -87, ecdsa-p256, -p384 or -p521, ed25519, rsa-2048, -3072 or -4096
    #[arg(long = "alg", value_name = "ALG")]
    algorithm: KeyAlgorithm,
    /// The file to make
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let Arguments { algorithm, out: path, passphrase } = arguments;
    let passphrase = passphrase.read()?;
    vacant(path)?;
    let key = generate(*algorithm)?;
    let pem = private_key_pem(&key, passphrase.as_ref())?;
    create(path, pem.as_bytes(), Readers::Owner)?;
    let encrypted = if passphrase.is_some() { ", encrypted" } else { "" };
    print(out, &format!("{}: a new {} key{encrypted}\n", path.display(), algorithm.kind()))
}
