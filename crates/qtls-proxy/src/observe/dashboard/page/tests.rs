use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use qtls_core::credentials::sha256;
use qtls_core::facts::Facts;
use qtls_core::policy::Rule;
use rustls::{ProtocolVersion, SignatureScheme};
use serde_json::Value;

use super::super::figures::{FALLBACKS, Sources};
use super::super::history::{Counts, History};
use super::*;
use crate::observe::metrics::{Metrics, WorkerMetrics};
use crate::observe::view::{Certificate, UpstreamServer, View};

/// What clients and files may be called.
const HOSTILE: &str = "<script>alert(\"1\")</script>&'";

fn facts(group: u16, server_name: &str) -> Facts {
    Facts {
        reason: Some(HOSTILE.to_owned()),
        version: ProtocolVersion::TLSv1_3,
        group,
        suite: 0x1302,
        scheme: Some(SignatureScheme::ML_DSA_65),
        certificate: Some(HOSTILE.to_owned()),
        alpn: None,
        server_name: Some(server_name.to_owned()),
        resumed: false,
        hello_retry_request: false,
        peer_chain: Vec::new(),
    }
}

/// A server on which everything has happened that can be shown, under hostile names.
fn busy() -> Figures {
    let metrics = Arc::new(Metrics::new().unwrap());
    let worker = WorkerMetrics::new(metrics.clone());
    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    for group in [0x11ec, 0x11ed, 0x11ec, 0x001d] {
        worker.handshake(&facts(group, HOSTILE), client, Duration::from_millis(3));
        worker.tally(group != 0x001d, HOSTILE).sent(1 << 20);
    }
    metrics.handshake_failure("no_common_group");
    metrics.limit_hit("per_address");
    metrics.report_refusal(Rule::Group);
    metrics.reload(HOSTILE, Some(HOSTILE.to_owned()));
    let upstream = metrics.upstream(HOSTILE);
    upstream.request();
    upstream.error("refused");
    let now = SystemTime::now();
    let certificate = |days: u64| Certificate {
        name: HOSTILE.to_owned(),
        kind: HOSTILE.to_owned(),
        post_quantum: false,
        names: vec![HOSTILE.to_owned()],
        origin: HOSTILE.to_owned(),
        not_after: now + Duration::from_secs(days * 86_400 + 60),
        valid: true,
    };
    let view = View {
        generation: 3,
        ready: true,
        phase: "running",
        certificates: vec![certificate(90), certificate(3)],
        upstreams: vec![UpstreamServer { name: HOSTILE.to_owned(), up: false, held: Duration::ZERO }],
    };
    let began = Instant::now();
    let mut history = History::new(began);
    let reading = metrics.read(&view);
    history.record(began + Duration::from_secs(3700), Counts::of(&reading));
    Figures::of(&Sources {
        host: HOSTILE,
        listens: HOSTILE.to_owned(),
        now,
        uptime: 3700,
        reading: &reading,
        view: &view,
        last_reload: metrics.last_reload(),
        fallbacks: metrics.fallbacks(FALLBACKS),
        minute: history.minute(),
        hour: history.hour(),
        day: history.day(),
    })
}

#[test]
fn whatever_others_choose_is_text() {
    let page = render(&busy());
    let own = page.matches("<script>").count();
    assert_eq!(own, 1, "only the page's own script");
    assert!(!page.contains("alert(\"1\")") && !page.contains("&'") && !page.contains("</script>&"));
    let escaped = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;";
    // Host (twice), address, exposure, fallback, certificate (twice: name, names, key), upstream, report, reload (twice).
    assert!(page.matches(escaped).count() >= 13, "{}", page.matches(escaped).count());
}

#[test]
fn nothing_is_loaded_and_every_reference_is_inside() {
    let page = render(&busy());
    for word in ["src=", "@import", "http:", "https:", "style=", "onclick", "innerHTML = ", "eval("] {
        assert!(!page.contains(word), "{word}");
    }
    assert_eq!(page.matches("<link").count(), 1, "the icon, which is empty: else browsers ask for one");
    for reference in page.split("url(").skip(1) {
        assert!(reference.starts_with("#stripes-"), "{}", &reference[..20]);
    }
    let ids: Vec<_> = page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let unique: BTreeSet<_> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "an id stands twice in {ids:?}");
    for target in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(unique.contains(target), "{target}");
    }
}

#[test]
fn every_figure_is_in_the_json_under_its_pointer() {
    let figures = busy();
    let json = serde_json::to_value(&figures).unwrap();
    let page = render(&figures);
    let mut seen = 0;
    for rest in page.split("data-figure=\"").skip(1) {
        let (pointer, rest) = rest.split_once('"').unwrap();
        let value = rest.split('"').nth(1).unwrap();
        let there = json.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
        assert_eq!(there.to_string().parse::<f64>().unwrap(), value.parse::<f64>().unwrap(), "{pointer}");
        seen += 1;
    }
    assert!(seen > 30, "{seen} figures");
}

#[test]
fn a_server_that_nothing_happened_to_says_so() {
    let metrics = Metrics::new().unwrap();
    let view = View { generation: 1, phase: "draining", ..View::default() };
    let history = History::new(Instant::now());
    let figures = Figures::of(&Sources {
        host: "a.example",
        listens: "0.0.0.0:8443".to_owned(),
        now: SystemTime::now(),
        uptime: 0,
        reading: &metrics.read(&view),
        view: &view,
        last_reload: None,
        fallbacks: Vec::new(),
        minute: history.minute(),
        hour: history.hour(),
        day: history.day(),
    });
    let page = render(&figures);
    for text in [
        "There has been no handshake yet.",
        "No byte has been carried yet.",
        "Nobody: in the last 12 to 24 hours",
        "There has been no ClientHello yet.",
        "this server answers by itself",
        "<dt>HSM</dt><dd>not in use</dd>",
        "none since the start",
        "Not ready: draining</p>",
    ] {
        assert!(page.contains(text), "no {text:?}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"));
    assert!(!page.contains("What needs attention"), "there is nothing");
}

#[test]
fn trouble_is_told_in_words_and_not_by_colour_alone() {
    let page = render(&busy());
    for text in [
        "✗ </span>down</span>",
        "✗ </span>refused; the old state is in force",
        "! </span><data data-figure=\"/certificates/1/days_left\" value=\"3\">only 3 days left</data>",
        "✓ </span><data data-figure=\"/certificates/0/days_left\" value=\"90\">90 days left</data>",
    ] {
        assert!(page.contains(text), "no {text:?} in {page}");
    }
    // And before anything else, with the way there.
    let first = page.split_once("aria-label=\"What needs attention\">").expect("it is told").1;
    let first = first.split_once("</ul>").expect("it ends").0;
    for (id, section, what) in [
        ("soon", "certificates", "Expires soon"),
        ("down", "upstreams", "Upstream down"),
        ("refused", "server", "Last reload refused"),
    ] {
        let link = format!("<a id=\"attention-{id}\" href=\"#{section}\">{what}</a>: ");
        assert!(first.contains(&link), "no {link:?} in {first}");
    }
    assert_eq!(first.matches("<li>").count(), 3, "{first}");
}

#[test]
fn shares_are_what_they_say() {
    let json: Value = serde_json::to_value(busy()).unwrap();
    assert_eq!(json["handshakes"]["total"], 4);
    assert_eq!(json["handshakes"]["post_quantum"], 3);
    assert_eq!(json["handshakes"]["last_hour"]["post_quantum"], 3);
    assert_eq!(json["exposure"]["classical"]["sent"], 1 << 20);
    assert_eq!(json["fallbacks"][0]["network"], "192.0.2.0/24");
    assert_eq!(json["certificates"][1]["state"], "expires_soon");
    assert_eq!(json["history"]["hour"]["groups"][0]["counts"][59], 2);
}

#[test]
fn the_policy_allows_this_style_and_this_script_and_nothing_else() {
    let policy = POLICY;
    let policy = policy.to_str().unwrap();
    let directives: Vec<_> = policy.split("; ").collect();
    for (directive, text) in [("style-src", STYLE), ("script-src", SCRIPT)] {
        let hash = <base64ct::Base64 as base64ct::Encoding>::encode_string(&sha256(text.as_bytes()));
        let wanted = format!("{directive} 'sha256-{hash}'");
        assert!(directives.contains(&wanted.as_str()), "{wanted}");
    }
    assert_eq!(directives[0], "default-src 'none'");
    assert!(directives.contains(&"frame-ancestors 'none'") && directives.contains(&"form-action 'none'"));
    assert!(!policy.contains("unsafe") && !policy.contains('*'));
}
