//! Chores of this repository: `cargo run -p xtask -- generate` and `-- check`.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use qtls_core::error::{Error, Result};
use xtask::{GENERATED, check, generate};

fn main() -> ExitCode {
    match run() {
        Ok(report) => {
            // Nobody reads a closed pipe: not an error of the task.
            let _ = io::stdout().write_all(report.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "xtask: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run() -> Result<String> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["generate"] => {
            let written = generate(root, GENERATED)?;
            Ok(written.iter().map(|path| format!("wrote {path}\n")).collect())
        }
        ["check"] => {
            check(root, GENERATED)?;
            Ok(format!("{} generated files are up to date\n", GENERATED.len()))
        }
        _ => Err(Error::configuration("which task?")
            .hint("`generate` rewrites the generated files that are committed; `check` fails if they differ")),
    }
}
