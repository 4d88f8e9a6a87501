//! The dashboard says what the metrics say, loads nothing from anywhere, works on a phone, in the dark, by keyboard and
//! without scripts, and is shown to nobody who isn't meant to see it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use qtls_interop::process::{PATIENCE, Running, run};
use qtls_interop::server::{free_port, write_config};
use qtls_interop::upstreams::Nginx;
use qtls_interop::{Algorithm, Pki, Server, curl, openssl, peers, programs, wire};
use serde_json::{Value, json};

/// How long Chromium may take at most, also on a busy machine.
const LOOKING: Duration = Duration::from_secs(90);

/// A server that everything has happened to which the dashboard shows.
fn busy() -> (Server, Nginx) {
    let nginx = Nginx::start();
    let server = Server::start(json!({
        "upstream": { "protocol": "http", "servers": [nginx.address(), format!("127.0.0.1:{}", free_port())] },
        "certificates": { "additional": [additional(Algorithm::Rsa4096)] },
        "limits": { "per_address": 100 },
        "tls": { "report": { "pqc_only": true } },
    }));
    for groups in ["X25519MLKEM768", "X25519MLKEM768", "SecP384r1MLKEM1024"] {
        let exchange = openssl::Client::new(server.port).groups(groups).get("/");
        assert!(exchange.body().contains("GET /"), "{}", exchange.finished.said());
    }
    let mut classical = peers::classical_curl();
    curl::towards(&mut classical, &Pki::shared().ca_of(Algorithm::EcdsaP384));
    run(classical.arg(format!("https://localhost:{}/", server.port)), b"").expect_success();
    openssl::Client::new(server.port).groups("P-521").get("/");
    server.refuses(|| {
        server.rewrite_config(json!({ "tls": { "session_timeout": -1 } }));
        server.hang_up();
    });
    server.metrics_when("that nothing is open and all is counted", |metrics| {
        metrics.sum("qtls_connections_active", &[]) == 0.0
            && metrics.sum("qtls_handshakes_total", &[]) == 4.0
            && metrics.sum("qtls_handshake_failures_total", &[]) == 1.0
    });
    (server, nginx)
}

fn additional(algorithm: Algorithm) -> Value {
    let (cert, key) = Pki::shared().server(algorithm);
    json!({ "cert": cert, "key": key })
}

fn dashboard_json(server: &Server) -> Value {
    let answer = wire::http_get(server.metrics_port, "/dashboard.json");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.head.contains("content-type: application/json\r\n"), "{}", answer.head);
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

/// Looks at the dashboard in Chromium in each of `views`.
fn look(server: &Server, views: &[Value]) -> Vec<Value> {
    look_and(server, views, || ())
}

/// Does that, and something else as soon as the first page is loaded.
fn look_and(server: &Server, views: &[Value], act: impl FnOnce()) -> Vec<Value> {
    let options = json!({ "url": format!("http://localhost:{}/dashboard", server.metrics_port), "views": views });
    let looking = Running::start(&mut peers::node("chromium/look.mjs", &options));
    let loaded = looking.stderr.wait_for(LOOKING, |line| line == "loaded");
    assert!(loaded.is_some(), "{}", looking.said());
    act();
    let finished = looking.finish(LOOKING).expect_success();
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.said()))
}

/// Every figure in the document, with its place in the JSON.
const FIGURES: &str = "[...document.querySelectorAll('[data-figure]')].map((data) => [data.dataset.figure, Number(data.value), data.textContent])";

/// What says that something can be seen: the contrast of the text of all figures with what is behind it, at the least.
const CONTRAST: &str = r"(() => {
  const parse = (text) => text.match(/[\d.]+/g).map(Number);
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let least = 99;
  for (const element of document.querySelectorAll('h1, h2, h3, p, a, button, summary, dt, dd, th, td, caption, li, span, data')) {
    if (!element.textContent.trim() || !element.checkVisibility()) continue;
    const [one, other] = [parse(getComputedStyle(element).color), behind(element)].map(luminance).sort((a, b) => b - a);
    least = Math.min(least, (one + 0.05) / (other + 0.05));
  }
  return least;
})()";

#[test]
fn chromium_shows_it_at_every_width_in_light_and_dark_and_asks_for_nothing_else() {
    let (server, _nginx) = busy();
    let mut views = Vec::new();
    for (device, width, height) in [("phone", 390, 844), ("desktop", 1280, 900)] {
        for scheme in ["light", "dark"] {
            let screenshot = programs::artifacts().join(format!("dashboard-{device}-{scheme}.png"));
            let _ = std::fs::remove_file(&screenshot);
            views.push(json!({
                "width": width, "height": height, "scheme": scheme, "screenshot": screenshot,
                "evaluate": { "figures": FIGURES, "contrast": CONTRAST, "title": "document.title" },
            }));
        }
    }
    let results = look(&server, &views);
    let json = dashboard_json(&server);
    for (view, result) in views.iter().zip(&results) {
        let about = format!("{} {}: {result}", view["width"], view["scheme"]);
        // Once, and again where looking at it takes so long that it brings itself up to date.
        let page = json!(format!("http://localhost:{}/dashboard", server.metrics_port));
        let requests = result["requests"].as_array().expect("a list");
        assert!(!requests.is_empty() && requests.iter().all(|request| *request == page), "{about}");
        assert_eq!(result["console"], json!([]), "{about}");
        assert!(result["overflow"]["pixels"].as_i64().is_some_and(|pixels| pixels <= 0), "{about}");
        assert_eq!(result["overflow"]["elements"], json!([]), "{about}");
        assert!(result["values"]["contrast"].as_f64().is_some_and(|contrast| contrast >= 4.5), "{about}");
        assert_figures(&result["values"]["figures"], &json);
        let picture = std::fs::read(view["screenshot"].as_str().expect("a path")).expect("a screenshot");
        assert!(picture.starts_with(b"\x89PNG"));
    }
}

/// Asserts that the figures of a document are those of `/dashboard.json`, but for those that go on with time.
fn assert_figures(figures: &Value, json: &Value) {
    let mut seen = BTreeSet::new();
    for figure in figures.as_array().expect("figures") {
        let (pointer, value) = (figure[0].as_str().expect("a pointer"), figure[1].as_f64().expect("a number"));
        let there = json.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {json}"));
        let goes_on =
            ["/server/uptime", "/handshakes/per_second"].contains(&pointer) || pointer.ends_with("/held_seconds");
        if !goes_on {
            assert_eq!(value, there, "{pointer}");
        }
        seen.insert(pointer.to_owned());
    }
    for pointer in [
        "/handshakes/last_hour/post_quantum",
        "/handshakes/last_day/total",
        "/exposure/names/0/classical/sent",
        "/fallbacks/0/count",
        "/clients/groups/0/count",
        "/certificates/1/days_left",
        "/upstreams/1/requests",
        "/failures/0/count",
        "/limits/0/hits",
        "/report/0/count",
        "/server/reloads_refused",
    ] {
        assert!(seen.contains(pointer), "{pointer} is not shown: {seen:?}");
    }
}

#[test]
fn its_figures_are_those_of_the_metrics() {
    let (server, nginx) = busy();
    let (json, metrics) = (dashboard_json(&server), server.metrics());
    let is = |pointer: &str, value: f64| {
        assert_eq!(json.pointer(pointer).and_then(Value::as_f64), Some(value), "{pointer} in {json:#}");
    };
    is("/handshakes/total", metrics.sum("qtls_handshakes_total", &[]));
    is("/handshakes/post_quantum", 3.0);
    is("/handshakes/classical", metrics.sum("qtls_handshakes_total", &[("pq", "false")]));
    is("/handshakes/last_hour/post_quantum", 3.0);
    is("/handshakes/last_day/failed", 1.0);
    is("/clients/hellos", metrics.sum("qtls_client_hellos_total", &[]));
    is("/server/generation", 1.0);
    is("/server/reloads_refused", 1.0);
    for (kind, pq) in [("classical", "false"), ("post_quantum", "true")] {
        for direction in ["received", "sent"] {
            let labels = [("pq", pq), ("direction", direction), ("server_name", "localhost")];
            let bytes = metrics.sum("qtls_bytes_total", &labels);
            assert!(bytes > 0.0, "{}", metrics.text());
            is(&format!("/exposure/{kind}/{direction}"), bytes);
            is(&format!("/exposure/names/0/{kind}/{direction}"), bytes);
        }
    }
    let fallback = &json["fallbacks"][0];
    assert_eq!(
        (&fallback["network"], &fallback["server_name"], &fallback["count"], &fallback["over"]),
        (&json!("127.0.0.0/24"), &json!("localhost"), &json!(1), &json!(0))
    );
    assert_eq!(json["fallbacks"].as_array().map(Vec::len), Some(1));
    let groups: BTreeSet<_> = json["handshakes"]["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .collect::<Vec<_>>()
        .into_iter()
        .map(|group| (group["name"].as_str(), group["count"].as_u64(), group["post_quantum"].as_bool()))
        .collect();
    let group = |name, count, post_quantum| (Some(name), Some(count), Some(post_quantum));
    assert_eq!(
        groups,
        BTreeSet::from([
            group("X25519MLKEM768", 2, true),
            group("SecP384r1MLKEM1024", 1, true),
            group("x25519", 1, false)
        ])
    );
    // The history has them too, in the slot that is going on or the few before.
    let line = |name: &str| {
        let lines = json["history"]["hour"]["groups"].as_array().expect("lines");
        let line = lines.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("no {name} in {lines:?}"));
        let counts = line["counts"].as_array().expect("counts");
        assert_eq!(counts.len(), 60);
        counts[50..].iter().filter_map(Value::as_u64).sum::<u64>()
    };
    assert_eq!((line("X25519MLKEM768"), line("x25519")), (2, 1));
    let upstreams = json["upstreams"].as_array().expect("upstreams");
    let up = upstreams.iter().find(|upstream| upstream["name"] == json!(nginx.address())).expect("nginx");
    assert_eq!((&up["up"], &up["requests"]), (&json!(true), &json!(4)), "{upstreams:?}");
    let down = upstreams.iter().find(|upstream| upstream["name"] != json!(nginx.address())).expect("nobody");
    assert_eq!((&down["up"], &down["errors_by_reason"][0]["name"]), (&json!(false), &json!("refused")));
    assert_eq!((&json["hsm"], &json["server"]["phase"]), (&json!("not in use"), &json!("running")));
    assert!(json["server"]["last_reload"]["refused"].as_str().is_some_and(|why| why.contains("tls.session_timeout")));
    let certificates = json["certificates"].as_array().expect("certificates");
    assert_eq!(certificates.len(), 2);
    assert!(certificates.iter().all(|certificate| certificate["state"] == "valid"), "{certificates:?}");
}

#[test]
fn the_keyboard_reaches_everything_and_shows_where_it_is() {
    let (server, _nginx) = busy();
    // Everything that takes the focus, in the order of the document.
    let focusable = "[...document.querySelectorAll('a[href], button:not([hidden]), summary, [tabindex=\"0\"]')]\
                     .filter((element) => element.checkVisibility()).map((element) => element.id || element.className || \
                     element.getAttribute('href'))";
    let shown = "getComputedStyle(document.querySelector('#skip, .skip')).position";
    for (width, height) in [(1280, 900), (390, 844)] {
        let view = json!({
            "width": width, "height": height, "scheme": "light", "motion": "reduce", "tabs": 100,
            "evaluate": { "focusable": focusable, "shown": shown, "animations": "document.getAnimations().length" },
        });
        let result = &look(&server, &[view])[0];
        let focused = result["focused"].as_array().expect("a list");
        let focusable = result["values"]["focusable"].as_array().expect("a list");
        assert_eq!(focused.len(), focusable.len(), "{result:#}");
        assert!(focused.len() > 20, "{result:#}");
        assert_eq!(focused[0]["name"], "Skip to the figures");
        for (reached, expected) in focused.iter().zip(focusable) {
            let expected = expected.as_str().expect("a name");
            assert!(
                reached["element"]
                    .as_str()
                    .is_some_and(|element| element.contains(expected) || expected.starts_with('/'))
            );
            assert!(reached["outline"].as_f64().is_some_and(|width| width >= 2.0), "no focus is seen on {reached}");
            assert_eq!(reached["inWindow"], true, "{reached}");
            assert!(reached["name"].as_str().is_some_and(|name| !name.is_empty()), "{reached}");
        }
        assert_eq!(result["values"]["animations"], 0);
    }
}

#[test]
fn without_scripts_it_says_the_same() {
    let (server, _nginx) = busy();
    let view = json!({
        "width": 390, "height": 844, "scheme": "light", "scripts": false,
        "evaluate": {
            "figures": FIGURES,
            "pause": "document.getElementById('pause').checkVisibility()",
            "reload": "document.querySelector('noscript a')?.checkVisibility() ?? false",
            "bars": "document.querySelectorAll('#time .plot rect').length",
        },
    });
    let result = &look(&server, &[view])[0];
    assert_eq!(result["console"], json!([]), "{result}");
    assert_figures(&result["values"]["figures"], &dashboard_json(&server));
    assert_eq!((&result["values"]["pause"], &result["values"]["reload"]), (&json!(false), &json!(true)), "{result}");
    assert!(result["values"]["bars"].as_u64().is_some_and(|bars| bars >= 8), "{result}");
}

#[test]
fn it_brings_itself_up_to_date_until_it_is_paused() {
    let (server, _nginx) = busy();
    let total = "Number(document.querySelector('[data-figure=\"/handshakes/total\"]').value)";
    let updated = format!(
        "new Promise((resolve) => {{ const details = document.querySelector('details'); details.open = true; \
         details.querySelector('summary').focus(); const began = Date.now(); const look = () => {total} === 5 || \
         Date.now() - began > 40000 ? resolve([{total}, document.querySelector('details').open, document.activeElement.id]) : \
         setTimeout(look, 50); look(); }})"
    );
    let paused = "(() => { const button = document.getElementById('pause'); button.click(); \
                  return [button.getAttribute('aria-pressed'), button.textContent]; })()";
    let view = json!({
        "width": 1280, "height": 900, "scheme": "dark",
        "evaluate": { "1 updated": updated, "2 paused": paused },
    });
    // A handshake that is made while the page is looked at.
    let results = look_and(&server, &[view], || {
        openssl::Client::new(server.port).groups("X25519MLKEM768").get("/");
    });
    let result = &results[0];
    assert_eq!(
        result["values"]["1 updated"],
        json!([5, true, "groups-summary"]),
        "what was open and in focus stays: {result}"
    );
    assert_eq!(result["values"]["2 paused"], json!(["true", "Pause updates"]));
    let page = json!(format!("http://localhost:{}/dashboard", server.metrics_port));
    let requests = result["requests"].as_array().expect("a list");
    assert!(requests.len() >= 2 && requests.iter().all(|request| *request == page), "{result}");
    assert_eq!(result["console"], json!([]), "{result}");
}

/// Requests something on one address of this machine, under a name.
fn ask(address: &str, port: u16, method: &str, path: &str, host: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect((address, port)).unwrap_or_else(|error| panic!("{address}:{port}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out above 0");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn only_connections_to_its_address_get_it_and_only_under_localhost_or_an_address() {
    let (server, port) = start(json!({ "address": "0.0.0.0" }));
    server.stderr.wait_for_line(&format!("metrics on http://0.0.0.0:{port}/metrics"));
    server.stderr.wait_for_line(&format!("dashboard on http://127.0.0.1:{port}/dashboard"));
    let get = |address: &str, path: &str, host: &str| ask(address, port, "GET", path, host);
    for path in ["/dashboard", "/dashboard.json"] {
        for host in ["localhost", "LOCALHOST:9091", "127.0.0.1", "[::1]:9091"] {
            assert_eq!(get("127.0.0.1", path, host).0, 200, "{path} as {host}");
        }
        // 127.0.0.2 is this machine, too; metrics.address takes it, the dashboard's doesn't.
        let (status, _, text) = get("127.0.0.2", path, "127.0.0.2");
        assert_eq!(status, 403);
        assert_eq!(
            text,
            "The dashboard is not shown on 127.0.0.2: metrics.dashboard_address is 127.0.0.1. From elsewhere, forward a port \
             of your machine (ssh -L, kubectl port-forward), or change metrics.dashboard_address.\n"
        );
        for host in ["evil.example", "evil.example:9091", "127.0.0.1.evil.example", ""] {
            let (status, _, text) = get("127.0.0.1", path, host);
            assert_eq!(status, 403, "{path} as {host:?}");
            assert!(
                text.contains("under localhost or an IP address only") && text.contains("metrics.dashboard_address")
            );
        }
    }
    // Prometheus asks by name, and on any address.
    assert_eq!(get("127.0.0.2", "/metrics", "qtls.monitoring.svc:9091").0, 200);
    assert_eq!(get("127.0.0.2", "/ready", "qtls.monitoring.svc:9091").0, 200);
    let (status, head, _) = get("127.0.0.1", "/", "localhost");
    assert!(status == 302 && head.contains("location: /dashboard\r\n"), "{head}");
    let (status, _, text) = get("127.0.0.2", "/", "localhost");
    assert_eq!((status, text.as_str()), (404, "The metrics are at /metrics, the dashboard is at /dashboard.\n"));
}

#[test]
fn it_can_only_be_read_and_nobody_can_frame_it() {
    let server = Server::start(json!({}));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for path in ["/dashboard", "/dashboard.json", "/metrics", "/"] {
            let (status, head, _) = ask("127.0.0.1", server.metrics_port, method, path, "localhost");
            assert!(status == 405 && head.contains("allow: get, head"), "{method} {path}: {head}");
        }
    }
    let (status, head, body) = ask("127.0.0.1", server.metrics_port, "HEAD", "/dashboard", "localhost");
    assert_eq!((status, body.as_str()), (200, ""));
    for field in [
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cross-origin-resource-policy: same-origin",
        "content-type: text/html; charset=utf-8",
    ] {
        assert!(head.contains(field), "no {field} in {head}");
    }
    let policy = head.split_once("content-security-policy: ").expect("a policy").1.lines().next().expect("a line");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    for directive in ["frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'", "connect-src 'self'"] {
        assert!(policy.contains(directive), "no {directive} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[test]
fn where_the_metrics_listen_elsewhere_it_has_a_socket_of_its_own() {
    let server = Server::with_config(json!({
        "certificates": certificates(),
        "metrics": { "dashboard_address": "127.0.0.3" },
    }));
    let get = |address: &str, path: &str| ask(address, server.metrics_port, "GET", path, address);
    assert_eq!(get("127.0.0.3", "/dashboard").0, 200);
    let (status, _, text) = get("127.0.0.3", "/metrics");
    assert_eq!(
        (status, text.as_str()),
        (403, "The metrics are not served on 127.0.0.3: metrics.address is 127.0.0.1.\n")
    );
    assert_eq!((get("127.0.0.1", "/metrics").0, get("127.0.0.1", "/dashboard").0), (200, 403));
    let nobody = TcpListener::bind(("127.0.0.4", server.metrics_port));
    assert!(nobody.is_ok(), "no other address is taken: {nobody:?}");
}

#[test]
fn everywhere_means_everywhere_and_null_nowhere() {
    let server = Server::with_config(json!({
        "certificates": certificates(),
        "metrics": { "dashboard_address": "0.0.0.0" },
    }));
    let get = |address: &str, path: &str| ask(address, server.metrics_port, "GET", path, address).0;
    assert_eq!((get("127.0.0.2", "/dashboard"), get("127.0.0.1", "/dashboard")), (200, 200));
    assert_eq!(
        (get("127.0.0.2", "/metrics"), get("127.0.0.1", "/metrics")),
        (403, 200),
        "metrics.address still counts"
    );

    let (_server, port) = start(json!({ "address": "127.0.0.1", "dashboard_address": null }));
    let get = |path: &str| ask("127.0.0.1", port, "GET", path, "localhost");
    let (status, _, text) = get("/dashboard");
    assert_eq!((status, text.as_str()), (404, "There is no dashboard: metrics.dashboard_address is null.\n"));
    let (status, _, text) = get("/");
    assert_eq!((status, text.as_str()), (404, "The metrics are at /metrics.\n"));
    assert_eq!(get("/metrics").0, 200);
}

/// A server with a section `metrics` of its own, but for the port, which comes with it.
fn start(mut metrics: Value) -> (Running, u16) {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let port = free_port();
    metrics["port"] = json!(port);
    let config = json!({
        "certificates": certificates(),
        "server": { "listen_address": "127.0.0.1", "listen_port": free_port() },
        "metrics": metrics,
    });
    let file = write_config(directory.path(), &config);
    let process = Running::start(programs::command("qtls-server").arg("--config").arg(file));
    process.stderr.wait_for_line("listening on ");
    (process, port)
}

fn certificates() -> Value {
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    json!({ "server_cert": cert, "server_key": key })
}
