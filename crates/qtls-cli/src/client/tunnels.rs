//! `qtls-client --tunnel`: carries plain connections to TLS servers until it is stopped.

use std::io;
use std::process::ExitCode;

use qtls_core::version::VERSION;
use qtls_core::{Error, Result};
use qtls_proxy::config::{ClientConfig, Loaded};
use qtls_proxy::observe::{audit, logs};
use qtls_proxy::plan::located;
use qtls_proxy::sandbox::{self, Entered, Settings};
use qtls_proxy::tunnel::{self, Plan, Tunnels};
use tracing::{error, info, warn};

use super::PROGRAM;
use super::arguments::Arguments;
use super::settings::{by_option, configuration};
use crate::ui;

/// Whether the program is to run tunnels. The configuration's are for those who name no server.
pub(super) fn are_meant(arguments: &Arguments, loaded: &Loaded<ClientConfig>) -> bool {
    let once = arguments.host.is_some() || arguments.request.is_some() || arguments.json;
    arguments.test_config || !once && !loaded.value.tunnels.is_empty()
}

/// Runs them. Exit codes: 0 stopped by a signal, 2 wrong configuration or certificate, 1 anything else.
pub(super) fn run(arguments: Arguments, mut loaded: Loaded<ClientConfig>) -> Result<ExitCode> {
    tunnel::prepare(&mut loaded);
    if arguments.test_config {
        return test(loaded).map_err(by_option).map(|()| ExitCode::SUCCESS);
    }
    let settings = Settings::of_tunnels(&loaded.value, &loaded.origins)?;
    settings.with_later_rights(|| logs::init(&loaded.value.logging, |error| located(&loaded.origins, error)))??;
    // Until the process has the rights that it keeps.
    logs::hold();
    std::panic::set_hook(Box::new(|panic| tracing::error!("a bug: {panic}")));
    info!("{PROGRAM} {VERSION}");
    let on_console = loaded.value.logging.console;
    let load = Box::new(move || {
        let mut loaded = configuration(&arguments)?;
        tunnel::prepare(&mut loaded);
        Ok(loaded)
    });
    let outcome = open(loaded, &settings)
        .map_err(by_option)
        .inspect_err(audit::start_failed)
        .and_then(|tunnels| tunnels.run(load));
    outcome.map(|()| ExitCode::SUCCESS).inspect_err(|error: &Error| {
        // It is printed at the end in any case: on the console, once is enough.
        if !on_console {
            error!("{}", error.one_line());
        }
    })
}

fn open(loaded: Loaded<ClientConfig>, settings: &Settings) -> Result<Tunnels> {
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
    let mut tunnels = Tunnels::bind(plan, settings)?;
    tunnels.enter_sandbox(settings)?;
    Ok(tunnels)
}

fn test(loaded: Loaded<ClientConfig>) -> Result<()> {
    let settings = Settings::of_tunnels(&loaded.value, &loaded.origins)?;
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
