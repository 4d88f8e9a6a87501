//! What Prometheus sees. Names and labels are part of the interface: docs/OPERATIONS names each.

use std::time::{Duration, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use qtls_core::credentials::Credential;
use qtls_core::facts::Facts;
use qtls_core::version::{CRYPTO_MODULE, FLAVOUR, VERSION};
use qtls_core::{Error, Result};

use crate::http::Observer;
use crate::stream::Traffic;

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
    bytes: IntCounterVec,
    expiry: IntGaugeVec,
    upstream_errors: IntCounterVec,
}

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// A name stands twice, which is a bug.
    pub fn new() -> Result<Self> {
        let registry = Registry::new();
        let build = register(
            &registry,
            IntGaugeVec::new(
                Opts::new("qtls_build_info", "Always 1; what this program is stands in the labels."),
                &["version", "flavour", "crypto_module"],
            ),
        )?;
        build.with_label_values(&[VERSION, FLAVOUR, CRYPTO_MODULE]).set(1);
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self())).map_err(bug)?;
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        Ok(Self {
            handshakes: counters(
                "qtls_handshakes_total",
                "Completed handshakes.",
                &["group", "pq", "scheme", "suite", "resumed", "hrr"],
            )?,
            failures: counters("qtls_handshake_failures_total", "Handshakes that did not complete.", &["reason"])?,
            seconds: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "qtls_handshake_seconds",
                        "Time from accepting a connection to the end of its handshake, in seconds.",
                    )
                    .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
                ),
            )?,
            active: register(&registry, IntGauge::new("qtls_connections_active", "Open client connections."))?,
            connections: register(
                &registry,
                IntCounter::new("qtls_connections_total", "Accepted client connections."),
            )?,
            silent: register(
                &registry,
                IntCounter::new(
                    "qtls_silent_connections_total",
                    "Connections that the client closed before it sent a byte, as TCP probes do.",
                ),
            )?,
            bytes: counters(
                "qtls_bytes_total",
                "Bytes of plaintext carried, by whether the key exchange was post-quantum.",
                &["direction", "pq", "server_name"],
            )?,
            expiry: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "qtls_certificate_expiry_seconds",
                        "Unix time at which the first certificate of the chain expires, in seconds.",
                    ),
                    &["certificate"],
                ),
            )?,
            upstream_errors: counters(
                "qtls_upstream_errors_total",
                "Connections and requests that an upstream server failed.",
                &["reason"],
            )?,
            registry,
        })
    }

    /// The text format of Prometheus, with [`CONTENT_TYPE`].
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory fails for metrics without a name only.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
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

    /// A handshake completed, this long after its connection was accepted.
    pub fn handshake(&self, facts: &Facts, after: Duration) {
        let labels = [facts.group_name(), facts.scheme_name()];
        self.handshakes
            .with_label_values(&[
                labels[0].as_str(),
                flag(facts.post_quantum()),
                labels[1].as_str(),
                facts.suite_name(),
                flag(facts.resumed),
                flag(facts.hello_retry_request),
            ])
            .inc();
        self.seconds.observe(after.as_secs_f64());
    }

    /// A handshake failed for this reason, one of a fixed set.
    pub fn handshake_failure(&self, reason: &'static str) {
        self.failures.with_label_values(&[reason]).inc();
    }

    /// A client closed before it sent a byte.
    pub fn silent_connection(&self) {
        self.silent.inc();
    }

    /// A connection with these facts carried so much. `server_name` has to be one of a fixed set.
    pub fn traffic(&self, traffic: Traffic, post_quantum: bool, server_name: &str) {
        for (direction, count) in [("received", traffic.received), ("sent", traffic.sent)] {
            self.bytes.with_label_values(&[direction, flag(post_quantum), server_name]).inc_by(count);
        }
    }

    /// This certificate is being served.
    pub fn certificate(&self, credential: &Credential) {
        let seconds = match credential.chain_not_after().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
        };
        self.expiry.with_label_values(&[credential.name.as_str()]).set(seconds);
    }
}

impl Observer for Metrics {
    fn upstream_error(&self, reason: &'static str) {
        self.upstream_errors.with_label_values(&[reason]).inc();
    }
}

/// An open connection, for as long as this value lives.
#[derive(Debug)]
pub struct OpenConnection(IntGauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn bug(error: prometheus::Error) -> Error {
    Error::internal(format!("a metric can't be registered: {error}"))
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> Result<C> {
    let metric = metric.map_err(bug)?;
    registry.register(Box::new(metric.clone())).map_err(bug)?;
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_metric_that_was_touched_with_help_and_type() {
        let metrics = Metrics::new().unwrap();
        let open = metrics.connection();
        metrics.handshake_failure("timeout");
        metrics.traffic(Traffic { received: 3, sent: 4 }, true, "a.example");
        let text = String::from_utf8(metrics.text()).unwrap();
        for line in [
            "# TYPE qtls_connections_active gauge",
            "qtls_connections_active 1",
            "qtls_connections_total 1",
            "# HELP qtls_handshake_failures_total Handshakes that did not complete.",
            "qtls_handshake_failures_total{reason=\"timeout\"} 1",
            "qtls_bytes_total{direction=\"received\",pq=\"true\",server_name=\"a.example\"} 3",
            "qtls_bytes_total{direction=\"sent\",pq=\"true\",server_name=\"a.example\"} 4",
            "qtls_handshake_seconds_count 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
        }
        assert!(text.contains("qtls_build_info{crypto_module=\"aws-lc\",flavour=\"standard\",version=\"1.0.0\"} 1"));
        drop(open);
        assert!(String::from_utf8(metrics.text()).unwrap().contains("qtls_connections_active 0"));
    }
}
