//! `qtls ticket-keys`: the keys of session tickets that several servers share.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use qtls_core::Result;
use qtls_core::credentials::files;
use qtls_core::sessions::{KeyRole, Rotation, TicketKeyFile, TicketSecret};
use qtls_pki::files::{Exclusive, Readers, create};

use crate::ui::print;

/// Make and rotate the keys of session tickets that several servers share (`tls.ticket_keys`)
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a file with a key and the one after it, or with `--secret` a secret that servers derive their keys from
    ///
    /// The file is readable by its owner alone, and nothing is ever overwritten.
    Generate {
        /// The file to make
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Make a secret (`tls.ticket_keys.secret_file`): its keys follow from the time, and nothing is ever rotated
        #[arg(long)]
        secret: bool,
    },
    /// Let the prepared key encrypt, prepare another, and leave out the oldest
    ///
    /// Give the file to every server after each rotation, and rotate again only when all have it: a key encrypts one
    /// rotation after it was made, so that no server ever meets a ticket of a key that it doesn't know. The file is
    /// replaced in one step, with its owner and its mode.
    Rotate {
        /// The file to rotate
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How many of the keys that only decrypt stay: enough for all rotations within `session_timeout`
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=98))]
        keep: u8,
    },
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    match &arguments.command {
        Command::Generate { file, secret: true } => {
            create(file, TicketSecret::generate_text()?.as_bytes(), Readers::Owner)?;
            print(out, &format!("{}: a new secret for ticket keys; give the same to every server\n", file.display()))
        }
        Command::Generate { file, secret: false } => {
            let keys = TicketKeyFile::generate()?;
            create(file, keys.text().as_bytes(), Readers::Owner)?;
            print(out, &report(file, &keys))
        }
        Command::Rotate { file, keep } => {
            let locked = Exclusive::open(file)?;
            let Rotation { file: keys, promoted, dropped } =
                files::ticket_keys(locked.path())?.rotate((*keep).into())?;
            locked.replace(keys.text().as_bytes())?;
            let mut told = report(file, &keys);
            if !promoted {
                told.push_str("no key was prepared, so the same one still encrypts; the next rotation replaces it\n");
            }
            if dropped > 0 {
                let _ = writeln!(told, "left out: {dropped} of the oldest");
            }
            print(out, &told)
        }
    }
}

/// The keys by the starts of their names, as the log of a server that uses them shows them.
fn report(file: &Path, keys: &TicketKeyFile) -> String {
    let role = |role| match role {
        KeyRole::Seals => "encrypts",
        KeyRole::Next => "is next",
        KeyRole::Opens => "decrypts",
    };
    let keys: Vec<_> = keys.names().map(|(name, does)| format!("{name} {}", role(does))).collect();
    format!("{}: {}\n", file.display(), keys.join(", "))
}
