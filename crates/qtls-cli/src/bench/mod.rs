//! `qtls-bench`: a load generator on the client's engine, and what the cryptography costs by itself.

mod arguments;
mod backend;
mod floor;
mod idle;
mod load;
mod measure;
mod process;
mod report;
mod requests;
mod site;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use qtls_core::{Error, Result};
use tokio::runtime::{Builder, Runtime};

use crate::ui;
use arguments::{Arguments, Command};

pub(crate) const PROGRAM: &str = "qtls-bench";

/// Runs the benchmark with the process' arguments. `--help` documents the exit codes.
pub fn main() -> ExitCode {
    ui::finish(PROGRAM, run(&Arguments::parse()))
}

/// The command line, for what is generated from it.
pub fn command() -> clap::Command {
    Arguments::command()
}

fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::Handshakes(options) => load::handshakes(options, false),
        Command::Resume(options) => load::handshakes(options, true),
        Command::Requests(options) => requests::requests(options),
        Command::Throughput(options) => requests::throughput(options),
        Command::Idle(options) => idle::idle(options),
        Command::Crypto(options) => floor::crypto(options),
        Command::Backend(options) => backend::backend(options),
    }
}

/// A runtime of one thread: what a generator needs, and what leaves a core to the server.
fn runtime() -> Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("the runtime can't be started: {error}")))
}
