//! Every metric, once: its name, its kind, its labels and where their values come from.
//!
//! The registry is made from these rows, and so is the table in docs/OPERATIONS.md. Names and labels are part of the
//! interface: dashboards and alerts of other people rest on them.

use std::fmt::Write;

use prometheus::Opts;
use qtls_core::error::REASONS;
use qtls_core::policy::{CipherSuite, Group, Named, Rule, SCHEMES};

use super::{sessions, upstreams};
use crate::handshake::Failure;
use crate::limits::Limit;
use crate::observe::logs::counts;
use crate::proxy_protocol;
use crate::redirect;
use crate::sandbox::Part;
use crate::starttls::{self, Starttls};
use crate::tunnel;
use crate::upstream;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, with the unit in it where it has one.
    pub name: &'static str,
    /// What kind of metric it is.
    pub kind: Kind,
    /// Its labels, in the order in which values are given.
    pub labels: &'static [Label],
    /// What it says.
    pub help: &'static str,
}

/// What kind of metric a row is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts in buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// A label of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What it can be.
    pub values: Values,
}

/// Where the values of a label come from. No client and no upstream can make one.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// These.
    OneOf(&'static [&'static str]),
    /// The key exchange groups of the policy table, in the names of the registry.
    Groups,
    /// Those, and `other`.
    OfferedGroups,
    /// The signature schemes of the policy table, in the names of the registry, and `none` where a session was resumed.
    Schemes,
    /// Those without `none`, and `other`.
    OfferedSchemes,
    /// The cipher suites of the policy table, in the names of the registry.
    Suites,
    /// The limits on connections.
    Gates,
    /// Those, and the limits of time.
    Limits,
    /// What becomes of a session that a client comes with.
    Lookups,
    /// What becomes of a ticket that a client comes with.
    Tickets,
    /// The levels of the log.
    Levels,
    /// The logs.
    Logs,
    /// The rules of a policy.
    Rules,
    /// The parts of the sandbox.
    Parts,
    /// Why a handshake fails.
    Failures,
    /// Why a PROXY header is refused.
    HeaderFailures,
    /// Why an upstream fails.
    UpstreamFailures,
    /// The protocols that connections begin with before TLS.
    Starttls,
    /// The configuration, or this program: described in words.
    Configured(&'static str),
}

impl Row {
    pub(crate) fn options(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    pub(crate) fn label_names(&self) -> Vec<&'static str> {
        self.labels.iter().map(|label| label.name).collect()
    }
}

impl Kind {
    /// The name in the text format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Values {
    /// All values, where they are known beforehand.
    pub fn known(self) -> Option<Vec<&'static str>> {
        let groups = || Group::ALL.iter().map(|group| group.iana_name());
        let schemes = || SCHEMES.iter().map(|(_, name)| *name);
        let gates = || Limit::ALL.iter().map(|limit| limit.name());
        Some(match self {
            Self::OneOf(values) => values.to_vec(),
            Self::Groups => groups().collect(),
            Self::OfferedGroups => groups().chain([OTHER]).collect(),
            Self::Schemes => schemes().chain([NONE]).collect(),
            Self::OfferedSchemes => schemes().chain([OTHER]).collect(),
            Self::Suites => CipherSuite::ALL.iter().map(|suite| suite.iana_name()).collect(),
            Self::Gates => gates().collect(),
            Self::Limits => gates().chain(["handshake_timeout", "idle_timeout", "connection_timeout"]).collect(),
            Self::Lookups => sessions::LOOKUPS.iter().map(|(_, name)| *name).collect(),
            Self::Tickets => sessions::TICKETS.iter().map(|(_, name)| *name).collect(),
            Self::Levels => counts::LEVELS.iter().map(|(_, name)| *name).collect(),
            Self::Logs => counts::LOGS.to_vec(),
            Self::Rules => Rule::ALL.iter().map(|rule| rule.name()).collect(),
            Self::Parts => Part::ALL.iter().map(|part| part.name()).collect(),
            Self::Failures => {
                let mut reasons = [REASONS, Failure::REASONS, starttls::Refusal::REASONS].concat();
                reasons.sort_unstable();
                reasons
            }
            Self::HeaderFailures => proxy_protocol::REASONS.to_vec(),
            Self::UpstreamFailures => upstream::REASONS.to_vec(),
            Self::Starttls => Starttls::ALL.iter().map(|protocol| protocol.name()).collect(),
            Self::Configured(_) => return None,
        })
    }

    fn in_words(self) -> String {
        match (self, self.known()) {
            (Self::Configured(words), _) => words.to_owned(),
            (_, Some(values)) => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "),
            (_, None) => String::new(),
        }
    }
}

/// The value of a label for what has no value of its own.
pub(crate) const OTHER: &str = "other";
/// The value of a label for what isn't there.
pub(crate) const NONE: &str = "none";

const FLAG: Values = Values::OneOf(&["false", "true"]);
const SERVER_NAME: Values =
    Values::Configured("the DNS names of the certificates, `other` for any other name, and `none` for no name");
const CERTIFICATE: Values = Values::Configured("the names of the files of the certificates, without their endings");
const UPSTREAM: Values = Values::Configured("the servers of `upstream.servers`, as configured");
const TUNNEL: Values = Values::Configured("where each tunnel listens, as configured");

const fn label(name: &'static str, values: Values) -> Label {
    Label { name, values }
}

const fn row(name: &'static str, kind: Kind, labels: &'static [Label], help: &'static str) -> Row {
    Row { name, kind, labels, help }
}

pub(crate) const HANDSHAKES: Row = row(
    "qtls_handshakes_total",
    Kind::Counter,
    &[
        label("group", Values::Groups),
        label("pq", FLAG),
        label("scheme", Values::Schemes),
        label("suite", Values::Suites),
        label("resumed", FLAG),
        label("hrr", FLAG),
    ],
    "Completed handshakes: the key exchange group and whether it is post-quantum, what the server signed with, the cipher \
     suite, whether a session was resumed, and whether a HelloRetryRequest was needed.",
);
pub(crate) const FAILURES: Row = row(
    "qtls_handshake_failures_total",
    Kind::Counter,
    &[label("reason", Values::Failures)],
    "Handshakes that did not complete.",
);
pub(crate) const HANDSHAKE_SECONDS: Row = row(
    "qtls_handshake_seconds",
    Kind::Histogram(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
    &[],
    "Time from accepting a connection to the end of its handshake, in seconds.",
);
pub(crate) const CONNECTIONS_ACTIVE: Row = row("qtls_connections_active", Kind::Gauge, &[], "Open client connections.");
pub(crate) const CONNECTIONS: Row = row("qtls_connections_total", Kind::Counter, &[], "Accepted client connections.");
pub(crate) const SILENT: Row = row(
    "qtls_silent_connections_total",
    Kind::Counter,
    &[],
    "Connections that the client closed before it sent a byte, as TCP probes do. They are no failures.",
);
pub(crate) const PROXY_ERRORS: Row = row(
    "qtls_proxy_protocol_errors_total",
    Kind::Counter,
    &[label("reason", Values::HeaderFailures)],
    "Connections that were refused for their PROXY header: it was damaged, or missing, or came from an address that may not \
     send one. They are among the handshakes that did not complete.",
);
pub(crate) const BYTES: Row = row(
    "qtls_bytes_total",
    Kind::Counter,
    &[label("direction", Values::OneOf(&["received", "sent"])), label("pq", FLAG), label("server_name", SERVER_NAME)],
    "Bytes of plaintext received from clients and sent to them, counted while they flow, by whether the key exchange was \
     post-quantum and by the name that the client asked for.",
);
pub(crate) const SELECTED: Row = row(
    "qtls_certificate_selected_total",
    Kind::Counter,
    &[
        label("certificate", CERTIFICATE),
        label(
            "reason",
            Values::Configured(
                "sentences such as `ml-dsa-65: offered` and `ecdsa-p384: client lacks ml-dsa-65`, made of the kinds of the \
                 certificates and the names of the policy table",
            ),
        ),
    ],
    "Completed full handshakes, by the certificate that was chosen and the reason for it.",
);
pub(crate) const EXPIRY: Row = row(
    "qtls_certificate_expiry_seconds",
    Kind::Gauge,
    &[label("certificate", CERTIFICATE)],
    "Unix time at which the first certificate of the chain expires, in seconds. Where chains share a name, the earliest.",
);
pub(crate) const CLIENT_HELLOS: Row =
    row("qtls_client_hellos_total", Kind::Counter, &[], "ClientHellos that were read: what clients were able to do.");
pub(crate) const CLIENT_GROUPS: Row = row(
    "qtls_client_groups_total",
    Kind::Counter,
    &[label("group", Values::OfferedGroups)],
    "ClientHellos that offered the key exchange group, whether or not it is allowed here. GREASE is no offer.",
);
pub(crate) const CLIENT_SCHEMES: Row = row(
    "qtls_client_schemes_total",
    Kind::Counter,
    &[label("scheme", Values::OfferedSchemes)],
    "ClientHellos that offered the signature scheme, whether or not it is allowed here. GREASE is no offer.",
);
pub(crate) const RELOADS: Row = row(
    "qtls_reloads_total",
    Kind::Counter,
    &[label("result", Values::OneOf(&["applied", "refused"]))],
    "Reloads of the configuration and the files that it names.",
);
pub(crate) const LIMIT_HITS: Row = row(
    "qtls_limit_hits_total",
    Kind::Counter,
    &[label("limit", Values::Limits)],
    "Connections that met a limit: they had to wait, were refused, or were ended.",
);
pub(crate) const REFUSED: Row = row(
    "qtls_connections_refused_total",
    Kind::Counter,
    &[label("limit", Values::Gates)],
    "Connections that were refused because a limit was reached.",
);
pub(crate) const WAITING: Row = row(
    "qtls_connections_waiting",
    Kind::Gauge,
    &[],
    "Accepted connections that wait for a place of their address or network, or for their turn.",
);
pub(crate) const LIMIT_VALUE: Row =
    row("qtls_limit_value", Kind::Gauge, &[label("limit", Values::Gates)], "The limits in force. 0 is none.");
pub(crate) const REPORT_REFUSALS: Row = row(
    "qtls_report_refusals_total",
    Kind::Counter,
    &[label("rule", Values::Rules)],
    "Completed handshakes that the policy of tls.report would have refused, by the rule.",
);
pub(crate) const SANDBOX: Row = row(
    "qtls_sandbox",
    Kind::Gauge,
    &[label("part", Values::Parts)],
    "Whether a part of the sandbox is in force: 1 or 0.",
);
pub(crate) const SESSIONS: Row =
    row("qtls_sessions_cached", Kind::Gauge, &[], "Sessions that are kept in this process for resumption.");
pub(crate) const SESSION_EVICTIONS: Row = row(
    "qtls_session_evictions_total",
    Kind::Counter,
    &[],
    "Sessions that had to give way to newer ones before their time was over.",
);
pub(crate) const SESSION_LOOKUPS: Row = row(
    "qtls_session_lookups_total",
    Kind::Counter,
    &[label("result", Values::Lookups)],
    "Sessions that clients came with and that were looked for in this process.",
);
pub(crate) const TICKETS: Row = row(
    "qtls_ticket_decrypt_total",
    Kind::Counter,
    &[label("result", Values::Tickets)],
    "Tickets that clients came with, by whether they could be decrypted.",
);
pub(crate) const LOG_LINES: Row = row(
    "qtls_log_lines_total",
    Kind::Counter,
    &[label("level", Values::Levels)],
    "Lines of the log, those of its files and its console being one.",
);
pub(crate) const LOG_LOST: Row = row(
    "qtls_log_lines_lost_total",
    Kind::Counter,
    &[label("log", Values::Logs)],
    "Lines that could not be written: into a file, or to standard error (console).",
);
pub(crate) const LOG_SUPPRESSED: Row = row(
    "qtls_log_lines_suppressed_total",
    Kind::Counter,
    &[],
    "Warnings that were left out of the log since they repeated others.",
);
pub(crate) const REDIRECTS: Row = row(
    "qtls_redirects_total",
    Kind::Counter,
    &[label("result", Values::OneOf(redirect::RESULTS))],
    "Requests on the port of plain HTTP: sent to https, refused since they named no host of this server, or dropped since \
     there were too many at the same time.",
);
pub(crate) const GENERATION: Row = row(
    "qtls_config_generation",
    Kind::Gauge,
    &[],
    "The number of the configuration in force: 1 at start, and one more with each reload that was applied.",
);
pub(crate) const READY: Row = row(
    "qtls_ready",
    Kind::Gauge,
    &[],
    "1 until the server is told to stop, then 0: load balancers are to look elsewhere.",
);
pub(crate) const UPSTREAM_UP: Row = row(
    "qtls_upstream_up",
    Kind::Gauge,
    &[label("upstream", UPSTREAM)],
    "1 where the server is in use. 0 from a failure to connect to it until a connection succeeds, from failed requests in a \
     row until one is answered, and from failed health checks until they pass.",
);
pub(crate) const UPSTREAM_CONNECTIONS: Row = row(
    "qtls_upstream_connections_active",
    Kind::Gauge,
    &[label("upstream", UPSTREAM)],
    "Open connections to the server, those included that wait for a request.",
);
pub(crate) const UPSTREAM_REQUESTS: Row = row(
    "qtls_upstream_requests_total",
    Kind::Counter,
    &[label("upstream", UPSTREAM)],
    "Requests that were sent to the server; in TCP mode, connections.",
);
pub(crate) const UPSTREAM_ERRORS: Row = row(
    "qtls_upstream_errors_total",
    Kind::Counter,
    &[label("upstream", UPSTREAM), label("reason", Values::UpstreamFailures)],
    "Connections and requests that the server failed.",
);
pub(crate) const UPSTREAM_SECONDS: Row = row(
    "qtls_upstream_connect_seconds",
    Kind::Histogram(&[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
    &[label("upstream", UPSTREAM)],
    "Time to connect to the server, TLS included, where that succeeded, in seconds.",
);
pub(crate) const UPSTREAM_BYTES: Row = row(
    "qtls_upstream_bytes_total",
    Kind::Counter,
    &[label("direction", Values::OneOf(&["received", "sent"])), label("pq", FLAG), label("upstream", UPSTREAM)],
    "Bytes of plaintext received from servers over TLS and sent to them, counted while they flow, by whether the key exchange \
     was post-quantum. Those of health checks are among them; those of connections in the clear are not.",
);
pub(crate) const UPSTREAM_HANDSHAKES: Row = row(
    "qtls_upstream_handshakes_total",
    Kind::Counter,
    &[
        label("upstream", UPSTREAM),
        label("group", Values::Groups),
        label("pq", FLAG),
        label("scheme", Values::Schemes),
        label("suite", Values::Suites),
        label("resumed", FLAG),
    ],
    "Completed handshakes with servers behind that are spoken to over TLS: the key exchange group and whether it is \
     post-quantum, what the server signed with, the cipher suite, and whether a session was resumed.",
);
pub(crate) const STARTTLS: Row = row(
    "qtls_starttls_total",
    Kind::Counter,
    &[label("protocol", Values::Starttls), label("beginning", Values::OneOf(starttls::Beginning::NAMES))],
    "Handshakes that began on a listener with server.starttls: since the client asked in the protocol's words, or at once.",
);
pub(crate) const POSTGRES_SESSIONS: Row = row(
    "qtls_postgres_sessions",
    Kind::Gauge,
    &[],
    "Open PostgreSQL sessions whose cancellation key is known, so that requests to cancel find their server.",
);
pub(crate) const POSTGRES_CANCELS: Row = row(
    "qtls_postgres_cancel_requests_total",
    Kind::Counter,
    &[label("encrypted", FLAG), label("result", Values::OneOf(starttls::cancel::Outcome::NAMES))],
    "Requests to cancel a query, by whether they came within TLS and what became of them.",
);
pub(crate) const UPSTREAM_HELD: Row = row(
    "qtls_upstream_held_seconds",
    Kind::Gauge,
    &[label("upstream", UPSTREAM)],
    "How long the server is kept out of use yet, whatever it does, in seconds: longer each time that it goes out of use.",
);
pub(crate) const UPSTREAM_OUT: Row = row(
    "qtls_upstream_out_total",
    Kind::Counter,
    &[label("upstream", UPSTREAM), label("cause", Values::OneOf(&upstreams::OUT))],
    "How often the server went out of use.",
);
pub(crate) const UPSTREAM_PASSED_ON: Row = row(
    "qtls_upstream_passed_on_total",
    Kind::Counter,
    &[label("upstream", UPSTREAM)],
    "Requests, or in TCP mode connections, that went on to another server, since this one took no connection, or said that \
     it had not begun.",
);
pub(crate) const UPSTREAM_CHECKS: Row = row(
    "qtls_upstream_checks_total",
    Kind::Counter,
    &[label("upstream", UPSTREAM), label("result", Values::OneOf(&upstreams::CHECKS))],
    "Health checks of the server.",
);
pub(crate) const UPSTREAM_LOOKUPS: Row = row(
    "qtls_upstream_lookups_total",
    Kind::Counter,
    &[label("upstream", UPSTREAM), label("result", Values::OneOf(&upstreams::LOOKUPS))],
    "Lookups of the server's name.",
);
pub(crate) const BUILD: Row = row(
    "qtls_build_info",
    Kind::Gauge,
    &[
        label("version", Values::Configured("the version of the program")),
        label("flavour", Values::Configured("the variant that was built")),
        label("crypto_module", Values::Configured("the cryptographic library")),
    ],
    "Always 1; what this program is stands in the labels.",
);
pub(crate) const PROCESS_CPU: Row = row(
    "process_cpu_seconds_total",
    Kind::Counter,
    &[],
    "Processor time that the process used, in user and system mode, in seconds.",
);
pub(crate) const PROCESS_RESIDENT: Row =
    row("process_resident_memory_bytes", Kind::Gauge, &[], "Memory of the process that is in RAM, in bytes.");
pub(crate) const PROCESS_VIRTUAL: Row =
    row("process_virtual_memory_bytes", Kind::Gauge, &[], "Address space of the process, in bytes.");
pub(crate) const PROCESS_FDS: Row = row("process_open_fds", Kind::Gauge, &[], "Open file descriptors of the process.");
pub(crate) const PROCESS_MAX_FDS: Row =
    row("process_max_fds", Kind::Gauge, &[], "How many file descriptors the process may open.");
pub(crate) const PROCESS_THREADS: Row = row("process_threads", Kind::Gauge, &[], "Threads of the process.");
pub(crate) const PROCESS_START: Row =
    row("process_start_time_seconds", Kind::Gauge, &[], "Unix time at which the process started, in seconds.");

pub(crate) const TUNNEL_UP: Row = row(
    "qtls_tunnel_up",
    Kind::Gauge,
    &[label("tunnel", TUNNEL)],
    "0 from a failure to reach the server of the tunnel until a connection succeeds, else 1.",
);
pub(crate) const TUNNEL_CONNECTIONS: Row = row(
    "qtls_tunnel_connections_active",
    Kind::Gauge,
    &[label("tunnel", TUNNEL)],
    "Open connections of the tunnel, those included that wait for its server.",
);
pub(crate) const TUNNEL_CONNECTIONS_TOTAL: Row = row(
    "qtls_tunnel_connections_total",
    Kind::Counter,
    &[label("tunnel", TUNNEL)],
    "Connections that the tunnel has taken.",
);
pub(crate) const TUNNEL_RETRIES: Row = row(
    "qtls_tunnel_retries_total",
    Kind::Counter,
    &[label("tunnel", TUNNEL)],
    "Attempts to reach the server of the tunnel that were repeated.",
);
pub(crate) const TUNNEL_FAILURES: Row = row(
    "qtls_tunnel_failures_total",
    Kind::Counter,
    &[label("tunnel", TUNNEL), label("reason", Values::OneOf(tunnel::REASONS))],
    "Connections that the tunnel could not carry.",
);
pub(crate) const TUNNEL_BYTES: Row = row(
    "qtls_tunnel_bytes_total",
    Kind::Counter,
    &[label("direction", Values::OneOf(&["received", "sent"])), label("pq", FLAG), label("tunnel", TUNNEL)],
    "Bytes of plaintext received from the server of the tunnel and sent to it, counted while they flow, by whether the key \
     exchange was post-quantum.",
);

/// Every metric of qtls-client with tunnels.
pub const TUNNELS: &[&Row] = &[
    &TUNNEL_UP,
    &TUNNEL_CONNECTIONS,
    &TUNNEL_CONNECTIONS_TOTAL,
    &TUNNEL_RETRIES,
    &TUNNEL_FAILURES,
    &TUNNEL_BYTES,
    &HANDSHAKES,
    &HANDSHAKE_SECONDS,
    &CONNECTIONS_ACTIVE,
    &CONNECTIONS,
    &EXPIRY,
    &RELOADS,
    &LIMIT_HITS,
    &REFUSED,
    &WAITING,
    &LIMIT_VALUE,
    &LOG_LINES,
    &LOG_LOST,
    &LOG_SUPPRESSED,
    &GENERATION,
    &READY,
    &SANDBOX,
    &BUILD,
    &PROCESS_CPU,
    &PROCESS_RESIDENT,
    &PROCESS_VIRTUAL,
    &PROCESS_FDS,
    &PROCESS_MAX_FDS,
    &PROCESS_THREADS,
    &PROCESS_START,
];

/// Every metric of qtls-server.
pub const TABLE: &[&Row] = &[
    &HANDSHAKES,
    &FAILURES,
    &HANDSHAKE_SECONDS,
    &CONNECTIONS_ACTIVE,
    &CONNECTIONS,
    &SILENT,
    &PROXY_ERRORS,
    &BYTES,
    &SELECTED,
    &EXPIRY,
    &CLIENT_HELLOS,
    &CLIENT_GROUPS,
    &CLIENT_SCHEMES,
    &RELOADS,
    &LIMIT_HITS,
    &REFUSED,
    &WAITING,
    &LIMIT_VALUE,
    &REPORT_REFUSALS,
    &SESSIONS,
    &SESSION_EVICTIONS,
    &SESSION_LOOKUPS,
    &TICKETS,
    &LOG_LINES,
    &LOG_LOST,
    &LOG_SUPPRESSED,
    &REDIRECTS,
    &GENERATION,
    &READY,
    &SANDBOX,
    &UPSTREAM_UP,
    &UPSTREAM_CONNECTIONS,
    &UPSTREAM_REQUESTS,
    &UPSTREAM_ERRORS,
    &UPSTREAM_SECONDS,
    &UPSTREAM_HANDSHAKES,
    &UPSTREAM_BYTES,
    &UPSTREAM_HELD,
    &UPSTREAM_OUT,
    &UPSTREAM_PASSED_ON,
    &UPSTREAM_CHECKS,
    &UPSTREAM_LOOKUPS,
    &STARTTLS,
    &POSTGRES_SESSIONS,
    &POSTGRES_CANCELS,
    &BUILD,
    &PROCESS_CPU,
    &PROCESS_RESIDENT,
    &PROCESS_VIRTUAL,
    &PROCESS_FDS,
    &PROCESS_MAX_FDS,
    &PROCESS_THREADS,
    &PROCESS_START,
];

/// The tables of docs/OPERATIONS.md: every metric, then the values of each label.
pub fn document() -> String {
    described(TABLE)
}

/// The same of what tunnels alone have.
pub fn tunnel_document() -> String {
    let own = TUNNELS.iter().filter(|row| TABLE.iter().all(|other| other.name != row.name));
    described(&own.copied().collect::<Vec<_>>())
}

fn described(rows: &[&Row]) -> String {
    let mut text = String::from("| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n");
    for row in rows {
        let labels: Vec<_> = row.labels.iter().map(|label| format!("`{}`", label.name)).collect();
        // Writing to memory doesn't fail.
        let _ = writeln!(text, "| `{}` | {} | {} | {} |", row.name, row.kind.name(), labels.join(", "), row.help);
    }
    text.push_str("\n| Metric | Label | Values |\n|---|---|---|\n");
    for (row, label) in rows.iter().flat_map(|row| row.labels.iter().map(move |label| (row, label))) {
        let _ = writeln!(text, "| `{}` | `{}` | {} |", row.name, label.name, label.values.in_words());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_and_stand_once() {
        let mut names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
        for row in TABLE {
            assert_eq!(row.name.ends_with("_total"), row.kind == Kind::Counter, "{}", row.name);
            assert!(row.help.ends_with('.') && !row.help.contains('|'), "{}", row.name);
            assert!(row.name.starts_with("qtls_") || row.name.starts_with("process_"), "{}", row.name);
        }
    }

    #[test]
    fn every_row_of_a_label_says_where_its_values_come_from() {
        let text = document();
        assert!(text.contains(
            "| `qtls_handshakes_total` | `suite` | `TLS_AES_256_GCM_SHA384`, `TLS_AES_128_GCM_SHA256`, \
             `TLS_CHACHA20_POLY1305_SHA256` |\n"
        ));
        assert!(!text.contains("|  |\n"), "a label without values:\n{text}");
    }
}
