//! `qtls-client`: connects, verifies, shows what was negotiated, then talks.

mod arguments;
mod converse;
mod help;
mod http;
mod output;
mod peer;
mod settings;
mod stdio;
mod transport;
mod tunnels;

use std::io;
use std::process::ExitCode;

use clap::{Command, CommandFactory, Parser};
use qtls_core::{Error, Result};
use qtls_proxy::config::{ClientConfig, Loaded, LogLevel, Logging};
use qtls_proxy::observe::logs;
use qtls_proxy::plan::located;
use qtls_proxy::reach::{self, Connected, Retry};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::ui;
use arguments::Arguments;
pub(crate) use arguments::{server_name, target};
use http::Exchange;
use output::{HttpResponse, Report, head};
use settings::Settings;
use stdio::Output;
use transport::Transport;

/// The exit code for a status of 400 or higher under `--fail`. As curl has it, and far from those of
/// [`Fault`](qtls_core::Fault), so that both can grow.
const HTTP_STATUS: u8 = 22;

const PROGRAM: &str = "qtls-client";

/// Runs the client with the process' arguments. `--help` documents the exit codes.
pub fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| ui::finish(PROGRAM, Err(error)))
}

/// The command line, for what is generated from it.
pub fn command() -> Command {
    Arguments::command()
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let loaded = settings::configuration(&arguments)?;
    if tunnels::are_meant(&arguments, &loaded) {
        return tunnels::run(arguments, loaded);
    }
    once(&arguments, loaded)
}

/// Connects once.
fn once(arguments: &Arguments, mut loaded: Loaded<ClientConfig>) -> Result<ExitCode> {
    // Lines about connections are about those of tunnels, and only of tunnels is there something to audit.
    let logging = &mut loaded.value.logging;
    (logging.access, logging.access_file, logging.audit_file) = (false, None, None);
    let logging = &loaded.value.logging;
    let voice = Voice::new(arguments.quiet, logging);
    // Of a program that one person runs once, that person should hear at once that nothing will be logged.
    logs::check(logging).map_err(|error| located(&loaded.origins, error))?;
    logs::init(logging, |error| located(&loaded.origins, error))?;
    let outcome = settings::settle(arguments, loaded).and_then(|settings| {
        for warning in &settings.warnings {
            voice.warn(warning);
        }
        if settings.remote.verified_by.is_none() {
            voice.alarm(
                "WARNING: the server is NOT verified, by --insecure or tls.verify_peer: anyone can pretend to be it, \
                 and read and change everything",
            );
        }
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::internal(format!("the runtime can't be started: {error}")))?;
        let outcome = LocalSet::new().block_on(&runtime, session(arguments, &settings, voice));
        // A name that is still being looked up must not hold up the end.
        runtime.shutdown_background();
        outcome
    });
    if let Err(error) = &outcome {
        tracing::error!(error = error.message(), exit_code = error.exit_code(), "failed");
    }
    outcome
}

async fn session(arguments: &Arguments, settings: &Settings, voice: Voice) -> Result<ExitCode> {
    let Connected { stream, facts, address } =
        reach::connect(&settings.remote, settings.patience, |_| None, |retry| voice.retry(&retry)).await?;
    tracing::info!(
        server = settings.remote.address(),
        %address,
        group = facts.group_name(),
        pq = facts.post_quantum(),
        suite = facts.suite_name(),
        scheme = facts.scheme_name(),
        alpn = facts.alpn_name(),
        resumed = facts.resumed,
        verified = settings.remote.verified_by.is_some(),
        "connected"
    );
    let report = Report::new(&facts, address, settings);
    if !arguments.json && !arguments.quiet {
        ui::note(&report.text());
    }
    let patience = settings.read_timeout;
    let (transport, outcome) =
        Transport::new(stream, settings.request.is_none().then_some(patience), settings.write_timeout);
    match &settings.request {
        Some(request) => {
            let protocol = facts.alpn.as_deref();
            let authority = settings.authority();
            let exchange = Exchange::start(transport, outcome, protocol, request, &authority, patience).await?;
            let status = exchange.status();
            tracing::info!(status = status.as_u16(), version = exchange.version(), "response");
            if arguments.json {
                print_json(exchange, report).await?;
            } else {
                print_body(exchange, arguments.include).await?;
            }
            let failed = arguments.fail && (status.is_client_error() || status.is_server_error());
            if failed {
                voice.warn(&format!("the response's status is {status}"));
            }
            Ok(if failed { ExitCode::from(HTTP_STATUS) } else { ExitCode::SUCCESS })
        }
        None if arguments.json && !arguments.stdio => {
            converse::farewell(transport, outcome).await?;
            print(&report.json()?)?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            if arguments.json {
                print(&report.json()?)?;
            }
            converse::converse(transport, outcome).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn print_json(mut exchange: Exchange, report: Report<'_>) -> Result<()> {
    let response = HttpResponse::read(&mut exchange).await?;
    exchange.finish().await;
    print(&report.with(response).json()?)
}

async fn print_body(mut exchange: Exchange, include: bool) -> Result<()> {
    let mut output = Output::open();
    let mut read = !include || output.write(head(&exchange)).await;
    let complete = loop {
        match exchange.next().await {
            Ok(Some(part)) if read => read = output.write(part.to_vec()).await,
            Ok(Some(_) | None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    // What came is written out also where the rest is missing.
    output.finish().await?;
    complete?;
    exchange.finish().await;
    Ok(())
}

fn print(text: &str) -> Result<()> {
    ui::print(&mut io::stdout().lock(), text)
}

/// What the operator is told besides data and errors: in the log, and on standard error where the log isn't there too.
#[derive(Clone, Copy)]
struct Voice {
    quiet: bool,
    /// Whether warnings in the log are seen on standard error.
    logged: bool,
}

impl Voice {
    fn new(quiet: bool, logging: &Logging) -> Self {
        Self { quiet, logged: logging.console && logging.level >= LogLevel::Warn }
    }

    fn warn(self, text: &str) {
        tracing::warn!("{text}");
        if !self.quiet && !self.logged {
            ui::say(PROGRAM, text);
        }
    }

    /// Like a warning, but not to be silenced.
    fn alarm(self, text: &str) {
        Self { quiet: false, ..self }.warn(text);
    }

    fn retry(self, retry: &Retry<'_>) {
        let Retry { error, number, of, pause } = retry;
        let seconds = format!("{:.2}", pause.as_secs_f64());
        tracing::warn!(error = error.message(), retry = number, of, pause = seconds, "trying again");
        if !self.quiet && !self.logged {
            ui::say(PROGRAM, &format!("{}; trying again in {seconds} s ({number} of {of})", error.message()));
        }
    }
}
