//! What Prometheus sees. [`table`] declares every metric; docs/OPERATIONS.md is made from it.

mod exposure;
mod fallbacks;
mod offers;
#[cfg(target_os = "linux")]
mod process;
mod reading;
mod sessions;
mod starttls;
pub mod table;
mod tunnels;
mod upstreams;
mod worker;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use prometheus::core::Collector;
use prometheus::{
    Counter, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};
use qtls_core::policy::Rule;
use qtls_core::sessions::SessionCounters;
use qtls_core::version::{CRYPTO_MODULE, FLAVOUR, VERSION};
use qtls_core::{Error, Result};

use self::exposure::Exposure;
use self::fallbacks::Fallbacks;
use self::offers::Offers;
use self::sessions::Sessions;
use self::starttls::Starttls;
use self::table::{Kind, Row};
use self::tunnels::Tunnels;
use self::upstreams::Upstreams;
use super::logs::Counts;
use super::view::View;
use crate::sandbox::{Part, State};

pub use self::exposure::Tally;
pub use self::fallbacks::{Fallback, Prefix};
pub use self::reading::Reading;
pub(crate) use self::starttls::PostgresSession;
pub use self::tunnels::{OpenTunnel, TunnelMeter};
pub use self::upstreams::{OpenUpstream, UpstreamMeter};
pub use self::worker::WorkerMetrics;

/// Every metric of a server. One value for the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    handshakes: IntCounterVec,
    failures: IntCounterVec,
    seconds: Histogram,
    active: IntGauge,
    connections: IntCounter,
    silent: IntCounter,
    proxy_errors: IntCounterVec,
    exposure: Exposure,
    selected: IntCounterVec,
    expiry: IntGaugeVec,
    offers: Offers,
    fallbacks: Fallbacks,
    reloads: IntCounterVec,
    limit_hits: IntCounterVec,
    refused: IntCounterVec,
    waiting: IntGauge,
    redirects: IntCounterVec,
    limit_values: IntGaugeVec,
    report_refusals: IntCounterVec,
    last_reload: Mutex<Option<Reload>>,
    generation: IntGauge,
    ready: IntGauge,
    sandbox: IntGaugeVec,
    upstreams: Upstreams,
    tunnels: Tunnels,
    starttls: Starttls,
    #[cfg(target_os = "linux")]
    process: process::Process,
    sessions: Sessions,
    session_counters: OnceLock<Arc<SessionCounters>>,
    /// Held while the metrics are brought up to date and read.
    reading: Mutex<()>,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// A name stands twice, which is a bug.
    pub fn new() -> Result<Self> {
        Self::with(table::TABLE, &table::BYTES)
    }

    /// Those of tunnels, all at zero. What tunnels have no part in can be counted, and is not shown.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn of_tunnels() -> Result<Self> {
        Self::with(table::TUNNELS, &table::TUNNEL_BYTES)
    }

    /// With `rows` to be shown, among them `bytes`.
    fn with(rows: &[&Row], bytes: &Row) -> Result<Self> {
        let registry = Registry::new();
        let new = Maker { registry: &registry, rows };
        registry.register(Box::new(Counts::new().map_err(bug)?)).map_err(bug)?;
        let build = new.gauges(&table::BUILD)?;
        build.with_label_values(&[VERSION, FLAVOUR, CRYPTO_MODULE]).set(1);
        let sandbox = new.gauges(&table::SANDBOX)?;
        Part::ALL.iter().for_each(|part| sandbox.with_label_values(&[part.name()]).set(0));
        Ok(Self {
            handshakes: new.counters(&table::HANDSHAKES)?,
            failures: new.counters(&table::FAILURES)?,
            seconds: new.histogram(&table::HANDSHAKE_SECONDS)?,
            active: new.gauge(&table::CONNECTIONS_ACTIVE)?,
            connections: new.counter(&table::CONNECTIONS)?,
            silent: new.counter(&table::SILENT)?,
            proxy_errors: new.counters(&table::PROXY_ERRORS)?,
            exposure: Exposure::new(new.counters(bytes)?),
            selected: new.counters(&table::SELECTED)?,
            expiry: new.gauges(&table::EXPIRY)?,
            offers: Offers::new(
                new.counter(&table::CLIENT_HELLOS)?,
                &new.counters(&table::CLIENT_GROUPS)?,
                &new.counters(&table::CLIENT_SCHEMES)?,
            ),
            fallbacks: Fallbacks::default(),
            reloads: new.counters(&table::RELOADS)?,
            limit_hits: new.counters(&table::LIMIT_HITS)?,
            refused: new.counters(&table::REFUSED)?,
            waiting: new.gauge(&table::WAITING)?,
            redirects: new.counters(&table::REDIRECTS)?,
            limit_values: new.gauges(&table::LIMIT_VALUE)?,
            report_refusals: new.counters(&table::REPORT_REFUSALS)?,
            last_reload: Mutex::default(),
            generation: new.gauge(&table::GENERATION)?,
            ready: new.gauge(&table::READY)?,
            sandbox,
            upstreams: Upstreams {
                up: new.gauges(&table::UPSTREAM_UP)?,
                active: new.gauges(&table::UPSTREAM_CONNECTIONS)?,
                requests: new.counters(&table::UPSTREAM_REQUESTS)?,
                errors: new.counters(&table::UPSTREAM_ERRORS)?,
                seconds: new.histograms(&table::UPSTREAM_SECONDS)?,
                handshakes: new.counters(&table::UPSTREAM_HANDSHAKES)?,
                held: new.gauges(&table::UPSTREAM_HELD)?,
                passed_on: new.counters(&table::UPSTREAM_PASSED_ON)?,
                out: new.counters(&table::UPSTREAM_OUT)?,
                checks: new.counters(&table::UPSTREAM_CHECKS)?,
                lookups: new.counters(&table::UPSTREAM_LOOKUPS)?,
                bytes: new.counters(&table::UPSTREAM_BYTES)?,
                tallies: Arc::default(),
            },
            tunnels: Tunnels {
                up: new.gauges(&table::TUNNEL_UP)?,
                active: new.gauges(&table::TUNNEL_CONNECTIONS)?,
                connections: new.counters(&table::TUNNEL_CONNECTIONS_TOTAL)?,
                retries: new.counters(&table::TUNNEL_RETRIES)?,
                failures: new.counters(&table::TUNNEL_FAILURES)?,
            },
            starttls: Starttls {
                begun: new.counters(&table::STARTTLS)?,
                sessions: new.gauge(&table::POSTGRES_SESSIONS)?,
                cancels: new.counters(&table::POSTGRES_CANCELS)?,
            },
            #[cfg(target_os = "linux")]
            process: process::Process::new(
                new.register(&table::PROCESS_CPU, Counter::with_opts(table::PROCESS_CPU.options()))?,
                [
                    new.gauge(&table::PROCESS_RESIDENT)?,
                    new.gauge(&table::PROCESS_VIRTUAL)?,
                    new.gauge(&table::PROCESS_FDS)?,
                    new.gauge(&table::PROCESS_MAX_FDS)?,
                    new.gauge(&table::PROCESS_THREADS)?,
                    new.gauge(&table::PROCESS_START)?,
                ],
            ),
            sessions: Sessions {
                cached: new.gauge(&table::SESSIONS)?,
                evictions: new.counter(&table::SESSION_EVICTIONS)?,
                lookups: new.counters(&table::SESSION_LOOKUPS)?,
                tickets: new.counters(&table::TICKETS)?,
            },
            session_counters: OnceLock::new(),
            reading: Mutex::default(),
            registry,
        })
    }

    /// All metrics at this moment; of what is configured, those that `view` has.
    pub fn read(&self, view: &View) -> Reading {
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.exposure.collect();
        self.offers.collect();
        self.upstreams.collect();
        if let Some(counted) = self.session_counters.get() {
            self.sessions.refresh(counted);
        }
        #[cfg(target_os = "linux")]
        self.process.refresh();
        self.generation.set(i64::try_from(view.generation).unwrap_or(i64::MAX));
        self.ready.set(i64::from(view.ready));
        self.upstreams.up.reset();
        self.upstreams.held.reset();
        for server in &view.upstreams {
            let held = i64::try_from(server.held.as_secs_f64().ceil() as u64).unwrap_or(i64::MAX);
            self.upstreams.held.with_label_values(&[server.name.as_str()]).set(held);
            self.upstreams.up.with_label_values(&[server.name.as_str()]).set(i64::from(server.up));
        }
        self.expiry.reset();
        for certificate in &view.certificates {
            let seconds = certificate.expires();
            let gauge = self.expiry.with_label_values(&[certificate.name.as_str()]);
            // Files in several directories may have one name.
            gauge.set(if gauge.get() == 0 { seconds } else { gauge.get().min(seconds) });
        }
        Reading::new(self.registry.gather())
    }

    /// The counters at this moment, and everything else as it was last read.
    pub(crate) fn counted(&self) -> Reading {
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.exposure.collect();
        self.offers.collect();
        self.upstreams.collect();
        Reading::new(self.registry.gather())
    }

    /// Where sessions and tickets are counted.
    pub fn counts_sessions(&self, counted: &Arc<SessionCounters>) {
        let _ = self.session_counters.set(counted.clone());
    }

    /// The sandbox is what it will be for as long as the process lives.
    pub fn sandbox(&self, state: &State) {
        for (part, _) in state.parts() {
            self.sandbox.with_label_values(&[part.name()]).set(state.has(part).into());
        }
    }

    /// A connection was accepted. It counts as open until the value is dropped.
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        self.active.inc();
        OpenConnection(self.active.clone())
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> i64 {
        self.active.get()
    }

    /// The clients that fell back to classical key exchange most, of the last 12 to 24 hours: at most `most`, the first
    /// ones first.
    pub fn fallbacks(&self, most: usize) -> Vec<Fallback> {
        self.fallbacks.top(most)
    }

    /// A handshake failed for this reason, one of those in the table.
    pub fn handshake_failure(&self, reason: &'static str) {
        debug_assert!(is_known(&table::FAILURES, reason), "{reason} is not in the list");
        self.failures.with_label_values(&[reason]).inc();
    }

    /// A request on the port of plain HTTP had this result, one of those in the table.
    pub fn redirect(&self, result: &'static str) {
        debug_assert!(is_known(&table::REDIRECTS, result), "{result} is not in the list");
        self.redirects.with_label_values(&[result]).inc();
    }

    /// A client closed before it sent a byte.
    pub fn silent_connection(&self) {
        self.silent.inc();
    }

    /// A connection was refused for its PROXY header, for one of the reasons in the table.
    pub fn proxy_header_refused(&self, reason: &'static str) {
        debug_assert!(is_known(&table::PROXY_ERRORS, reason), "{reason} is not in the list");
        self.proxy_errors.with_label_values(&[reason]).inc();
    }

    /// A reload was applied, or refused for the reason given.
    pub fn reload(&self, trigger: impl fmt::Display, refused: Option<String>) {
        self.reloads.with_label_values(&[if refused.is_none() { "applied" } else { "refused" }]).inc();
        let last = Reload { at: SystemTime::now(), trigger: trigger.to_string(), refused };
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    /// The last reload.
    pub fn last_reload(&self) -> Option<Reload> {
        self.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A limit was met, one of those in the table.
    pub fn limit_hit(&self, limit: &'static str) {
        debug_assert!(is_known(&table::LIMIT_HITS, limit), "{limit} is not in the list");
        self.limit_hits.with_label_values(&[limit]).inc();
    }

    /// A connection was refused because of a limit, one of those in the table.
    pub fn connection_refused(&self, limit: &'static str) {
        debug_assert!(is_known(&table::REFUSED, limit), "{limit} is not in the list");
        self.refused.with_label_values(&[limit]).inc();
    }

    /// A limit, one of those in the table, has this value. 0 is none.
    pub fn limit_value(&self, limit: &'static str, value: i64) {
        debug_assert!(is_known(&table::LIMIT_VALUE, limit), "{limit} is not in the list");
        self.limit_values.with_label_values(&[limit]).set(value);
    }

    /// An accepted connection waits, until the value is dropped.
    pub fn waiting(&self) -> WaitingConnection {
        self.waiting.inc();
        WaitingConnection(self.waiting.clone())
    }

    /// A client was served that the policy which is tried would refuse by this rule.
    pub fn report_refusal(&self, rule: Rule) {
        self.report_refusals.with_label_values(&[rule.name()]).inc();
    }

    /// What is counted of one server behind, by its address as configured.
    pub fn upstream(&self, address: &str) -> UpstreamMeter {
        self.upstreams.server(address)
    }

    /// What is counted of one tunnel, by where it listens.
    pub fn tunnel(&self, name: &str) -> TunnelMeter {
        self.tunnels.tunnel(name)
    }
}

/// An accepted connection that waits, for as long as this value lives.
#[derive(Debug)]
pub struct WaitingConnection(IntGauge);

impl Drop for WaitingConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// When.
    pub at: SystemTime,
    /// What it came from.
    pub trigger: String,
    /// Why it was refused; `None` where it was applied.
    pub refused: Option<String>,
}

/// An open connection, for as long as this value lives.
#[derive(Debug)]
pub struct OpenConnection(IntGauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Makes metrics from rows of the table.
struct Maker<'a> {
    registry: &'a Registry,
    /// Those that are shown.
    rows: &'a [&'a Row],
}

impl Maker<'_> {
    fn register<C: Collector + Clone + 'static>(&self, row: &Row, metric: prometheus::Result<C>) -> Result<C> {
        let metric = metric.map_err(bug)?;
        if self.rows.iter().any(|shown| shown.name == row.name) {
            self.registry.register(Box::new(metric.clone())).map_err(bug)?;
        }
        Ok(metric)
    }

    fn counter(&self, row: &Row) -> Result<IntCounter> {
        self.register(row, IntCounter::with_opts(row.options()))
    }

    fn gauge(&self, row: &Row) -> Result<IntGauge> {
        self.register(row, IntGauge::with_opts(row.options()))
    }

    fn histogram(&self, row: &Row) -> Result<Histogram> {
        self.register(row, Histogram::with_opts(buckets(row)))
    }

    /// Values that are known, of one label or two, are there from the start: a rate has a beginning then.
    fn counters(&self, row: &Row) -> Result<IntCounterVec> {
        let counters = self.register(row, IntCounterVec::new(row.options(), &row.label_names()))?;
        let known = |label: &table::Label| label.values.known().unwrap_or_default();
        match row.labels {
            [label] => {
                for value in known(label) {
                    counters.with_label_values(&[value]);
                }
            }
            [first, second] => {
                for one in known(first) {
                    for other in known(second) {
                        counters.with_label_values(&[one, other]);
                    }
                }
            }
            _ => {}
        }
        Ok(counters)
    }

    fn gauges(&self, row: &Row) -> Result<IntGaugeVec> {
        self.register(row, IntGaugeVec::new(row.options(), &row.label_names()))
    }

    fn histograms(&self, row: &Row) -> Result<HistogramVec> {
        self.register(row, HistogramVec::new(buckets(row), &row.label_names()))
    }
}

fn buckets(row: &Row) -> HistogramOpts {
    let bounds = match row.kind {
        Kind::Histogram(bounds) => bounds.to_vec(),
        Kind::Counter | Kind::Gauge => Vec::new(),
    };
    HistogramOpts::from(row.options()).buckets(bounds)
}

fn is_known(row: &Row, value: &str) -> bool {
    row.labels.iter().any(|label| label.values.known().is_none_or(|values| values.contains(&value)))
}

fn bug(error: prometheus::Error) -> Error {
    Error::internal(format!("a metric can't be registered: {error}"))
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

#[cfg(test)]
mod tests;
