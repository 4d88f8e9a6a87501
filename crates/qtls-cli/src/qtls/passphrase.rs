//! Where the passphrase of a private key comes from: never the command line, which every user of the host can read.

use std::path::PathBuf;

use qtls_core::Result;
use qtls_pki::keys::Passphrase;

/// The options of every command that reads or writes private keys.
#[derive(clap::Args, Default)]
pub(super) struct PassphraseOptions {
    /// A file whose first line is the passphrase of the private keys
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_env")]
    passphrase_file: Option<PathBuf>,
    /// The environment variable that holds the passphrase of the private keys
    #[arg(long, value_name = "NAME")]
    passphrase_env: Option<String>,
}

impl PassphraseOptions {
    /// The passphrase, if one was given.
    pub(super) fn read(&self) -> Result<Option<Passphrase>> {
        match (&self.passphrase_file, &self.passphrase_env) {
            (Some(file), _) => Passphrase::from_file(file).map(Some),
            (None, Some(variable)) => Passphrase::from_environment(variable).map(Some),
            (None, None) => Ok(None),
        }
    }
}
