//! `make bench-peers`: qtls-server beside nginx, HAProxy, hitch and stunnel of Debian trixie, interleaved in one run on one
//! machine, and the tables of docs/PERFORMANCE.md.
//!
//! Servers run on the first processor, the generator and what stands behind the servers on the second. What is compared is
//! processor time of the server for each unit of work: on a machine that has other guests, it is disturbed least.

mod alone;
mod bench;
mod plot;
mod subjects;
mod tables;

use std::iter;
use std::path::PathBuf;
use std::process::ExitCode;

use bench::Bench;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tables::Tables;

/// How many files each of the processes may have open, if the system lets them: a connection has one or two.
const OPEN_FILES: u64 = 65_536;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let mut scale = 1.0;
    let mut only: Vec<String> = Vec::new();
    let mut documents = Vec::new();
    for argument in arguments {
        match argument.split_once('=') {
            Some(("--scale", value)) => {
                scale = value.parse().ok().filter(|scale| *scale > 0.0).ok_or("--scale takes a number above 0")?;
            }
            Some(("--only", value)) => only = value.split(',').map(str::to_owned).collect(),
            Some(("--write", value)) => documents = value.split(',').map(PathBuf::from).collect(),
            _ => return Err(format!("{argument:?} is none of --scale=FACTOR, --only=TABLE,…, --write=FILE,…")),
        }
    }
    let unknown = only.iter().find(|name| !tables::ALL.iter().any(|(known, _)| known == name));
    if let Some(name) = unknown {
        let known: Vec<_> = tables::ALL.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no table {name:?}, but: {}", known.join(", ")));
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    let names = || tables::ALL.iter().map(|(name, _)| *name).filter(|name| wanted(name));
    documents.iter().try_for_each(|path| tables::can_be_written(path, iter::once("machine").chain(names())))?;
    // Inherited by all that is started.
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < OPEN_FILES) {
        let more = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
        if setrlimit(Resource::Nofile, more).is_err() {
            say("the system's limit of open files stays: as root, there would be more idle connections");
        }
    }
    let bench = Bench::new(scale)?;
    let mut tables = Tables::new(&bench);
    for (name, make) in tables::ALL {
        if wanted(name) {
            say(&format!("measuring: {name}"));
            let table = make(&bench)?;
            print(&table);
            tables.add(name, table);
        }
    }
    documents.iter().try_for_each(|path| tables.write(path))
}

#[expect(clippy::print_stderr, reason = "what a person waits for")]
fn say(text: &str) {
    eprintln!("bench-peers: {text}");
}

#[expect(clippy::print_stdout, reason = "the tables are its output")]
fn print(text: &str) {
    println!("{text}");
}
