//! From the files that are needed to the directories that must be open for them.
//!
//! A file is replaced by renaming another one over it, a log file by renaming it away, and a volume of Kubernetes by
//! swapping a link in its directory. Rules about files would hold for what was there at start; rules about directories
//! hold for what comes to be in them.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use qtls_core::credentials::files;

use super::needs::{FileNeed, Needs, Role};

/// What may be done in a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Files may be read, and directories listed.
    pub(crate) read: bool,
    /// Files may be written, made, renamed and removed.
    pub(crate) write: bool,
    /// Files may be removed.
    pub(crate) remove: bool,
}

impl Access {
    const READ: Self = Self { read: true, write: false, remove: false };
    const WRITE: Self = Self { read: false, write: true, remove: true };
    const REMOVE: Self = Self { read: false, write: false, remove: true };

    /// Whether this allows all that `other` does.
    pub(crate) fn covers(self, other: Self) -> bool {
        (self.read || !other.read) && (self.write || !other.write) && (self.remove || !other.remove)
    }

    fn or(self, other: Self) -> Self {
        Self { read: self.read || other.read, write: self.write || other.write, remove: self.remove || other.remove }
    }
}

/// Directories (or, as an exception, single files) with what may be done there and beneath. Paths have no links in them.
pub(crate) type Places = BTreeMap<PathBuf, Access>;

/// The places of all files in `needs`.
///
/// The directory above that of a log is one, too: a log directory that is made anew, or only later, is another one to the
/// kernel, and the log must come back with it. But not where anything else that is needed lies: rights hold for all that
/// is beneath, and certificates would become writable with the log.
pub(crate) fn of_files(needs: &Needs) -> Places {
    let others = needs.files.iter().filter(|need| need.role != Role::Log);
    let others: Vec<PathBuf> = others.flat_map(of_file).collect();
    let mut places = Places::new();
    for need in &needs.files {
        if need.role == Role::Log
            && let Some(above) = above_log(&need.path)
            && !others.iter().any(|other| other.starts_with(&above))
        {
            add(&mut places, above, Access::WRITE);
        }
        for place in of_file(need) {
            add(&mut places, place, access(need));
        }
    }
    places
}

/// The nearest directory above that of a log file, unless that is the root.
fn above_log(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    if fs::metadata(&path).is_ok_and(|found| is_special(found.file_type())) {
        return None;
    }
    let directory = Walk::of(path.parent()?).end;
    let above = directory.ancestors().skip(1).find(|above| above.is_dir())?;
    above.parent().is_some().then(|| above.to_owned())
}

/// The places of one file: where it is, and where links on the way to it may come to point.
pub(crate) fn of_file(need: &FileNeed) -> Vec<PathBuf> {
    let path = match need.role {
        Role::Configuration | Role::Credential => files::resolve(&need.path),
        Role::Log => need.path.clone(),
        // It is never anything but an entry of its directory.
        Role::Socket => {
            std::path::absolute(&need.path).unwrap_or_default().parent().map(Path::to_owned).unwrap_or_default()
        }
    };
    let mut walk = Walk::of(&path);
    if need.role == Role::Credential && walk.end.is_dir() {
        // Directories of certificates and lists hold links to elsewhere, as /etc/ssl/certs does.
        let entries = fs::read_dir(&walk.end).into_iter().flatten().flatten().map(|entry| entry.path());
        let links: Vec<_> = entries.filter(|entry| entry.is_symlink()).map(|entry| Walk::of(&entry)).collect();
        walk.places.extend(links.into_iter().flat_map(|link| link.places));
    }
    walk.places.sort();
    walk.places.dedup();
    walk.places
}

/// What is needed for looking names up: the files that the resolver reads each time; for that of the system also the
/// libraries that it loads for them.
pub(crate) fn of_names(as_root: bool, by_system: bool) -> Places {
    let mut places = Places::new();
    let mut open = |path: PathBuf| {
        if path.parent().is_some() && path.exists() {
            add(&mut places, path, Access::READ);
        }
    };
    let more = SYSTEM_RESOLVER_FILES.iter().filter(|_| by_system);
    for file in RESOLVER_FILES.iter().chain(more) {
        let walk = Walk::of(Path::new(file));
        if as_root {
            // Root may read everything in /etc that is root's: passwords and host keys among it.
            open(walk.end.clone());
        }
        for place in walk.places.into_iter().filter(|place| !as_root || place != Path::new("/etc")) {
            open(place);
        }
    }
    for directory in LIBRARIES.iter().filter(|_| by_system) {
        open(Walk::of(Path::new(directory)).end);
    }
    places
}

/// What every process needs: its own state, and devices that give what anybody may have.
pub(crate) fn of_process() -> Places {
    let mut places = Places::new();
    for (path, access) in [
        ("/proc/self", Access::READ),
        ("/dev/urandom", Access::READ),
        ("/dev/random", Access::READ),
        ("/dev/null", Access::READ.or(Access::WRITE)),
    ] {
        if let Ok(path) = fs::canonicalize(path) {
            add(&mut places, path, access);
        }
    }
    places
}

/// Adds `more` to `places`.
pub(crate) fn merge(places: &mut Places, more: Places) {
    for (path, access) in more {
        add(places, path, access);
    }
}

pub(crate) fn access(need: &FileNeed) -> Access {
    match need.role {
        Role::Configuration | Role::Credential => Access::READ,
        Role::Log => Access::WRITE,
        Role::Socket => Access::REMOVE,
    }
}

fn add(places: &mut Places, path: PathBuf, access: Access) {
    let entry = places.entry(path).or_default();
    *entry = entry.or(access);
}

/// What the resolver reads.
const RESOLVER_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// What the resolvers of glibc and musl read beside these.
const SYSTEM_RESOLVER_FILES: [&str; 8] = [
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/networks",
    "/etc/mdns.allow",
    "/etc/ld.so.cache",
];

/// Where glibc finds the modules that nsswitch.conf names.
const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"];

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// The way along a path, link by link.
struct Walk {
    /// The path without links. What doesn't exist keeps its name.
    end: PathBuf,
    /// The directories in which the file may be replaced, or a link to it.
    places: Vec<PathBuf>,
}

impl Walk {
    fn of(path: &Path) -> Self {
        let Ok(path) = std::path::absolute(path) else { return Self { end: path.to_owned(), places: Vec::new() } };
        // A device or a pipe is what it is: nobody renames /dev/null. /dev/stdout leads to either.
        if fs::metadata(&path).is_ok_and(|found| is_special(found.file_type())) {
            return Self { end: path.clone(), places: vec![path] };
        }
        let mut swapped = Vec::new();
        let mut standing = Vec::new();
        let mut at = PathBuf::from("/");
        let mut rest = parts(&path);
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let here = at.join(&part);
            let Some(target) = fs::read_link(&here).ok().filter(|_| links < MOST_LINKS) else {
                at = here;
                continue;
            };
            links += 1;
            if rest.is_empty() {
                standing.push(at.clone());
            }
            swapped.extend(swapped_within(&at, &target));
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                rest.push_front(part);
            }
        }
        let mut places = swapped;
        if at.is_dir() {
            places.push(at.clone());
        } else {
            // Links may be replaced by files, where they stand.
            places.extend(standing);
            match at.parent() {
                // What lies in the root is opened by itself: the root would be everything.
                Some(root) if root.parent().is_none() => places.push(at.clone()),
                Some(parent) => places.push(parent.to_owned()),
                None => {}
            }
        }
        let kernel_s = |place: &Path| place.starts_with("/dev") || place.starts_with("/proc");
        places.retain(|place| place.parent().is_some() && !kernel_s(place) && place.exists());
        Self { end: at, places }
    }
}

fn is_special(kind: fs::FileType) -> bool {
    kind.is_char_device() || kind.is_fifo() || kind.is_socket()
}

/// Where a link in `directory` comes to point when it is swapped: beside its target, if that lies in the same directory,
/// as with the link `..data` of Kubernetes, or `current -> releases/42`. A link that leads elsewhere, as /lib does,
/// opens only what it leads to.
fn swapped_within(directory: &Path, target: &Path) -> Option<PathBuf> {
    directory.parent()?;
    let beside = fs::canonicalize(directory.join(target).parent()?).ok()?;
    beside.starts_with(directory).then_some(beside)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The places of `path`, without the temporary directory around.
    fn of(root: &Path, path: &str, role: Role) -> Vec<String> {
        let need = FileNeed { key: String::new(), path: root.join(path), role };
        let relative = |place: PathBuf| place.strip_prefix(root).unwrap_or(&place).display().to_string();
        of_file(&need).into_iter().map(relative).collect()
    }

    fn tree(files: &[&str], links: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for file in files {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        for (link, target) in links {
            fs::create_dir_all(root.join(link).parent().unwrap()).unwrap();
            symlink(target, root.join(link)).unwrap();
        }
        (directory, root)
    }

    #[test]
    fn a_file_opens_its_directory_under_either_of_its_names() {
        let (_keep, root) = tree(&["certs/server-cert"], &[]);
        assert_eq!(of(&root, "certs/server-cert.pem", Role::Credential), ["certs"]);
        assert_eq!(of(&root, "certs/../certs/./server-cert", Role::Credential), ["certs"]);
    }

    #[test]
    fn a_volume_of_kubernetes_stays_open_when_its_link_is_swapped() {
        let links = [("certs/..data", "..2026_1"), ("certs/tls.crt", "..data/tls.crt")];
        let (_keep, root) = tree(&["certs/..2026_1/tls.crt"], &links);
        assert_eq!(of(&root, "certs/tls.crt", Role::Credential), ["certs", "certs/..2026_1"]);
        assert_eq!(of(&root, "certs/..data/tls.crt", Role::Credential), ["certs", "certs/..2026_1"]);
    }

    #[test]
    fn links_open_what_they_lead_to_and_where_they_stand() {
        let links = [("live/fullchain.pem", "../archive/a/fullchain1.pem")];
        let (_keep, root) = tree(&["archive/a/fullchain1.pem"], &links);
        assert_eq!(of(&root, "live/fullchain.pem", Role::Credential), ["archive/a", "live"]);
        let (_keep, root) = tree(&["releases/42/cert"], &[("current", "releases/42")]);
        assert_eq!(of(&root, "current/cert", Role::Credential), ["releases", "releases/42"]);
        let elsewhere = root.join("releases").display().to_string();
        let (_other, other) = tree(&[], &[("certs", &elsewhere)]);
        let expected = format!("{elsewhere}/42");
        assert_eq!(of(&other, "certs/42/cert", Role::Credential), [expected], "not what lies beside the target");
    }

    #[test]
    fn a_directory_opens_itself_and_what_its_links_lead_to() {
        let (_keep, root) = tree(&["crls/a.crl", "shared/b.crl"], &[("crls/b.crl", "../shared/b.crl")]);
        assert_eq!(of(&root, "crls", Role::Credential), ["crls", "shared"]);
    }

    #[test]
    fn a_log_file_opens_its_directory_also_before_it_is_there() {
        let (_keep, root) = tree(&["log/other"], &[]);
        assert_eq!(of(&root, "log/server.log", Role::Log), ["log"]);
        assert_eq!(of(&root, "missing/server.log", Role::Log), [""; 0]);
    }

    #[test]
    fn a_socket_can_be_removed_from_its_directory() {
        let (_keep, root) = tree(&["run/other"], &[]);
        assert_eq!(of(&root, "run/handover.sock", Role::Socket), ["run"]);
        let need = FileNeed { key: String::new(), path: root.join("run/handover.sock"), role: Role::Socket };
        assert_eq!(access(&need), Access { read: false, write: false, remove: true });
    }

    #[test]
    fn neither_the_root_nor_the_directory_of_devices_is_opened() {
        let need = |path: &str, role| of_file(&FileNeed { key: String::new(), path: path.into(), role });
        assert_eq!(need("/dev/null", Role::Log), [Path::new("/dev/null")]);
        assert_eq!(need("/server.json", Role::Configuration), [""; 0].map(PathBuf::from), "it isn't there");
        assert_eq!(need("/dev/stdin.log", Role::Log), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn loops_end() {
        let (_keep, root) = tree(&[], &[("d/a", "b"), ("d/b", "a")]);
        assert_eq!(of(&root, "d/a", Role::Credential), ["d"]);
    }

    #[test]
    fn root_gets_the_resolver_s_files_alone_and_others_their_directory() {
        let root = of_names(true, false);
        assert!(!root.contains_key(Path::new("/etc")), "{root:?}");
        assert!(root.contains_key(Path::new("/etc/hosts")), "{root:?}");
        let other = of_names(false, false);
        assert_eq!(other.get(Path::new("/etc")), Some(&Access::READ), "{other:?}");
        assert!(other.values().all(|access| !access.write));
    }

    #[test]
    fn a_log_can_come_back_with_its_directory() {
        let (_keep, root) = tree(&["var/log/server.log"], &[]);
        let of = |path: &str| {
            let need = FileNeed { key: "logging.file".to_owned(), path: root.join(path), role: Role::Log };
            let places = of_files(&Needs { files: vec![need], ..Needs::default() });
            let relative = |path: PathBuf| path.strip_prefix(&root).unwrap().to_owned();
            places.into_iter().map(|(path, access)| (relative(path), access)).collect::<Places>()
        };
        let written =
            |paths: &[&str]| paths.iter().map(|path| (PathBuf::from(path), Access::WRITE)).collect::<Places>();
        assert_eq!(of("var/log/server.log"), written(&["var", "var/log"]));
        assert_eq!(of("var/missing/server.log"), written(&["var"]));
        assert_eq!(of("var/missing/deeper/server.log"), written(&["var"]));
        let root = |path: &str| above_log(Path::new(path));
        assert_eq!(root("/var/server.log"), None, "the root would be everything");
        assert_eq!(root("/dev/null"), None);
    }

    #[test]
    fn a_log_beside_certificates_does_not_make_them_writable() {
        let (_keep, root) = tree(&["qtls/log/server.log", "qtls/certs/server-cert.pem"], &[]);
        let need = |path: &str, role| FileNeed { key: String::new(), path: root.join(path), role };
        let log = need("qtls/log/server.log", Role::Log);
        let certificate = need("qtls/certs/server-cert.pem", Role::Credential);
        let places = of_files(&Needs { files: vec![log, certificate], ..Needs::default() });
        let expected = [(root.join("qtls/certs"), Access::READ), (root.join("qtls/log"), Access::WRITE)];
        assert_eq!(places, expected.into());
    }
}
