//! `qtls report`: who would break under a stricter policy, from the logs of a period.

mod advice;
mod json;
mod line;
mod period;
mod read;
mod tally;
mod text;
mod tries;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use qtls_core::{Error, Result};
use qtls_proxy::config::{Source, load_server};

use crate::ui::{print, printable};
use period::{Moment, Period};
use read::Read;
use tally::Tally;
use tries::{Known, Tries};

/// The exit code where somebody would break, with `--fail-if-any`. Far from those of [`Fault`](qtls_core::Fault), so that
/// both can grow.
const SOMEBODY_WOULD_BREAK: u8 = 20;

/// Tell from logs who would break under a stricter policy, and what to do about it
///
/// Reads the access log of qtls-server, as text or JSON, also in rotated files and in any order, and answers for each
/// policy that is tried: how many connections and clients would be refused, from which networks and for which names, what
/// they lack, what they probably are, and the way out. What a client's own certificate is signed with is not in the log:
/// that, tls.report tries on the connections themselves.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The logs; - is standard input
    #[arg(value_name = "LOG", required = true)]
    logs: Vec<PathBuf>,
    /// The configuration that was in force: policies and certificates of each name, and its tls.report is tried too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Another configuration of the server, whose policies and certificates are tried; without --try, only these
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Try only this; may be given several times
    #[arg(long = "try", value_name = "WHAT")]
    tries: Vec<Known>,
    /// Leave out what was before: 2026-11-22, 2026-11-22T10:00:00Z, or 7d, 12h, 30m ago
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Leave out what was then or later
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// How many networks and names to show for each cause
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
    /// Print one JSON object, with all networks and names
    #[arg(long)]
    json: bool,
    /// End with exit code 20 where somebody would break under something that is tried
    #[arg(long)]
    fail_if_any: bool,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode> {
    let period = Period::new(arguments.since, arguments.until)?;
    let mut notes = Vec::new();
    let load = |path: &PathBuf| load_server(&Source::of_process(Some(path.clone()))?);
    let in_force = match &arguments.config {
        Some(path) => load(path)?,
        None => load_server(&Source::default())?,
    };
    let other = arguments.policy.as_ref().map(load).transpose()?;
    // Someone who asks for a policy of their own, and names nothing else, wants that one.
    let known = match (arguments.tries.as_slice(), &other) {
        ([], None) => &Known::ALL[..],
        (tries, _) => tries,
    };
    let mut tries = Tries::new(&in_force, arguments.config.as_deref(), known, &mut notes)?;
    if let (Some(path), Some(other)) = (&arguments.policy, &other) {
        tries.add(path, other, &mut notes)?;
    }
    let mut tally = Tally::new(&tries);
    let read = read::all(&arguments.logs, &period, |line| tally.line(line, &tries))?;
    nothing_to_judge_by(&read, &tally)?;
    notes.extend(about(&read, &tally));
    let report = if arguments.json {
        json::report(&read, &tally, &tries, &notes)?
    } else {
        printable(&text::report(&read, &tally, &tries, &notes, usize::from(arguments.limit)))
    };
    print(out, &report)?;
    let somebody = tally.broken.iter().any(|broken| broken.connections > 0);
    Ok(if arguments.fail_if_any && somebody { ExitCode::from(SOMEBODY_WOULD_BREAK) } else { ExitCode::SUCCESS })
}

/// An answer from nothing would be read as good news.
fn nothing_to_judge_by(read: &Read, tally: &Tally) -> Result<()> {
    if tally.connections > 0 {
        return Ok(());
    }
    let error = |message: &str, hint: &str| Err(Error::configuration(message).hint(hint));
    if read.lines == 0 && read.unreadable > 0 {
        error(
            "nothing here is a line of a log of qtls-server",
            "give the file that logging.access_file or logging.file names",
        )
    } else if read.outside > 0 {
        error("no connection is in this period", "the logs have some before or after: change --since or --until")
    } else {
        error(
            "there is no connection in these logs",
            "give the file that logging.access_file or logging.file names, and see that logging.access is true and \
             logging.level at least info",
        )
    }
}

/// What has to be said about the lines.
fn about(read: &Read, tally: &Tally) -> Vec<String> {
    let mut notes = read.notes.clone();
    let plural = |count: u64| if count == 1 { "line" } else { "lines" };
    if read.unreadable > 0 {
        let Read { unreadable, .. } = read;
        let example = read.example.as_deref().map(|place| format!(", the first at {place}")).unwrap_or_default();
        notes.push(format!("{unreadable} {} can't be read and are left out{example}", plural(*unreadable)));
    }
    if read.cut_off > 0 {
        notes.push(format!("{} {} at the end of a file cut off, and left out", read.cut_off, plural(read.cut_off)));
    }
    if tally.unexplained > 0 {
        notes.push(format!(
            "{} connections have a group that the policy which is taken to be in force would not have chosen: give the \
             configuration that was in force then with --config, or limit the period",
            tally.unexplained
        ));
    }
    notes
}
