//! A real systemd starts, watches, reloads, restarts and replaces the server, and knows at each moment what it does.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use qtls_interop::client::{self, Client};
use qtls_interop::load::Load;
use qtls_interop::process::PATIENCE;
use qtls_interop::server::{free_port, merge, write_config};
use qtls_interop::systemd::{Systemd, descriptors_of, hold, path};
use qtls_interop::upstreams::echo;
use qtls_interop::{Algorithm, Negotiated, Pki, Running, openssl, programs, wire};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A configuration, and where its server writes its log.
struct Service {
    directory: TempDir,
    port: u16,
    metrics_port: u16,
}

impl Service {
    /// In front of an echo.
    fn new(changes: Value) -> Self {
        let (port, metrics_port) = (free_port(), free_port());
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
        let mut config = json!({
            "server": { "listen_address": "127.0.0.1", "listen_port": port, "worker_threads": 2, "drain_timeout": 20 },
            "certificates": { "server_cert": cert, "server_key": key },
            "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] },
            "metrics": { "address": "127.0.0.1", "port": metrics_port },
        });
        merge(&mut config, changes);
        write_config(directory.path(), &config);
        Self { directory, port, metrics_port }
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("server.json")
    }

    fn rewrite(&self, changes: Value) {
        let text = fs::read(self.config()).expect("the configuration is there");
        let mut config = serde_json::from_slice(&text).expect("it is JSON");
        merge(&mut config, changes);
        write_config(self.directory.path(), &config);
    }

    /// The command of a unit.
    fn command(&self) -> String {
        format!("{} --config {}", path(&programs::directory().join("qtls-server")), path(&self.config()))
    }

    /// A unit, with these lines in its section `Service`.
    fn unit(&self, lines: &str) -> String {
        let log = self.directory.path().join("log");
        format!(
            "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n[Service]\nExecStart={}\nStandardOutput=append:{log}\n\
             StandardError=append:{log}\n{lines}\n",
            self.command(),
            log = log.display()
        )
    }

    fn boot(&self, units: &[(&str, String)]) -> Systemd {
        let certificates = Pki::shared().directory();
        Systemd::boot(units, &[self.directory.path(), certificates])
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    #[track_caller]
    fn wait_for_log(&self, pattern: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(pattern)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no line with {pattern:?}:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A handshake in the hybrid group, and a line back and forth, at once.
    #[track_caller]
    fn serves(&self) {
        let finished = Client::new(self.port).send(b"hello\n").expect_success();
        assert_eq!(client::negotiated(&finished), Negotiated::new("X25519MLKEM768", "ecdsa_secp384r1_sha384"));
        assert_eq!(client::received(&finished), "hello\nthat was 6 bytes\n");
    }

    /// A connection that has been used, and stays.
    #[track_caller]
    fn connected(&self) -> Running {
        let client = openssl::Client::new(self.port).start();
        say(client, "hello")
    }
}

/// Sends a line through a connection, and waits until it comes back.
#[track_caller]
fn say(mut client: Running, line: &str) -> Running {
    let mut input = client.stdin();
    writeln!(input, "{line}").expect("the connection is open");
    client.stdout.wait_for_line(line);
    client.put_stdin(input);
    client
}

#[test]
fn start_waits_until_it_serves_and_stop_until_it_has_drained() {
    let service = Service::new(json!({ "server": { "drain_timeout": 60 } }));
    // Shorter than the drain: the server asks for the time that it needs.
    let systemd = service.boot(&[("qtls.service", service.unit("Type=notify-reload\nTimeoutStopSec=4"))]);
    systemd.systemctl(&["start", "qtls"]).expect_success();
    service.serves();
    assert_eq!(systemd.show("qtls", "SubState"), "running");
    let status = |wanted: &'static str| systemd.show_when("qtls", "StatusText", move |text| text == wanted);
    status("Serving; 0 connections open; generation 1");
    let client = service.connected();
    status("Serving; 1 connection open; generation 1");

    let stop = systemd.start_systemctl(&["stop", "qtls"]);
    systemd.show_when("qtls", "ActiveState", |state| state == "deactivating");
    status("Draining; 1 connection open; generation 1");
    let client = say(client, "still");
    // More than the time that systemd would have given it.
    std::thread::sleep(Duration::from_secs(5));
    let client = say(client, "and still");
    drop(client);
    stop.finish(PATIENCE).expect_success();
    let end = ["ActiveState", "Result", "ExecMainStatus"].map(|property| systemd.show("qtls", property));
    assert_eq!(end, ["inactive", "success", "0"], "{}", service.log());
}

#[test]
fn reload_waits_until_the_new_state_serves_or_was_refused() {
    let service = Service::new(json!({}));
    let systemd = service.boot(&[("qtls.service", service.unit("Type=notify-reload"))]);
    systemd.systemctl(&["start", "qtls"]).expect_success();
    let process = systemd.show("qtls", "MainPID");
    for generation in 2..12 {
        service.rewrite(json!({ "tls": { "session_timeout": 600 + generation } }));
        systemd.systemctl(&["reload", "qtls"]).expect_success();
        // At once: systemctl has waited.
        let status = systemd.show("qtls", "StatusText");
        assert_eq!(status, format!("Serving; 0 connections open; generation {generation}; last reload applied"));
    }
    service.rewrite(json!({ "tls": { "sesion_timeout": 1 } }));
    systemd.systemctl(&["reload", "qtls"]).expect_success();
    let status = systemd.show("qtls", "StatusText");
    let refused = "Serving; 0 connections open; generation 11; last reload refused: ";
    assert!(status.starts_with(refused) && status.contains("tls.sesion_timeout: unknown key; hint: did"), "{status}");
    service.serves();
    assert_eq!(systemd.show("qtls", "MainPID"), process);

    // Debian 12's systemd knows no notify-reload: there, a signal is sent, and nobody waits.
    let older = Service::new(json!({}));
    let systemd = older.boot(&[("qtls.service", older.unit("Type=notify\nExecReload=kill -HUP $MAINPID"))]);
    systemd.systemctl(&["start", "qtls"]).expect_success();
    systemd.systemctl(&["reload", "qtls"]).expect_success();
    systemd.show_when("qtls", "StatusText", |text| text.contains("generation 2; last reload applied"));
}

#[test]
fn the_watchdog_ends_a_server_of_which_a_worker_hangs() {
    let service = Service::new(json!({}));
    let unit = service.unit("Type=notify\nWatchdogSec=8\nRestart=on-failure\nRestartSec=100ms");
    let systemd = service.boot(&[("qtls.service", unit)]);
    systemd.systemctl(&["start", "qtls"]).expect_success();
    // More than it may be silent: the watchdog is served. It has patience, since a busy machine is no reason to bark.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(systemd.show("qtls", "NRestarts"), "0", "{}", systemd.said());

    let [process] = systemd.processes("qtls.service")[..] else { panic!("one process: {}", systemd.said()) };
    let held = hold(process, "qtls-worker-1");
    let line = service.wait_for_log("the service manager's watchdog is left to bark");
    assert!(line.contains("ERROR") && line.contains("workers=[1]"), "{line}");
    // It is killed, and gone when its tracer lets go of it.
    let deadline = Instant::now() + PATIENCE;
    let is_dead =
        || fs::read_to_string(format!("/proc/{process}/status")).is_ok_and(|status| status.contains("State:\tZ"));
    while !is_dead() {
        assert!(Instant::now() < deadline, "systemd doesn't end it\n{}", service.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    held.release();
    systemd.show_when("qtls", "NRestarts", |restarts| restarts == "1");
    systemd.show_when("qtls", "SubState", |state| state == "running");
    service.serves();
    assert_ne!(systemd.processes("qtls.service"), [process]);
}

/// A service manager of the test's own, which writes down what it is told.
struct Recorder {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Recorder {
    /// Waits for the first message with `pattern` from here on, past those of the watchdog and of the status.
    #[track_caller]
    fn next(&mut self, pattern: &str) -> String {
        loop {
            let mut buffer = [0; 4096];
            let length = self.socket.recv(&mut buffer);
            let length = length.unwrap_or_else(|error| panic!("no {pattern:?} ({error}) after {:#?}", self.heard));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.push(message.clone());
            if message.contains(pattern) {
                return message;
            }
            let expected = message == "WATCHDOG=1" || message.starts_with("STATUS=");
            assert!(expected, "{pattern:?} should come, not {message:?}");
        }
    }
}

fn monotonic_microseconds() -> i128 {
    let now = clock_gettime(ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000
}

#[test]
fn a_manager_hears_of_each_step_in_its_order() {
    let service = Service::new(json!({ "server": { "drain_delay": 1 } }));
    let path = service.directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("the temporary directory is writable");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out above 0");
    let mut manager = Recorder { socket, heard: Vec::new() };
    // A shell, since the watchdog is for the process that is named.
    let command = format!("WATCHDOG_PID=$$ exec {}", service.command());
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "2000000");
    let server = Running::start(&mut shell);

    assert_eq!(manager.next("READY=1"), "READY=1\nSTATUS=Serving; 0 connections open; generation 1");
    service.serves();
    manager.next("WATCHDOG=1");
    let before = monotonic_microseconds();
    server.signal(Signal::HUP);
    let reloading = manager.next("RELOADING=1");
    let after = monotonic_microseconds();
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|time| time.parse().ok());
    assert!(time.is_some_and(|time| before <= time && time <= after), "{before} {reloading} {after}");
    assert_eq!(
        manager.next("READY=1"),
        "READY=1\nSTATUS=Serving; 0 connections open; generation 2; last reload applied"
    );

    // A worker that hangs ends the signs of life, and nothing else does.
    let barks = |log: &str| log.matches("the service manager's watchdog is left to bark").count();
    // A busy machine may have looked like that before.
    let before = barks(&server.stderr.text());
    let held = hold(server.id(), "qtls-worker-0");
    assert!(server.stderr.becomes(PATIENCE, |log| barks(log) > before), "{}", server.said());
    manager.socket.set_nonblocking(true).expect("a socket");
    let mut buffer = [0; 4096];
    while manager.socket.recv(&mut buffer).is_ok() {}
    // Longer than the watchdog waits.
    std::thread::sleep(Duration::from_secs(3));
    let mut silence = true;
    while let Ok(length) = manager.socket.recv(&mut buffer) {
        silence &= &buffer[..length] != b"WATCHDOG=1";
    }
    assert!(silence, "signs of life of a server of which a worker hangs");
    manager.socket.set_nonblocking(false).expect("a socket");
    held.release();
    server.stderr.wait_for_line("every worker moves again");
    manager.next("WATCHDOG=1");

    server.signal(Signal::TERM);
    // The delay, the drain, and what the end takes.
    assert_eq!(
        manager.next("STOPPING=1"),
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=26000000\nSTATUS=No longer ready; 0 connections open; generation 2; last \
         reload applied"
    );
    server.finish(PATIENCE).expect_success();
}

/// Units of a server whose sockets are systemd's.
fn activated(service: &Service, lines: &str) -> [(&'static str, String); 3] {
    let socket = |port: u16, name: &str| {
        format!(
            "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=127.0.0.1:{port}\nFileDescriptorName={name}\n\
             Service=qtls.service\n"
        )
    };
    let unit = service.unit(&format!("Type=notify-reload\nSockets=qtls-tls.socket qtls-metrics.socket\n{lines}"));
    [
        ("qtls.service", unit),
        ("qtls-tls.socket", socket(service.port, "tls")),
        ("qtls-metrics.socket", socket(service.metrics_port, "metrics")),
    ]
}

#[test]
fn restarts_of_a_socket_activated_server_lose_no_connection() {
    let service = Service::new(json!({ "server": { "worker_threads": 3 } }));
    let systemd = service.boot(&activated(&service, ""));
    systemd.systemctl(&["start", "qtls-tls.socket", "qtls-metrics.socket"]).expect_success();
    assert_eq!(systemd.show("qtls", "ActiveState"), "inactive");
    // The first client starts it.
    service.serves();
    assert_eq!(systemd.show("qtls", "ActiveState"), "active");
    assert_eq!(wire::http_get(service.metrics_port, "/ready").body, "ready\n");
    let line = service.wait_for_log("listening on");
    let expected = format!("listening on 127.0.0.1:{}, a socket of systemd, with 3 workers", service.port);
    assert!(line.contains(&expected), "{line}");
    let [process] = systemd.processes("qtls.service")[..] else { panic!("one process: {}", systemd.said()) };
    assert_eq!(descriptors_of(process, service.port), 3, "one for each worker, and one socket");

    let load = Load::start(service.port, &Pki::shared().ca(), 3, 1, 50);
    for _ in 0..5 {
        systemd.systemctl(&["restart", "qtls"]).expect_success();
        std::thread::sleep(Duration::from_millis(300));
    }
    let report = load.stop();
    report.expect_no_failure(15, 2);
    assert_eq!(systemd.show("qtls", "Result"), "success");
    assert_eq!(service.log().matches("a socket of systemd").count(), 6, "{}", service.log());
}

#[test]
fn systemd_s_address_wins_over_the_configured_one() {
    let service = Service::new(json!({}));
    let (configured, activated_port) = (service.port, free_port());
    let service = Service { port: activated_port, ..service };
    let systemd = service.boot(&activated(&service, ""));
    systemd.systemctl(&["start", "qtls-tls.socket"]).expect_success();
    service.serves();
    let warning = service.wait_for_log("WARN");
    let expected = format!(
        "server.listen_port: systemd passed a socket for 127.0.0.1:{activated_port}, which is served; the configuration \
         says 127.0.0.1:{configured}"
    );
    assert!(warning.contains(&expected), "{warning}");
    TcpStream::connect(("127.0.0.1", configured)).expect_err("nobody listens there");
}

#[test]
fn a_socket_that_can_not_be_served_is_told_with_the_remedy() {
    let service = Service::new(json!({ "metrics": { "enabled": false } }));
    let datagrams = format!(
        "[Unit]\nDefaultDependencies=no\n[Socket]\nListenDatagram=127.0.0.1:{}\nService=udp.service\n",
        free_port()
    );
    let [unit, tls, metrics] = activated(&service, "");
    let systemd = service.boot(&[
        unit,
        tls,
        metrics,
        ("udp.service", service.unit("Type=notify\nSockets=udp.socket")),
        ("udp.socket", datagrams),
    ]);
    systemd.systemctl(&["start", "udp.socket"]).expect_success();
    systemd.systemctl(&["start", "udp.service"]).expect_code(1);
    service.wait_for_log(
        "socket activation: descriptor 3 (udp.socket), which systemd passed, can't be served: it is no TCP socket",
    );
    service
        .wait_for_log("  hint: in the socket unit, `ListenStream=` must be an address with a port, and `Accept=` must");
    systemd.systemctl(&["start", "qtls-metrics.socket"]).expect_success();
    systemd.systemctl(&["start", "qtls"]).expect_code(1);
    let port = service.metrics_port;
    service.wait_for_log(&format!(
        "socket activation: systemd passed the socket 127.0.0.1:{port} for the metrics, which are switched off"
    ));
    assert_eq!(systemd.show("qtls", "ExecMainStatus"), "2");
}

#[test]
fn a_new_process_of_the_service_becomes_its_main_process() {
    let handover = tempfile::tempdir().expect("the temporary directory is writable");
    let service = Service::new(json!({ "server": { "handover": handover.path().join("socket") } }));
    let replace = format!("ExecReload=/bin/sh -c '{} &'", service.command());
    let unit = service.unit(&format!("Type=notify\nWatchdogSec=8\nRestart=on-failure\n{replace}"));
    let certificates = Pki::shared().directory();
    let shares = [service.directory.path(), certificates, handover.path()];
    let systemd = Systemd::boot(&[("qtls.service", unit)], &shares);
    systemd.systemctl(&["start", "qtls"]).expect_success();
    let load = Load::start(service.port, &Pki::shared().ca(), 2, 1, 50);
    let mut client = service.connected();
    let mut before = systemd.show("qtls", "MainPID");
    for _ in 0..3 {
        systemd.systemctl(&["reload", "qtls"]).expect_success();
        let old = before.clone();
        before = systemd.show_when("qtls", "MainPID", |process| process != old);
        systemd.show_when("qtls", "StatusText", |text| text.starts_with("Serving; "));
        client = say(client, "still");
    }
    load.stop().expect_no_failure(20, 1);
    // The watchdog goes over too: by now it would have barked.
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(systemd.show("qtls", "NRestarts"), "0", "{}", service.log());
    assert_eq!(systemd.show("qtls", "ActiveState"), "active");
    assert_eq!(systemd.processes("qtls.service").len(), 2, "the first one still has its connection");
    drop(client);
    let deadline = Instant::now() + PATIENCE;
    while systemd.processes("qtls.service").len() > 1 {
        assert!(Instant::now() < deadline, "the old process doesn't end\n{}", service.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    systemd.systemctl(&["stop", "qtls"]).expect_success();
    assert_eq!(systemd.show("qtls", "Result"), "success", "{}", service.log());
    assert!(systemd.processes("qtls.service").is_empty());
}

#[test]
fn one_instance_of_a_unit_takes_over_from_another() {
    let handover = tempfile::tempdir().expect("the temporary directory is writable");
    let service = Service::new(json!({ "server": { "handover": handover.path().join("socket") } }));
    let unit = service.unit("Type=notify-reload\nRestart=on-failure\nTimeoutStopSec=1");
    let certificates = Pki::shared().directory();
    let shares = [service.directory.path(), certificates, handover.path()];
    let systemd = Systemd::boot(&[("qtls@.service", unit)], &shares);
    systemd.systemctl(&["start", "qtls@blue"]).expect_success();
    let load = Load::start(service.port, &Pki::shared().ca(), 2, 1, 50);
    for (old, new) in [("qtls@blue", "qtls@green"), ("qtls@green", "qtls@blue"), ("qtls@blue", "qtls@green")] {
        systemd.systemctl(&["start", new]).expect_success();
        assert_eq!(systemd.show(new, "SubState"), "running");
        systemd.show_when(old, "ActiveState", |state| state == "inactive");
        assert_eq!(systemd.show(old, "Result"), "success");
        assert_eq!(wire::http_get(service.metrics_port, "/ready").status, 200);
    }
    load.stop().expect_no_failure(20, 1);
    // The main process of each is its own: nothing was said about the other's.
    assert!(!systemd.said().contains("Supervising process"), "{}", systemd.said());
    let mut probe = TcpStream::connect(("127.0.0.1", service.metrics_port)).expect("the new one listens");
    probe.write_all(b"GET /health HTTP/1.0\r\n\r\n").expect("it is open");
    let mut answer = String::new();
    probe.read_to_string(&mut answer).expect("it answers");
    assert!(answer.ends_with("healthy\n"), "{answer}");
}

/// The units of docs/OPERATIONS.md by name, on other ports, and without what would wait for the rest of a system.
fn documented_units(ports: &[(&str, u16)]) -> Vec<(String, String)> {
    let document =
        fs::read_to_string(programs::repository().join("docs/OPERATIONS.md")).expect("the document is there");
    let blocks = document.split("```ini\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut units = Vec::new();
    for block in blocks {
        let (first, rest) = block.split_once('\n').expect("more than a line");
        let name = first.strip_prefix("# /etc/systemd/system/").unwrap_or_else(|| panic!("no name in {first:?}"));
        let mut unit = format!("[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n{rest}");
        for (address, port) in ports {
            assert!(document.contains(address), "{address} is in no unit");
            unit = unit.replace(address, &format!("127.0.0.1:{port}"));
        }
        if !rustix::process::geteuid().is_root() {
            // There is no other user in the namespace of one.
            unit = unit.replace("User=qtls\n", "").replace("Group=qtls\n", "");
        }
        units.push((name.to_owned(), unit));
    }
    units
}

/// What the documents' units find in a system: the program, a configuration with its certificate, a directory for logs.
struct Installed(TempDir);

impl Installed {
    fn new(config: &Value) -> Self {
        let root = tempfile::tempdir().expect("the temporary directory is writable");
        let at = |path: &str| root.path().join(path);
        for directory in ["bin", "etc/config", "etc/certs", "log"] {
            fs::create_dir_all(at(directory)).expect("the temporary directory is writable");
        }
        let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
        write_config(&at("etc/config"), config);
        for (from, to) in [
            (&programs::directory().join("qtls-server"), "bin/qtls-server"),
            (&cert, "etc/certs/server-cert.pem"),
            (&key, "etc/certs/server-key.pem"),
        ] {
            fs::copy(from, at(to)).expect("it can be copied");
        }
        if rustix::process::geteuid().is_root() {
            for path in ["log", "etc/certs/server-key.pem"] {
                chown(at(path), Some(990), Some(990)).expect("root may");
            }
        }
        Self(root)
    }

    fn boot(&self, units: &[(String, String)]) -> Systemd {
        let units: Vec<_> = units.iter().map(|(name, unit)| (name.as_str(), unit.clone())).collect();
        let at = |path: &str| self.0.path().join(path);
        let (bin, etc, log) = (at("bin"), at("etc"), at("log"));
        Systemd::boot_with(&units, &[], &[(&bin, "/usr/local/bin"), (&etc, "/etc/qtls"), (&log, "/var/log/qtls")])
    }

    fn reconfigure(&self, config: &Value, changes: Value) {
        let mut config = config.clone();
        merge(&mut config, changes);
        write_config(&self.0.path().join("etc/config"), &config);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.path().join("log/server.log")).unwrap_or_default()
    }
}

#[test]
fn the_units_of_the_documents_do_what_the_documents_say() {
    let (port, metrics_port) = (free_port(), free_port());
    let units = documented_units(&[("0.0.0.0:443", port), ("127.0.0.1:9091", metrics_port)]);
    let names: Vec<_> = units.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "qtls-server.service",
        "qtls-tunnel.service",
        "qtls-server-tls.socket",
        "qtls-server-metrics.socket",
        "qtls-server@.service",
    ];
    assert_eq!(names, expected);
    let config = json!({
        "server": {
            "listen_address": "127.0.0.1", "listen_port": port, "worker_threads": 2, "handover": "/run/qtls/handover.sock"
        },
        "metrics": { "address": "127.0.0.1", "port": metrics_port },
        "logging": { "file": "/var/log/qtls/server.log", "console": false },
    });
    let installed = Installed::new(&config);
    let systemd = installed.boot(&units);
    let ready = || assert_eq!(wire::http_get(metrics_port, "/ready").status, 200, "{}", installed.log());
    let serves = || drop(Client::new(port).get("/status.json").expect_success());

    // Instances that replace one another.
    systemd.systemctl(&["start", "qtls-server@blue"]).expect_success();
    serves();
    let user = systemd.show("qtls-server@blue", "User");
    assert!(user == "qtls" || !rustix::process::geteuid().is_root(), "{user}");
    systemd.systemctl(&["start", "qtls-server@green"]).expect_success();
    systemd.show_when("qtls-server@blue", "ActiveState", |state| state == "inactive");
    assert_eq!(systemd.show("qtls-server@blue", "Result"), "success", "{}", installed.log());
    serves();
    ready();
    systemd.systemctl(&["start", "qtls-server@blue"]).expect_success();
    systemd.show_when("qtls-server@green", "ActiveState", |state| state == "inactive");
    serves();
    systemd.systemctl(&["stop", "qtls-server@blue"]).expect_success();
    assert_eq!(installed.log().matches(" took over").count(), 2, "{}", installed.log());

    // The sockets of systemd. Nothing has made the directory of the hand-over for this unit.
    installed.reconfigure(&config, json!({ "server": { "handover": null } }));
    systemd.systemctl(&["start", "qtls-server-tls.socket", "qtls-server-metrics.socket"]).expect_success();
    serves();
    ready();
    systemd.systemctl(&["reload", "qtls-server"]).expect_success();
    let status = systemd.show("qtls-server", "StatusText");
    assert!(status.ends_with("generation 2; last reload applied"), "{status}");
    systemd.systemctl(&["restart", "qtls-server"]).expect_success();
    serves();
    systemd
        .systemctl(&["stop", "qtls-server-tls.socket", "qtls-server-metrics.socket", "qtls-server"])
        .expect_success();
    assert_eq!(systemd.show("qtls-server", "Result"), "success", "{}", installed.log());
}
