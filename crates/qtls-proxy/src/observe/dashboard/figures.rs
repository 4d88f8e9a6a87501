//! Every figure of the dashboard: what the page is made of, and what `/dashboard.json` says.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use qtls_core::policy::{Group, Named, SCHEMES};
use qtls_core::version::{CRYPTO_MODULE, FLAVOUR, VERSION};
use serde::Serialize;

use super::history::{Counts, Slots, group_names, scheme_names, whole};
use crate::observe::metrics::table::{self, Row};
use crate::observe::metrics::{Fallback, Reading, Reload};
use crate::observe::view::{Certificate, UpstreamServer, View};

/// How many clients that fall back are shown.
pub(super) const FALLBACKS: usize = 20;

/// Every figure. Times are Unix times in seconds, sizes are bytes.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) at: u64,
    pub(super) server: Server,
    pub(super) process: Process,
    pub(super) connections: Connections,
    pub(super) handshakes: Handshakes,
    pub(super) clients: Clients,
    pub(super) exposure: Exposure,
    pub(super) fallbacks: Vec<FallbackFigures>,
    pub(super) certificates: Vec<CertificateFigures>,
    pub(super) upstreams: Vec<UpstreamFigures>,
    /// Whether keys are in a hardware security module.
    pub(super) hsm: &'static str,
    pub(super) failures: Vec<Count>,
    pub(super) limits: Vec<LimitFigures>,
    pub(super) report: Vec<Count>,
    pub(super) history: Histories,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) listens: String,
    pub(super) version: &'static str,
    pub(super) flavour: &'static str,
    pub(super) crypto_module: &'static str,
    pub(super) phase: &'static str,
    pub(super) ready: bool,
    pub(super) generation: u64,
    pub(super) started: u64,
    pub(super) uptime: u64,
    pub(super) reloads_applied: u64,
    pub(super) reloads_refused: u64,
    pub(super) last_reload: Option<LastReload>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct LastReload {
    pub(super) at: u64,
    pub(super) trigger: String,
    pub(super) refused: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_memory: u64,
    pub(super) virtual_memory: u64,
    pub(super) open_fds: u64,
    pub(super) max_fds: u64,
    pub(super) threads: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Connections {
    pub(super) active: u64,
    pub(super) total: u64,
    pub(super) silent: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Handshakes {
    pub(super) total: u64,
    pub(super) post_quantum: u64,
    pub(super) classical: u64,
    pub(super) resumed: u64,
    pub(super) hello_retry: u64,
    pub(super) failed: u64,
    /// Since the last minute began.
    pub(super) per_second: f64,
    /// How long one took on average, in seconds.
    pub(super) mean_seconds: Option<f64>,
    pub(super) last_hour: Share,
    pub(super) last_day: Share,
    pub(super) groups: Vec<Count>,
    pub(super) schemes: Vec<Count>,
    pub(super) suites: Vec<Count>,
}

/// How many there were, and how many of them were post-quantum.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Share {
    pub(super) total: u64,
    pub(super) post_quantum: u64,
    pub(super) failed: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Count {
    pub(super) name: String,
    /// Whether what has this name is post-quantum; `None` where that is no question.
    pub(super) post_quantum: Option<bool>,
    pub(super) count: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Clients {
    pub(super) hellos: u64,
    pub(super) groups: Vec<Count>,
    pub(super) schemes: Vec<Count>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Exposure {
    pub(super) classical: Bytes,
    pub(super) post_quantum: Bytes,
    pub(super) names: Vec<NameExposure>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Bytes {
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Bytes {
    pub(super) fn sum(self) -> u64 {
        self.received + self.sent
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct NameExposure {
    pub(super) server_name: String,
    pub(super) classical: Bytes,
    pub(super) post_quantum: Bytes,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct FallbackFigures {
    pub(super) network: String,
    pub(super) server_name: Option<String>,
    pub(super) count: u64,
    /// By how much `count` may be too high.
    pub(super) over: u64,
    pub(super) last: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct CertificateFigures {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) post_quantum: bool,
    pub(super) names: Vec<String>,
    pub(super) origin: String,
    pub(super) expires: u64,
    /// Whole days until then; negative since then.
    pub(super) days_left: i64,
    pub(super) state: CertificateState,
    pub(super) selected: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CertificateState {
    Valid,
    /// Within [`SOON`] days.
    ExpiresSoon,
    Expired,
    NotYetValid,
}

/// When it is time to renew, in days.
const SOON: i64 = 30;

#[derive(Clone, Debug, Serialize)]
pub(super) struct UpstreamFigures {
    pub(super) name: String,
    pub(super) up: bool,
    /// How long it is kept out of use yet, whatever it does.
    pub(super) held_seconds: u64,
    pub(super) connections: u64,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) errors_by_reason: Vec<Count>,
    /// How long connecting took on average, in seconds.
    pub(super) mean_connect_seconds: Option<f64>,
}

/// A limit. Those of time have no value here.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LimitFigures {
    pub(super) name: String,
    pub(super) value: Option<u64>,
    pub(super) hits: u64,
    pub(super) refused: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Histories {
    pub(super) hour: Series,
    pub(super) day: Series,
}

/// What happened in each of a number of slots, the last of which ends now.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Series {
    pub(super) slot_seconds: u64,
    pub(super) groups: Vec<Line>,
    pub(super) schemes: Vec<Line>,
    pub(super) failures: Vec<u64>,
    pub(super) classical_bytes: Vec<u64>,
    pub(super) post_quantum_bytes: Vec<u64>,
}

/// The counts of one name, a slot each.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) post_quantum: Option<bool>,
    pub(super) counts: Vec<u64>,
}

/// What the figures are made from.
pub(super) struct Sources<'a> {
    pub(super) host: &'a str,
    pub(super) listens: String,
    pub(super) now: SystemTime,
    pub(super) uptime: u64,
    pub(super) reading: &'a Reading,
    pub(super) view: &'a View,
    pub(super) last_reload: Option<Reload>,
    pub(super) fallbacks: Vec<Fallback>,
    pub(super) minute: Vec<Counts>,
    pub(super) hour: Slots,
    pub(super) day: Slots,
}

impl Figures {
    pub(super) fn of(sources: &Sources<'_>) -> Self {
        let Sources { reading, view, .. } = *sources;
        let count = |row: &Row, labels: &[(&str, &str)]| whole(reading.sum(row, labels));
        let now = seconds(sources.now);
        Self {
            at: now,
            server: server(sources, now),
            process: Process {
                cpu_seconds: reading.sum(&table::PROCESS_CPU, &[]),
                resident_memory: count(&table::PROCESS_RESIDENT, &[]),
                virtual_memory: count(&table::PROCESS_VIRTUAL, &[]),
                open_fds: count(&table::PROCESS_FDS, &[]),
                max_fds: count(&table::PROCESS_MAX_FDS, &[]),
                threads: count(&table::PROCESS_THREADS, &[]),
            },
            connections: Connections {
                active: count(&table::CONNECTIONS_ACTIVE, &[]),
                total: count(&table::CONNECTIONS, &[]),
                silent: count(&table::SILENT, &[]),
            },
            handshakes: handshakes(sources),
            clients: Clients {
                hellos: count(&table::CLIENT_HELLOS, &[]),
                groups: counts(reading.by(&table::CLIENT_GROUPS, "group", &[]), is_group_post_quantum),
                schemes: counts(reading.by(&table::CLIENT_SCHEMES, "scheme", &[]), is_scheme_post_quantum),
            },
            exposure: exposure(reading),
            fallbacks: sources.fallbacks.iter().map(fallback).collect(),
            certificates: view.certificates.iter().map(|found| certificate(found, sources.now, reading)).collect(),
            upstreams: view.upstreams.iter().map(|found| upstream(found, reading)).collect(),
            hsm: "not in use",
            failures: counts(reading.by(&table::FAILURES, "reason", &[]), |_| None),
            limits: limits(reading),
            report: counts(reading.by(&table::REPORT_REFUSALS, "rule", &[]), |_| None),
            history: Histories { hour: Series::of(&sources.hour), day: Series::of(&sources.day) },
        }
    }
}

/// Limits that are in force, or were met.
fn limits(reading: &Reading) -> Vec<LimitFigures> {
    let values = reading.by(&table::LIMIT_VALUE, "limit", &[]);
    let refused = reading.by(&table::REFUSED, "limit", &[]);
    let hits = reading.by(&table::LIMIT_HITS, "limit", &[]).into_iter();
    let figures = hits.map(|(name, hits)| LimitFigures {
        value: values.get(&name).map(|value| whole(*value)).filter(|value| *value > 0),
        refused: refused.get(&name).map_or(0, |count| whole(*count)),
        hits: whole(hits),
        name,
    });
    figures.filter(|limit| limit.value.is_some() || limit.hits > 0).collect()
}

fn server(sources: &Sources<'_>, now: u64) -> Server {
    let reloads = |result| whole(sources.reading.sum(&table::RELOADS, &[("result", result)]));
    Server {
        host: sources.host.to_owned(),
        listens: sources.listens.clone(),
        version: VERSION,
        flavour: FLAVOUR,
        crypto_module: CRYPTO_MODULE,
        phase: sources.view.phase,
        ready: sources.view.ready,
        generation: sources.view.generation,
        started: now.saturating_sub(sources.uptime),
        uptime: sources.uptime,
        reloads_applied: reloads("applied"),
        reloads_refused: reloads("refused"),
        last_reload: sources.last_reload.as_ref().map(|reload| LastReload {
            at: seconds(reload.at),
            trigger: reload.trigger.clone(),
            refused: reload.refused.clone(),
        }),
    }
}

fn handshakes(sources: &Sources<'_>) -> Handshakes {
    let reading = sources.reading;
    let count = |labels: &[(&str, &str)]| whole(reading.sum(&table::HANDSHAKES, labels));
    let by = |label| reading.by(&table::HANDSHAKES, label, &[]);
    let (measured, took) = reading.seen(&table::HANDSHAKE_SECONDS, &[]);
    Handshakes {
        total: count(&[]),
        post_quantum: count(&[("pq", "true")]),
        classical: count(&[("pq", "false")]),
        resumed: count(&[("resumed", "true")]),
        hello_retry: count(&[("hrr", "true")]),
        failed: whole(reading.sum(&table::FAILURES, &[])),
        per_second: per_second(&sources.minute, sources.uptime),
        mean_seconds: (measured > 0).then(|| took / measured as f64),
        last_hour: Share::of(&sources.hour.sum()),
        last_day: Share::of(&sources.day.sum()),
        groups: counts(by("group"), is_group_post_quantum),
        schemes: counts(by("scheme"), is_scheme_post_quantum),
        suites: counts(by("suite"), |_| None),
    }
}

/// The rate of the slots of the last minute that are over; in the first of them, of the time since the start.
fn per_second(minute: &[Counts], uptime: u64) -> f64 {
    let Some((current, over)) = minute.split_last() else { return 0.0 };
    let sum = over.iter().map(Counts::handshakes).sum::<u64>();
    match uptime / super::history::FINE.as_secs() {
        0 => current.handshakes() as f64 / uptime.max(1) as f64,
        slots => sum as f64 / (slots * super::history::FINE.as_secs()).min(60) as f64,
    }
}

impl Share {
    fn of(counts: &Counts) -> Self {
        Self { total: counts.handshakes(), post_quantum: counts.post_quantum(), failed: counts.failures }
    }
}

/// Those that occurred, the most frequent first.
fn counts(found: BTreeMap<String, f64>, is_post_quantum: impl Fn(&str) -> Option<bool>) -> Vec<Count> {
    let mut counts: Vec<_> = found
        .into_iter()
        .map(|(name, count)| Count { post_quantum: is_post_quantum(&name), name, count: whole(count) })
        .filter(|count| count.count > 0)
        .collect();
    counts.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.name.cmp(&other.name)));
    counts
}

fn is_group_post_quantum(name: &str) -> Option<bool> {
    Group::ALL.iter().find(|group| group.iana_name() == name).map(|group| group.is_post_quantum())
}

fn is_scheme_post_quantum(name: &str) -> Option<bool> {
    SCHEMES.iter().find(|(_, known)| *known == name).map(|(_, known)| known.starts_with("mldsa"))
}

fn exposure(reading: &Reading) -> Exposure {
    let bytes = |labels: &[(&str, &str)]| {
        let direction = |direction| {
            let labels: Vec<_> = labels.iter().copied().chain([("direction", direction)]).collect();
            whole(reading.sum(&table::BYTES, &labels))
        };
        Bytes { received: direction("received"), sent: direction("sent") }
    };
    let names = reading.by(&table::BYTES, "server_name", &[]).into_keys();
    let mut names: Vec<_> = names
        .map(|name| NameExposure {
            classical: bytes(&[("pq", "false"), ("server_name", &name)]),
            post_quantum: bytes(&[("pq", "true"), ("server_name", &name)]),
            server_name: name,
        })
        .collect();
    let order = |found: &NameExposure| (found.classical.sum(), found.post_quantum.sum());
    names.sort_by(|one, other| order(other).cmp(&order(one)).then_with(|| one.server_name.cmp(&other.server_name)));
    Exposure { classical: bytes(&[("pq", "false")]), post_quantum: bytes(&[("pq", "true")]), names }
}

fn fallback(found: &Fallback) -> FallbackFigures {
    FallbackFigures {
        network: found.network.to_string(),
        server_name: found.server_name.as_deref().map(str::to_owned),
        count: found.count,
        over: found.over,
        last: seconds(found.last),
    }
}

fn certificate(found: &Certificate, now: SystemTime, reading: &Reading) -> CertificateFigures {
    const DAY: u64 = 24 * 3600;
    let days = |seconds: u64| i64::try_from(seconds / DAY).unwrap_or(i64::MAX);
    let (days_left, expired) = match found.not_after.duration_since(now) {
        Ok(left) => (days(left.as_secs()), false),
        Err(since) => (-days(since.duration().as_secs()), true),
    };
    CertificateFigures {
        name: found.name.clone(),
        kind: found.kind.clone(),
        post_quantum: found.post_quantum,
        names: found.names.clone(),
        origin: found.origin.clone(),
        expires: seconds(found.not_after),
        days_left,
        state: match (found.valid, expired) {
            (_, true) => CertificateState::Expired,
            (false, false) => CertificateState::NotYetValid,
            (true, false) if days_left < SOON => CertificateState::ExpiresSoon,
            (true, false) => CertificateState::Valid,
        },
        selected: whole(reading.sum(&table::SELECTED, &[("certificate", &found.name)])),
    }
}

fn upstream(server: &UpstreamServer, reading: &Reading) -> UpstreamFigures {
    let UpstreamServer { name, up, held } = server;
    let labels = [("upstream", name.as_str())];
    let count = |row: &Row| whole(reading.sum(row, &labels));
    let (measured, took) = reading.seen(&table::UPSTREAM_SECONDS, &labels);
    UpstreamFigures {
        name: name.clone(),
        up: *up,
        held_seconds: held.as_secs_f64().ceil() as u64,
        connections: count(&table::UPSTREAM_CONNECTIONS),
        requests: count(&table::UPSTREAM_REQUESTS),
        errors: count(&table::UPSTREAM_ERRORS),
        errors_by_reason: counts(reading.by(&table::UPSTREAM_ERRORS, "reason", &labels), |_| None),
        mean_connect_seconds: (measured > 0).then(|| took / measured as f64),
    }
}

impl Series {
    fn of(slots: &Slots) -> Self {
        let each = |number: fn(&Counts) -> u64| slots.counts.iter().map(number).collect::<Vec<_>>();
        let line = |name, post_quantum, place: &dyn Fn(&Counts) -> u64| {
            let counts: Vec<_> = slots.counts.iter().map(place).collect();
            counts.iter().any(|count| *count > 0).then_some(Line { name, post_quantum, counts })
        };
        Self {
            slot_seconds: slots.length.as_secs(),
            groups: group_names()
                .enumerate()
                .filter_map(|(place, name)| line(name, is_group_post_quantum(name), &|counts| counts.groups[place]))
                .collect(),
            schemes: scheme_names()
                .enumerate()
                .filter_map(|(place, name)| line(name, is_scheme_post_quantum(name), &|counts| counts.schemes[place]))
                .collect(),
            failures: each(|counts| counts.failures),
            classical_bytes: each(|counts| counts.classical_bytes),
            post_quantum_bytes: each(|counts| counts.post_quantum_bytes),
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
