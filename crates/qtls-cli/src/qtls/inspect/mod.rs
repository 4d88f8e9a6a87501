//! `qtls inspect`: what stands in a file, or what a server shows, and what is wrong with it.

mod server;
mod text;

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use qtls_core::credentials::{Source, files};
use qtls_core::{Error, Result};
use qtls_pki::inspect::{Report, inspect};
use qtls_proxy::starttls::Starttls;
use serde::Serialize;
use zeroize::Zeroizing;

use super::passphrase::PassphraseOptions;
use crate::ui::{print, printable};
use server::Connection;

/// Show what is in a certificate, chain, request, revocation list or key, or what a server sends; with its problems
///
/// Nothing is verified against a CA: that is `qtls verify`. A server is not verified either, only shown.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A file in PEM or DER; `-` for standard input; or HOST:PORT for what a TLS server sends
    #[arg(value_name = "FILE|-|HOST:PORT")]
    target: String,
    /// Ask the server for TLS in the words of this protocol: postgres
    #[arg(long, value_name = "PROTOCOL")]
    starttls: Option<Starttls>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

/// The shape of `--json`.
#[derive(Serialize)]
struct Inspected<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<&'a Connection>,
    #[serde(flatten)]
    report: &'a Report,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let now = SystemTime::now();
    let passphrase = arguments.passphrase.read()?;
    let (connection, report) = match server::address(&arguments.target) {
        Some((host, port)) => {
            let (connection, report) = server::look(&host, port, arguments.starttls, now)?;
            (Some(connection), report)
        }
        None if arguments.starttls.is_some() => {
            let message = format!("`{}` is no HOST:PORT: it has no protocol", printable(&arguments.target));
            return Err(Error::configuration(message).at("--starttls").hint("leave it out for a file"));
        }
        None => {
            let content = read(&arguments.target)?;
            let origin = if arguments.target == "-" { "standard input" } else { arguments.target.as_str() };
            (None, inspect(Source { origin, bytes: &content }, now, passphrase.as_ref())?)
        }
    };
    if arguments.json {
        let inspected = Inspected { connection: connection.as_ref(), report: &report };
        let json = serde_json::to_string_pretty(&inspected)
            .map_err(|error| Error::internal(format!("the report can't be written: {error}")))?;
        return print(out, &(json + "\n"));
    }
    print(out, &printable(&text::render(connection.as_ref(), &report)))
}

fn read(target: &str) -> Result<Zeroizing<Vec<u8>>> {
    if target != "-" {
        return files::read_secret(Path::new(target)).map_err(|error| {
            let error = Error::new(error.fault(), error.message()).at(target);
            error.hint("give the path of a file, `-` for standard input, or HOST:PORT of a server")
        });
    }
    let mut content = Zeroizing::new(Vec::new());
    io::stdin()
        .lock()
        .take(files::MAX_SIZE)
        .read_to_end(&mut content)
        .map_err(|error| Error::internal(format!("standard input can't be read: {error}")))?;
    Ok(content)
}
