//! The tables: what is measured for each, and how it is shown.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use qtls_interop::peers;
use qtls_interop::process::{Running, run};
use serde_json::Value;

use crate::bench::{Bench, ROUNDS, json, median, pinned};
use crate::subjects::{Mode, Setup, Started, Subject};
use crate::{alone, plot};

type Make = fn(&Bench) -> Result<String, String>;

/// Every table, in the order of the document.
pub(crate) const ALL: [(&str, Make); 9] = [
    ("floor", floor),
    ("handshakes", handshakes),
    ("resumed", resumed),
    ("data", data),
    ("idle", idle),
    ("open", alone::open),
    ("workers", alone::workers),
    ("latency", latency),
    ("start", alone::start),
];

/// A group, as `--group` has it and as the registry does.
type Named = (&'static str, &'static str);

const X: Named = ("x25519mlkem768", "X25519MLKEM768");
const P: Named = ("secp384r1mlkem1024", "SecP384r1MLKEM1024");

/// The tables so far, for the document.
pub(crate) struct Tables {
    about: String,
    made: Vec<(&'static str, String)>,
}

impl Tables {
    pub(crate) fn new(bench: &Bench) -> Self {
        Self { about: about(bench), made: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: &'static str, table: String) {
        self.made.push((name, table));
    }

    /// Writes them into the document, each between its marks; what was not measured stays.
    pub(crate) fn write(&self, path: &Path) -> Result<(), String> {
        let at = |error| format!("{}: {error}", path.display());
        let mut text = fs::read_to_string(path).map_err(at)?;
        for (name, table) in
            [("machine", &self.about)].into_iter().chain(self.made.iter().map(|(name, table)| (*name, table)))
        {
            let (begin, end) = marks(name);
            let (before, after) = around(&text, name).ok_or_else(|| no_marks(path, name))?;
            text = format!("{before}{begin}\n{table}\n{end}{after}");
        }
        fs::write(path, text).map_err(at)?;
        // One picture for all languages.
        let Some((_, table)) = self.made.iter().find(|(name, _)| *name == "handshakes") else { return Ok(()) };
        let picture = path.with_file_name("handshakes.svg");
        fs::write(&picture, plot::draw(table)).map_err(|error| format!("{}: {error}", picture.display()))
    }
}

/// Whether the tables of these names can be written into the document: asked before half an hour of measuring.
pub(crate) fn can_be_written<'a>(path: &Path, mut names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let at = |error| format!("{}: {error}", path.display());
    let mut text = String::new();
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(at)?;
    file.read_to_string(&mut text).map_err(at)?;
    names.find(|name| around(&text, name).is_none()).map_or(Ok(()), |name| Err(no_marks(path, name)))
}

fn marks(name: &str) -> (String, String) {
    (format!("<!-- measured: {name} -->\n"), format!("<!-- end of measured: {name} -->\n"))
}

/// What stands before and after a table, and its marks.
fn around<'t>(text: &'t str, name: &str) -> Option<(&'t str, &'t str)> {
    let (begin, end) = marks(name);
    let (before, rest) = text.split_once(&begin)?;
    Some((before, rest.split_once(&end)?.1))
}

fn no_marks(path: &Path, name: &str) -> String {
    format!("{}: the marks of the part {name:?} are missing", path.display())
}

fn start(bench: &Bench, subjects: &[Subject], setup: Setup) -> Result<Vec<Started>, String> {
    subjects.iter().map(|subject| subject.start(bench, setup)).collect()
}

fn floor(bench: &Bench) -> Result<String, String> {
    let mut text = "| µs of processor time | |\n|---|---|\n".to_owned();
    let _ = writeln!(text, "| a plain TCP connection | {} |", bench.floor["tcp_connection_us"]);
    for (kind, what) in [("exchange_us", "key exchange"), ("signature_us", "signature")] {
        for (name, cost) in bench.floor[kind].as_object().into_iter().flatten() {
            let _ = writeln!(text, "| {what}, {name} | {cost} |");
        }
    }
    Ok(text)
}

/// Latencies at half of what each can do with this generator, with and without clients beside whose handshake takes an
/// RSA-4096 signature: for these, a tenth of the processor's time.
fn latency(bench: &Bench) -> Result<String, String> {
    const SLOW: &str = "rsa-4096";
    let setup = Setup { mode: Mode::Http, key: "ecdsa-p256", also: Some(SLOW), tickets: false };
    let servers = start(bench, &Subject::HTTP, setup)?;
    let number = |value: &Value, name: &str| value[name].as_f64().unwrap_or(f64::NAN);
    let handshakes = |server: &Started, key: &str, more: &[&str]| {
        let arguments = [&["handshakes", "--signature", key], more].concat();
        bench.measuring(pinned(1, "qtls-bench"), (server.port, server.id()), key, &arguments)
    };
    let closed = |server: &Started, key: &str, usual: u32, figure: &str| {
        number(&json(&mut handshakes(server, key, &["--count", &bench.count(usual)])), figure)
    };
    let rates: Vec<_> = servers
        .iter()
        .map(|server| {
            (closed(server, setup.key, 4000, "per_second") / 2.0, 0.1e6 / closed(server, SLOW, 200, "cpu_us"))
        })
        .collect();
    let seconds = 10.0 * bench.scale;
    let rated = |server: &Started, key: &str, rate: f64, seconds: f64| {
        let (count, rate) = ((rate * seconds).ceil().to_string(), rate.to_string());
        handshakes(server, key, &["--rate", &rate, "--count", &count, "--warm-up", "20"])
    };
    let mut all = vec![[const { Vec::new() }; 2]; servers.len()];
    for _ in 0..ROUNDS {
        for ((server, (half, slow)), [alone, beside]) in servers.iter().zip(&rates).zip(&mut all) {
            alone.push(json(&mut rated(server, setup.key, *half, seconds)));
            let others = Running::start(&mut rated(server, SLOW, *slow, seconds + 2.0));
            thread::sleep(Duration::from_secs(1));
            beside.push(json(&mut rated(server, setup.key, *half, seconds)));
            others.finish(Duration::from_secs(60)).expect_success();
        }
    }
    let mut text = heading("latency of a handshake, µs", ["a second", "p50", "p99", "p99 ÷ p50"]);
    for (server, measured) in servers.iter().zip(&all) {
        for (values, beside) in measured.iter().zip(["", ", beside RSA-4096"]) {
            let of = |figure: &str| median(values.iter().map(|value| number(value, figure)).collect());
            let (p50, p99) = (of("p50_us"), of("p99_us"));
            let cells = [cell(of("per_second"), 0), cell(p50, 0), cell(p99, 0), cell(p99 / p50, 1)];
            text += &line(&format!("{}{beside}", server.subject.name()), cells);
        }
    }
    Ok(text)
}

/// A figure, with so many digits behind the point; a dash where there is none.
pub(crate) fn cell(figure: f64, digits: usize) -> String {
    if figure.is_nan() { "–".to_owned() } else { format!("{figure:.digits$}") }
}

fn handshakes(bench: &Bench) -> Result<String, String> {
    /// What stands above it, the group, the key, the suite, and how many handshakes.
    type Column = (&'static str, Named, &'static str, &'static str, u32);
    const COLUMNS: [Column; 8] = [
        ("p256 X", X, "ecdsa-p256", "aes-256-gcm", 4000),
        ("p256 X, AES-128", X, "ecdsa-p256", "aes-128-gcm", 4000),
        ("p256 P", P, "ecdsa-p256", "aes-256-gcm", 3000),
        ("rsa2048 X", X, "rsa-2048", "aes-256-gcm", 3000),
        ("rsa4096 X", X, "rsa-4096", "aes-256-gcm", 1000),
        ("rsa4096 P", P, "rsa-4096", "aes-256-gcm", 1000),
        ("mldsa65 X", X, "ml-dsa-65", "aes-256-gcm", 2000),
        ("mldsa65 P", P, "ml-dsa-65", "aes-256-gcm", 2000),
    ];
    let mut rows: Vec<Vec<f64>> = vec![Vec::new(); Subject::ALL.len()];
    let mut floors = Vec::new();
    for (_, (group, _), key, suite, count) in COLUMNS {
        let has = |subject: &Subject| subject.has(group, key);
        let subjects: Vec<_> = Subject::ALL.into_iter().filter(has).collect();
        let servers = start(bench, &subjects, Setup { mode: Mode::Http, key, also: None, tickets: false })?;
        let count = bench.count(count);
        let arguments = ["handshakes", "--group", group, "--suite", suite, "--signature", key, "--count", &count];
        let mut floor = Vec::new();
        let beside = || floor.push(bench.floor(group, key));
        let mut medians = bench.medians_beside(&servers, key, "cpu_us", &arguments, beside).into_iter();
        for (subject, row) in Subject::ALL.iter().zip(&mut rows) {
            row.push(if has(subject) { medians.next() } else { None }.unwrap_or(f64::NAN));
        }
        floors.push(median(floor));
    }
    let mut text = heading("µs of processor time for a full handshake", COLUMNS.map(|column| column.0));
    for (subject, row) in Subject::ALL.iter().zip(&rows) {
        text += &line(subject.name(), row.iter().map(|figure| cell(*figure, 0)));
    }
    text += &line("floor", floors.iter().map(|figure| cell(*figure, 0)));
    let ratio = |others: &[f64]| -> Vec<String> {
        rows[0].iter().zip(others).map(|(ours, other)| cell(ours / other, 2)).collect()
    };
    text += &line("qtls-server ÷ floor", ratio(&floors));
    for (subject, row) in Subject::ALL.iter().zip(&rows) {
        if matches!(subject, Subject::Nginx | Subject::HaProxy | Subject::Plain) {
            text += &line(&format!("qtls-server ÷ {}", subject.name()), ratio(row));
        }
    }
    Ok(text)
}

fn resumed(bench: &Bench) -> Result<String, String> {
    let setup = Setup { mode: Mode::Http, key: "ecdsa-p256", also: None, tickets: true };
    let mut rows: Vec<Vec<f64>> = vec![Vec::new(); Subject::HTTP.len()];
    for (group, _) in [X, P] {
        let servers = start(bench, &Subject::HTTP, setup)?;
        let count = bench.count(4000);
        let arguments = ["resume", "--group", group, "--count", &count];
        let medians = bench.medians(&servers, setup.key, "cpu_us", &arguments);
        rows.iter_mut().zip(medians).for_each(|(row, median)| row.push(median));
    }
    // One request on each connection: what most short connections are.
    let servers = start(bench, &Subject::HTTP, Setup { tickets: false, ..setup })?;
    let count = bench.count(4000);
    let arguments = ["handshakes", "--request", "/bytes/100", "--count", &count];
    let medians = bench.medians(&servers, setup.key, "cpu_us", &arguments);
    rows.iter_mut().zip(medians).for_each(|(row, median)| row.push(median));
    let columns = ["resumed, p256 X", "resumed, p256 P", "full, p256 X, and one request"];
    let mut text = heading("µs of processor time for a connection", columns);
    for (subject, row) in Subject::HTTP.iter().zip(&rows) {
        text += &line(subject.name(), row.iter().map(|figure| cell(*figure, 0)));
    }
    for (other, name) in [(1, "qtls-server ÷ nginx"), (2, "qtls-server ÷ HAProxy")] {
        text += &line(name, rows[0].iter().zip(&rows[other]).map(|(ours, other)| cell(ours / other, 2)));
    }
    Ok(text)
}

fn data(bench: &Bench) -> Result<String, String> {
    let gigabytes = format!("{}M", (4000.0 * bench.scale).ceil().max(200.0));
    let requests = bench.count(40_000);
    let throughput = |direction| ["throughput", "--direction", direction, "--bytes", &gigabytes].map(str::to_owned);
    let asking = ["requests", "--path", "/bytes/100", "--count", &requests].map(str::to_owned);
    let measures =
        [(throughput("down"), "cpu_s_per_gb", 3), (throughput("up"), "cpu_s_per_gb", 3), (asking, "cpu_us", 1)];
    let mut text = String::new();
    for (mode, subjects, unit) in
        [(Mode::Http, &Subject::HTTP[..], "HTTP proxy"), (Mode::Tcp, &Subject::TCP[..], "TCP relay")]
    {
        let mut rows: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
        let servers = start(bench, subjects, Setup { mode, key: "ecdsa-p256", also: None, tickets: false })?;
        for (arguments, figure, _) in &measures {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let medians = bench.medians(&servers, "ecdsa-p256", figure, &arguments);
            rows.iter_mut().zip(medians).for_each(|(row, median)| row.push(median));
        }
        text += &heading(unit, ["s/GB down", "s/GB up", "µs a request"]);
        for (server, row) in servers.iter().zip(&rows) {
            let cells = row.iter().zip(&measures).map(|(figure, (_, _, digits))| cell(*figure, *digits));
            text += &line(server.subject.name(), cells);
        }
        for (other, name) in [(1, "qtls-server ÷ nginx"), (2, "qtls-server ÷ HAProxy")] {
            text += &line(name, rows[0].iter().zip(&rows[other]).map(|(ours, other)| cell(ours / other, 2)));
        }
        text.push('\n');
    }
    Ok(text)
}

fn idle(bench: &Bench) -> Result<String, String> {
    // Fewer would be lost in what a process takes and gives back as it runs.
    let base = ["idle", "--connections", "2000", "--newcomers", "200", "--settle", "8"];
    let mut text = heading(
        "KiB (PSS) of an idle connection",
        ["HTTP, after the handshake", "HTTP, after a request", "TCP, after a request"],
    );
    let mut columns = Vec::new();
    for (mode, request) in [(Mode::Http, false), (Mode::Http, true), (Mode::Tcp, true)] {
        let mut column = Vec::new();
        for subject in Subject::TCP {
            if mode == Mode::Http && subject == Subject::Hitch {
                column.push("–".to_owned());
                continue;
            }
            // Each in a fresh process: memory that an earlier measurement left would hide what this one takes.
            let server = subject.start(bench, Setup { mode, key: "ecdsa-p256", also: None, tickets: false })?;
            let mut arguments = base.to_vec();
            if request {
                arguments.extend(["--request", "/bytes/100"]);
            }
            let value = bench.measure(&server, "ecdsa-p256", &arguments);
            column.push(value["kib_each"].as_f64().map_or_else(|| "?".to_owned(), |figure| cell(figure, 1)));
        }
        columns.push(column);
    }
    for (index, subject) in Subject::TCP.iter().enumerate() {
        text += &line(subject.name(), columns.iter().map(|column| column[index].clone()));
    }
    Ok(text)
}

pub(crate) fn heading<const N: usize>(what: &str, columns: [&str; N]) -> String {
    format!("| {what} | {} |\n|---|{}\n", columns.join(" | "), "---|".repeat(N))
}

pub(crate) fn line(name: &str, cells: impl IntoIterator<Item = String>) -> String {
    format!("| {name} | {} |\n", cells.into_iter().collect::<Vec<_>>().join(" | "))
}

/// On what, with what, when.
fn about(bench: &Bench) -> String {
    let said = |command: &mut Command| {
        let finished = run(command, b"");
        let text = format!("{}{}", finished.stdout, finished.stderr);
        // Some say something else first.
        let named = |line: &&str| line.contains(|letter: char| letter.is_ascii_digit());
        text.lines().find(named).unwrap_or_default().trim().to_owned()
    };
    let none: [&Path; 0] = [];
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let mut text = "| | |\n|---|---|\n".to_owned();
    let rows = [
        ("date", said(Command::new("date").args(["-u", "+%Y-%m-%d"]))),
        ("processor", processor.map_or_else(String::new, |(_, name)| name.trim().to_owned())),
        ("kernel", said(Command::new("uname").arg("-r"))),
        ("qtls-server", said(qtls_interop::programs::command("qtls-server").arg("--version"))),
        ("OpenSSL", said(peers::debian("openssl", none).arg("version"))),
        ("nginx", said(peers::debian("nginx", none).arg("-v"))),
        ("HAProxy", said(peers::debian("haproxy", none).arg("-v"))),
        ("hitch", said(peers::debian("hitch", none).arg("--version"))),
        ("stunnel", said(peers::debian("stunnel", none).arg("-version"))),
        ("rounds", format!("{ROUNDS}, of which the median counts; amounts times {}", bench.scale)),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text
}
