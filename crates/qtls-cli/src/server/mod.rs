//! `qtls-server`: terminates TLS and hands the plaintext on.

mod demo;
mod health;
mod help;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory, Parser};
use qtls_core::version::VERSION;
use qtls_core::{Error, Result};
use qtls_proxy::config::{self, Loaded, ServerConfig, Source};
use qtls_proxy::observe::{audit, logs};
use qtls_proxy::plan::{Plan, located};
use qtls_proxy::reload::Load;
use qtls_proxy::sandbox::{self, Entered, Settings};
use qtls_proxy::server::Server;
use tracing::{error, info, warn};

use crate::ui;
use health::Question;

const PROGRAM: &str = "qtls-server";
const DEFAULT_CONFIG: &str = "/etc/qtls/config/server.json";

/// Runs the server with the process' arguments. Exit codes: 0 stopped by a signal, 2 wrong command line, configuration
/// or certificate, 1 anything else.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(question) = arguments.question() {
        return match load(&arguments).and_then(|loaded| health::ask(question, &loaded)) {
            Ok(()) => ExitCode::SUCCESS,
            // Whatever the reason: for the health checks of containers, other codes are reserved.
            Err(error) => {
                ui::say(PROGRAM, &error.one_line());
                ExitCode::FAILURE
            }
        };
    }
    ui::finish(PROGRAM, run(arguments))
}

/// The command line, for what is generated from it.
pub fn command() -> Command {
    Arguments::command()
}

/// Terminate post-quantum TLS 1.3 in front of a service
///
/// Without --config, the configuration is /etc/qtls/config/server.json if it is there. Without that, the environment and
/// the certificates in /etc/qtls/certs suffice: server-cert.pem and server-key.pem.
///
/// SIGTERM and SIGINT stop the server: open connections may finish within server.drain_timeout; a second signal closes
/// them at once. With server.handover, starting it once more has the new process take over without an interruption.
#[derive(Parser)]
#[command(name = PROGRAM, version = VERSION)]
#[command(after_help = help::SHORT, after_long_help = help::LONG)]
struct Arguments {
    /// The configuration: JSON with comments
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Do everything that a start does, short of opening sockets, and tell what was found
    #[arg(long)]
    test_config: bool,
    /// Ask the running server of this configuration whether it works (/health), print one line, and exit with 0 or 1.
    /// Where the metrics are off, a TLS handshake is made instead
    #[arg(long, conflicts_with = "test_config")]
    health: bool,
    /// As --health, but ask whether it wants new clients (/ready)
    #[arg(long, conflicts_with = "test_config")]
    ready: bool,
    /// Serve on 127.0.0.1 with certificates of a demo CA, which is made where there is none yet
    #[arg(long, conflicts_with = "config")]
    demo: bool,
    /// With --demo: the service to put it in front of, as HOST:PORT or http://HOST:PORT, or tcp://HOST:PORT for any protocol
    #[arg(long, value_name = "ADDRESS", requires = "demo")]
    upstream: Option<String>,
    /// Set one key of the configuration, such as server.listen_port=9443; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    overrides: Vec<(String, String)>,
}

impl Arguments {
    fn question(&self) -> Option<Question> {
        match (self.health, self.ready) {
            (_, true) => Some(Question::Ready),
            (true, _) => Some(Question::Health),
            _ => None,
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let loaded = load(&arguments)?;
    if arguments.test_config {
        return test(loaded);
    }
    let settings = Settings::of(&loaded.value, &loaded.origins)?;
    settings.with_later_rights(|| logs::init(&loaded.value.logging, |error| located(&loaded.origins, error)))??;
    // Until the server has the rights that it keeps.
    logs::hold();
    std::panic::set_hook(Box::new(|panic| tracing::error!("a bug: {panic}")));
    info!("{PROGRAM} {VERSION}");
    let on_console = loaded.value.logging.console;
    serve(loaded, &settings, Box::new(move || load(&arguments))).inspect_err(|error| {
        // It is printed at the end in any case: on the console, once is enough.
        if !on_console {
            error!("{}", error.one_line());
        }
    })
}

fn serve(loaded: Loaded<ServerConfig>, settings: &Settings, load: Load) -> Result<()> {
    let server = prepare(loaded, settings).inspect_err(audit::start_failed)?;
    server.run(load)
}

fn prepare(loaded: Loaded<ServerConfig>, settings: &Settings) -> Result<Server> {
    let plan = Plan::new(loaded)?;
    for warning in &plan.warnings {
        warn!("{warning}");
    }
    for problem in &plan.problems {
        warn!("{}", problem.one_line());
    }
    for line in plan.summary() {
        info!("{line}");
    }
    if let (Some(file), None) = (&plan.config.key_log_file, plan.config.key_log()) {
        info!(
            "SSLKEYLOGFILE is set, and ignored without tls.dangerous_key_log: nothing is written to {}",
            file.display()
        );
    }
    let mut server = Server::bind(plan)?;
    server.enter_sandbox(settings)?;
    Ok(server)
}

fn test(loaded: Loaded<ServerConfig>) -> Result<()> {
    let settings = Settings::of(&loaded.value, &loaded.origins)?;
    let plan = Plan::new(loaded)?;
    for warning in &plan.warnings {
        ui::say(PROGRAM, &format!("warning: {warning}"));
    }
    logs::check(&plan.config.logging).map_err(|error| located(&plan.origins, error))?;
    let Entered { state, problems, .. } = sandbox::rehearse(&settings, &plan.needs, &plan.origins)?;
    if let Some((reasons, hints)) = state.refusals() {
        ui::say(PROGRAM, &format!("warning: sandbox: the system refuses {reasons}\n  hint: {hints}"));
    }
    match plan.problems.iter().chain(&problems).next() {
        Some(problem) => Err(problem.clone()),
        None => ui::print(
            &mut io::stdout().lock(),
            &format!(
                "the configuration is good: {}\n  sandbox ({}): {state}\n",
                plan.summary().join("\n  "),
                settings.mode
            ),
        ),
    }
}

fn load(arguments: &Arguments) -> Result<Loaded<ServerConfig>> {
    if arguments.demo {
        let upstream = arguments.upstream.as_deref().map(demo::Upstream::parse).transpose()?;
        return demo::load(upstream.as_ref(), &arguments.overrides);
    }
    let default = Path::new(DEFAULT_CONFIG);
    let file = arguments.config.clone().or_else(|| default.exists().then(|| default.to_owned()));
    let source = Source { overrides: arguments.overrides.clone(), ..Source::of_process(file)? };
    config::load_server(&source)
}

fn assignment(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as server.listen_port=9443".to_owned()),
    }
}

/// The error for a demo that can't keep its state.
fn state_error(message: impl Into<String>) -> Error {
    Error::configuration(message).hint("set XDG_STATE_HOME to a directory that this user can write")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn assignments_may_have_equal_signs_in_the_value() {
        assert_eq!(assignment("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert!(assignment("a.b").is_err());
        assert!(assignment("=x").is_err());
    }
}
