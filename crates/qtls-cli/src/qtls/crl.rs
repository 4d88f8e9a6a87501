//! `qtls crl`: the revocation lists of a CA.

use std::io::Write;
use std::time::Duration;

use qtls_core::Result;
use qtls_core::credentials::date;
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::ca::{Ca, Published, Role};

use super::ca::Directory;
use super::passphrase::PassphraseOptions;
use crate::ui::print;

/// Make the revocation lists of a CA anew: each in DER and in PEM
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    directory: Directory,
    /// Whose: root, tls or signing; all by default. The keys of the others may then be elsewhere
    #[arg(long, value_name = "root|tls|signing")]
    issuer: Option<Role>,
    /// Of which algorithms; all by default
    #[arg(long = "alg", value_name = "ALG[,ALG…]", value_delimiter = ',')]
    algorithms: Vec<KeyAlgorithm>,
    /// How many days a list holds: the next one must be published within this time
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_652))]
    days: u32,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let passphrase = arguments.passphrase.read()?;
    let mut ca = Ca::open(&arguments.directory.dir)?;
    let algorithms =
        if arguments.algorithms.is_empty() { ca.algorithms().to_vec() } else { arguments.algorithms.clone() };
    let lifetime = Duration::from_secs(86_400) * arguments.days;
    // A root whose key is kept elsewhere must not keep the others from being renewed.
    let mut failed = None;
    for algorithm in algorithms {
        for role in Role::ALL.into_iter().filter(|role| arguments.issuer.is_none_or(|only| only == *role)) {
            let label = ca.label(role, algorithm);
            match ca.publish(&label, lifetime, passphrase.as_ref()) {
                Ok(published) => print(out, &report(&published))?,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

pub(super) fn report(published: &Published) -> String {
    format!(
        "{}: list {} with {} revocations, to be renewed by {}\n",
        published.path.display(),
        published.number,
        published.revoked,
        date(published.next_update)
    )
}
