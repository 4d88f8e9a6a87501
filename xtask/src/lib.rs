//! The files of this repository that are generated from its types and committed: writing them, and checking that they
//! are what would be written.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use qtls_core::error::{Error, Result};

/// A file that is generated.
#[derive(Clone, Copy, Debug)]
pub struct Generated {
    /// Its path from the root of the repository.
    pub path: &'static str,
    /// Its whole text.
    pub text: fn() -> String,
}

/// Every generated file.
pub const GENERATED: &[Generated] = &[
    Generated { path: "configs/server.schema.json", text: qtls_proxy::config::server_schema },
    Generated { path: "configs/client.schema.json", text: qtls_proxy::config::client_schema },
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
        fs::write(&path, text)
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
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some((*file, text, Difference::Missing))),
        Err(error) => {
            return Err(Error::internal(format!("cannot read the file: {error}")).at(path.display()));
        }
    };
    if there == text {
        return Ok(None);
    }
    let same = there.lines().zip(text.lines()).take_while(|(there, text)| there == text).count();
    Ok(Some((*file, text, Difference::Line(same + 1))))
}
