//! `qtls report` as its users meet it: the answer, its JSON, what it says of odd logs, and its exit codes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// Twenty connections of real clients, as a server has logged them, but for their addresses and names.
const LOG: &str = include_str!("report/server.log");

fn qtls_with(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_qtls"))
        .arg("report")
        .args(arguments)
        .current_dir(directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // It may end without having read anything.
    let _ = child.stdin.take().expect("it was asked for").write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it is ours");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    (status.code().expect("it was not killed"), text(stdout), text(stderr))
}

fn qtls(arguments: &[&str]) -> (i32, String, String) {
    qtls_with(arguments, b"")
}

#[track_caller]
fn json_of(arguments: &[&str], input: &[u8]) -> Value {
    let (code, out, err) = qtls_with(&[&["--json"], arguments].concat(), input);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    serde_json::from_str(&out).expect("JSON")
}

/// Connections that would break, by policy.
fn broken(report: &Value) -> Vec<(&str, u64)> {
    let tried = report["tried"].as_array().expect("a list").iter();
    tried.map(|one| (one["policy"].as_str().expect("a name"), one["connections"].as_u64().expect("a number"))).collect()
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report")
}

/// The lines of connections as the server writes them with `logging.format: json`.
fn as_json(log: &str) -> String {
    let line = |line: &str| {
        let (time, rest) = line.split_at(24);
        let (message, fields) = rest[7..].split_once(" event=").unwrap_or((&rest[7..], ""));
        let mut object = json!({ "timestamp": time, "level": "info", "message": message });
        let fields = format!("event={fields}").replace("\"ecdsa-p384: offered\"", "ecdsa-p384");
        for (key, value) in
            fields.split(' ').filter_map(|field| field.split_once('=')).filter(|(_, value)| !value.is_empty())
        {
            object[key] = match key {
                "pq" | "resumed" | "hrr" => json!(value == "true"),
                "received" | "sent" => json!(value.parse::<u64>().expect("a number")),
                _ => json!(value),
            };
        }
        format!("{object}\n")
    };
    log.lines().map(line).collect()
}

/// The documentation shows this very answer.
#[test]
fn the_answer_is_the_one_that_the_documentation_shows() {
    let (code, out, err) = qtls(&["--try", "pqc_only", "--try", "without-rsa", "server.log"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let documentation = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/OPERATIONS.md");
    let documentation = fs::read_to_string(documentation).expect("it is there");
    assert!(documentation.contains(&format!("```text\n{out}```\n")), "docs/OPERATIONS.md doesn't show:\n{out}");
}

#[test]
fn text_json_standard_input_and_rotated_files_say_the_same() {
    let expected = json_of(&["server.log"], b"");
    assert_eq!(broken(&expected), [("pqc_only", 9), ("cnsa2", 20), ("without-rsa", 2)]);
    assert_eq!((&expected["connections"], &expected["post_quantum"]), (&json!(20), &json!(11)));
    assert_eq!(expected["bytes"], 5 * 181_234 + 4 * 5210 + 2 * 900 + 7 * 40_960 + 2 * 700);
    assert_eq!(expected["not_completed"], json!({ "no_common_version": 1 }));
    assert_eq!(expected["from"], "2026-11-22T08:07:13.097Z");
    assert_eq!(json_of(&["-"], LOG.as_bytes()), expected);
    assert_eq!(json_of(&["-"], as_json(LOG).as_bytes()), expected);
    // Rotated, the newest first, and a part of it in the other format.
    let lines: Vec<_> = LOG.split_inclusive('\n').collect();
    let rotated = tempfile::tempdir().expect("there is a temporary directory");
    for (name, lines) in [("server.log", &lines[15..]), ("server.log.1", &lines[7..15]), ("server.log.2", &lines[..7])]
    {
        let text = lines.concat();
        let text = if name == "server.log.1" { as_json(&text) } else { text };
        fs::write(rotated.path().join(name), text).expect("it is writable");
    }
    let paths: Vec<_> =
        ["server.log", "server.log.1", "server.log.2"].iter().map(|name| rotated.path().join(name)).collect();
    let paths: Vec<_> = paths.iter().map(|path| path.to_str().expect("UTF-8")).collect();
    let mut whole = json_of(&paths, b"");
    assert_eq!(whole["logs"], 3);
    whole["logs"] = json!(1);
    assert_eq!(whole, expected);
    // The same file again counts once.
    let twice = json_of(&["server.log", "./server.log"], b"");
    assert_eq!((&twice["connections"], &twice["logs"]), (&json!(20), &json!(1)));
    assert_eq!(twice["notes"][1], "./server.log was given twice, and is read once");
}

#[test]
fn a_period_is_a_part() {
    let report = json_of(&["--since", "2026-11-22T09:00Z", "--until", "2026-11-22T10:00:00Z", "server.log"], b"");
    let in_that_hour = LOG.lines().filter(|line| line.starts_with("2026-11-22T09:")).count();
    assert_eq!(report["connections"], in_that_hour);
    assert!(in_that_hour > 0 && report["to"].as_str().is_some_and(|to| to < "2026-11-22T10"), "{report}");
    let (code, out, err) = qtls(&["--until", "2020-01-01", "server.log"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(
        err,
        "qtls: no connection is in this period\n  hint: the logs have some before or after: change --since or --until\n"
    );
    let (code, _, err) = qtls(&["--since", "yesterday", "server.log"]);
    assert!(code == 2 && err.contains("give a day (2026-11-22)"), "{err}");
}

#[test]
fn what_can_t_be_read_is_counted_and_told() {
    let odd = format!("{LOG}what is this?\n{{\"timestamp\": 5}}\n\u{fffd}\n{}", &LOG.lines().nth(3).unwrap()[..200]);
    let report = json_of(&["-"], odd.as_bytes());
    assert_eq!(
        (&report["connections"], &report["unreadable_lines"], &report["cut_off_lines"]),
        (&json!(20), &json!(3), &json!(1))
    );
    let (code, out, _) = qtls_with(&["-"], odd.as_bytes());
    assert_eq!(code, 0);
    assert!(out.contains("note: 3 lines can't be read and are left out, the first at -:23\n"), "{out}");
    assert!(out.contains("note: 1 line at the end of a file cut off, and left out\n"), "{out}");
    // Whatever a client sent as a name, it steers no terminal.
    let evil = LOG.replace("server_name=www.example", "server_name=\"a\\u{1b}[2Jb\"");
    let (_, out, _) = qtls_with(&["--try", "cnsa2", "-"], evil.as_bytes());
    assert!(out.contains("a\\u{1b}[2jb") && !out.contains('\u{1b}'), "{out}");
}

#[test]
fn an_answer_from_nothing_is_no_answer() {
    for (input, message) in [
        (&b""[..], "there is no connection in these logs"),
        (b"2026-11-22T08:00:00.004Z INFO  qtls-server 1.0.0\n", "there is no connection in these logs"),
        (b"GET / HTTP/1.1\nHost: a.example\n", "nothing here is a line of a log of qtls-server"),
        (b"\x1f\x8b\x08\x00", "-: is compressed"),
    ] {
        let (code, out, err) = qtls_with(&["--fail-if-any", "-"], input);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.starts_with(&format!("qtls: {message}\n  hint: ")), "{err}");
    }
    let (code, _, err) = qtls(&["none.log"]);
    assert_eq!(code, 2);
    assert_eq!(err, "qtls: none.log: can't be read: No such file or directory (os error 2)\n  hint: check the path\n");
    let (code, _, err) = qtls(&["."]);
    assert_eq!((code, err.as_str()), (2, "qtls: .: is a directory, not a log\n  hint: give the files in it: ./*\n"));
}

#[test]
fn the_exit_code_tells_on_demand_whether_somebody_would_break() {
    assert_eq!(qtls(&["--try", "pqc_only", "server.log"]).0, 0);
    assert_eq!(qtls(&["--try", "pqc_only", "--fail-if-any", "server.log"]).0, 20);
    let go: String =
        LOG.lines().filter(|line| line.contains("SecP384r1MLKEM1024")).map(|line| format!("{line}\n")).collect();
    let (code, out, _) = qtls_with(&["--try", "pqc_only", "--try", "without-rsa", "--fail-if-any", "-"], go.as_bytes());
    assert_eq!(code, 0, "{out}");
    assert!(out.ends_with("\npqc_only: nobody would break\n\nwithout-rsa: nobody would break\n"), "{out}");
    let (code, _, err) = qtls(&["--try", "quantum", "server.log"]);
    assert!(code == 2 && err.contains("[possible values: pqc_only, cnsa2, without-rsa]"), "{err}");
}

#[test]
fn a_configuration_says_what_is_in_force_and_what_else_is_tried() {
    let place = tempfile::tempdir().expect("there is a temporary directory");
    let at = |name: &str| place.path().join(name).to_str().expect("UTF-8").to_owned();
    let write = |name: &str, config: &Value| fs::write(at(name), config.to_string()).expect("it is writable");
    // Certificates that are not here: the answer says what it assumes.
    write(
        "server.json",
        &json!({
            "certificates": { "server_cert": "/nonexistent/cert.pem", "server_key": "/nonexistent/key.pem" },
            "algorithms": { "kem": ["x25519mlkem768", "x25519", "p-256"] },
            "virtual_hosts": [{ "names": ["api.example"], "tls": { "report": { "pqc_only": true } } }],
        }),
    );
    let report = json_of(&["--config", &at("server.json"), "server.log"], b"");
    // Go has more groups, and that at the top has fewer; only api.example tries something.
    assert_eq!(broken(&report), [("pqc_only", 9), ("cnsa2", 20), ("without-rsa", 2), ("tls.report", 7)]);
    assert_eq!(report["notes"].as_array().map(Vec::len), Some(1), "{report}");
    let note = report["notes"][0].as_str().expect("a text");
    assert!(note.contains("can't be read here, and the server is taken to have one of every kind: "), "{note}");
    assert!(note.contains("/nonexistent/cert.pem: does not exist"), "{note}");

    // A policy of one's own, alone.
    write(
        "stricter.json",
        &json!({ "tls": { "profile": "fips" }, "algorithms": { "kem": ["x25519mlkem768", "p-256"] } }),
    );
    let report = json_of(&["--policy", &at("stricter.json"), "server.log"], b"");
    assert_eq!(broken(&report), [(at("stricter.json").as_str(), 0)], "curl has P-256, and everyone AES");
    write("stricter.json", &json!({ "algorithms": { "cipher": ["aes-256-gcm"] } }));
    let report = json_of(&["--policy", &at("stricter.json"), "--try", "pqc_only", "server.log"], b"");
    assert_eq!(broken(&report), [("pqc_only", 9), (at("stricter.json").as_str(), 2)]);
    assert_eq!(report["tried"][1]["causes"][0]["lacks"], json!(["offers no TLS_AES_256_GCM_SHA384"]));

    // What was in force was something else.
    write("server.json", &json!({ "algorithms": { "kem": ["secp256r1mlkem768", "p-256"] } }));
    let (_, out, _) = qtls(&["--config", &at("server.json"), "--try", "without-rsa", "server.log"]);
    assert!(
        out.contains(
            "note: 18 connections have a group that the policy which is taken to be in force would not have chosen: \
             give the configuration that was in force then with --config, or limit the period\n"
        ),
        "{out}"
    );

    // What can't be tried, and what is no configuration.
    write("server.json", &json!({ "tls": { "hybrid_mode": false }, "algorithms": { "kem": ["p-256"] } }));
    let (code, _, err) = qtls(&["--config", &at("server.json"), "server.log"]);
    assert_eq!(code, 2);
    assert!(
        err.contains("pqc_only can't be tried here: ") && err.contains("hint: choose what is tried with --try"),
        "{err}"
    );
    assert_eq!(qtls(&["--config", &at("server.json"), "--try", "without-rsa", "server.log"]).0, 0);
    write("server.json", &json!({ "tls": { "profil": "fips" } }));
    let (code, _, err) = qtls(&["--config", &at("server.json"), "server.log"]);
    assert!(code == 2 && err.contains("did you mean \"profile\"?"), "{err}");
}
