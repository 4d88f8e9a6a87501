//! `qtls ca backup` and `qtls ca restore`.

use std::io::Write;
use std::path::PathBuf;

use qtls_core::Result;
use qtls_pki::ca;

use super::Directory;
use crate::ui::{print, say};

/// Write the whole CA into one file (tar), readable by its owner alone
#[derive(clap::Args)]
pub(in crate::qtls) struct BackupArguments {
    #[command(flatten)]
    directory: Directory,
    /// The file to make
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Make the directory of a CA from a backup
#[derive(clap::Args)]
pub(in crate::qtls) struct RestoreArguments {
    /// The backup
    #[arg(value_name = "FILE")]
    backup: PathBuf,
    /// The directory to make; it must not exist yet, or be empty
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn run(arguments: &BackupArguments, out: &mut dyn Write) -> Result<()> {
    let summary = ca::backup(&arguments.directory.dir, &arguments.out)?;
    if summary.plain_keys > 0 {
        say(
            "qtls",
            &format!(
                "the backup holds {} keys that no passphrase protects: keep it as you keep them",
                summary.plain_keys
            ),
        );
    }
    print(out, &told(&arguments.out.display().to_string(), &summary))
}

pub(super) fn restore(arguments: &RestoreArguments, out: &mut dyn Write) -> Result<()> {
    let summary = ca::restore(&arguments.dir, &arguments.backup)?;
    print(out, &told(&arguments.dir.display().to_string(), &summary))
}

fn told(place: &str, summary: &ca::Summary) -> String {
    format!("{place}: {} files, with a journal of {} certificates\n", summary.files, summary.certificates)
}
