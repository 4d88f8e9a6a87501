//! `qtls ca`: a certification authority in a directory.

mod backup;
mod init;
mod issue;
mod list;
mod revoke;
mod subject;

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use qtls_core::Result;

/// Run a certification authority: issue, list, revoke, back up
///
/// It lives in one directory. Whatever it issues or revokes is on the disk before the command ends, and only one
/// command at a time may write.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Arguments),
    Issue(Box<issue::Arguments>),
    Revoke(revoke::Arguments),
    List(list::Arguments),
    Show(list::ShowArguments),
    Backup(backup::BackupArguments),
    Restore(backup::RestoreArguments),
}

/// The directory of the authority.
#[derive(clap::Args)]
pub(super) struct Directory {
    /// The directory of the CA
    #[arg(long, value_name = "DIR", default_value = "/etc/qsign/ca")]
    pub(super) dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    match &arguments.command {
        Command::Init(arguments) => init::run(arguments, out),
        Command::Issue(arguments) => issue::run(arguments, out),
        Command::Revoke(arguments) => revoke::run(arguments, out),
        Command::List(arguments) => list::run(arguments, out),
        Command::Show(arguments) => list::show(arguments, out),
        Command::Backup(arguments) => backup::run(arguments, out),
        Command::Restore(arguments) => backup::restore(arguments, out),
    }
}
