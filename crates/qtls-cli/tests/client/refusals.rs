//! Each way to fail has its exit code and its words, and is not repeated where the server has decided.

use std::io::{Read, Write};
use std::net::TcpListener;

use qtls_core::policy::KeyAlgorithm;

use crate::certificates::{Ca, Leaf};
use crate::program::Client;
use crate::server::{Options, Server, close_notify, echo, read_all, tls};

#[test]
fn nobody_listens() {
    let port = free_port();
    let finished = Client::new().arg(format!("127.0.0.1:{port}")).arg("--insecure").once().run().code(3);
    finished
        .says(&format!("qtls-client: can't connect to 127.0.0.1:{port} (127.0.0.1:{port}: Connection refused"))
        .says("hint: is the server running, and is this its port?");
}

#[test]
fn a_name_without_an_address() {
    let client = Client::new().arg("no-such-host.invalid:1").arg("--insecure").once();
    // A resolver that doesn't answer has to be given up in time, too.
    client.env("QTLS__CLIENT__CONNECT_TIMEOUT", "2").run().code(3).says("the address of no-such-host.invalid");
}

#[test]
fn a_server_that_never_answers_the_handshake() {
    let server = Server::new(|mut socket| socket.read_to_end(&mut Vec::new()));
    let client = Client::new().arg(format!("127.0.0.1:{}", server.port())).arg("--insecure").once();
    client
        .env("QTLS__CLIENT__CONNECT_TIMEOUT", "1")
        .run()
        .code(3)
        .says("took longer than 1 s")
        .says("hint: client.connect_timeout sets");
}

#[test]
fn a_server_that_closes_in_the_handshake() {
    let server = Server::new(|mut socket| socket.read(&mut [0; 4096]).map(|_| ()));
    let client = Client::new().arg(format!("127.0.0.1:{}", server.port())).arg("--insecure").once();
    client.run().code(3).says("the connection ended in the middle of the handshake");
}

#[test]
fn chains_and_names_that_do_not_verify() {
    let ca = Ca::new();
    let verified = |leaf: &Leaf| {
        let server = tls(Options::new(leaf).config(), close_notify);
        let finished = Client::to(server.port(), &ca.file()).run();
        // The server learns that it was the client who refused.
        let seen = server.report().unwrap_err().to_string();
        assert!(seen.contains("received fatal alert"), "{seen}");
        assert_eq!(server.unreported(), 0, "it was tried again");
        finished.code(4)
    };
    verified(&Ca::named("Another CA").server(KeyAlgorithm::EcdsaP256))
        .says("qtls-client: the peer's certificate chain leads to no trust anchor")
        .says("name the file with the right one as --ca FILE");
    verified(&ca.server_for(KeyAlgorithm::EcdsaP256, &["www.example.com"], 30))
        .says("not valid for localhost; it is valid for")
        .says("www.example.com")
        .says("--server-name NAME");
    verified(&ca.server_for(KeyAlgorithm::EcdsaP256, &["localhost"], -3)).says("expired on 20");
    verified(&ca.client(KeyAlgorithm::EcdsaP256)).says("not made for this side of TLS");
}

#[test]
fn insecure_connects_and_says_so_loudly() {
    let leaf = Ca::new().server_for(KeyAlgorithm::EcdsaP256, &["other.example"], -3);
    let server = tls(Options::new(&leaf).config(), close_notify);
    let client = || Client::new().arg(format!("localhost:{}", server.port()));
    let warning = "qtls-client: WARNING: the server is NOT verified";
    client().arg("--insecure").run().code(0).says(warning).says("verified     NO: anyone can pretend");
    client().env("QTLS__TLS__VERIFY_PEER", "false").run().code(0).says(warning);
    let quiet = client().args(["--insecure", "--quiet", "--json"]).run().code(0).says(warning);
    assert_eq!(quiet.json()["verified"], false);
    assert_eq!(quiet.json()["peer"]["subject"], "CN=Test server");
}

#[test]
fn a_port_that_does_not_speak_tls() {
    let server = Server::new(|mut socket| {
        socket.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        socket.read_to_end(&mut Vec::new())
    });
    let client = Client::new().arg(format!("127.0.0.1:{}", server.port())).arg("--insecure");
    client.run().code(5).says("not valid TLS").says("hint: is this a port that speaks TLS?");
    assert!(server.report().is_ok());
    assert_eq!(server.unreported(), 0, "it was tried again");
}

/// A ServerHello of TLS 1.2 (RFC 5246, section 7.4.1.3), as a server sends it that ignores supported_versions.
#[test]
fn a_server_of_tls_1_2_has_no_version_in_common() {
    let server = Server::new(|mut socket| {
        let mut hello = vec![2, 0, 0, 38, 3, 3];
        hello.extend([7; 32]);
        hello.extend([0, 0xc0, 0x2f, 0]);
        let mut record = vec![22, 3, 3, 0, 42];
        record.extend(hello);
        let mut client_hello = [0; 5];
        socket.read_exact(&mut client_hello).unwrap();
        socket.write_all(&record).unwrap();
        socket.read_to_end(&mut Vec::new())
    });
    let client = Client::new().arg(format!("127.0.0.1:{}", server.port())).arg("--insecure");
    client.run().code(6).says("qtls-client: the peer doesn't speak TLS 1.3");
    assert!(server.report().is_ok());
    assert_eq!(server.unreported(), 0, "it was tried again");
}

#[test]
fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let own = ca.client(KeyAlgorithm::MlDsa65);
    let options = Options { clients_of: Some(&ca), ..Options::new(&leaf) };
    let server = tls(options.config(), |connection| {
        let shown = connection.conn.peer_certificates().map(<[_]>::to_vec);
        echo(connection)?;
        Ok(shown)
    });
    let client =
        Client::to(server.port(), &ca.file()).arg("--cert").arg(&own.cert_file).arg("--key").arg(&own.key_file);
    client.run_with("hello").code(0).prints("hello");
    assert_eq!(server.report().unwrap().as_deref(), Some(own.key.cert.as_slice()));
}

/// In TLS 1.3 the refusal comes when the client's handshake is complete. It is none of the network's all the same.
#[test]
fn a_refused_client_certificate_is_a_refused_handshake_in_every_mode() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let other = Ca::named("Another CA");
    let stranger = other.client(KeyAlgorithm::EcdsaP256);
    let options = Options { clients_of: Some(&ca), alpn: &["h2", "http/1.1"], ..Options::new(&leaf) };
    let server = tls(options.config(), read_all);
    let modes: [&[&str]; 5] = [
        &[],
        &["--json"],
        &["--json", "--stdio"],
        &["--request", "GET /", "--alpn", "h2"],
        &["--request", "GET /", "--alpn", "http/1.1", "--json"],
    ];
    for mode in modes {
        let client = || Client::to(server.port(), &ca.file()).args(mode);
        let refused = client().run_with("data").code(5);
        refused
            .says("ended the handshake with the alert CertificateRequired")
            .says("hint: it requires a client certificate");
        assert!(server.report().is_err());

        let refused = client().arg("--cert").arg(&stranger.cert_file).arg("--key").arg(&stranger.key_file);
        refused
            .run_with("data")
            .code(5)
            .says("with the alert UnknownCA")
            .says("doesn't accept the certificate of this side");
        assert!(server.report().is_err());
        assert_eq!(server.unreported(), 0, "{mode:?} tried again");
    }
}

#[test]
fn an_expired_client_certificate_is_warned_of() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let expired = ca.server_for(KeyAlgorithm::EcdsaP384, &["localhost"], -3);
    let server = tls(Options::new(&leaf).config(), close_notify);
    let client = Client::to(server.port(), &ca.file());
    client
        .arg("--cert")
        .arg(&expired.cert_file)
        .arg("--key")
        .arg(&expired.key_file)
        .run()
        .code(0)
        .says("is expired on 20");
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
