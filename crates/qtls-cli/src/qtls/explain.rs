//! `qtls explain`: what a client would get from a server with this configuration, and why, without connecting.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::ArgGroup;
use clap::builder::PossibleValuesParser;
use qtls_core::{Error, Result};
use qtls_proxy::config::{Source, load_server};
use qtls_proxy::explain::{Explanation, explain};
use qtls_proxy::plan::Plan;

use super::clients::{self, CLIENTS};
use crate::ui::print;

/// Tell which group and certificate a client would get, and why, without connecting
///
/// The client is given by what it sends first: a file with its ClientHello, as captured from the network, or the name of
/// a program whose ClientHello is built in.
#[derive(clap::Args)]
#[group(skip)]
#[command(group = ArgGroup::new("whose").required(true).args(["clienthello", "name"]))]
pub(super) struct Arguments {
    /// The server's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What a client sends first, in binary: TLS records, or the handshake message alone
    #[arg(long, value_name = "FILE")]
    clienthello: Option<PathBuf>,
    /// A program whose ClientHello is built in
    #[arg(long = "client", value_name = "NAME", value_parser = PossibleValuesParser::new(CLIENTS.iter().map(|client| client.name)))]
    name: Option<String>,
    /// Have the client ask for this name instead of the one in its ClientHello, which is localhost in those built in
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// The address that the client comes from, for certificates that are kept to networks
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let source = Source::of_process(Some(arguments.config.clone()))?;
    let plan = Plan::new(load_server(&source)?)?;
    let (hello, whose) = match (&arguments.clienthello, &arguments.name) {
        (Some(path), _) => {
            let hello = fs::read(path)
                .map_err(|error| Error::configuration(format!("can't be read: {error}")).at(path.display()))?;
            (hello, path.display().to_string())
        }
        (None, Some(name)) => {
            let client = clients::find(name).ok_or_else(|| Error::internal(format!("no client {name}")))?;
            (client.hello.to_vec(), client.version.to_owned())
        }
        (None, None) => return Err(Error::internal("neither a ClientHello nor a client")),
    };
    let asked = arguments.server_name.as_deref();
    let explanation = explain(&plan, &hello, asked, arguments.from).map_err(|error| match &arguments.clienthello {
        Some(path) => error.at(path.display()),
        None => error,
    })?;
    if arguments.json {
        let text = serde_json::to_string(&explanation).map_err(|error| Error::internal(error.to_string()))?;
        return print(out, &format!("{text}\n"));
    }
    print(out, &text(&whose, &explanation))
}

fn text(whose: &str, explanation: &Explanation) -> String {
    let Explanation { server_name, virtual_host, group, post_quantum, hello_retry_request, .. } = explanation;
    let asks = server_name.as_ref().map_or_else(|| "asks for no name".to_owned(), |name| format!("asks for {name}"));
    let host =
        virtual_host.map_or_else(|| "the server at the top".to_owned(), |index| format!("virtual_hosts[{index}]"));
    let group = match group {
        None => "none in common: the handshake is refused".to_owned(),
        Some(group) => {
            let kind = if *post_quantum { "post-quantum" } else { "classical: can be read later from a recording" };
            let retry = if *hello_retry_request { ", after a HelloRetryRequest" } else { "" };
            format!("{group} ({kind}){retry}")
        }
    };
    let nothing = "none in common: the handshake is refused";
    let scheme = explanation.scheme.as_deref().unwrap_or(nothing);
    let suite = explanation.suite.as_deref().unwrap_or(nothing);
    let report = match explanation.report.as_deref() {
        None => String::new(),
        Some([]) => "tls.report   would not refuse it\n".to_owned(),
        Some(rules) => format!("tls.report   would refuse it, by the rule {}\n", rules.join(" and the rule ")),
    };
    format!(
        "{whose} {asks}: {host}, profile {}\n\
         group        {group}\n\
         certificate  {}\n\
         signature    {scheme}\n\
         suite        {suite}\n\
         reason       {}\n\
         {report}\n\
         It offers the groups {}\n\
         with key shares for  {}\n\
         the schemes          {}\n\
         and the suites       {}\n",
        explanation.profile,
        explanation.certificate,
        explanation.reason,
        listed(&explanation.offered_groups),
        listed(&explanation.shared_groups),
        listed(&explanation.offered_schemes),
        listed(&explanation.offered_suites),
    )
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
