//! Keys, passphrases and PINs are in no log, no output, no error and no crash, at any level and in any format.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use qtls_interop::openssl::{Client, text};
use qtls_interop::process::{PATIENCE, Running, run};
use qtls_interop::secrets::{Said, Secrets, run_and_add};
use qtls_interop::server::{free_port, merge, write_config};
use qtls_interop::{Algorithm, Pki, peers, programs, wire};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

const PASSPHRASE: &str = "Tr0ub4dor-and-3-horses";
const WRONG: &str = "not-the-passphrase-at-all";
const PIN: &str = "pin-8675309-of-the-token";
const NUMERIC_PIN: &str = "8675309867530986753";
const TICKET_SECRET: &str = "a-secret-for-tickets-of-32-bytes-and-more";

/// What there is to be kept secret, in files, and everything that was said.
struct Scene {
    directory: TempDir,
    secrets: Secrets,
    said: Said,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let mut scene = Self { directory, secrets: Secrets::default(), said: Said::default() };
        let pki = Pki::shared();
        for (cert, key) in Algorithm::ALL.iter().flat_map(|algorithm| [pki.server(*algorithm), pki.client(*algorithm)])
        {
            scene.secrets.key(&key, &cert);
        }
        for (what, secret) in [
            ("the passphrase", PASSPHRASE),
            ("the wrong passphrase", WRONG),
            ("the PIN", PIN),
            ("the PIN of digits", NUMERIC_PIN),
            ("the ticket secret", TICKET_SECRET),
        ] {
            scene.secrets.text(what, secret);
        }
        for (name, content) in [("right", PASSPHRASE), ("wrong", WRONG), ("pin", PIN), ("ticket-secret", TICKET_SECRET)]
        {
            fs::write(scene.path(name), format!("{content}\n")).expect("it is writable");
        }
        fs::write(scene.path("two-lines"), format!("{PASSPHRASE}\n{WRONG}\n")).expect("it is writable");
        // Encrypted by OpenSSL, so that what is inside is known.
        let (_, key) = pki.server(Algorithm::EcdsaP384);
        let mut openssl = peers::classical_openssl();
        openssl.args([
            "pkcs8",
            "-topk8",
            "-v2",
            "aes-256-cbc",
            "-in",
            text(&key),
            "-out",
            text(&scene.path("locked.pem")),
        ]);
        run(openssl.args(["-passout", &format!("file:{}", scene.path("right").display())]), b"").expect_success();
        scene
    }

    /// What is in the files of keys and secrets of tickets.
    fn keys_of_tickets(&mut self) {
        for name in ["keys", "secret"] {
            let text = fs::read_to_string(self.path(name)).expect("it is there");
            let words = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
            let secrets: Vec<_> = words.filter(|word| word.len() >= 32).collect();
            assert!(!secrets.is_empty(), "{text}");
            secrets.into_iter().for_each(|secret| self.secrets.text(name, secret));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The configuration of a server with an encrypted key, which logs as much as it can.
    fn config(&self, format: &str, changes: Value) -> Value {
        let pki = Pki::shared();
        let (cert, _) = pki.server(Algorithm::EcdsaP384);
        let (more, more_key) = pki.server(Algorithm::MlDsa65);
        let mut config = json!({
            "server": { "listen_address": "127.0.0.1", "listen_port": free_port(), "worker_threads": 2 },
            "certificates": {
                "server_cert": cert, "server_key": self.path("locked.pem"), "server_key_passphrase": "${SECRET_PASSPHRASE}",
                "additional": [{ "cert": more, "key": more_key }],
                "verify_client": "optional", "ca_bundle": pki.ca(),
            },
            "logging": {
                "level": "trace", "format": format, "file": self.path("server.log"),
                "access_file": self.path("access.log"), "audit_file": self.path("audit.log"),
            },
            "metrics": { "address": "127.0.0.1", "port": free_port() },
        });
        merge(&mut config, changes);
        config
    }

    fn write(&self, config: &Value) -> PathBuf {
        write_config(self.directory.path(), config)
    }

    /// Runs one of our programs with every secret in its environment.
    fn run(&mut self, program: &str, arguments: &[&str]) -> qtls_interop::Finished {
        let mut command = noisy(programs::command(program));
        command.args(arguments).current_dir(self.directory.path());
        run_and_add(&mut self.said, &mut command, b"")
    }

    /// A configuration that has to be refused, by a test of it and by a start.
    fn is_refused(&mut self, config: &Value) {
        let file = self.write(config);
        self.text_is_refused(&file);
    }

    fn text_is_refused(&mut self, file: &Path) {
        for test in [&["--test-config"][..], &[]] {
            let finished = self.run("qtls-server", &[&["--config", text(file)], test].concat());
            finished.expect_code(2);
        }
    }

    /// A server that runs until it is told to stop.
    fn serves(&mut self, config: &Value, meanwhile: impl FnOnce(&Running, u16, &mut Said)) {
        let file = self.write(config);
        let mut command = noisy(programs::command("qtls-server"));
        let running = Running::start(command.arg("--config").arg(&file));
        let port = config["server"]["listen_port"].as_u64().expect("a port") as u16;
        let listening = running.stderr.wait_for(PATIENCE, |line| line.contains("listening on"));
        assert!(listening.is_some(), "{}", running.said());
        meanwhile(&running, port, &mut self.said);
        let metrics = config["metrics"]["port"].as_u64().expect("a port") as u16;
        self.said.add("the metrics", wire::http_get(metrics, "/metrics").body);
        running.signal(Signal::TERM);
        self.said.finished(&running.finish(PATIENCE).expect_success());
    }

    /// Nothing of it was said, and enough was said to mean something.
    #[track_caller]
    fn conclude(mut self, least: usize, expected: &[&str]) {
        self.said.files(self.directory.path(), &[".log"]);
        for text in expected {
            assert!(self.said.contains(text), "nobody said {text:?}");
        }
        assert!(self.said.len() > least, "only {} bytes were said", self.said.len());
        self.secrets.assert_not_in(&self.said);
    }
}

/// With all that makes programs talk, and with secrets in the environment.
fn noisy(mut command: Command) -> Command {
    command.envs([("RUST_BACKTRACE", "full"), ("RUST_LIB_BACKTRACE", "full"), ("RUST_LOG", "trace")]);
    command.envs([("SECRET_PASSPHRASE", PASSPHRASE), ("SECRET_WRONG", WRONG), ("QTLS_HSM_PIN", PIN)]);
    command
}

#[test]
fn not_where_everything_is_well() {
    for format in ["text", "json"] {
        let mut scene = Scene::new();
        let config = scene.config(format, json!({}));
        scene.serves(&config, |running, port, said| {
            let client = || Client::new(port).certificate(Pki::shared().client(Algorithm::MlDsa65));
            let first = client().saving_session();
            for exchange in
                [first.get("/status.json"), client().resuming(&first).get("/"), Client::new(port).get("/none")]
            {
                said.finished(&exchange.finished);
            }
            qtls_interop::log::refusals(port, 3);
            running.signal(Signal::HUP);
            let reloaded =
                running.stderr.wait_for(PATIENCE, |line| line.contains("new connections have the new state"));
            assert!(reloaded.is_some(), "{}", running.said());
        });
        let file = scene.write(&config);
        scene.run("qtls-server", &["--test-config", "--config", text(&file)]).expect_success();
        scene.conclude(5000, &["handshake_failed", "credential_loaded", "qtls_handshakes_total"]);
    }
}

#[test]
fn not_in_the_errors_about_passphrases_and_keys() {
    let mut scene = Scene::new();
    let of = |scene: &Scene, certificates: Value| scene.config("json", json!({ "certificates": certificates }));
    let (_, client_key) = Pki::shared().client(Algorithm::EcdsaP384);
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let damaged = scene.path("damaged.pem");
    let pem = fs::read_to_string(&key).expect("it is there");
    fs::write(&damaged, pem.replace('A', "!")).expect("it is writable");
    let cut = scene.path("cut.pem");
    fs::write(&cut, &pem[..pem.len() - 60]).expect("it is writable");
    let raw = scene.path("raw.der");
    fs::write(&raw, &pem.as_bytes()[30..]).expect("it is writable");
    for certificates in [
        json!({ "server_key_passphrase": WRONG }),
        json!({ "server_key_passphrase": "${SECRET_WRONG}" }),
        json!({ "server_key_passphrase": null }),
        json!({ "server_key_passphrase": null, "server_key_passphrase_file": scene.path("wrong") }),
        json!({ "server_key_passphrase": null, "server_key_passphrase_file": scene.path("two-lines") }),
        json!({ "server_key_passphrase_file": scene.path("right") }),
        json!({ "server_key_passphrase": 8675309867530986753u64 }),
        json!({ "server_key_passphrase": [PASSPHRASE] }),
        json!({ "server_key_passphrase": { "is": PASSPHRASE } }),
        json!({ "server_key_passphrse": PASSPHRASE }),
        json!({ "server_key_passphrase": format!("${{{PASSPHRASE}}}") }),
        json!({ "server_key": client_key }),
        json!({ "server_key": damaged }),
        json!({ "server_key": cut }),
        json!({ "server_key": raw }),
        json!({ "server_key": cert }),
        json!({ "server_cert": key }),
        json!({ "server_cert": damaged }),
        json!({ "ca_bundle": key }),
        json!({ "crl": { "paths": [key] } }),
        json!({ "additional": [{ "cert": cert, "key": scene.path("locked.pem"), "passphrase": WRONG }] }),
    ] {
        let config = of(&scene, certificates);
        scene.is_refused(&config);
    }
    scene.conclude(10_000, &["certificates.server_key_passphrase", "\n  hint: ", "encrypted"]);
}

#[test]
fn not_in_the_errors_about_pins() {
    let mut scene = Scene::new();
    for hsm in [
        json!({ "enabled": true, "pin": PIN }),
        json!({ "enabled": true, "pin": "${QTLS_HSM_PIN}" }),
        json!({ "enabled": false, "pin": 8675309867530986753u64 }),
        json!({ "enabled": false, "pin": -8675309867530986753i64 }),
        json!({ "enabled": false, "pin": 8675309867530986753.5 }),
        json!({ "enabled": false, "pin": [PIN] }),
        json!({ "enabled": false, "pin": { "value": PIN } }),
        json!({ "enabled": false, "pni": PIN }),
    ] {
        let config = scene.config("text", json!({ "hsm": hsm }));
        scene.is_refused(&config);
    }
    let config = scene.config("text", json!({}));
    let file = scene.write(&config);
    for (variable, value) in [
        ("QTLS__HSM__PIN", format!("[\"{PIN}\"]")),
        ("QTLS__HSM", format!("{{\"enabled\": true, \"pin\": \"{PIN}\"}}")),
        ("QTLS__HSM", format!("{{\"pin\": \"{PIN}\"")),
        ("QTLS__CERTIFICATES__SERVER_KEY_PASSPHRASE", format!("[\"{PASSPHRASE}\", \"{WRONG}\"]")),
        ("QTLS__CERTIFICATES__SERVER_KEY_PASSPHRASE", WRONG.to_owned()),
        ("QTLS__CERTIFICATES__SERVER_KEY_PASPHRASE", PASSPHRASE.to_owned()),
    ] {
        let mut command = noisy(programs::command("qtls-server"));
        command.args(["--test-config", "--config", text(&file)]).env(variable, value);
        run_and_add(&mut scene.said, &mut command, b"");
    }
    // A near miss is warned about, by its name.
    let mut command = noisy(programs::command("qtls-server"));
    command.args(["--test-config", "--config", text(&file)]).env("QTLS_HSM_PINN", PIN);
    run_and_add(&mut scene.said, &mut command, b"").expect_success();
    for assignment in [format!("hsm.pin=[\"{PIN}\"]"), format!("hsm={PIN}"), format!("hsm.pni={PIN}")] {
        scene.run("qtls-server", &["--test-config", "--config", text(&file), "--set", &assignment]);
    }
    // A file that is broken behind a secret, or within one.
    for broken in [
        format!("{{ \"hsm\": {{ \"pin\": \"{PIN}\" \"enabled\": false }} }}"),
        format!("{{ \"hsm\": {{ \"pin\": {PIN}, \"enabled\": false }} }}"),
        format!("{{ \"hsm\": {{ \"pin\": \"{PIN}, \"enabled\": false }} }}"),
        format!("{{ \"hsm\": {{ \"pin\": \"{PIN}\", \"pin\": \"{PIN}\" }} }}"),
        format!("{{ \"certificates\": {{ \"server_key_passphrase\": \"{PASSPHRASE}\\q\" }} }}"),
        format!("{{ \"certificates\": {{ \"server_key_passphrase\": \"{PASSPHRASE}"),
        format!("{{ \"certificates\": {{ server_key_passphrase: '{PASSPHRASE}' }} }}"),
    ] {
        let file = scene.path("broken.json");
        fs::write(&file, broken).expect("it is writable");
        scene.text_is_refused(&file);
    }
    scene.conclude(5000, &["hsm.pin", "QTLS_HSM_PINN", "environment variable QTLS__HSM: "]);
}

#[test]
fn not_of_tickets() {
    let mut scene = Scene::new();
    scene.run("qtls", &["ticket-keys", "generate", "keys"]).expect_success();
    scene.run("qtls", &["ticket-keys", "generate", "secret", "--secret"]).expect_success();
    scene.run("qtls", &["ticket-keys", "generate", "keys"]);
    scene.keys_of_tickets();
    scene.run("qtls", &["ticket-keys", "rotate", "keys"]).expect_success();
    scene.keys_of_tickets();
    let of = |scene: &Scene, keys: Value| {
        scene.config("json", json!({ "tls": { "ticket_keys": keys }, "certificates": { "verify_client": false } }))
    };
    for keys in [json!({ "file": scene.path("keys") }), json!({ "secret_file": scene.path("secret") })] {
        let config = of(&scene, keys);
        scene.serves(&config, |_, port, said| {
            let first = Client::new(port).saving_session();
            said.finished(&first.get("/").finished);
            said.finished(&Client::new(port).resuming(&first).get("/status.json").finished);
        });
    }
    let keys = fs::read_to_string(scene.path("keys")).expect("it is there");
    let first = keys.lines().find(|line| line.len() >= 64 && !line.starts_with('#')).expect("a key").to_owned();
    for (name, content) in [
        ("short", first[..40].to_owned()),
        ("long", format!("{first}00")),
        ("doubled", format!("{first}\n{first}\n")),
        ("no-digits", format!("{}xyz\n", &first[..61])),
        ("short-secret", TICKET_SECRET[..20].to_owned()),
    ] {
        fs::write(scene.path(name), content).expect("it is writable");
        for kind in ["file", "secret_file"] {
            let config = of(&scene, json!({ kind: scene.path(name) }));
            let file = scene.write(&config);
            scene.run("qtls-server", &["--test-config", "--config", text(&file)]);
        }
        scene.run("qtls", &["ticket-keys", "rotate", name]);
    }
    scene.conclude(5000, &["tickets under key", "tls.ticket_keys.file"]);
}

#[test]
fn not_by_the_tools() {
    let mut scene = Scene::new();
    let pki = Pki::shared();
    let (cert, key) = pki.server(Algorithm::EcdsaP384);
    let locked = text(&scene.path("locked.pem")).to_owned();
    for arguments in [
        vec!["keygen", "--alg", "ecdsa-p256", "--out", "new.key", "--passphrase-file", "right"],
        vec!["keygen", "--alg", "ecdsa-p256", "--out", "new.key", "--passphrase-file", "right"],
        vec!["keygen", "--alg", "ml-dsa-65", "--out", "other.key", "--passphrase-env", "SECRET_PASSPHRASE"],
        vec!["keygen", "--alg", "ml-dsa-65", "--out", "third.key", "--passphrase-env", PASSPHRASE_AS_NAME],
        vec!["csr", "--key", &locked, "--name", "a.example", "--passphrase-file", "right"],
        vec!["csr", "--key", &locked, "--name", "a.example", "--passphrase-file", "wrong"],
        vec!["csr", "--key", &locked, "--name", "a.example"],
        vec!["inspect", &locked, "--passphrase-file", "right"],
        vec!["inspect", &locked, "--passphrase-file", "right", "--json"],
        vec!["inspect", &locked, "--passphrase-file", "wrong"],
        vec!["inspect", &locked],
        vec!["inspect", text(&key)],
        vec!["inspect", text(&key), "--json"],
        vec!["inspect", "right"],
        vec!["verify", text(&cert), "--ca", text(&key)],
        vec!["verify", text(&key), "--ca", text(&pki.ca())],
        vec!["ca", "init", "--dir", "ca", "--alg", "ecdsa-p256", "--name", "CA", "--passphrase-file", "right"],
        vec!["ca", "issue", "server", "--dir", "ca", "--name", "a.example", "--passphrase-file", "wrong"],
        vec!["ca", "issue", "server", "--dir", "ca", "--name", "a.example", "--passphrase-file", "right"],
    ] {
        scene.run("qtls", &arguments);
    }
    let config = scene.config("text", json!({ "certificates": { "verify_client": true } }));
    let (client_cert, client_key) = pki.client(Algorithm::EcdsaP384);
    let client_locked = scene.path("client-locked.pem");
    let mut openssl = peers::classical_openssl();
    openssl.args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", text(&client_key), "-out", text(&client_locked)]);
    run(openssl.args(["-passout", &format!("file:{}", scene.path("right").display())]), b"").expect_success();
    let (ca, directory) = (pki.ca(), scene.directory.path().to_owned());
    scene.serves(&config, |_, port, said| {
        for (passphrase, code) in [(json!("${SECRET_PASSPHRASE}"), 0), (json!(WRONG), 2), (json!(8675309867530986753u64), 2), (Value::Null, 2)] {
            let config = json!({
                "client": { "max_retries": 0 },
                "certificates": {
                    "client_cert": client_cert, "client_key": client_locked, "client_key_passphrase": passphrase, "ca_bundle": ca,
                },
                "logging": { "level": "trace", "format": "json", "console": true, "file": directory.join("client.log") },
            });
            let file = directory.join("client.json");
            fs::write(&file, config.to_string()).expect("it is writable");
            let mut command = noisy(programs::command("qtls-client"));
            command.args([&format!("localhost:{port}"), "--json", "--request", "GET /", "--config", text(&file)]);
            run_and_add(said, &mut command, b"").expect_code(code);
        }
    });
    scene.conclude(5000, &["BEGIN CERTIFICATE REQUEST", "\"connected\""]);
}

/// No name of a variable that is there.
const PASSPHRASE_AS_NAME: &str = "NO_SUCH_VARIABLE";

#[test]
fn not_when_it_crashes_or_gets_no_memory() {
    let mut scene = Scene::new();
    let config = scene.config("text", json!({}));
    let file = scene.write(&config);
    let mut ended = 0;
    // From no room for the program itself, over none for a key and for a thread, to enough.
    for megabytes in 16..=36 {
        let mut command = noisy(Command::new("sh"));
        let script = format!("ulimit -c 0; ulimit -v {}; exec \"$0\" \"$@\"", megabytes * 1024);
        command.args(["-c", &script]).arg(programs::directory().join("qtls-server")).arg("--config").arg(&file);
        let running = Running::start(command.stdin(Stdio::null()));
        if running.stderr.wait_for(PATIENCE, |line| line.contains("listening on")).is_some() {
            Client::new(config["server"]["listen_port"].as_u64().expect("a port") as u16).get("/");
            // It may have ended by then.
            let _ = kill_process(Pid::from_raw(running.id() as i32).expect("a process"), Signal::TERM);
        } else {
            ended += 1;
        }
        // With so little memory it may have to break off what it was at, when it has drained for long enough.
        scene.said.finished(&running.finish(2 * PATIENCE));
    }
    assert!(ended > 0, "it always had enough memory");
    for signal in [Signal::ABORT, Signal::SEGV] {
        let mut command = noisy(programs::command("qtls-server"));
        let mut running = Running::start(command.arg("--config").arg(&file));
        assert!(
            running.stderr.wait_for(PATIENCE, |line| line.contains("listening on")).is_some(),
            "{}",
            running.said()
        );
        running.crash(signal);
        scene.said.finished(&running.finish(PATIENCE));
    }
    scene.conclude(2000, &["memory allocation of"]);
}

#[test]
fn not_the_secrets_of_connections_beside_their_own_file() {
    let mut scene = Scene::new();
    let keys = scene.path("keys");
    let config = scene.config("json", json!({ "tls": { "dangerous_key_log": true } }));
    let file = scene.write(&config);
    let mut command = noisy(programs::command("qtls-server"));
    let running = Running::start(command.arg("--config").arg(&file).env("SSLKEYLOGFILE", &keys));
    assert!(running.stderr.wait_for(PATIENCE, |line| line.contains("listening on")).is_some(), "{}", running.said());
    let port = config["server"]["listen_port"].as_u64().expect("a port") as u16;
    scene.said.finished(&Client::new(port).get("/status.json").finished);
    running.signal(Signal::TERM);
    scene.said.finished(&running.finish(PATIENCE).expect_success());
    let secrets = fs::read_to_string(&keys).expect("it is there");
    assert_eq!(secrets.lines().count(), 5, "{secrets}");
    for line in secrets.lines() {
        let secret = line.rsplit(' ').next().expect("a secret");
        let octets: Vec<u8> = (0..secret.len() / 2)
            .map(|index| u8::from_str_radix(&secret[2 * index..2 * index + 2], 16).expect("a digit"))
            .collect();
        scene.secrets.binary("a secret of a connection", &octets, &[]);
    }
    scene.conclude(1000, &["decrypt recordings"]);
}
