use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qtls_core::facts::Facts;
use rustls::{ProtocolVersion, SignatureScheme};

use super::table::TABLE;
use super::*;
use crate::observe::view::{Certificate, UpstreamServer};
use crate::starttls::{Beginning, Starttls};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

fn facts() -> Facts {
    Facts {
        reason: Some("ml-dsa-65: offered".to_owned()),
        version: ProtocolVersion::TLSv1_3,
        group: 0x11ec,
        suite: 0x1302,
        scheme: Some(SignatureScheme::ML_DSA_65),
        certificate: Some("server-mldsa65".to_owned()),
        alpn: None,
        server_name: None,
        resumed: false,
        hello_retry_request: false,
        peer_chain: Vec::new(),
    }
}

fn certificate(name: &str, seconds: u64) -> Certificate {
    Certificate {
        name: name.to_owned(),
        kind: "ml-dsa-65".to_owned(),
        post_quantum: true,
        names: Vec::new(),
        origin: String::new(),
        not_after: UNIX_EPOCH + Duration::from_secs(seconds),
        valid: true,
    }
}

fn text(metrics: &Metrics, view: &View) -> String {
    String::from_utf8(metrics.read(view).text()).unwrap()
}

#[track_caller]
fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "no line {line:?} in\n{text}");
    }
}

#[test]
fn the_text_has_every_metric_with_help_and_type() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let worker = WorkerMetrics::new(metrics.clone());
    let open = metrics.connection();
    metrics.handshake_failure("timeout");
    worker.handshake(&facts(), CLIENT, Duration::from_millis(3));
    worker.handshake(&facts(), CLIENT, Duration::from_millis(3));
    worker.tally(true, "a.example").received(3);
    worker.tally(true, "a.example").sent(4);
    metrics.upstream("127.0.0.1:8080").error("refused");
    // Of the same server, whoever asks.
    metrics.upstream("127.0.0.1:8080").tally(false).received(5);
    metrics.upstream("127.0.0.1:8080").tally(false).received(6);
    let view = View {
        generation: 7,
        ready: true,
        certificates: vec![certificate("a", 3000), certificate("a", 2000), certificate("b", 5000)],
        upstreams: vec![UpstreamServer { name: "127.0.0.1:8080".to_owned(), up: false, held: Duration::ZERO }],
        ..View::default()
    };
    let text = text(&metrics, &view);
    assert_lines(
        &text,
        &[
            "# TYPE qtls_connections_active gauge",
            "qtls_connections_active 1",
            "qtls_connections_total 1",
            "# HELP qtls_handshake_failures_total Handshakes that did not complete.",
            "qtls_handshake_failures_total{reason=\"timeout\"} 1",
            "qtls_handshake_failures_total{reason=\"no_common_group\"} 0",
            "qtls_handshakes_total{group=\"X25519MLKEM768\",hrr=\"false\",pq=\"true\",resumed=\"false\",scheme=\"mldsa65\",\
             suite=\"TLS_AES_256_GCM_SHA384\"} 2",
            "qtls_certificate_selected_total{certificate=\"server-mldsa65\",reason=\"ml-dsa-65: offered\"} 2",
            "qtls_bytes_total{direction=\"received\",pq=\"true\",server_name=\"a.example\"} 3",
            "qtls_bytes_total{direction=\"sent\",pq=\"true\",server_name=\"a.example\"} 4",
            "qtls_handshake_seconds_count 2",
            "qtls_certificate_expiry_seconds{certificate=\"a\"} 2000",
            "qtls_certificate_expiry_seconds{certificate=\"b\"} 5000",
            "qtls_config_generation 7",
            "qtls_ready 1",
            "qtls_client_groups_total{group=\"other\"} 0",
            "qtls_reloads_total{result=\"refused\"} 0",
            "qtls_upstream_up{upstream=\"127.0.0.1:8080\"} 0",
            "qtls_upstream_errors_total{reason=\"refused\",upstream=\"127.0.0.1:8080\"} 1",
            "qtls_upstream_bytes_total{direction=\"received\",pq=\"false\",upstream=\"127.0.0.1:8080\"} 11",
            "qtls_upstream_bytes_total{direction=\"sent\",pq=\"false\",upstream=\"127.0.0.1:8080\"} 0",
            "qtls_build_info{crypto_module=\"aws-lc\",flavour=\"standard\",version=\"1.0.0\"} 1",
        ],
    );
    drop(open);
    assert_lines(&self::text(&metrics, &View::default()), &["qtls_connections_active 0", "qtls_ready 0"]);
}

#[test]
fn what_is_registered_is_what_the_table_declares() {
    let metrics = Arc::new(Metrics::new().unwrap());
    WorkerMetrics::new(metrics.clone()).handshake(&facts(), CLIENT, Duration::ZERO);
    WorkerMetrics::new(metrics.clone()).tally(true, "a.example").sent(1);
    metrics.upstream("127.0.0.1:8080").handshake(&facts());
    metrics.upstream("127.0.0.1:8080").tally(true).sent(1);
    metrics.limit_value("per_address", 4);
    metrics.starttls(Beginning::Direct(Starttls::Postgres));
    metrics.cancel_request(false, "unknown");
    let view = View {
        certificates: vec![certificate("a", 1)],
        upstreams: vec![UpstreamServer { name: "127.0.0.1:8080".to_owned(), up: true, held: Duration::ZERO }],
        ..View::default()
    };
    let text = text(&metrics, &view);
    let there: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let declared: BTreeSet<_> = TABLE.iter().map(|row| (row.name, row.kind.name())).collect();
    assert_eq!(there, declared);
}

#[test]
fn what_is_no_longer_configured_is_no_longer_shown() {
    let metrics = Metrics::new().unwrap();
    let view = View {
        certificates: vec![certificate("old", 1)],
        upstreams: vec![UpstreamServer { name: "old:1".to_owned(), up: true, held: Duration::ZERO }],
        ..View::default()
    };
    assert!(text(&metrics, &view).contains("qtls_certificate_expiry_seconds{certificate=\"old\"} 1"));
    let text = text(&metrics, &View { certificates: vec![certificate("new", 2)], ..View::default() });
    assert!(text.contains("{certificate=\"new\"} 2") && !text.contains("\"old\"") && !text.contains("old:1"), "{text}");
}

#[test]
fn a_reading_adds_up() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let worker = WorkerMetrics::new(metrics.clone());
    for group in [0x11ec, 0x001d, 0x001d] {
        worker.handshake(&Facts { group, ..facts() }, CLIENT, Duration::from_secs(2));
    }
    let reading = metrics.read(&View::default());
    assert_eq!(reading.sum(&table::HANDSHAKES, &[]), 3.0);
    assert_eq!(reading.sum(&table::HANDSHAKES, &[("pq", "false"), ("group", "x25519")]), 2.0);
    let by = reading.by(&table::HANDSHAKES, "group", &[]);
    assert_eq!(by.into_iter().collect::<Vec<_>>(), [("X25519MLKEM768".to_owned(), 1.0), ("x25519".to_owned(), 2.0)]);
    assert_eq!(reading.seen(&table::HANDSHAKE_SECONDS, &[]), (3, 6.0));
    assert!(
        reading.sum(&table::PROCESS_START, &[]) <= SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
    );
}
