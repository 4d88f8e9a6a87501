//! `qtls`, the operator's tool: one module a command.

mod ca;
mod clients;
mod crl;
mod csr;
mod explain;
mod inspect;
mod keygen;
mod passphrase;
mod quickstart;
mod report;
mod ticket_keys;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use qtls_core::Result;
use qtls_core::version::VERSION;

use crate::ui;

/// Runs the tool with the process' arguments. Data goes to standard output, errors to standard error; the exit code is
/// 0, or that of the fault; 2 is what the caller can mend, as for a wrong command line.
pub fn main() -> ExitCode {
    match run(&Arguments::parse(), &mut io::stdout().lock()) {
        Ok(code) => code,
        Err(error) => ui::finish("qtls", Err(error)),
    }
}

/// The command line, for what is generated from it.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// The end of `-h`.
const SHORT: &str = "Exit codes: 0 success, 1 internal error, 2 wrong use, configuration or certificate, \
                     3 connection, 4 not verified, 5 handshake, 6 no algorithm in common, \
                     20 somebody would break (report --fail-if-any)";

/// The end of `--help`. Lines fit 80 columns: where a terminal is narrower, they are broken once more.
const LONG: &str = "\
Files:
  Nothing is read or written but what the command line names. Private keys are
  made readable by their owner alone, and no file is overwritten.

Environment:
  QTLS__SECTION__KEY and the other variables of qtls-server, where a command
  reads a configuration of its (--config)

Exit codes:
  0   success
  1   an internal error, or standard output failed
  2   wrong use, configuration or certificate
  3   a server can't be reached, or the connection failed
  4   a certificate or name did not verify
  5   the handshake was refused, or the other side broke the protocol
  6   the two sides have no algorithm in common
  20  report --fail-if-any: somebody would break

Examples:
  Certificates and configurations to begin with:
      qtls quickstart --dir pki --name localhost --name server.example
  A key for a certificate of somebody else's CA:
      qtls keygen --alg ml-dsa-65 --out server-key.pem
  What a browser would get, and why:
      qtls explain --config server.json --client chromium";

/// Keys and certificates for Q-TLS
#[derive(Parser)]
#[command(name = "qtls", version = VERSION, arg_required_else_help = true)]
#[command(after_help = SHORT, after_long_help = LONG)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ca(ca::Arguments),
    Crl(crl::Arguments),
    Csr(csr::Arguments),
    Inspect(inspect::Arguments),
    Keygen(keygen::Arguments),
    Quickstart(quickstart::Arguments),
    Explain(explain::Arguments),
    Report(report::Arguments),
    TicketKeys(ticket_keys::Arguments),
    Verify(verify::Arguments),
}

fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode> {
    match &arguments.command {
        Command::Ca(arguments) => ca::run(arguments, out),
        Command::Crl(arguments) => crl::run(arguments, out),
        Command::Csr(arguments) => csr::run(arguments, out),
        Command::Inspect(arguments) => inspect::run(arguments, out),
        Command::Keygen(arguments) => keygen::run(arguments, out),
        Command::Quickstart(arguments) => quickstart::run(arguments, out),
        Command::Explain(arguments) => explain::run(arguments, out),
        Command::TicketKeys(arguments) => ticket_keys::run(arguments, out),
        Command::Verify(arguments) => verify::run(arguments, out),
        Command::Report(arguments) => return report::run(arguments, out),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// An argument as a shell takes it unchanged.
fn shell_quoted(argument: &str) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"/._-:,=@%+".contains(&octet);
    if !argument.is_empty() && argument.bytes().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn arguments_are_quoted_for_the_shell_where_they_must_be() {
        assert_eq!(shell_quoted("/etc/qtls/server.json"), "/etc/qtls/server.json");
        assert_eq!(shell_quoted("[::1]:8443"), "'[::1]:8443'");
        assert_eq!(shell_quoted("/home/it's me"), r"'/home/it'\''s me'");
        assert_eq!(shell_quoted(""), "''");
    }
}
