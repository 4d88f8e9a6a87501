//! A backup is one tar file: `MANIFEST.json` with the size and the SHA-256 of every other member, then the members.
//!
//! Encrypted keys stay encrypted in it, and plain ones plain.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use qtls_core::credentials::{files as reading, sha256};
use qtls_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};
use zeroize::Zeroizing;

use super::{Ca, LOCK, to_hex};
use crate::directory::{Content, Target};
use crate::files::{Readers, create, vacant};
use crate::keys::is_encrypted;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many files.
    pub files: usize,
    /// How many of them are private keys that no passphrase protects.
    pub plain_keys: usize,
    /// How many certificates its journal knows.
    pub certificates: usize,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    files: BTreeMap<String, Member>,
}

#[derive(Serialize, Deserialize)]
struct Member {
    size: u64,
    sha256: String,
}

const MANIFEST: &str = "MANIFEST.json";
const FORMAT: u32 = 1;
/// More than the journal of a million certificates.
const MAX_SIZE: u64 = 16 << 30;

/// Writes a backup of the authority in `dir`: a new file that its owner alone can read. Writers are kept out meanwhile.
pub fn backup(dir: &Path, out: &Path) -> Result<Summary> {
    vacant(out)?;
    let ca = Ca::open(dir)?;
    let mut members: BTreeMap<String, Zeroizing<Vec<u8>>> = BTreeMap::new();
    collect(dir, Path::new(""), &mut members)?;
    let manifest = Manifest {
        format: FORMAT,
        files: members
            .iter()
            .map(|(path, content)| {
                (path.clone(), Member { size: content.len() as u64, sha256: to_hex(&sha256(content)) })
            })
            .collect(),
    };
    let manifest = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| Error::internal(format!("the manifest can't be written: {error}")))?;
    let size = members.values().map(|content| content.len() + 2 * 512).sum::<usize>() + manifest.len() + 8 * 512;
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    let mut tar = Builder::new(&mut *bytes);
    let fail = |error: std::io::Error| Error::internal(format!("the backup can't be made: {error}"));
    append(&mut tar, MANIFEST, &manifest).map_err(fail)?;
    for (path, content) in &members {
        append(&mut tar, path, content).map_err(fail)?;
    }
    tar.finish().map_err(fail)?;
    drop(tar);
    create(out, &bytes, Readers::Owner)?;
    Ok(summary(&members, ca.entries().len()))
}

/// Makes the directory `dir`, which must not exist or be empty, from a backup; a backup that was changed or cut short
/// is refused before anything is made.
pub fn restore(dir: &Path, from: &Path) -> Result<Summary> {
    let target = Target::new(dir)?;
    let damaged = |why: &str| {
        Error::certificate(format!("is not a whole backup of a CA: {why}"))
            .at(from.display())
            .hint("take another copy of it, as `qtls ca backup` wrote it")
    };
    let file = fs::File::open(from).map_err(|error| {
        Error::configuration(format!("can't be read: {error}")).at(from.display()).hint("give a backup's path")
    })?;
    if file.metadata().is_ok_and(|metadata| metadata.len() > MAX_SIZE) {
        return Err(damaged("it is too large"));
    }
    let mut archive = Archive::new(file);
    let mut members: BTreeMap<String, Zeroizing<Vec<u8>>> = BTreeMap::new();
    let mut manifest: Option<Manifest> = None;
    for entry in archive.entries().map_err(|error| damaged(&error.to_string()))? {
        let mut entry = entry.map_err(|error| damaged(&error.to_string()))?;
        let path = entry.path().map_err(|error| damaged(&error.to_string()))?.into_owned();
        let name = plain_path(&path)
            .filter(|_| entry.header().entry_type() == EntryType::Regular)
            .ok_or_else(|| damaged(&format!("it has the member {}", path.display())))?;
        let mut content = Zeroizing::new(Vec::new());
        entry.read_to_end(&mut content).map_err(|error| damaged(&error.to_string()))?;
        match &manifest {
            None if name == MANIFEST => {
                let read: Manifest =
                    serde_json::from_slice(&content).map_err(|error| damaged(&format!("its manifest: {error}")))?;
                if read.format != FORMAT {
                    return Err(damaged(&format!("its format is {}, and {FORMAT} is known", read.format)));
                }
                manifest = Some(read);
            }
            None => return Err(damaged("it doesn't begin with its manifest")),
            Some(manifest) => {
                let expected =
                    manifest.files.get(&name).ok_or_else(|| damaged(&format!("{name} is not in its manifest")))?;
                if expected.size != content.len() as u64 || expected.sha256 != to_hex(&sha256(&content)) {
                    return Err(damaged(&format!("{name} was changed")));
                }
                members.insert(name, content);
            }
        }
    }
    let manifest = manifest.ok_or_else(|| damaged("it is empty"))?;
    if let Some(missing) = manifest.files.keys().find(|name| !members.contains_key(*name)) {
        return Err(damaged(&format!("{missing} is missing")));
    }
    let contents: Vec<Content> = members.iter().map(|(path, content)| member(path, content)).collect();
    target.publish(&contents)?;
    let ca = Ca::open(&target.into_dir())?;
    Ok(summary(&members, ca.entries().len()))
}

fn member(path: &str, content: &[u8]) -> Content {
    // By place, and not by what the file system said when it was backed up: keys are always their owner's alone.
    if path.starts_with("private/") || path.ends_with("key.pem") || looks_like_key(content) {
        Content::secret_bytes(path, content.to_vec())
    } else {
        Content::binary(path, content.to_vec())
    }
}

fn summary(members: &BTreeMap<String, Zeroizing<Vec<u8>>>, certificates: usize) -> Summary {
    let plain = members.values().filter(|content| looks_like_key(content) && !is_encrypted(content)).count();
    Summary { files: members.len(), plain_keys: plain, certificates }
}

fn looks_like_key(content: &[u8]) -> bool {
    const MARK: &[u8] = b"PRIVATE KEY-----";
    content.windows(MARK.len()).any(|window| window == MARK)
}

fn append(tar: &mut Builder<&mut Vec<u8>>, path: &str, content: &[u8]) -> std::io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    header.set_entry_type(EntryType::Regular);
    tar.append_data(&mut header, path, content)
}

/// Every file but the lock and drafts, by its path below `dir`.
fn collect(dir: &Path, below: &Path, members: &mut BTreeMap<String, Zeroizing<Vec<u8>>>) -> Result<()> {
    let place = dir.join(below);
    let fail = |error: std::io::Error| Error::configuration(format!("can't be read: {error}")).at(place.display());
    for entry in fs::read_dir(&place).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let path = below.join(&name);
        if name.to_string_lossy().starts_with('.') || path == Path::new(LOCK) {
            continue;
        }
        let kind = entry.file_type().map_err(fail)?;
        if kind.is_dir() {
            collect(dir, &path, members)?;
        } else if kind.is_file() {
            let content = if path == Path::new(super::JOURNAL) {
                Zeroizing::new(fs::read(entry.path()).map_err(fail)?)
            } else {
                reading::read_secret(&entry.path())?
            };
            let name = path.to_str().ok_or_else(|| {
                Error::configuration("has a name that is not UTF-8, and is no file of a CA").at(entry.path().display())
            })?;
            members.insert(name.to_owned(), content);
        }
    }
    Ok(())
}

/// A relative path without `..`, as text.
fn plain_path(path: &Path) -> Option<String> {
    let plain: Option<PathBuf> = path
        .components()
        .map(|part| match part {
            Component::Normal(part) => Some(part),
            _ => None,
        })
        .collect();
    plain?.to_str().filter(|text| !text.is_empty()).map(str::to_owned)
}
