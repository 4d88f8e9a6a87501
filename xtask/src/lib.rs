//! The files of this repository that are generated from its types and committed: writing them, and checking that they
//! are what would be written.

mod completions;
pub mod header;
mod man;
pub mod reference;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use clap_complete::Shell;
use qtls_core::error::{Error, Result};
use qtls_proxy::observe::metrics::table;

/// A file that is generated, whole or in part.
#[derive(Clone, Copy, Debug)]
pub struct Generated {
    /// Its path from the root of the repository.
    pub path: &'static str,
    /// Which part of it; `None` is all of it. A part stands between the lines `<!-- generated: NAME -->` and
    /// `<!-- end of generated: NAME -->`.
    pub part: Option<&'static str>,
    /// The text of the file, or of the part.
    pub text: fn() -> String,
}

/// The completions of a program for a shell, under the names by which that shell finds them.
macro_rules! completion {
    ($program:literal, Bash, $module:ident) => {
        completion!(concat!("deploy/completions/bash/", $program), Shell::Bash, $module)
    };
    ($program:literal, Zsh, $module:ident) => {
        completion!(concat!("deploy/completions/zsh/_", $program), Shell::Zsh, $module)
    };
    ($program:literal, Fish, $module:ident) => {
        completion!(concat!("deploy/completions/fish/", $program, ".fish"), Shell::Fish, $module)
    };
    ($path:expr, $shell:expr, $module:ident) => {
        Generated { path: $path, part: None, text: || completions::script($shell, qtls_cli::$module::command()) }
    };
}

/// Every generated file.
pub const GENERATED: &[Generated] = &[
    Generated { path: "configs/server.schema.json", part: None, text: qtls_proxy::config::server_schema },
    Generated { path: "configs/client.schema.json", part: None, text: qtls_proxy::config::client_schema },
    Generated { path: "include/qtls/qtls.h", part: None, text: header::qtls },
    Generated { path: "include/qtls/crypto.h", part: None, text: header::crypto },
    Generated { path: "docs/API-REFERENCE.md", part: None, text: reference::english },
    Generated { path: "docs/API-REFERENCE.ko.md", part: None, text: reference::korean },
    Generated { path: "docs/OPERATIONS.md", part: Some("metrics"), text: table::document },
    Generated { path: "docs/CLIENT.md", part: Some("tunnel metrics"), text: table::tunnel_document },
    Generated { path: "docs/man/qtls-server.8", part: None, text: || man::page(&man::SERVER) },
    Generated { path: "docs/man/qtls-client.1", part: None, text: || man::page(&man::CLIENT) },
    Generated { path: "docs/man/qtls.1", part: None, text: || man::page(&man::TOOL) },
    Generated { path: "docs/man/qtls-version.1", part: None, text: || man::page(&man::VERSION) },
    Generated { path: "docs/man/qtls-bench.1", part: None, text: || man::page(&man::BENCH) },
    completion!("qtls-server", Bash, server),
    completion!("qtls-client", Bash, client),
    completion!("qtls", Bash, qtls),
    completion!("qtls-version", Bash, version),
    completion!("qtls-bench", Bash, bench),
    completion!("qtls-server", Zsh, server),
    completion!("qtls-client", Zsh, client),
    completion!("qtls", Zsh, qtls),
    completion!("qtls-version", Zsh, version),
    completion!("qtls-bench", Zsh, bench),
    completion!("qtls-server", Fish, server),
    completion!("qtls-client", Fish, client),
    completion!("qtls", Fish, qtls),
    completion!("qtls-version", Fish, version),
    completion!("qtls-bench", Fish, bench),
];

/// Writes the generated files that differ or are missing, and returns their paths.
///
/// # Errors
/// A file can't be read or written.
pub fn generate(root: &Path, files: &[Generated]) -> Result<Vec<&'static str>> {
    let mut written = Vec::new();
    for file in files.iter().filter_map(|file| outdated(root, file).transpose()) {
        let (file, text, _) = file?;
        let path = root.join(file.path);
        let directory = path.parent().unwrap_or(root);
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&path, text))
            .map_err(|error| Error::internal(format!("cannot write the file: {error}")).at(path.display()))?;
        written.push(file.path);
    }
    Ok(written)
}

/// Checks that every generated file is what [`generate`] would write.
///
/// # Errors
/// The first file that is missing or differs, with the line of the first difference.
pub fn check(root: &Path, files: &[Generated]) -> Result<()> {
    for file in files {
        if let Some((file, _, difference)) = outdated(root, file)? {
            let error = match difference {
                Difference::Missing => Error::internal("the generated file is missing").at(file.path),
                Difference::Line(line) => {
                    Error::internal("the file is not what its types generate").at(format_args!("{}:{line}", file.path))
                }
            };
            return Err(error.hint("run `cargo run -p xtask -- generate`, and commit the result"));
        }
    }
    Ok(())
}

enum Difference {
    Missing,
    /// The first line that differs, from 1.
    Line(usize),
}

/// The file with its new text, if what is there is another.
fn outdated(root: &Path, file: &Generated) -> Result<Option<(Generated, String, Difference)>> {
    let path = root.join(file.path);
    let text = (file.text)();
    let there = match fs::read_to_string(&path) {
        Ok(there) => there,
        Err(error) if error.kind() == ErrorKind::NotFound && file.part.is_none() => {
            return Ok(Some((*file, text, Difference::Missing)));
        }
        Err(error) => {
            return Err(Error::internal(format!("cannot read the file: {error}")).at(path.display()));
        }
    };
    let text = match file.part {
        None => text,
        Some(name) => with_part(&there, name, &text).map_err(|error| error.at(file.path))?,
    };
    if there == text {
        return Ok(None);
    }
    let same = there.lines().zip(text.lines()).take_while(|(there, text)| there == text).count();
    Ok(Some((*file, text, Difference::Line(same + 1))))
}

/// A file with another text in one of its parts.
fn with_part(file: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), format!("<!-- end of generated: {name} -->\n"));
    let around = file.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let Some((before, after)) = around else {
        return Err(Error::internal(format!("the marks of the generated part `{name}` are missing")).hint(format!(
            "put the lines `{}` and `{}` where it belongs",
            begin.trim_end(),
            end.trim_end()
        )));
    };
    // Markdown takes a table that follows a comment at once for part of it.
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}
