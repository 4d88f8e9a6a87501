//! A value that is wrong gets one message with its place, its key and the remedy.
//!
//! The cases stand in text files: a line of input, then the complete message.

use super::*;

#[test]
fn a_bad_value_in_server_json() {
    for (text, expected) in cases(include_str!("bad_server.txt")) {
        assert_eq!(server_error(text), expected, "{text}");
    }
}

#[test]
fn a_bad_value_in_client_json() {
    for (text, expected) in cases(include_str!("bad_client.txt")) {
        assert_eq!(client_error(text), expected, "{text}");
    }
}

#[test]
fn a_bad_value_in_the_environment() {
    for (variable, expected) in cases(include_str!("bad_environment.txt")) {
        let (name, value) = variable.split_once('=').unwrap();
        let error = load_server(&environment(&[(name, value)])).expect_err(variable);
        assert_eq!(error.to_string(), expected, "{variable}");
    }
}

#[test]
fn a_bad_value_on_the_command_line() {
    for (key, value, expected) in [
        (
            "server.listen_port",
            "x",
            "command line: server.listen_port: expected a whole number from 1 to 65535, found the string \"x\"",
        ),
        (
            "server.listen_prot",
            "1",
            "command line: server.listen_prot: unknown key\n  hint: did you mean server.listen_port?",
        ),
        ("server..x", "1", "command line: \"server..x\" is not the name of a key\n  hint: write section.key"),
        (
            "algorithms.kem[0]",
            "x25519",
            "command line: algorithms.kem[0]: unknown key\n  \
             hint: known here: algorithms.kem, algorithms.signature, algorithms.signature_chain, algorithms.cipher",
        ),
    ] {
        let source = Source { overrides: overrides(&[(key, value)]), ..environment(&[]) };
        assert_eq!(load_server(&source).unwrap_err().to_string(), expected);
    }
}

#[test]
fn the_line_is_the_line_of_the_wrong_value() {
    let text = "// first\n{\n  \"server\": {\n    \"listen_port\":\n      70000\n  }\n}\n";
    assert_eq!(
        server_error(text),
        "server.json:5:7: server.listen_port: expected a whole number from 1 to 65535, found the number 70000"
    );
}

#[test]
fn a_long_string_is_quoted_in_part() {
    let error = server_error(&format!("{{\"server\": {{\"listen_port\": \"{}\"}}}}", "é".repeat(5000)));
    let expected = "server.json:1:28: server.listen_port: expected a whole number from 1 to 65535, found the string";
    assert_eq!(error, format!("{expected} \"{}\"…", "é".repeat(80)));
}

#[test]
fn every_error_is_the_configuration_s_fault() {
    for text in ["{", "{\"sever\": {}}", "{\"hsm\": {\"enabled\": true}}"] {
        assert_eq!(server(text).unwrap_err().exit_code(), 2, "{text}");
    }
}

/// The inputs and messages of a text file: blocks between empty lines, the message from `=> ` on.
fn cases(table: &str) -> impl Iterator<Item = (&str, &str)> {
    let cases = table.trim_end().split("\n\n").map(|case| case.split_once("\n=> ").expect(case));
    assert!(cases.clone().count() > 5, "a table of cases has shrunk");
    cases
}
