//! Standard input and output with a server, as bytes.

use std::io::{Read, Write};

use qtls_core::policy::KeyAlgorithm;

use crate::certificates::{Ca, Leaf};
use crate::program::Client;
use crate::server::{Options, close_notify, echo, read_all, tls, until_gone};

fn authority() -> (Ca, Leaf) {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    (ca, leaf)
}

/// Bytes of every value, and more of them than any buffer on the way holds.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 31 + index / 251) as u8).collect()
}

#[test]
fn bytes_go_both_ways_unchanged() {
    let (ca, leaf) = authority();
    let server = tls(Options::new(&leaf).config(), echo);
    let data = bytes(5_000_000);
    Client::to(server.port(), &ca.file()).run_with(data.clone()).code(0).prints(&data);
    assert_eq!(server.report().unwrap(), data.len());
}

#[test]
fn the_end_of_input_is_passed_on_and_the_answer_still_read() {
    let (ca, leaf) = authority();
    let server = tls(Options::new(&leaf).config(), |connection| {
        // Returns at the client's close_notify: before it there is no answer.
        let question = read_all(connection)?;
        let answer = format!("{} bytes\n", question.len()).repeat(100_000);
        connection.write_all(answer.as_bytes())?;
        close_notify(connection)?;
        Ok(answer)
    });
    let finished = Client::to(server.port(), &ca.file()).run_with("how long?").code(0);
    finished.prints(server.report().unwrap());
}

#[test]
fn a_server_that_closes_ends_the_client_whose_input_is_still_open() {
    let (ca, leaf) = authority();
    let server = tls(Options::new(&leaf).config(), |connection| {
        connection.write_all(b"goodbye")?;
        close_notify(connection)
    });
    Client::to(server.port(), &ca.file()).start_open().finish().code(0).prints("goodbye");
}

#[test]
fn an_end_without_close_notify_is_told() {
    let (ca, leaf) = authority();
    let server = tls(Options::new(&leaf).config(), |connection| {
        connection.write_all(b"half an answ")?;
        connection.flush()
    });
    let finished = Client::to(server.port(), &ca.file()).start_open().finish().code(3).prints("half an answ");
    finished.says("closed the connection without close_notify: the end may have been cut off");
}

#[test]
fn json_comes_first_and_the_conversation_behind_it() {
    let (ca, leaf) = authority();
    let server = tls(Options::new(&leaf).config(), echo);
    let client = || Client::to(server.port(), &ca.file()).arg("--json");
    let finished = client().arg("--stdio").run_with("data\n").code(0);
    let text = finished.text();
    let (line, rest) = text.split_once('\n').unwrap();
    let facts: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((facts["group"].as_str(), rest), (Some("X25519MLKEM768"), "data\n"));
    assert_eq!(server.report().unwrap(), 5);
    // Without --stdio nothing is read, though there is something.
    client().run_with("data\n").code(0).json();
    assert_eq!(server.report().unwrap(), 0);
}

#[test]
fn a_server_may_be_silent_until_it_is_spoken_to() {
    let (ca, leaf) = authority();
    let server = tls(Options::new(&leaf).config(), |connection| {
        let mut data = [0; 4];
        connection.read_exact(&mut data)?;
        connection.write_all(&data)?;
        connection.flush()?;
        // Never answers again.
        connection.read_exact(&mut data)?;
        until_gone(&connection.sock);
        Ok(())
    });
    let client = Client::to(server.port(), &ca.file()).env("QTLS__CLIENT__READ_TIMEOUT", "1");
    let mut running = client.start_open();
    running.write(b"ping");
    running.read(4);
    // The answer has ended the wait; what is sent behind it starts another.
    running.write(b"ping");
    running.finish().code(3).prints("ping").says("the server has sent nothing for 1 s").says("client.read_timeout");
}

#[test]
fn the_answer_to_the_end_of_input_is_waited_for_no_longer_than_configured() {
    let (ca, leaf) = authority();
    let server = tls(Options::new(&leaf).config(), |connection| {
        let data = read_all(connection)?;
        until_gone(&connection.sock);
        Ok(data)
    });
    let client = Client::to(server.port(), &ca.file()).env("QTLS__CLIENT__READ_TIMEOUT", "1");
    client.run().code(3).says("the server has sent nothing for 1 s");
    assert_eq!(server.report().unwrap(), b"");
}

#[test]
fn a_server_that_takes_nothing_is_given_up() {
    let (ca, leaf) = authority();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let server = tls(Options::new(&leaf).config(), move |_| {
        // Reads nothing until the client is gone.
        let _ = released.recv();
        Ok(())
    });
    let client = Client::to(server.port(), &ca.file());
    let client = client.env("QTLS__CLIENT__WRITE_TIMEOUT", "1").env("QTLS__CLIENT__READ_TIMEOUT", "3600");
    let finished = client.run_with(bytes(64 << 20)).code(3);
    finished.says("the server has taken nothing for 1 s").says("client.write_timeout");
    drop(release);
    server.report().unwrap();
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let (ca, leaf) = authority();
    let server = tls(Options::new(&leaf).config(), |connection| {
        // More than pipes and sockets hold: somebody has to notice.
        let data = bytes(1 << 20);
        while connection.write_all(&data).is_ok() {}
        Ok(())
    });
    let status = std::process::Command::new("sh")
        .args(["-c", r#"{ "$0" "$@" </dev/null; echo "code $?" >&2; } | head -c 1000 >/dev/null"#])
        .arg(env!("CARGO_BIN_EXE_qtls-client"))
        .arg(format!("localhost:{}", server.port()))
        .args(["--quiet", "--ca"])
        .arg(ca.file())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(status.stderr).unwrap(), "code 0\n");
}
