//! `qtls quickstart`: certificates of every kind and the configurations that use them.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use qtls_core::Result;
use qtls_core::credentials::date;
use qtls_core::policy::{KeyAlgorithm, Named};
use qtls_pki::names::ServerName;
use qtls_pki::quickstart::{ALGORITHMS, Options, Summary, create};

use super::shell_quoted;
use crate::ui::print;

/// Make a CA, certificates for a server and a client, and configurations that use them
///
/// For each of ECDSA P-384, RSA-4096 and ML-DSA-65 there is a root, an intermediate, a server's certificate and a
/// client's. Everything is put into one new directory; nothing is ever overwritten.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The directory to make; it must not exist yet, or be empty
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// A name or IP address that clients reach the server by; may be given several times
    #[arg(long = "name", value_name = "NAME", required = true, num_args = 1..)]
    names: Vec<ServerName>,
    /// Which certificates get the plain names such as server-cert.pem; browsers accept the default and rsa-4096
    #[arg(long = "alg", value_name = "ALG", default_value = ALGORITHMS[0].name(), value_parser = algorithm())]
    algorithm: KeyAlgorithm,
    /// The port that the server of server.json listens on
    #[arg(long, value_name = "PORT", default_value_t = 8443, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let mut options = Options::new(&arguments.dir, arguments.names.clone());
    options.algorithm = arguments.algorithm;
    options.listen.set_port(arguments.port);
    print(out, &report(&create(&options)?))
}

fn algorithm() -> impl TypedValueParser<Value = KeyAlgorithm> {
    PossibleValuesParser::new(ALGORITHMS.map(KeyAlgorithm::name)).try_map(|name| name.parse::<KeyAlgorithm>())
}

fn report(summary: &Summary) -> String {
    let names = summary.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let algorithms = ALGORITHMS.map(|algorithm| format!("*-{algorithm}.pem")).join(", ");
    let quoted = |path: &Path| shell_quoted(&path.to_string_lossy());
    format!(
        "\
Certificates for {names}, valid until {until}, are in {dir}:

  server-cert.pem, server-key.pem  the server's chain and key, {kind}
  client-cert.pem, client-key.pem  a client's, for servers that verify clients
  {algorithms}
                                   the same in each algorithm
  ca-bundle.pem                    the roots that the other side trusts
  server.json, client.json         configurations that use all this
  ca/                              the CA and its keys: move them off the server

Start the server:

  qtls-server --config {server_config}

and connect to it:

  qtls-client {connect} --ca {ca_bundle}
",
        until = date(summary.not_after),
        dir = summary.dir.display(),
        kind = summary.algorithm.kind(),
        server_config = quoted(&summary.server_config),
        connect = shell_quoted(&summary.connect),
        ca_bundle = quoted(&summary.ca_bundle),
    )
}
