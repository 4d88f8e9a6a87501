//! Whoever follows docs/GUIDE.md line by line gets there: each use is set up with its commands and configurations as they
//! stand, on two hosts with their ports, paths and names, and with the real programs on both ends.

use std::fs;
use std::path::Path;

use qtls_interop::documents::{Document, document};
use qtls_interop::hosts::{self, Host};
use qtls_interop::metrics::Metrics;
use qtls_interop::peers;
use qtls_interop::postgres::{PASSWORD, Postgres};
use qtls_interop::process::{Finished, PATIENCE, Running, run};
use qtls_interop::{curl, openssl};
use rustix::process::Signal;
use tempfile::TempDir;

/// The names that the guide gives to the host of the server.
const NAMES: [&str; 5] = ["www.example", "service.example", "db.example.com", "cache.example", "seoul.example"];

/// The headings of the guide; each use has a test here.
const HEADINGS: [&str; 7] = [
    "# Guide",
    "## Before each of them",
    "## HTTPS in front of a web application",
    "## Mutual TLS to a service",
    "## PostgreSQL",
    "## A sidecar for a client that can't",
    "## Two sites over a post-quantum link",
];

/// The two hosts of one use, on which what comes before each of them was done.
struct Guide {
    server: Host,
    client: Host,
    /// Where the reader is, on either host.
    directory: TempDir,
    /// What checks and starts a server.
    start: String,
}

impl Guide {
    fn new() -> Self {
        let (server, client) = hosts::pair(&NAMES);
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let [before, start] = blocks(HEADINGS[1], ["sh", "sh"]);
        let guide = Self { server, client, directory, start };
        guide.on_server(&before);
        guide
    }

    fn on_server(&self, commands: &str) {
        self.server.run(self.directory.path(), commands).expect_success();
    }

    /// Runs the commands as far as the last one, which goes on running, and waits until it serves.
    #[track_caller]
    fn start_on(&self, host: &Host, commands: &str) -> Running {
        let (before, last) = commands.trim_end().rsplit_once('\n').expect("the last of several goes on");
        let running = Running::start(&mut host.shell(self.directory.path(), &format!("{before}\nexec {last}")));
        running.stderr.wait_for_line(" listening on ");
        // It was said before, on another output.
        running.stdout.wait_for_line("the configuration is good: ");
        let said = running.stdout.text();
        assert!(said.starts_with("the configuration is good: "), "{said}");
        running
    }

    fn start_server(&self) -> Running {
        self.start_on(&self.server, &self.start)
    }

    /// Copies files of `/etc/qtls/certs` from the server's host to where the client's reader is.
    fn hand_out(&self, files: &[&str]) {
        for file in files {
            self.copy(file, &self.directory.path().join(file));
        }
    }

    /// Copies files of `/etc/qtls/certs` from the server's host to the same place of the client's.
    fn hand_over(&self, files: &[&str]) {
        for directory in ["/etc/qtls/certs", "/etc/qtls/config"] {
            fs::create_dir_all(self.client.path(Path::new(directory))).expect("its /etc is writable");
        }
        for file in files {
            self.copy(file, &self.client.path(&Path::new("/etc/qtls/certs").join(file)));
        }
    }

    fn copy(&self, file: &str, to: &Path) {
        fs::copy(self.server.path(&Path::new("/etc/qtls/certs").join(file)), to).expect("the guide has made it");
    }

    /// nginx as a service on a port of the server's host, with these directives for its one server.
    fn nginx(&self, port: u16, directives: &str) -> Running {
        let config = self.directory.path().join("nginx.conf");
        let written = format!(
            "daemon off; user root; worker_processes 1; pid /run/nginx.pid; error_log stderr notice;
             events {{ worker_connections 64; }}
             http {{ access_log off; default_type text/plain; client_max_body_size 0;
               server {{ listen 127.0.0.1:{port}; {directives} }} }}"
        );
        fs::write(&config, written).expect("the directory is writable");
        let mut command = peers::debian("nginx", [self.directory.path()]);
        command.args(["-c", openssl::text(&config)]);
        let nginx = Running::start(&mut self.server.command(&command));
        nginx.stderr.wait_for_line("start worker process ");
        nginx
    }

    /// Stops the server, and starts OpenSSL 3.0, which knows no post-quantum algorithm, with the same certificate in its place.
    fn replace_by_a_classical_server(&self, server: Running, port: u16) -> Running {
        server.signal(Signal::TERM);
        server.finish(PATIENCE).expect_success();
        let mut classical = peers::classical_openssl();
        let certificate = "-cert /etc/qtls/certs/server-cert.pem -key /etc/qtls/certs/server-key.pem";
        classical.args(format!("s_server -accept 192.0.2.1:{port} {certificate}").split_whitespace());
        let classical = Running::start(&mut self.server.command(&classical));
        classical.stdout.wait_for_line("ACCEPT");
        classical
    }

    /// curl of this machine, which knows no post-quantum algorithm, on the client's host.
    fn old_curl(&self, arguments: &[&str]) -> Finished {
        let mut command = peers::classical_curl();
        command.args(["--silent", "--show-error", "--noproxy", "*"]).args(arguments);
        run(self.client.command(command.current_dir(self.directory.path())).env_remove("SSL_CERT_FILE"), b"")
    }
}

/// The blocks below a heading of the guide, which are of these kinds and no others.
#[track_caller]
fn blocks<const N: usize>(heading: &str, kinds: [&str; N]) -> [String; N] {
    let guide = document("docs/GUIDE.md");
    let section = Document { text: guide.section(heading).to_owned(), ..guide };
    let blocks = section.blocks();
    let found: Vec<_> = blocks.iter().map(|block| block.info.as_str()).collect();
    assert_eq!(found, kinds, "{heading}: a block of the guide that isn't run proves nothing");
    let texts: Vec<_> = blocks.into_iter().map(|block| block.text).collect();
    texts.try_into().expect("there are as many")
}

/// Writes a configuration of the guide to the file that its first line names.
#[track_caller]
fn configure(host: &Host, block: &str) {
    let (first, rest) = block.split_once('\n').expect("it has lines");
    let path = first.strip_prefix("// ").unwrap_or_else(|| panic!("{first} names no file"));
    assert!(rest.lines().count() <= 10, "ten lines of configuration are promised:\n{rest}");
    fs::write(host.path(Path::new(path)), block).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// The line of the log about a connection that has ended.
#[track_caller]
fn connection(log: &Running, event: &str) -> String {
    log.stderr.wait_for_line(&format!(" event={event} "))
}

/// A tunnel doesn't make do with a classical group.
#[track_caller]
fn assert_refuses(tunnel: &Running, listen: &str) {
    let line = connection(tunnel, "tunnel_failed");
    assert_has(&line, &["with the alert HandshakeFailure (40) ", &format!(" tunnel={listen} "), " reason=handshake "]);
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn every_use_has_a_test_and_the_translation_has_the_same_blocks() {
    let (guide, translation) = (document("docs/GUIDE.md"), document("docs/GUIDE.ko.md"));
    let headings: Vec<_> = guide.parts().into_iter().map(|part| part.heading).collect();
    assert_eq!(headings, HEADINGS);
    let (blocks, translated) = (guide.blocks(), translation.blocks());
    for (block, translated) in blocks.iter().zip(&translated) {
        assert_eq!((&block.info, &block.text), (&translated.info, &translated.text), "{}", translated.place);
    }
    assert_eq!(blocks.len(), translated.len());
}

#[test]
fn https_in_front_of_a_web_application() {
    let guide = Guide::new();
    let [issue, config, ask] = blocks(HEADINGS[2], ["sh", "jsonc", "sh"]);
    guide.on_server(&issue);
    configure(&guide.server, &config);
    let _application = guide.nginx(
        3000,
        r#"location / { return 200 "forwarded=$http_forwarded
for=$http_x_forwarded_for
proto=$http_x_forwarded_proto
host=$http_x_forwarded_host
group=$http_x_qtls_group
pq=$http_x_qtls_pq
"; }"#,
    );
    let server = guide.start_server();
    guide.hand_out(&["ca-bundle.pem"]);

    // Plain HTTP, the way to https, and then X25519MLKEM768, by curl's own account and by the application's.
    let answer = guide.client.run_debian(guide.directory.path(), &ask).expect_success();
    assert_has(
        &answer.stderr,
        &[
            "\n< HTTP/1.1 308 ",
            "\n< location: https://www.example/\r",
            "\n< strict-transport-security: max-age=31536000\r",
        ],
    );
    assert_has(&answer.stderr, &["ALPN: server accepted h2", "\n< HTTP/2 200 "]);
    let negotiated = curl::connection(&answer.stderr);
    assert_eq!(negotiated, ("TLS_AES_256_GCM_SHA384".to_owned(), Some("X25519MLKEM768".to_owned())));
    let seen = "forwarded=for=192.0.2.2;by=192.0.2.1;proto=https;host=www.example\nfor=192.0.2.2\nproto=https\nhost=www.example\n";
    assert_eq!(answer.stdout, format!("{seen}group=X25519MLKEM768\npq=yes\n"));

    // An older one gets a classical group, over HTTP/1.1 too, and what it forges doesn't arrive.
    let forged = ["--http1.1", "--header", "Forwarded: for=203.0.113.9", "--header", "X-QTLS-PQ: yes"];
    let arguments = [&["--cacert", "ca-bundle.pem", "https://www.example/"], &forged[..]].concat();
    let answer = guide.old_curl(&arguments).expect_success();
    assert_eq!(answer.stdout, format!("{seen}group=x25519\npq=no\n"));

    // The redirect keeps the path and the method's meaning, and knows the names of the certificate alone.
    let redirected = ["--data", "x=1", "--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}"];
    let answer = guide.old_curl(&[&["http://www.example/a/b?c=d"], &redirected[..]].concat()).expect_success();
    assert_eq!(answer.stdout, "308 https://www.example/a/b?c=d");
    let answer = guide.old_curl(&[&["http://service.example/"], &redirected[..]].concat()).expect_success();
    assert_eq!(answer.stdout, "421 ");

    // The metrics are for this host, and the log is where the guide has put it.
    let metrics = guide.server.run(guide.directory.path(), "curl --silent --noproxy '*' http://127.0.0.1:9091/metrics");
    let metrics = Metrics::read(&metrics.expect_success().stdout);
    for labels in [[("group", "X25519MLKEM768"), ("pq", "true")], [("group", "x25519"), ("pq", "false")]] {
        assert_eq!(metrics.sum("qtls_handshakes_total", &labels), 1.0, "{labels:?} of\n{}", metrics.text());
    }
    guide.old_curl(&["http://192.0.2.1:9091/metrics"]).expect_code(7);
    server.signal(Signal::TERM);
    server.finish(PATIENCE).expect_success();
    let log = fs::read_to_string(guide.server.path(Path::new("/var/log/qtls/server.log"))).expect("it is there");
    let ended: Vec<_> = log.lines().filter(|line| line.contains(" event=connection ")).collect();
    assert_eq!(ended.len(), 2, "{log}");
    for protocol in [" alpn=h2 group=X25519MLKEM768 pq=true ", " alpn=http/1.1 group=x25519 pq=false "] {
        let line = ended.iter().find(|line| line.contains(protocol));
        let line = line.unwrap_or_else(|| panic!("no {protocol:?} in\n{log}"));
        let parts = [" client=192.0.2.2:", " server_name=www.example ", " upstream=127.0.0.1:3000 requests=1 "];
        assert_has(line, &parts);
    }
}

#[test]
fn mutual_tls_to_a_service() {
    let guide = Guide::new();
    let [issue, config, ask] = blocks(HEADINGS[3], ["sh", "jsonc", "sh"]);
    guide.on_server(&issue);
    configure(&guide.server, &config);
    let _service =
        guide.nginx(3000, r#"location / { return 200 "$http_x_qtls_client_subject|$http_x_qtls_client_san\n"; }"#);
    let server = guide.start_server();
    guide.hand_out(&["ca-bundle.pem", "client-cert.pem", "client-key.pem"]);

    let answer = guide.client.run(guide.directory.path(), &ask).expect_success();
    assert_eq!(answer.stdout, "CN=billing.example|DNS:billing.example\n");
    assert_has(&answer.stderr, &["X25519MLKEM768"]);
    assert_has(
        &connection(&server, "connection"),
        &[" group=X25519MLKEM768 pq=true ", "identity=\"CN=billing.example\""],
    );

    // Another one of the same CA, and nobody.
    guide.on_server("qtls ca issue client --name reports.example --out /etc/qtls/certs --as other");
    guide.hand_out(&["other-cert.pem", "other-key.pem"]);
    let other = ask.replace("client-cert.pem", "other-cert.pem").replace("client-key.pem", "other-key.pem");
    let nobody = ask.replace("--cert client-cert.pem --key client-key.pem ", "");
    for (command, alert, logged) in [
        (other, "alert AccessDenied (49)", "doesn't name it: CN=reports.example, DNS reports.example"),
        (nobody, "alert CertificateRequired (116)", " reason=certificate_missing "),
    ] {
        let refused = guide.client.run(guide.directory.path(), &command).expect_code(5);
        assert_eq!(refused.stdout, "");
        assert_has(&refused.stderr, &[alert]);
        let line = server.stderr.wait_for_line(logged);
        assert_has(&line, &[" WARN ", "event=handshake_failed", "client=192.0.2.2:"]);
    }
}

#[test]
fn postgresql() {
    let guide = Guide::new();
    let [issue, config, connect] = blocks(HEADINGS[4], ["sh", "jsonc", "sh"]);
    guide.on_server(&issue);
    configure(&guide.server, &config);
    let database = Postgres::on(&guide.server, 5433);
    let login = format!("export PGUSER=postgres PGPASSWORD={PASSWORD}\n");
    let create = format!("{login}psql -h 127.0.0.1 -p 5433 -c 'create database app'");
    guide.server.run_debian(guide.directory.path(), &create).expect_success();
    let server = guide.start_server();
    guide.hand_out(&["ca-bundle.pem"]);

    // What the reader types then.
    let statements = b"\\conninfo\nselect current_database(), version() like 'PostgreSQL 17.%' as seventeen;\n";
    let script = format!("{login}{connect}");
    let mut psql = guide.client.debian_shell(guide.directory.path(), &script);
    let answer = run(&mut psql, statements).expect_success();
    assert_has(
        &answer.stdout,
        &[
            "to database \"app\"",
            "on host \"db.example.com\"",
            "protocol: TLSv1.3, cipher: TLS_AES_256_GCM_SHA384",
            " app ",
        ],
    );
    assert_has(&answer.stdout, &["| t\n"]);
    assert_has(
        &connection(&server, "connection"),
        &[
            " server_name=db.example.com starttls=postgres ",
            " group=X25519MLKEM768 pq=true ",
            " upstream=127.0.0.1:5433 ",
        ],
    );
    // It is verified indeed: by another name of the host, it isn't that of the certificate.
    let elsewhere = script.replace("host=db.example.com", "host=seoul.example");
    let refused = guide.client.run_debian(guide.directory.path(), &elsewhere).expect_code(2);
    assert_has(&refused.stderr, &["does not match host name \"seoul.example\""]);
    let log = database.log();
    assert_eq!(log.matches("database=app").count(), 1, "{log}");
}

#[test]
fn a_sidecar_for_a_client_that_cant() {
    let guide = Guide::new();
    let [issue, server_config, tunnel_config, start, ask] = blocks(HEADINGS[5], ["sh", "jsonc", "jsonc", "sh", "sh"]);
    guide.on_server(&issue);
    configure(&guide.server, &server_config);
    let mut redis = peers::debian("redis-server", [guide.directory.path()]);
    let arguments = ["--bind", "127.0.0.1", "--port", "6379", "--save", "", "--appendonly", "no", "--daemonize", "no"];
    let redis = Running::start(&mut guide.server.command(redis.args(arguments)));
    redis.stdout.wait_for_line("Ready to accept connections");
    let server = guide.start_server();
    guide.hand_over(&["ca-bundle.pem"]);
    configure(&guide.client, &tunnel_config);
    let tunnel = guide.start_on(&guide.client, &start);

    let answer = guide.client.run_debian(guide.directory.path(), &ask).expect_success();
    assert_eq!(answer.stdout, "OK\nhello\n");
    let group = " group=X25519MLKEM768 pq=true ";
    assert_has(&connection(&tunnel, "tunnel"), &[" tunnel=127.0.0.1:6379 ", "cache.example:6380", group]);
    let line = server.stderr.wait_for_line(" upstream=127.0.0.1:6379 ");
    assert_has(&line, &[" event=connection client=192.0.2.2:", " server_name=cache.example ", group]);
    // It is that Redis, past everything.
    let direct = guide.server.run_debian(guide.directory.path(), "redis-cli get greeting").expect_success();
    assert_eq!(direct.stdout, "hello\n");

    let _classical = guide.replace_by_a_classical_server(server, 6380);
    let refused = guide.client.run_debian(guide.directory.path(), "redis-cli -h 127.0.0.1 get greeting");
    assert!(!refused.stdout.contains("hello"), "{}", refused.said());
    assert_refuses(&tunnel, "127.0.0.1:6379");
}

#[test]
fn two_sites_over_a_post_quantum_link() {
    const LENGTH: usize = 8 << 20;
    let guide = Guide::new();
    let [issue, seoul_config, busan_config, start] = blocks(HEADINGS[6], ["sh", "jsonc", "jsonc", "sh"]);
    guide.on_server(&issue);
    configure(&guide.server, &seoul_config);
    let directory = guide.directory.path();
    // Numbers, so that a piece that is lost, doubled or misplaced is another content.
    let there: Vec<u8> =
        (0..LENGTH as u64 / 8).flat_map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()).collect();
    let back: Vec<u8> = there.iter().rev().copied().collect();
    fs::write(directory.join("there"), &there).expect("the directory is writable");
    fs::create_dir(directory.join("service")).expect("the directory is writable");
    fs::write(directory.join("service/back"), &back).expect("the directory is writable");
    let root = directory.join("service");
    let _service = guide.nginx(5000, &format!("root {}; dav_methods PUT;", root.display()));
    let seoul = guide.start_server();
    guide.hand_over(&["ca-bundle.pem", "client-cert.pem", "client-key.pem"]);
    configure(&guide.client, &busan_config);
    let busan = guide.start_on(&guide.client, &start);

    let ask = "curl --silent --show-error --fail --noproxy '*' --upload-file there http://127.0.0.1:5000/arrived \
               --next --silent --show-error --fail --noproxy '*' --output returned http://127.0.0.1:5000/back";
    guide.client.run(directory, ask).expect_success();
    assert!(fs::read(root.join("arrived")).expect("it arrived") == there, "other bytes arrived in Seoul");
    assert!(fs::read(directory.join("returned")).expect("it came back") == back, "other bytes arrived in Busan");
    let group = " group=X25519MLKEM768 pq=true ";
    assert_has(&connection(&busan, "tunnel"), &[" tunnel=127.0.0.1:5000 ", "seoul.example:8443", group]);
    let line = seoul.stderr.wait_for_line(" upstream=127.0.0.1:5000 ");
    assert_has(&line, &[" server_name=seoul.example ", group, "identity=\"CN=busan.example\""]);

    // Neither end falls back: Seoul refuses a classical client, with its certificate and all…
    let connect = "s_client -connect seoul.example:8443 -servername seoul.example -CAfile /etc/qtls/certs/ca-bundle.pem \
                   -cert /etc/qtls/certs/client-cert.pem -key /etc/qtls/certs/client-key.pem";
    let mut classical = peers::classical_openssl();
    classical.args(connect.split_whitespace());
    let refused = run(&mut guide.client.command(&classical), b"").expect_code(1);
    assert_has(&refused.stderr, &["alert handshake failure"]);
    let line = connection(&seoul, "handshake_failed");
    assert_has(
        &line,
        &[" WARN ", " reason=no_common_group ", " offered_groups=x25519,secp256r1,", " client=192.0.2.2:"],
    );

    // …and Busan a server without a post-quantum group.
    let _classical = guide.replace_by_a_classical_server(seoul, 8443);
    let refused = guide.client.run(directory, "curl --silent --noproxy '*' http://127.0.0.1:5000/back");
    assert!(matches!(refused.status.code(), Some(52 | 56)), "{}", refused.said());
    assert_eq!(refused.stdout, "");
    assert_refuses(&busan, "127.0.0.1:5000");
}
