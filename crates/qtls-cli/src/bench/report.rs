//! What is told of a measurement, as text for people and as one line of JSON for machines.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use qtls_core::Result;
use qtls_core::facts::Facts;
use serde_json::{Map, Value, json};

use super::arguments::Direction;
use super::load::Outcome;
use super::measure::Window;
use crate::ui;

/// What is told of a measurement. Each figure stands in the text and in the JSON.
#[derive(Debug)]
pub(super) struct Report {
    text: String,
    json: Map<String, Value>,
}

/// What was measured of idle connections. Memory is in KiB, processor time in microseconds for a handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdleFigures {
    pub(super) connections: u32,
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) alone: f64,
    pub(super) beside: f64,
}

impl Report {
    /// Of a measurement in which every connection negotiated what `facts` says.
    pub(super) fn new(command: &str, facts: &Facts) -> Self {
        let mut report = Self { text: String::new(), json: Map::new() };
        report.json.insert("command".to_owned(), command.into());
        report.json.insert("group".to_owned(), facts.group_name().into());
        report.json.insert("suite".to_owned(), facts.suite_name().into());
        report.json.insert("scheme".to_owned(), facts.scheme_name().into());
        report.json.insert("resumed".to_owned(), facts.resumed.into());
        let kind = if facts.resumed { "resumed".to_owned() } else { facts.scheme_name() };
        report.line("negotiated", &format!("{}, {}, {kind}", facts.group_name(), facts.suite_name()));
        report
    }

    fn line(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.text, "{name:<12}{value}");
    }

    fn set(&mut self, name: &str, value: Value) {
        self.json.insert(name.to_owned(), value);
    }

    /// Of many units with a latency each.
    pub(super) fn load(mut self, unit: &str, outcome: Outcome) -> Self {
        let Outcome { latencies, window } = outcome;
        let count = latencies.count();
        let rate = count as f64 / window.took.as_secs_f64();
        self.line(&format!("{unit}s"), &format!("{count} in {:.2} s: {rate:.0} a second", window.took.as_secs_f64()));
        self.set("unit", unit.into());
        self.set("count", count.into());
        self.set("per_second", rounded(rate));
        let sorted = latencies.sorted();
        let mut shown = Vec::new();
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
            let micros = sorted.percentile(share);
            shown.push(format!("{name} {micros}"));
            self.set(&format!("{name}_us"), micros.into());
        }
        self.line("latency", &format!("{} µs", shown.join(", ")));
        if let Some(cpu) = window.cpu {
            let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
            let (all, user, system) = (each(cpu.total()), each(cpu.user), each(cpu.system));
            self.line(
                "server",
                &format!("{all:.1} µs of processor time a {unit} (user {user:.1}, system {system:.1})"),
            );
            self.set("cpu_us", rounded(all));
            self.set("cpu_user_us", rounded(user));
            self.set("cpu_system_us", rounded(system));
        }
        self.window(&window)
    }

    /// Of so many bytes.
    pub(super) fn bytes(mut self, bytes: u64, direction: Direction, window: Window) -> Self {
        let gigabytes = bytes as f64 / 1e9;
        let rate = gigabytes / window.took.as_secs_f64();
        let way = match direction {
            Direction::Down => "down",
            Direction::Up => "up",
            Direction::Both => "both",
        };
        self.line("bytes", &format!("{gigabytes:.2} GB ({way}) in {:.2} s: {rate:.2} GB/s", window.took.as_secs_f64()));
        self.set("direction", way.into());
        self.set("bytes", bytes.into());
        self.set("gb_per_second", rounded(rate));
        if let Some(cpu) = window.cpu {
            let each = |time: Duration| time.as_secs_f64() / gigabytes;
            let (all, user, system) = (each(cpu.total()), each(cpu.user), each(cpu.system));
            self.line("server", &format!("{all:.3} s of processor time a GB (user {user:.3}, system {system:.3})"));
            self.set("cpu_s_per_gb", rounded(all));
            self.set("cpu_user_s_per_gb", rounded(user));
            self.set("cpu_system_s_per_gb", rounded(system));
        }
        self.window(&window)
    }

    /// Of idle connections.
    pub(super) fn idle(mut self, figures: IdleFigures) -> Self {
        let IdleFigures { connections, before, after, alone, beside } = figures;
        let each = (after as f64 - before as f64) / f64::from(connections);
        self.line(
            "idle",
            &format!("{connections} connections: {each:.2} KiB each (PSS {before} KiB, then {after} KiB)"),
        );
        self.line("newcomers", &format!("{alone:.1} µs of processor time a handshake before, {beside:.1} beside them"));
        self.set("connections", connections.into());
        self.set("pss_before_kib", before.into());
        self.set("pss_after_kib", after.into());
        self.set("kib_each", rounded(each));
        self.set("cpu_us_before", rounded(alone));
        self.set("cpu_us_beside", rounded(beside));
        self
    }

    fn window(mut self, window: &Window) -> Self {
        self.set("seconds", rounded(window.took.as_secs_f64()));
        self.set("steal", rounded(window.steal));
        if let (Some(pss), Some(processes)) = (window.pss, window.processes) {
            self.line("memory", &format!("{pss} KiB (PSS) in {processes} processes"));
            self.set("pss_kib", pss.into());
            self.set("processes", processes.into());
        }
        if window.steal > 0.0 {
            self.line(
                "machine",
                &format!("{:.1} % of the processor time went to others (steal)", window.steal * 100.0),
            );
        }
        self
    }

    /// Prints it.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub(super) fn print(self, as_json: bool) -> Result<()> {
        let text = match as_json {
            true => format!("{}\n", Value::Object(self.json)),
            false => self.text,
        };
        ui::print(&mut io::stdout().lock(), &text)
    }
}

/// To a thousandth: more digits would be noise.
pub(super) fn rounded(number: f64) -> Value {
    json!((number * 1000.0).round() / 1000.0)
}
