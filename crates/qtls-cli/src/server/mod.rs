//! `qtls-server`: terminates TLS and hands the plaintext on.

mod demo;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use qtls_core::version::VERSION;
use qtls_core::{Error, Result};
use qtls_proxy::config::{self, Loaded, ServerConfig, Source};
use qtls_proxy::observe::logs;
use qtls_proxy::plan::Plan;
use qtls_proxy::server::Server;
use tracing::{error, info, warn};

use crate::ui;

const PROGRAM: &str = "qtls-server";
const DEFAULT_CONFIG: &str = "/etc/qtls/config/server.json";

/// Runs the server with the process' arguments. Exit codes: 0 stopped by a signal, 2 wrong command line, configuration
/// or certificate, 1 anything else.
pub fn main() -> ExitCode {
    ui::finish(PROGRAM, run(&Arguments::parse()))
}

/// Terminate post-quantum TLS 1.3 in front of a service
///
/// Without --config, the configuration is /etc/qtls/config/server.json if it is there. Without that, the environment and
/// the certificates in /etc/qtls/certs suffice: server-cert.pem and server-key.pem.
///
/// SIGTERM and SIGINT stop the server: open connections may finish within server.drain_timeout; a second signal closes
/// them at once.
#[derive(Parser)]
#[command(name = PROGRAM, version = VERSION)]
#[command(after_help = "\
Environment: QTLS_SERVER_PORT, QTLS_HYBRID_MODE, QTLS_LOG_LEVEL, and any key as QTLS__SECTION__KEY.
Precedence: --set, environment, file, default.

Exit codes: 0 stopped by a signal, 1 internal error, 2 wrong command line, configuration or certificate")]
struct Arguments {
    /// The configuration: JSON with comments
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Do everything that a start does, short of opening sockets, and tell what was found
    #[arg(long)]
    test_config: bool,
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

fn run(arguments: &Arguments) -> Result<()> {
    let loaded = load(arguments)?;
    if arguments.test_config {
        return test(loaded);
    }
    logs::init(&loaded.value.logging).map_err(|error| loaded.origins.locate("logging.file", error))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("a bug: {panic}")));
    info!("{PROGRAM} {VERSION}");
    let on_console = loaded.value.logging.console;
    serve(loaded).inspect_err(|error| {
        // It is printed at the end in any case: on the console, once is enough.
        if !on_console {
            error!("{}", error.one_line());
        }
    })
}

fn serve(loaded: Loaded<ServerConfig>) -> Result<()> {
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
    Server::bind(plan)?.run()
}

fn test(loaded: Loaded<ServerConfig>) -> Result<()> {
    let plan = Plan::new(loaded)?;
    for warning in &plan.warnings {
        ui::say(PROGRAM, &format!("warning: {warning}"));
    }
    logs::check(&plan.config.logging).map_err(|error| plan.origins.locate("logging.file", error))?;
    match plan.problems.first() {
        Some(problem) => Err(problem.clone()),
        None => ui::print(
            &mut io::stdout().lock(),
            &format!("the configuration is good: {}\n", plan.summary().join("\n  ")),
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
    use clap::CommandFactory;

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
