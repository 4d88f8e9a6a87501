//! Where the passphrase of a private key comes from: never the command line, which every user of the host can read.

use std::path::PathBuf;

use qtls_core::Result;
use qtls_core::credentials::{Passphrase, files};

/// The options of every command that reads or writes private keys.
#[derive(clap::Args, Default)]
pub(super) struct PassphraseOptions {
    /// A file whose one line is the passphrase of the private keys
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
            (Some(file), _) => files::passphrase(file).map(Some),
            (None, Some(variable)) => files::passphrase_from_environment(variable).map(Some),
            (None, None) => Ok(None),
        }
    }
}
