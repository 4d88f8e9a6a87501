//! Idle connections: what memory they take, and whether they slow newcomers down.

use std::time::Duration;

use qtls_core::{Error, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::arguments::{Amount, Idle};
use super::load::{Handshaking, Outcome, generate};
use super::report::{IdleFigures, Report};
use super::requests::get;
use super::runtime;
use super::site::Site;

/// Measures idle connections.
///
/// # Errors
/// A connection that failed, or a server whose memory can't be read.
pub(super) fn idle(options: &Idle) -> Result<()> {
    let site = Site::new(&options.target)?;
    let Some(server) = site.server else {
        return Err(Error::configuration("the memory of which process? None is given")
            .at("--pid")
            .hint("name the server's main process"));
    };
    allow_descriptors(u64::from(options.connections) + 256)?;
    let facts = site.look(false)?;
    let amount = Amount { count: options.newcomers.max(1), warm_up: 200, concurrency: 8, threads: 1, rate: None };
    let newcomers = || generate(Some(server), &amount, || Handshaking::full(site.clone()));
    let alone = newcomers()?;
    let runtime = runtime()?;
    let local = LocalSet::new();
    std::thread::sleep(options.settle);
    let before = server.pss()?;
    let held = local.block_on(&runtime, async {
        let mut held = Vec::new();
        for _ in 0..options.connections {
            let (stream, _) = site.connect(false).await?;
            held.push(match &options.request {
                None => Held::Stream(Box::new(stream)),
                Some(path) => {
                    let mut http = Site::http(stream).await?;
                    http.ask(get(path, &site.authority())?).await?;
                    Held::Http(http)
                }
            });
        }
        Ok::<_, Error>(held)
    })?;
    std::thread::sleep(options.settle);
    let after = server.pss()?;
    let beside = newcomers()?;
    // Whoever closed one of them in between was not measured idle.
    local.block_on(&runtime, async {
        // Nobody has looked at the sockets meanwhile.
        tokio::time::sleep(LOOK).await;
        for held in held {
            held.check().await?;
        }
        Ok::<_, Error>(())
    })?;
    let cpu = |outcome: &Outcome| outcome.window.cpu.map_or(0.0, |cpu| cpu.total().as_secs_f64() * 1e6);
    let each = |outcome: &Outcome| cpu(outcome) / outcome.latencies.count() as f64;
    let figures =
        IdleFigures { connections: options.connections, before, after, alone: each(&alone), beside: each(&beside) };
    Report::new("idle", &facts).idle(figures).print(options.target.json)
}

/// How long the runtime gets to see what the sockets have.
const LOOK: Duration = Duration::from_millis(100);

/// A connection that is kept.
enum Held {
    Stream(Box<qtls_proxy::stream::TlsStream>),
    Http(super::site::Http),
}

impl Held {
    async fn check(self) -> Result<()> {
        let is_open = match self {
            Self::Stream(mut stream) => timeout(Duration::ZERO, stream.read(&mut [0])).await.is_err(),
            Self::Http(http) => http.is_open(),
        };
        if is_open {
            return Ok(());
        }
        Err(Error::new(qtls_core::Fault::Connection, "the server closed an idle connection during the measurement")
            .hint("raise its idle and keep-alive time-outs, and its limits"))
    }
}

/// Lets this process have so many descriptors.
fn allow_descriptors(count: u64) -> Result<()> {
    let limits = getrlimit(Resource::Nofile);
    if limits.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    let maximum = limits.maximum.map(|maximum| maximum.max(count));
    for maximum in [limits.maximum, maximum] {
        if setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum }).is_ok() {
            return Ok(());
        }
    }
    Err(Error::configuration(format!("{count} connections need as many descriptors, and the system allows fewer"))
        .at("--connections")
        .hint("raise the limit: ulimit -n"))
}
