//! The examples in C: built by the lines of their README, and run as people and images run them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use qtls_interop::c_programs::{SANITIZERS, Workshop, run_patiently, sources, valgrind};
use qtls_interop::cmake::Build;
use qtls_interop::openssl::{Client as OpenSsl, Server as OpenSslServer};
use qtls_interop::process::{PATIENCE, Running, run, run_within};
use qtls_interop::{Algorithm, Finished, Negotiated, Pki, Server, client, curl, peers, programs};
use rustix::process::Signal;
use serde_json::json;

const P384: &str = "ecdsa_secp384r1_sha384";

/// A program in an environment without variables of ours but these.
fn command(program: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QTLS_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied());
    command
}

/// simple_server on a free port, with the shared certificates or those of another directory.
struct SimpleServer {
    process: Running,
    port: u16,
}

impl SimpleServer {
    #[track_caller]
    fn start(command: &mut Command, directory: &Path) -> Self {
        let process = Running::start(command.arg(directory).env("QTLS_SERVER_PORT", "0"));
        // Valgrind takes its time to begin.
        let line = process.stderr.wait_for(PATIENCE * 4, |line| line.contains("listening on port "));
        let line = line.unwrap_or_else(|| panic!("{}", process.said()));
        let port = line.rsplit(' ').next().and_then(|port| port.parse().ok());
        Self { process, port: port.unwrap_or_else(|| panic!("no port in {line:?}")) }
    }

    /// Ends it as an orchestrator does.
    #[track_caller]
    fn end(self) -> Finished {
        self.process.signal(Signal::TERM);
        self.process.finish(PATIENCE).expect_success()
    }
}

fn says(body: &str, what: &str, value: &str) {
    assert!(body.lines().any(|line| line == format!("{what}: {value}")), "no `{what}: {value}` in\n{body}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("it is text")
}

#[test]
fn every_example_compiles_without_a_warning() {
    let workshop = Workshop::new();
    let examples = sources("examples");
    assert!(examples.len() >= 4, "{examples:?}");
    for example in &examples {
        workshop.compile("gcc", example, &["-O2"]);
        // As people call the compiler, too: without any flags.
        let program = workshop.path().join("plain");
        let mut plain = Command::new("gcc");
        plain.arg("-I").arg(programs::repository().join("include")).arg("-o").arg(&program);
        plain.arg(programs::repository().join(example)).arg("-L").arg(workshop.path()).args(["-lqtls", "-pthread"]);
        run(&mut plain, b"").expect_success();
    }
    // "A post-quantum TLS connection in thirty lines."
    let client = fs::read_to_string(programs::repository().join("examples/simple_client.c")).expect("it is there");
    let function = client.split_once("static int ask(").expect("it is there").1.split_once("\n}\n").expect("it ends").0;
    assert!(function.lines().count() <= 30, "{} lines", function.lines().count());
}

#[test]
fn simple_server_says_what_was_negotiated() {
    let workshop = Workshop::new();
    let program = workshop.compile("gcc", "examples/simple_server.c", &["-O1"]);
    let server = SimpleServer::start(&mut command(&program, &[]), Pki::shared().directory());
    // curl, which takes X25519MLKEM768 because OpenSSL 3.5 does.
    let mut curl = peers::debian("curl", [Pki::shared().directory()]);
    let got =
        run(curl::towards(&mut curl, &Pki::shared().ca()).arg(format!("https://localhost:{}/", server.port)), b"");
    let got = got.expect_success();
    let suite = "TLS_AES_256_GCM_SHA384".to_owned();
    assert_eq!(curl::connection(&got.stderr), (suite, Some("X25519MLKEM768".to_owned())));
    says(&got.stdout, "version", "TLSv1.3");
    says(&got.stdout, "group", "X25519MLKEM768");
    says(&got.stdout, "post-quantum", "yes");
    says(&got.stdout, "scheme", P384);
    says(&got.stdout, "client", "without a certificate");
    // Who has a certificate of the bundle's is named.
    let named = OpenSsl::new(server.port).certificate(Pki::shared().client(Algorithm::MlDsa65)).get("/");
    says(named.body(), "client", "CN=qtls-client,O=Q-TLS quickstart, DNS qtls-client");
    let stranger = OpenSsl::new(server.port).certificate(Pki::stranger().client(Algorithm::EcdsaP384)).get("/");
    assert_eq!(stranger.alert(), Some("unknown CA"), "{}", stranger.finished.said());
    let classical = OpenSsl::new(server.port).groups("x25519").get("/");
    says(classical.body(), "post-quantum", "no");
    let post = OpenSsl::new(server.port).send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(post.finished.stdout.starts_with("HTTP/1.1 405 "), "{}", post.finished.said());

    // Who only looks whether the port is open leaves no trace; who sends something else is refused; both at once with
    // others who are slow.
    let silent: Vec<_> = (0..5).map(|_| TcpStream::connect(("127.0.0.1", server.port)).expect("it accepts")).collect();
    drop(TcpStream::connect(("127.0.0.1", server.port)).expect("it accepts"));
    let mut plain = TcpStream::connect(("127.0.0.1", server.port)).expect("it accepts");
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it listens");
    let mut alert = Vec::new();
    plain.set_read_timeout(Some(Duration::from_secs(30))).expect("a time");
    plain.read_to_end(&mut alert).expect("an alert, and the end");
    assert_eq!(alert.first(), Some(&21), "{alert:?}");
    assert_eq!(client::Client::new(server.port).get("/").expect_success().status.code(), Some(0));
    drop((silent, plain));
    let ended = server.end();
    assert!(ended.stderr.ends_with("info: ended\n"), "{}", ended.said());
    assert!(ended.stderr.contains("(QTLS_E_NOT_TLS)"), "{}", ended.said());
    assert!(!ended.stderr.contains("QTLS_E_TRUNCATED"), "{}", ended.said());
}

#[test]
fn simple_server_takes_its_settings_from_the_environment() {
    let workshop = Workshop::new();
    let program = workshop.compile("gcc", "examples/simple_server.c", &["-O1"]);
    let refused = |variables: &[(&str, &str)], word: &str| {
        let finished = run(command(&program, variables).arg(Pki::shared().directory()), b"").expect_code(2);
        assert!(finished.stderr.contains(word), "{word:?} is not in {}", finished.said());
    };
    refused(&[("QTLS_SERVER_PORT", "84433")], "QTLS_SERVER_PORT is \"84433\"");
    refused(&[("QTLS_SERVER_PORT", "-1")], "QTLS_SERVER_PORT is \"-1\"");
    refused(&[("QTLS_HYBRID_MODE", "yes")], "QTLS_HYBRID_MODE is \"yes\"");
    refused(&[("QTLS_LOG_LEVEL", "loud")], "QTLS_LOG_LEVEL is \"loud\"");
    refused(&[("QTLS_SERVER_HOST", "192.0.2.1"), ("QTLS_SERVER_PORT", "0")], "cannot listen");
    let nothing = tempfile::tempdir().expect("the temporary directory is writable");
    let finished = run(command(&program, &[]).arg(nothing.path()), b"").expect_code(2);
    assert!(finished.stderr.contains("(QTLS_E_FILE)"), "{}", finished.said());
    assert!(finished.stderr.contains("server-cert.pem"), "{}", finished.said());

    // Variables that are somebody else's are ignored; names as in a Kubernetes Secret are found.
    let secret = tempfile::tempdir().expect("the temporary directory is writable");
    let (cert, key) = Pki::shared().server(Algorithm::MlDsa65);
    fs::copy(cert, secret.path().join("server-cert")).expect("it is readable");
    fs::copy(key, secret.path().join("server-key")).expect("it is readable");
    let variables = [("QTLS_HYBRID_MODE", "true"), ("QTLS_LOG_LEVEL", "debug"), ("QTLS_OTHER", "x")];
    let variables = [&variables[..], &[("QTLS_SERVER_HOST", "127.0.0.1")]].concat();
    let server = SimpleServer::start(&mut command(&program, &variables), secret.path());
    drop(TcpStream::connect(("127.0.0.1", server.port)).expect("it accepts"));
    let got = OpenSsl::new(server.port).get("/");
    assert_eq!(got.negotiated(), Negotiated::new("X25519MLKEM768", "mldsa65"));
    says(got.body(), "scheme", "mldsa65");
    let ended = server.end();
    assert!(ended.stderr.contains("debug: "), "{}", ended.said());
    assert!(ended.stderr.contains("QTLS_E_TRUNCATED"), "{}", ended.said());
}

#[test]
fn simple_client_tells_by_its_exit_code_what_is_wrong() {
    let workshop = Workshop::new();
    let program = workshop.compile("gcc", "examples/simple_client.c", &["-O1"]);
    let ca = Pki::shared().ca();
    let ours = [("QTLS_CA", text(&ca)), ("QTLS_HYBRID_MODE", "true")];
    let server = Server::start(json!({}));
    let port = server.port.to_string();
    let got = run(command(&program, &ours).args(["localhost", &port]), b"").expect_success();
    assert!(got.stdout.starts_with("HTTP/1.1 200 OK\r\n"), "{}", got.said());
    assert_eq!(
        got.stderr,
        format!(
            "group:  X25519MLKEM768 (post-quantum)\nscheme: {P384}\nsuite:  TLS_AES_256_GCM_SHA384\n\
             server: CN=localhost,O=Q-TLS quickstart, DNS localhost, IP 127.0.0.1\n"
        )
    );
    server.expect_handshakes(&[&Negotiated::new("X25519MLKEM768", P384)]);
    // As in Compose, the server's name and port may stand in the environment.
    let variables = [&ours[..], &[("QTLS_SERVER_HOST", "localhost"), ("QTLS_SERVER_PORT", &port)]].concat();
    run(&mut command(&program, &variables), b"").expect_success();

    let fails = |code: i32, arguments: [&str; 2], variables: &[(&str, &str)], word: &str| {
        let finished = run(command(&program, variables).args(arguments), b"").expect_code(code);
        assert!(finished.stderr.contains(word), "{word:?} is not in {}", finished.said());
    };
    run(&mut command(&program, &ours), b"").expect_code(2);
    fails(2, ["localhost", &port], &[("QTLS_CA", "/no/such/file")], "(QTLS_E_FILE)");
    fails(2, ["localhost", &port], &[("QTLS_CA", text(&ca)), ("QTLS_HYBRID_MODE", "1")], "QTLS_HYBRID_MODE");
    fails(3, ["localhost", "1"], &ours, "cannot connect");
    let stranger = Pki::stranger().ca();
    fails(4, ["localhost", &port], &[("QTLS_CA", text(&stranger))], "(QTLS_E_PEER_UNKNOWN_ISSUER)");
    let mut only = OpenSslServer::start(Pki::shared().server(Algorithm::EcdsaP384), &ca, &["-groups", "secp521r1"]);
    fails(5, ["localhost", &only.port.to_string()], &ours, "(QTLS_E_ALERT)");
    only = OpenSslServer::start(Pki::shared().server(Algorithm::EcdsaP384), &ca, &["-tls1_2"]);
    fails(5, ["localhost", &only.port.to_string()], &ours, "(QTLS_E_ALERT)");
    // A server that refuses whatever it is sent.
    let http = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let plain = http.local_addr().expect("it has one").port().to_string();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = http.accept().expect("a client");
        let mut hello = [0; 100];
        stream.read_exact(&mut hello).expect("a ClientHello");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("it listens");
        // Until it has gone.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    fails(5, ["localhost", &plain], &ours, "(QTLS_E_NOT_TLS)");
    answers.join().expect("it ends");
}

#[test]
fn mutual_tls_and_the_epoll_loop() {
    let workshop = Workshop::new();
    let mutual = workshop.compile("gcc", "examples/mutual_tls.c", &SANITIZERS);
    let said = run(command(&mutual, &[]).arg(Pki::shared().directory()), b"").expect_success().stdout;
    for line in [
        "server looks at a chain of 2 certificates: valid",
        "client: X25519MLKEM768, ecdsa_secp384r1_sha384, TLS_AES_256_GCM_SHA384, with CN=localhost,O=Q-TLS quickstart, \
         DNS localhost, IP 127.0.0.1",
        "the server received 35 bytes: to the one who has the certificate",
    ] {
        assert!(said.lines().any(|each| each == line), "{line:?} is not in {said}");
    }
    let refused = run(command(&mutual, &[]).arg("/no/such/directory"), b"").expect_code(1);
    assert!(refused.stderr.contains("(QTLS_E_FILE)"), "{}", refused.said());

    let echo = workshop.compile("gcc", "examples/nonblocking_epoll.c", &SANITIZERS);
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let server = Running::start(command(&echo, &[]).arg(cert).arg(key).arg("0"));
    let port = server.stdout.wait_for_line("listening on port ").rsplit(' ').next().and_then(|port| port.parse().ok());
    let port: u16 = port.expect("a port");
    // Many at once, of whom some say nothing, and some nothing that makes sense.
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("it accepts")).collect();
    let mut plain = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it listens");
    let clients: Vec<_> = (0..10)
        .map(|number| {
            let mut client = OpenSsl::new(port).start();
            let mut stdin = client.stdin();
            let line = format!("client number {number}\n");
            stdin.write_all(line.as_bytes()).expect("it listens");
            client.put_stdin(stdin);
            (client, line)
        })
        .collect();
    for (client, line) in &clients {
        client.stdout.wait_for_line(line.trim_end());
    }
    drop(silent);
    drop(clients);
    // More than any buffer holds.
    let large: String = (0..40_000).map(|number| format!("line {number}\n")).collect();
    let mut client = OpenSsl::new(port).start();
    let mut stdin = client.stdin();
    let sent = large.clone();
    let writer = std::thread::spawn(move || {
        stdin.write_all(sent.as_bytes()).expect("it listens");
        stdin
    });
    assert!(client.stdout.becomes(PATIENCE, |text| text.len() == large.len()), "{}", client.stdout.text().len());
    assert_eq!(client.stdout.text(), large);
    client.put_stdin(writer.join().expect("it was written"));
    drop(client);
    server.signal(Signal::TERM);
    let finished = server.finish(PATIENCE).expect_success();
    assert!(finished.stderr.contains("(QTLS_E_NOT_TLS)"), "{}", finished.said());
    assert!(!finished.stderr.contains("ERROR"), "{}", finished.said());
}

#[test]
fn server_and_client_under_valgrind() {
    let workshop = Workshop::new();
    let [server, client] =
        ["server", "client"].map(|name| workshop.compile("gcc", &format!("examples/simple_{name}.c"), &["-O1"]));
    let mut command = valgrind();
    let server = SimpleServer::start(command.arg(server), Pki::shared().directory());
    let mut command = valgrind();
    command.env("QTLS_CA", Pki::shared().ca()).arg(client).args(["localhost", &server.port.to_string()]);
    let got = run_patiently(&mut command).expect_success();
    says(&got.stdout, "group", "X25519MLKEM768");
    assert!(!got.stderr.contains("=="), "{}", got.said());
    drop(TcpStream::connect(("127.0.0.1", server.port)).expect("it accepts"));
    server.process.signal(Signal::TERM);
    let ended = server.process.finish(PATIENCE * 4).expect_success();
    assert!(!ended.stderr.contains("=="), "{}", ended.said());
}

/// In a network and with an /etc of its own, as in a container: no argument, no port that is free by chance.
#[test]
fn as_the_images_of_the_specification_run_them() {
    let workshop = Workshop::new();
    let [server, client] =
        ["server", "client"].map(|name| workshop.compile("gcc", &format!("examples/simple_{name}.c"), &["-O1"]));
    let etc = tempfile::tempdir().expect("the temporary directory is writable");
    let certs = etc.path().join("qtls/certs");
    fs::create_dir_all(&certs).expect("it is writable");
    for name in ["server-cert.pem", "server-key.pem", "ca-bundle.pem"] {
        fs::copy(Pki::shared().file(name), certs.join(name)).expect("it is readable");
    }
    fs::write(etc.path().join("hosts"), "127.0.0.1 localhost\n127.0.0.1 qtls-server\n").expect("it is writable");
    // The probe is the HEALTHCHECK of the Dockerfile.
    let script = r#"
        mount --bind "$1" /etc
        python3 -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 0x41))'
        QTLS_SERVER_PORT=tcp://10.0.0.1:8443 QTLS_HYBRID_MODE=true QTLS_LOG_LEVEL=info "$2" &
        server=$!
        until timeout 2 bash -c "</dev/tcp/localhost/8443"; do kill -0 $server; sleep 0.1; done 2>/dev/null
        QTLS_SERVER_HOST=qtls-server QTLS_SERVER_PORT=8443 QTLS_HYBRID_MODE=true "$3" localhost 8443
        kill -TERM $server
        wait $server
    "#;
    let mut unshare = Command::new("unshare");
    unshare.args((!rustix::process::getuid().is_root()).then_some(["--user", "--map-root-user"]).into_iter().flatten());
    unshare.args(["--mount", "--net", "--propagation", "private", "bash", "-euc", script, "bash"]);
    let finished = run(unshare.arg(etc.path()).arg(server).arg(client), b"").expect_success();
    says(&finished.stdout, "group", "X25519MLKEM768");
    says(&finished.stdout, "client", "without a certificate");
    assert!(finished.stderr.contains("info: listening on port 8443\n"), "{}", finished.said());
    assert!(finished.stderr.contains("set enableServiceLinks: false"), "{}", finished.said());
    assert!(finished.stderr.ends_with("info: ended\n"), "{}", finished.said());
}

/// The fenced blocks of a language in the README of the examples, by their section.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let readme = fs::read_to_string(programs::repository().join("examples/README.md")).expect("it is there");
    let section = readme.split(&format!("\n## {section}\n")).nth(1).expect("the section is there");
    let section = section.split("\n## ").next().unwrap_or_default();
    let fence = format!("```{language}\n");
    let found = section.split(&fence).skip(1);
    found.map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_lines_of_the_readme_build_and_run_them() {
    let build = Build::new();
    // Without a space: the shell takes what pkg-config prints apart at spaces.
    let prefix = build.scratch.path().join("prefix");
    let install = format!("-DCMAKE_INSTALL_PREFIX={}", prefix.display());
    build.configure_shared(&["-DENABLE_TESTS=OFF", "-DENABLE_EXAMPLES=OFF", &install]).expect_success();
    build.make(&["-j2"]).expect_success();
    build.make(&["install"]).expect_success();
    let work = build.scratch.path().join("examples");
    fs::create_dir(&work).expect("it is writable");
    for example in sources("examples") {
        let to = work.join(Path::new(&example).file_name().expect("a name"));
        fs::copy(programs::repository().join(&example), to).expect("it is readable");
    }
    let [cmake] = &blocks("Building", "cmake")[..] else { panic!("one CMakeLists.txt") };
    fs::write(work.join("CMakeLists.txt"), cmake).expect("it is writable");
    let library = prefix.join("lib");
    let path = format!("{}:{}", prefix.join("bin").display(), std::env::var("PATH").expect("there is one"));
    let shell = |script: &str| {
        let mut command = build.command("unshare");
        command.args(
            (!rustix::process::getuid().is_root()).then_some(["--user", "--map-root-user"]).into_iter().flatten(),
        );
        let up = "python3 -c 'import fcntl, socket, struct\nfcntl.ioctl(socket.socket(), 0x8914, \
                  struct.pack(\"16sh\", b\"lo\", 0x41))'\n";
        command.args(["--net", "sh", "-euc", &format!("{up}{script}")]).current_dir(&work);
        command.env("PKG_CONFIG_PATH", library.join("pkgconfig")).env("CMAKE_PREFIX_PATH", &prefix);
        command.env("LD_LIBRARY_PATH", &library).env("PATH", &path).env_remove("QTLS_SERVER_PORT");
        run_within(&mut command, b"", PATIENCE * 4).expect_success()
    };
    let built = blocks("Building", "sh");
    assert_eq!(built.len(), 2, "by pkg-config, and by CMake");
    for block in &built {
        shell(block);
    }
    for name in sources("examples").iter().map(|source| source.trim_start_matches("examples/").trim_end_matches(".c")) {
        for directory in [work.clone(), work.join("build")] {
            let program: PathBuf = directory.join(name);
            assert!(program.is_file(), "the README doesn't build {}", program.display());
        }
    }
    let finished = shell(&blocks("Running", "sh").concat());
    says(&finished.stdout, "group", "X25519MLKEM768");
    assert!(finished.stdout.contains("the server received 35 bytes"), "{}", finished.said());
    for line in blocks("Running", "text").concat().lines() {
        assert!(finished.stderr.lines().any(|said| said == line), "{line:?} is not in {}", finished.said());
    }
}
