//! A server that serves has nothing left that it doesn't need, says so, and goes on reloading, rotating and looking names
//! up. Where the system refuses a part, it says that, and starts or not as `sandbox` has it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use qtls_interop::metrics::Metrics;
use qtls_interop::openssl::{Client, text};
use qtls_interop::process::{Finished, PATIENCE, Running, run};
use qtls_interop::server::{free_port, merge, write_config};
use qtls_interop::upstreams::echo;
use qtls_interop::{Algorithm, Negotiated, Pki, Server, programs};
use rustix::process::{Resource, Rlimit, Signal, geteuid, getrlimit, setrlimit};
use seccompiler::{SeccompAction, SeccompFilter, TargetArch};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Certificates, configuration and log in directories that every user can reach.
struct Site {
    directory: TempDir,
    port: u16,
    metrics_port: u16,
}

impl Site {
    fn new(changes: Value) -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let site = Self { directory, port: free_port(), metrics_port: free_port() };
        for name in ["certs", "config", "logs"] {
            fs::create_dir(site.at(name)).expect("it is ours");
        }
        site.install(Pki::shared(), Algorithm::EcdsaP384);
        let mut config = json!({
            "server": { "listen_address": "127.0.0.1", "listen_port": site.port, "worker_threads": 2 },
            "certificates": { "server_cert": site.at("certs/cert.pem"), "server_key": site.at("certs/key.pem") },
            "logging": { "level": "debug", "console": true },
            "metrics": { "address": "127.0.0.1", "port": site.metrics_port },
        });
        merge(&mut config, changes);
        write_config(&site.at("config"), &config);
        site
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn install(&self, pki: &Pki, algorithm: Algorithm) {
        let (cert, key) = pki.server(algorithm);
        for (from, to) in [(cert, "certs/cert.pem"), (key, "certs/key.pem")] {
            fs::copy(from, self.at("certs/new")).expect("it can be copied");
            fs::set_permissions(self.at("certs/new"), Permissions::from_mode(0o644)).expect("it is ours");
            fs::rename(self.at("certs/new"), self.at(to)).expect("it is ours");
        }
    }

    fn reconfigure(&self, changes: Value) {
        let path = self.at("config/server.json");
        let mut config = serde_json::from_slice(&fs::read(path).expect("it is there")).expect("it is JSON");
        merge(&mut config, changes);
        write_config(&self.at("config"), &config);
    }

    fn command(&self) -> Command {
        let mut command = programs::command("qtls-server");
        command.arg("--config").arg(self.at("config/server.json"));
        command
    }

    fn start(&self) -> Started<'_> {
        self.start_as(self.command())
    }

    #[track_caller]
    fn start_as(&self, mut command: Command) -> Started<'_> {
        let process = Running::start(&mut command);
        process.stderr.wait_for_line(&format!("listening on 127.0.0.1:{}", self.port));
        Started { site: self, process }
    }

    fn test_config(&self) -> Finished {
        run(self.command().arg("--test-config"), b"")
    }
}

struct Started<'a> {
    site: &'a Site,
    process: Running,
}

impl Started<'_> {
    fn log(&self) -> String {
        self.process.stderr.text()
    }

    /// The line of the log that says part by part what is in force.
    fn state(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(" sandbox (")).collect();
        assert_eq!(lines.len(), 1, "{log}");
        lines[0].to_owned()
    }

    fn warnings(&self) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
    }

    #[track_caller]
    fn serves(&self, pki: &Pki) {
        let exchange = Client::trusting(self.site.port, &pki.ca()).get("/status.json");
        assert_eq!(exchange.json()["group"], "X25519MLKEM768", "{}", exchange.finished.said());
    }

    /// SIGHUP, and the line that says what came of it.
    #[track_caller]
    fn reload(&self) -> String {
        let told = |line: &str| line.contains("SIGHUP: reloaded") || line.contains("SIGHUP: refused");
        let before = self.log().lines().filter(|line| told(line)).count();
        self.process.signal(Signal::HUP);
        let all = |log: &str| log.lines().filter(|line| told(line)).nth(before).map(str::to_owned);
        assert!(self.process.stderr.becomes(PATIENCE, |log| all(log).is_some()), "{}", self.log());
        all(&self.log()).expect("it was there")
    }

    fn parts(&self) -> BTreeMap<String, bool> {
        let metrics = Metrics::scrape(self.site.metrics_port);
        let names = ["user", "capabilities", "no_new_privileges", "files", "network", "system_calls", "no_core_dumps"];
        names.into_iter().map(|name| (name.to_owned(), metrics.sum("qtls_sandbox", &[("part", name)]) == 1.0)).collect()
    }

    /// The rows of `/proc/PID/task/TID/status` of each thread, and its `nice` value.
    fn threads(&self) -> Vec<BTreeMap<String, String>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("it runs");
        let read = |task: fs::DirEntry| {
            let [status, stat] = ["status", "stat"].map(|file| fs::read_to_string(task.path().join(file)).ok());
            let (status, stat) = (status?, stat?);
            let pairs = status.lines().filter_map(|line| line.split_once(":\t"));
            let mut rows: BTreeMap<_, _> =
                pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
            // The 19th field; the second is a name in parentheses (proc_pid_stat(5)).
            let (_, behind_the_name) = stat.rsplit_once(") ")?;
            rows.insert("nice".to_owned(), behind_the_name.split(' ').nth(16)?.to_owned());
            Some(rows)
        };
        tasks.flatten().filter_map(read).collect()
    }
}

/// Whether the kernel has all parts: else these tests have nothing to look at, and say so.
fn complete() -> bool {
    static COMPLETE: OnceLock<bool> = OnceLock::new();
    *COMPLETE.get_or_init(|| {
        let site = Site::new(json!({ "sandbox": "required" }));
        let finished = site.test_config();
        if finished.status.success() {
            return true;
        }
        // Past the capture of tests that pass.
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "SKIPPED: the sandbox: {}", finished.stderr.trim_end());
        false
    })
}

fn is_root() -> bool {
    geteuid().is_root()
}

/// As a container's seccomp profile does: Landlock's calls get this errno, in everything that is started by `act`.
fn without_landlock<T: Send>(errno: i32, act: impl FnOnce() -> T + Send) -> T {
    const CALLS: [libc::c_long; 3] = [444, 445, 446];
    let rules = CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    let action = SeccompAction::Errno(errno.unsigned_abs());
    let architecture = TargetArch::try_from(std::env::consts::ARCH).expect("filters are known for it");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, architecture).expect("the rules are good");
    let program: seccompiler::BpfProgram = filter.try_into().expect("the rules are good");
    thread::scope(|scope| {
        let inside = scope.spawn(move || {
            seccompiler::apply_filter(&program).expect("anybody may filter itself");
            act()
        });
        inside.join().expect("it doesn't panic")
    })
}

#[test]
fn every_thread_is_restricted_and_the_log_the_metrics_and_the_check_say_so() {
    if !complete() {
        return;
    }
    // By name: it is looked up while the server serves.
    let upstream = echo();
    let site = Site::new(json!({
        "upstream": { "protocol": "tcp", "servers": [format!("localhost:{upstream}")] },
        "sandbox": "required",
    }));
    site.reconfigure(json!({ "logging": { "file": site.at("logs/server.log") } }));
    let server = site.start();
    let mut client = Client::new(site.port).start();
    std::io::Write::write_all(&mut client.stdin(), b"through the upstream\n").expect("the connection is open");
    client.stdout.wait_for_line("through the upstream");

    let threads = server.threads();
    let names: Vec<_> = threads.iter().map(|thread| thread["Name"].as_str()).collect();
    for name in ["qtls-server", "qtls-worker-0", "qtls-worker-1", "tokio-rt-worker"] {
        assert!(names.contains(&name), "no {name} among {names:?}");
    }
    for thread in &threads {
        let expected = [
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
            ("CapInh", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
        ];
        for (row, value) in expected {
            assert_eq!(thread[row], value, "{row} of {}", thread["Name"]);
        }
        if is_root() {
            assert_eq!(thread["CapBnd"], "0000000000000000", "of {}", thread["Name"]);
        }
        assert!(thread["Seccomp_filters"].parse::<u32>().expect("a number") >= 3, "of {}", thread["Name"]);
    }

    let state = server.state();
    let root = site.directory.path().canonicalize().expect("it is there");
    let root = root.display();
    let expected = [
        " INFO  sandbox (required): user: ".to_owned(),
        "capabilities: none; ".to_owned(),
        "no_new_privileges: set; ".to_owned(),
        format!("reading in {root}/certs, {root}/config and "),
        format!(
            "; network: no listening, connecting to the ports {} only; ",
            [53, upstream].map(|port| port.to_string()).join(", ")
        ),
        "system_calls: filtered; no_core_dumps: none".to_owned(),
    ];
    for part in &expected {
        assert!(state.contains(part), "no {part:?} in {state}");
    }
    let parts = server.parts();
    for (part, in_force) in &parts {
        assert_eq!(*in_force, part != "user" || !is_root(), "{part} of {parts:?}");
    }
    // What the metrics say of the process comes from /proc.
    let metrics = Metrics::scrape(site.metrics_port);
    for name in ["process_open_fds", "process_resident_memory_bytes", "process_threads", "process_max_fds"] {
        assert!(metrics.sum(name, &[]) > 0.0, "{name} in\n{}", metrics.text());
    }
    assert!(!server.log().contains(" WARN  sandbox"), "{}", server.log());

    // The server may be running: the check looks at the same host and finds the same.
    let said = site.test_config().expect_success().stdout;
    let (_, shown) = state.split_once("sandbox (").expect("it is the line of the state");
    assert!(said.contains(&format!("\n  sandbox ({shown}\n")), "{shown}\nis not in\n{said}");
}

#[test]
fn a_signing_thread_is_restricted_and_goes_behind_the_workers() {
    if !complete() {
        return;
    }
    let site = Site::new(json!({ "sandbox": "required" }));
    site.install(Pki::shared(), Algorithm::Rsa4096);
    let server = site.start();
    let exchange = Client::trusting(site.port, &Pki::shared().ca()).get("/status.json");
    assert_eq!(exchange.negotiated(), Negotiated::new("X25519MLKEM768", "rsa_pss_rsae_sha512"));

    let threads = server.threads();
    let named = |name: &str| threads.iter().filter(|thread| thread["Name"].starts_with(name)).collect::<Vec<_>>();
    let (workers, signing) = (named("qtls-worker-"), named("qtls-sign"));
    assert_eq!((workers.len(), signing.len()), (2, 1));
    let own: i32 = workers[0]["nice"].parse().expect("a number");
    assert_eq!(workers[1]["nice"], workers[0]["nice"]);
    assert_eq!(signing[0]["nice"], (own + 10).min(19).to_string());
    assert_eq!((signing[0]["NoNewPrivs"].as_str(), signing[0]["Seccomp"].as_str()), ("1", "2"));
    assert!(!server.log().contains("setpriority"), "{}", server.log());
}

#[test]
fn credentials_are_reloaded_after_renames_and_swaps_and_no_others() {
    if !complete() {
        return;
    }
    let site = Site::new(json!({ "sandbox": "required", "reload": { "watch_credentials": false } }));
    for (version, pki) in [("..1", Pki::shared()), ("..2", Pki::stranger())] {
        fs::create_dir(site.at("certs").join(version)).expect("it is ours");
        let (cert, key) = pki.server(Algorithm::EcdsaP384);
        fs::copy(cert, site.at("certs").join(version).join("tls.crt")).expect("it can be copied");
        fs::copy(key, site.at("certs").join(version).join("tls.key")).expect("it can be copied");
    }
    symlink("..1", site.at("certs/..data")).expect("it is ours");
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), site.at("certs").join(name)).expect("it is ours");
    }
    let server = site.start();
    server.serves(Pki::shared());

    // Renamed over.
    site.install(Pki::stranger(), Algorithm::EcdsaP384);
    assert!(server.reload().contains("SIGHUP: reloaded"), "{}", server.log());
    server.serves(Pki::stranger());

    // As Kubernetes does it, in the same directory.
    site.reconfigure(json!({ "certificates": {
        "server_cert": site.at("certs/tls.crt"), "server_key": site.at("certs/tls.key"),
    } }));
    assert!(server.reload().contains("SIGHUP: reloaded"), "{}", server.log());
    server.serves(Pki::shared());
    symlink("..2", site.at("certs/..tmp")).expect("it is ours");
    fs::rename(site.at("certs/..tmp"), site.at("certs/..data")).expect("it is ours");
    fs::remove_dir_all(site.at("certs/..1")).expect("it is ours");
    assert!(server.reload().contains("SIGHUP: reloaded"), "{}", server.log());
    server.serves(Pki::stranger());

    // In a directory that was not there at start.
    fs::create_dir(site.at("other")).expect("it is ours");
    for name in ["cert.pem", "key.pem"] {
        fs::copy(site.at("certs").join(name), site.at("other").join(name)).expect("it can be copied");
    }
    site.reconfigure(json!({ "certificates": {
        "server_cert": site.at("other/cert.pem"), "server_key": site.at("other/key.pem"),
    } }));
    let line = server.reload();
    let root = site.directory.path().canonicalize().expect("it is there");
    let expected = format!(
        "certificates.server_cert: {}/other/cert.pem: the directory {}/other was not named when the sandbox was entered, \
         and can't be read; hint: restart the server: it opens what its configuration names; or keep the file in a \
         directory that was named at start",
        site.directory.path().display(),
        root.display()
    );
    assert!(line.contains("SIGHUP: refused, the old state stays in force: "), "{line}");
    assert!(line.contains("/config/server.json:") && line.contains(&expected), "{line}");
    server.serves(Pki::stranger());

    // A directory that took the place of the one of the start.
    site.reconfigure(json!({ "certificates": {
        "server_cert": site.at("certs/cert.pem"), "server_key": site.at("certs/key.pem"),
    } }));
    fs::rename(site.at("certs"), site.at("old")).expect("it is ours");
    fs::rename(site.at("other"), site.at("certs")).expect("it is ours");
    let line = server.reload();
    assert!(line.contains("/certs was made anew since the sandbox was entered"), "{line}");
    fs::rename(site.at("certs"), site.at("other")).expect("it is ours");
    fs::rename(site.at("old"), site.at("certs")).expect("it is ours");
    assert!(server.reload().contains("SIGHUP: reloaded"), "{}", server.log());
}

#[test]
fn an_upstream_s_port_must_be_one_of_the_start_and_its_address_need_not() {
    if !complete() {
        return;
    }
    let port = echo();
    let servers = |servers: &[String]| json!({ "upstream": { "protocol": "tcp", "servers": servers } });
    let site = Site::new(json!({ "sandbox": "required" }));
    site.reconfigure(servers(&[format!("127.0.0.2:{port}"), format!("localhost:{port}")]));
    let server = site.start();
    let goes_through = || {
        let mut client = Client::new(site.port).start();
        std::io::Write::write_all(&mut client.stdin(), b"hello\n").expect("the connection is open");
        client.stdout.wait_for_line("hello");
    };
    goes_through();
    site.reconfigure(servers(&[format!("127.0.0.1:{port}")]));
    assert!(server.reload().contains("SIGHUP: reloaded"), "{}", server.log());
    goes_through();
    let other = echo();
    site.reconfigure(servers(&[format!("127.0.0.1:{port}"), format!("127.0.0.1:{other}")]));
    let line = server.reload();
    let expected =
        format!("upstream.servers[1]: the sandbox was entered with connections to the ports 53, {port} left open");
    let expected = if port < 53 { expected.replace(&format!("53, {port}"), &format!("{port}, 53")) } else { expected };
    assert!(line.contains(&expected) && line.contains(&format!("and port {other} is not among them")), "{line}");
    assert!(line.contains("hint: restart the server"), "{line}");
    goes_through();
    // The mode itself, and the user, are those of the start.
    site.reconfigure(servers(&[format!("127.0.0.1:{port}")]));
    site.reconfigure(json!({ "sandbox": "off" }));
    assert!(server.reload().contains("SIGHUP: reloaded"), "{}", server.log());
    server.process.stderr.wait_for_line("not changed without a restart: sandbox (off; still required)");
}

#[test]
fn the_log_is_rotated_by_size_and_opened_anew_after_a_rename() {
    if !complete() {
        return;
    }
    let site = Site::new(json!({ "sandbox": "required", "logging": { "max_size_mb": 1, "max_files": 2 } }));
    let log = site.at("logs/server.log");
    site.reconfigure(json!({ "logging": { "file": log } }));
    // A few lines short of its size.
    fs::write(&log, "x".repeat((1 << 20) - 900) + "\n").expect("it is ours");
    let server = site.start();
    let rotated = || fs::read_dir(site.at("logs")).expect("it is there").count() > 1;
    for _ in 0..100 {
        if rotated() {
            break;
        }
        server.serves(Pki::shared());
    }
    assert!(rotated(), "{}", server.log());
    assert!(fs::metadata(&log).expect("it was made anew").len() < 1 << 20);

    fs::rename(&log, site.at("logs/server.log.old")).expect("it is ours");
    assert!(server.reload().contains("SIGHUP: reloaded"), "{}", server.log());
    becomes_logged(&log);
    assert!(!server.log().contains("can't"), "{}", server.log());
}

/// The last reload gets into the file soon after it got onto the console.
#[track_caller]
fn becomes_logged(log: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(log).expect("it was made anew").contains("SIGHUP: reloaded") {
        assert!(Instant::now() < deadline, "not logged to {}", log.display());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_system_without_landlock_is_told_once_and_served_on_unless_all_is_required() {
    for (errno, reason) in [
        (libc::ENOSYS, "this kernel has no Landlock, or a container hides it"),
        (libc::EOPNOTSUPP, "Landlock is switched off"),
        (libc::EPERM, "Landlock is refused to this process: Operation not permitted (os error 1)"),
    ] {
        let expected = format!("files ({reason}), network ({reason})");
        let site = Site::new(json!({ "sandbox": "required" }));
        let place = format!("qtls-server: {}:", site.at("config/server.json").display());
        for test in [true, false] {
            let finished = without_landlock(errno, || {
                let mut command = site.command();
                if test {
                    command.arg("--test-config");
                }
                run(&mut command, b"")
            });
            let finished = finished.expect_code(2);
            let error = &finished.stderr[finished.stderr.find(&place).expect("the error has a place")..];
            let said = format!("sandbox: all of the sandbox is required, and refused are: {expected}\n  hint: ");
            assert!(error.contains(&said), "{error}");
            assert!(error.trim_end().ends_with("; or set `sandbox` to \"best-effort\" to run without them"), "{error}");
        }

        site.reconfigure(json!({ "sandbox": "best-effort" }));
        let checked = without_landlock(errno, || site.test_config()).expect_success();
        assert!(checked.stderr.contains(&format!("warning: sandbox: the system refuses {expected}\n  hint: ")));
        assert!(
            checked.stdout.contains("files: refused; network: refused; system_calls: filtered"),
            "{}",
            checked.stdout
        );
        let server = without_landlock(errno, || site.start());
        let told: Vec<_> = server.warnings().into_iter().filter(|line| line.contains("sandbox")).collect();
        assert_eq!(told.len(), 1, "{told:#?}");
        let said = format!(" WARN  sandbox: the system refuses {expected}; the server runs without; ");
        assert!(told[0].contains(&said), "{}", told[0]);
        server.serves(Pki::shared());
        let parts = server.parts();
        assert!(
            !parts["files"] && !parts["network"] && parts["system_calls"] && parts["no_new_privileges"],
            "{parts:?}"
        );
        // Nor is a reload held against what isn't in force.
        fs::create_dir(site.at("other")).expect("it is ours");
        fs::copy(site.at("certs/cert.pem"), site.at("other/cert.pem")).expect("it can be copied");
        site.reconfigure(json!({ "certificates": { "server_cert": site.at("other/cert.pem") } }));
        assert!(server.reload().contains("SIGHUP: reloaded"), "{}", server.log());
    }
}

#[test]
fn off_takes_nothing_and_says_so() {
    let server = Server::start(json!({ "sandbox": "off" }));
    let line = server.wait_for_log(" sandbox (off): ");
    assert!(line.contains("files: not restricted; network: not restricted"), "{line}");
    assert_eq!(server.metrics().sum("qtls_sandbox", &[("part", "files")]), 0.0);
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).expect("it runs");
    let own = fs::read_to_string("/proc/self/status").expect("this runs");
    for row in ["NoNewPrivs", "Seccomp", "CapEff", "CapBnd"] {
        let of = |status: &str| status.lines().find(|line| line.starts_with(&format!("{row}:"))).map(str::to_owned);
        assert_eq!(of(&status), of(&own), "as of the process that started it");
    }
}

/// The user and the group of a server that becomes `nobody`.
fn nobody() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").expect("every system has it");
    let row = passwd.lines().find_map(|line| line.strip_prefix("nobody:")).expect("every system has this user");
    let numbers: Vec<_> = row.split(':').filter_map(|field| field.parse().ok()).collect();
    (numbers[0], numbers[1])
}

#[test]
fn the_user_is_switched_with_its_groups_and_owns_what_it_logs() {
    if !is_root() {
        return;
    }
    let (uid, gid) = nobody();
    let mut site = Site::new(json!({ "server": { "user": "nobody" } }));
    // One that only root can have.
    site.port = (600..1024).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("one is free");
    // Away from the certificates: the directory above the logs is opened, too.
    fs::create_dir_all(site.at("var/logs")).expect("it is ours");
    site.reconfigure(json!({
        "server": { "listen_port": site.port },
        "logging": { "file": site.at("var/logs/server.log") },
    }));
    chown(site.at("var/logs"), Some(uid), Some(gid)).expect("this is root");
    chown(site.at("certs/key.pem"), None, Some(gid)).expect("this is root");
    fs::set_permissions(site.at("certs/key.pem"), Permissions::from_mode(0o640)).expect("this is root");
    site.test_config().expect_success();
    let server = site.start();
    server.serves(Pki::shared());
    for thread in server.threads() {
        assert_eq!(thread["Uid"], format!("{uid}\t{uid}\t{uid}\t{uid}"), "of {}", thread["Name"]);
        assert_eq!(thread["Gid"], format!("{gid}\t{gid}\t{gid}\t{gid}"), "of {}", thread["Name"]);
        assert_eq!(thread["Groups"], gid.to_string(), "of {}", thread["Name"]);
        assert_eq!(thread["CapBnd"], "0000000000000000", "of {}", thread["Name"]);
    }
    assert!(server.state().contains(&format!("user: nobody (uid {uid}); ")), "{}", server.state());
    assert!(server.parts()["user"]);
    assert!(!server.log().contains("may not be"), "{}", server.log());
    let made = fs::metadata(site.at("var/logs/server.log")).expect("it was made");
    assert_eq!((made.uid(), made.gid()), (uid, gid));

    // It can be moved away, and its key be renewed.
    fs::rename(site.at("var/logs/server.log"), site.at("var/logs/server.log.1")).expect("this is root");
    site.install(Pki::stranger(), Algorithm::EcdsaP384);
    assert!(server.reload().contains("SIGHUP: reloaded"), "{}", server.log());
    server.serves(Pki::stranger());
    let made = fs::metadata(site.at("var/logs/server.log")).expect("it was made anew");
    assert_eq!((made.uid(), made.gid()), (uid, gid));
    // Also in a directory that was made anew.
    fs::rename(site.at("var/logs"), site.at("var/old")).expect("this is root");
    fs::create_dir(site.at("var/logs")).expect("this is root");
    chown(site.at("var/logs"), Some(uid), Some(gid)).expect("this is root");
    assert!(server.reload().contains("SIGHUP: reloaded"), "{}", server.log());
    becomes_logged(&site.at("var/logs/server.log"));
}

#[test]
fn a_key_that_only_root_can_read_fails_the_check_and_is_warned_of_at_start() {
    if !is_root() {
        return;
    }
    let (uid, _) = nobody();
    let site = Site::new(json!({ "server": { "user": "nobody" }, "reload": { "watch_credentials": false } }));
    fs::set_permissions(site.at("certs/key.pem"), Permissions::from_mode(0o600)).expect("this is root");
    let message = format!(
        "certificates.server_key: {} may not be read by user nobody (uid {uid}), as whom the server runs: a reload will be \
         refused",
        site.at("certs/key.pem").display()
    );
    let hint = "hint: give that user, or a group that it is in, read access to the file (chgrp, chmod g+r) and search \
                access (x) to each directory above it";
    let finished = site.test_config().expect_code(2);
    assert!(finished.stderr.contains(&format!("{message}\n  {hint}\n")), "{}", finished.stderr);
    assert!(finished.stderr.starts_with(&format!("qtls-server: {}:", site.at("config/server.json").display())));
    assert_eq!(finished.stdout, "");

    let server = site.start();
    server.serves(Pki::shared());
    let warnings = server.warnings();
    assert_eq!(warnings.iter().filter(|line| line.contains(&format!("{message}; {hint}"))).count(), 1, "{warnings:#?}");
    let line = server.reload();
    assert!(line.contains("refused") && line.contains("certificates.server_key"), "{line}");
    assert!(line.contains(&format!("may not be read by uid {uid}")) || line.contains("user nobody"), "{line}");
    server.serves(Pki::shared());
    // Given to a group of the user, it is read.
    fs::set_permissions(site.at("certs/key.pem"), Permissions::from_mode(0o604)).expect("this is root");
    assert!(server.reload().contains("SIGHUP: reloaded"), "{}", server.log());
}

#[test]
fn files_that_only_root_can_look_at_are_no_change_when_root_is_given_up() {
    if !is_root() {
        return;
    }
    let site = Site::new(json!({ "server": { "user": "nobody" } }));
    fs::set_permissions(site.at("certs"), Permissions::from_mode(0o700)).expect("this is root");
    let server = site.start();
    // Longer than it takes to see a change and to let it settle.
    thread::sleep(Duration::from_secs(4));
    let metrics = Metrics::scrape(site.metrics_port);
    assert_eq!(metrics.sum("qtls_reloads_total", &[]), 0.0, "nobody asked for one:\n{}", server.log());
    server.serves(Pki::shared());
}

#[test]
fn only_root_becomes_another_user_and_an_unknown_one_is_nobody() {
    let site = Site::new(json!({ "server": { "user": "no-such-user" } }));
    for arguments in [&["--test-config"][..], &[]] {
        let finished = run(site.command().args(arguments), b"").expect_code(2);
        assert!(
            finished.stderr.contains("server.user: there is no user \"no-such-user\" on this host\n  hint: make it")
        );
    }
    if !is_root() {
        return;
    }
    let (uid, _) = nobody();
    site.reconfigure(json!({ "server": { "user": "daemon" } }));
    for arguments in [&["--test-config"][..], &[]] {
        let finished = run(as_nobody(&site).args(arguments), b"").expect_code(2);
        let expected =
            format!("server.user: only root can become another user: this is nobody (uid {uid}), not daemon\n  hint: ");
        assert!(finished.stderr.contains(&expected), "{}", finished.said());
    }
}

/// The server, as a service manager starts it for an ordinary user.
fn as_nobody(site: &Site) -> Command {
    let (uid, gid) = nobody();
    // Where it was built, this user may not go.
    let copy = site.at("qtls-server");
    if !copy.exists() {
        fs::copy(programs::directory().join("qtls-server"), &copy).expect("there is room");
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups", "--no-new-privs"]);
    command.args([text(&copy), "--config", text(&site.at("config/server.json"))]);
    command
}

#[test]
fn an_ordinary_user_with_restrictions_of_its_own_needs_nothing_more() {
    if !is_root() || !complete() {
        return;
    }
    let (uid, gid) = nobody();
    let site = Site::new(json!({ "sandbox": "required", "server": { "user": "nobody" } }));
    site.reconfigure(json!({ "logging": { "file": site.at("logs/server.log") } }));
    chown(site.at("logs"), Some(uid), Some(gid)).expect("this is root");
    run(as_nobody(&site).arg("--test-config"), b"").expect_success();
    let server = site.start_as(as_nobody(&site));
    server.serves(Pki::shared());
    let state = server.state();
    let expected =
        format!("user: nobody (uid {uid}); capabilities: none, as before; no_new_privileges: set, as before; ");
    assert!(state.contains(&expected), "{state}");
    assert!(server.parts().values().all(|in_force| *in_force), "{:?}", server.parts());
    assert!(server.reload().contains("SIGHUP: reloaded"), "{}", server.log());
}

#[test]
fn a_crash_leaves_no_memory_behind() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("Linux has it");
    // The server inherits what this process may.
    let limit = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("up to its maximum");
    let dumps = limit.maximum != Some(0) && !pattern.starts_with('|');
    for (mode, expected) in [("off", dumps), ("best-effort", false)] {
        for signal in [Signal::ABORT, Signal::SEGV] {
            let site = Site::new(json!({ "sandbox": mode }));
            let mut command = site.command();
            command.current_dir(site.directory.path());
            let mut server = site.start_as(command);
            let limits = fs::read_to_string(format!("/proc/{}/limits", server.process.id())).expect("it runs");
            let row = limits.lines().find(|line| line.starts_with("Max core file size")).expect("Linux has it");
            assert_eq!(row.split_whitespace().nth(4) == Some("0"), mode != "off" || limit.maximum == Some(0), "{row}");
            let status = server.process.crash(signal);
            assert_eq!(status.signal(), Some(signal.as_raw()));
            assert_eq!(status.core_dumped(), expected, "{mode}: {status}");
        }
    }
}
