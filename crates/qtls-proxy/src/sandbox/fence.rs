//! What the sandbox left open at start, and whether a new configuration can do with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use qtls_core::{Error, Result};

use super::needs::Needs;
use super::places::{self, Access, Places};
use crate::config::Origins;

/// What was left open for good. Nothing can be added to it.
#[derive(Debug, Default)]
pub struct Fence {
    /// `None` where files are not fenced in.
    files: Option<Files>,
    /// `None` where connections are not fenced in.
    ports: Option<BTreeSet<u16>>,
    /// Whether names can be looked up.
    names: bool,
    /// What must stay open for the rules to hold.
    _pinned: Vec<OwnedFd>,
}

/// Directories by what the kernel knows them by: one that was made anew under the same name is another one.
///
/// The kernel holds on to a directory that it has a rule about, so that its number doesn't become that of another one.
#[derive(Debug)]
struct Files {
    open: BTreeMap<(u64, u64), Access>,
    places: Places,
}

impl Fence {
    /// A fence around nothing.
    pub fn none() -> Self {
        Self { names: true, ..Self::default() }
    }

    pub(super) fn around(places: Places, ports: Option<BTreeSet<u16>>, names: bool, pinned: Vec<OwnedFd>) -> Self {
        let mut open = BTreeMap::new();
        for (path, access) in &places {
            if let Some(identity) = identity(path) {
                open.insert(identity, *access);
            }
        }
        Self { files: Some(Files { open, places }), ports, names, _pinned: pinned }
    }

    /// Whether a server with these needs can do with what was left open at start.
    ///
    /// # Errors
    /// The first need that it can't have, with place and key, and the way out.
    pub fn covers(&self, needs: &Needs, origins: &Origins) -> Result<()> {
        if let Some(files) = &self.files {
            for need in &needs.files {
                for place in places::of_file(need) {
                    files.check(&place, places::access(need)).map_err(|message| {
                        let message = format!("{}: {message}", need.path.display());
                        let error = if need.key.is_empty() {
                            Error::configuration(message).at(need.path.display())
                        } else {
                            origins.error(&need.key, message)
                        };
                        error.hint(
                            "restart the server: it opens what its configuration names; or keep the file in a directory \
                             that was named at start",
                        )
                    })?;
                }
            }
        }
        if let Some(open) = &self.ports
            && let Some((port, key)) = needs.ports.iter().find(|(port, _)| !open.contains(*port))
        {
            let message = format!(
                "the sandbox was entered with connections to {} left open, and port {port} is not among them",
                ports(open)
            );
            return Err(origins.error(key, message).hint("restart the server: it opens what its configuration names"));
        }
        match &needs.names {
            Some(key) if !self.names => Err(origins
                .error(key, "the sandbox was entered with addresses alone, and names can't be looked up in it")
                .hint("restart the server, or write the address in place of the name")),
            _ => Ok(()),
        }
    }
}

impl Files {
    /// The reason why `place` is closed to `access`, if it is. A rule about a directory is about everything beneath.
    fn check(&self, place: &Path, access: Access) -> Result<(), String> {
        let allowed = place.ancestors().any(|directory| {
            identity(directory).and_then(|identity| self.open.get(&identity)).is_some_and(|open| open.covers(access))
        });
        if allowed {
            return Ok(());
        }
        let verb = match access {
            Access { write: true, .. } => "written",
            Access { read: true, .. } => "read",
            _ => "changed",
        };
        Err(if self.places.get(place).is_some_and(|open| open.covers(access)) {
            format!(
                "the directory {} was made anew since the sandbox was entered: to it, it is another one",
                place.display()
            )
        } else {
            format!("the directory {} was not named when the sandbox was entered, and can't be {verb}", place.display())
        })
    }
}

/// The ports as a sentence takes them.
pub(super) fn ports(ports: &BTreeSet<u16>) -> String {
    let list: Vec<_> = ports.iter().map(u16::to_string).collect();
    match list.as_slice() {
        [] => "no port".to_owned(),
        [one] => format!("port {one}"),
        _ => format!("the ports {}", list.join(", ")),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Source, load_server};
    use crate::sandbox::needs::{FileNeed, Role};

    fn origins() -> Origins {
        let nowhere = PathBuf::from("/nonexistent");
        load_server(&Source { certificate_dir: nowhere, ..Source::default() }).unwrap().origins
    }

    fn file(path: PathBuf, role: Role) -> Needs {
        let key = if role == Role::Log { "logging.file" } else { "certificates.server_cert" };
        Needs { files: vec![FileNeed { key: key.to_owned(), path, role }], ..Needs::default() }
    }

    fn fence(needs: &Needs, ports: &[u16]) -> Fence {
        let ports = ports.iter().copied().collect();
        Fence::around(places::of_files(needs), Some(ports), false, Vec::new())
    }

    #[test]
    fn another_file_in_an_open_directory_is_covered_and_another_directory_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for name in ["certs", "other", "certs/beneath"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        let fence = fence(&file(root.join("certs/a.pem"), Role::Credential), &[]);
        let check = |path: &str, role| fence.covers(&file(root.join(path), role), &origins());
        check("certs/b.pem", Role::Credential).unwrap();
        check("certs/beneath/b.pem", Role::Credential).unwrap();
        let error = check("other/a.pem", Role::Credential).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "certificates.server_cert: {0}/other/a.pem: the directory {0}/other was not named when the sandbox was \
                 entered, and can't be read\n  hint: restart the server: it opens what its configuration names; or keep \
                 the file in a directory that was named at start",
                root.display()
            )
        );
        let error = check("certs/server.log", Role::Log).unwrap_err();
        assert!(error.message().ends_with("and can't be written"), "{error}");
    }

    #[test]
    fn a_directory_that_was_made_anew_is_told_from_the_one_of_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("certs")).unwrap();
        // Stands for the kernel, which holds on to the directory of a rule.
        let _held = fs::File::open(root.join("certs")).unwrap();
        let needs = file(root.join("certs/a.pem"), Role::Credential);
        let fence = fence(&needs, &[]);
        fs::rename(root.join("certs"), root.join("old")).unwrap();
        fs::create_dir(root.join("certs")).unwrap();
        let error = fence.covers(&needs, &origins()).unwrap_err();
        assert!(error.message().contains("/certs was made anew since the sandbox was entered"), "{error}");
    }

    #[test]
    fn ports_and_names_are_those_of_the_start() {
        let fence = fence(&Needs::default(), &[53, 8080]);
        let needs = |port: u16, name: bool| Needs {
            ports: BTreeMap::from([(port, "upstream.servers[0]".to_owned())]),
            names: name.then(|| "upstream.servers[0]".to_owned()),
            ..Needs::default()
        };
        fence.covers(&needs(8080, false), &origins()).unwrap();
        let error = fence.covers(&needs(8081, false), &origins()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "upstream.servers[0]: the sandbox was entered with connections to the ports 53, 8080 left open, and port 8081 \
             is not among them\n  hint: restart the server: it opens what its configuration names"
        );
        let error = fence.covers(&needs(8080, true), &origins()).unwrap_err();
        assert!(error.message().contains("names can't be looked up"), "{error}");
        Fence::none().covers(&needs(1, true), &origins()).unwrap();
    }
}
