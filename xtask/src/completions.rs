//! What shells complete command lines with, from the same description that parses them.

use clap::Command;
use clap_complete::{Shell, generate};

/// The script for one shell.
pub(crate) fn script(shell: Shell, mut command: Command) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(shell, &mut command, name, &mut script);
    let script = String::from_utf8_lossy(&script);
    let mut clean: String = script.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    clean.truncate(clean.trim_end().len());
    clean + "\n"
}
