//! The sandbox from inside. Each test enters it on a thread of its own, which takes it along when it ends.
#![allow(unsafe_code, clippy::unwrap_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;

use rustix::process::{
    Pid, Signal, geteuid, getppid, kill_process, setpriority_pgrp, setpriority_process, test_kill_process,
};

use super::*;
use crate::config::{Source, load_server};

/// A way for what is inside to have something done by who stayed outside.
struct Outside<'a>(mpsc::Sender<Box<dyn FnOnce() + Send + 'a>>);

impl<'a> Outside<'a> {
    fn has<T: Send + 'a>(&self, act: impl FnOnce() -> T + Send + 'a) -> T {
        let (send, receive) = mpsc::channel();
        self.0.send(Box::new(move || send.send(act()).unwrap())).unwrap();
        receive.recv().unwrap()
    }
}

/// What a thread sees in a sandbox. Where the system refuses one of `parts`, nothing is looked at, and that is told.
fn inside<'a>(parts: &[Part], needs: &Needs, look: impl FnOnce(&Outside<'a>) + Send) {
    let settings = Settings::new(Sandbox::BestEffort, None);
    inside_of(&settings, needs, |entered, outside| {
        assert_eq!(entered.problems, []);
        if let Some((part, why, _)) = entered.state.refused().find(|(part, ..)| parts.contains(part)) {
            // Past the capture of tests that pass.
            eprintln!("SKIPPED: from inside the sandbox: the system refuses {part} ({why})");
            return;
        }
        look(outside);
    });
}

fn inside_of<'a, T: Send>(
    settings: &Settings,
    needs: &Needs,
    look: impl FnOnce(Entered, &Outside<'a>) -> T + Send,
) -> T {
    let (send, receive) = mpsc::channel::<Box<dyn FnOnce() + Send + 'a>>();
    thread::scope(|scope| {
        let inside = scope.spawn(move || {
            let entered = entered(settings, needs, &origins(), apply::Extent::Thread).unwrap();
            look(entered, &Outside(send))
        });
        for act in receive {
            act();
        }
        inside.join().unwrap()
    })
}

fn origins() -> Origins {
    load_server(&Source { certificate_dir: PathBuf::from("/nonexistent"), ..Source::default() }).unwrap().origins
}

fn need(path: PathBuf, role: Role) -> FileNeed {
    let key = if role == Role::Log { "logging.file" } else { "certificates.server_key" };
    FileNeed { key: key.to_owned(), path, role }
}

fn upstream(port: u16, name: bool) -> Needs {
    let key = "upstream.servers[0]".to_owned();
    Needs { ports: BTreeMap::from([(port, key.clone())]), names: name.then_some(key), ..Needs::default() }
}

/// The errno of what must fail.
fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// Certificates as Kubernetes mounts them, a log, and something that is nobody's business.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for directory in ["certs/..1", "certs/..2", "var/log", "elsewhere"] {
            fs::create_dir_all(tree.at(directory)).unwrap();
        }
        fs::write(tree.at("certs/..1/tls.crt"), "one").unwrap();
        fs::write(tree.at("certs/..2/tls.crt"), "two").unwrap();
        symlink("..1", tree.at("certs/..data")).unwrap();
        symlink("..data/tls.crt", tree.at("certs/tls.crt")).unwrap();
        fs::write(tree.at("elsewhere/key.pem"), "secret").unwrap();
        fs::write(tree.at("var/log/server.log"), "").unwrap();
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn read(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.at(path))
    }

    fn needs(&self) -> Needs {
        let files =
            vec![need(self.at("certs/tls.crt"), Role::Credential), need(self.at("var/log/server.log"), Role::Log)];
        Needs { files, ..Needs::default() }
    }
}

#[test]
fn another_file_cannot_be_read_and_those_of_the_configuration_can_whatever_is_swapped() {
    let tree = Tree::new();
    inside(&[Part::Files], &tree.needs(), |outside| {
        assert_eq!(tree.read("certs/tls.crt").unwrap(), "one");
        for path in ["elsewhere/key.pem", "certs/../elsewhere/key.pem", "var/log/server.log"] {
            assert_eq!(errno(tree.read(path)), Some(libc::EACCES), "{path}");
        }
        let parent = getppid().unwrap().as_raw_nonzero();
        for path in ["/etc/passwd".to_owned(), format!("/proc/{parent}/stat"), "/dev/zero".to_owned()] {
            assert_eq!(errno(File::open(&path)), Some(libc::EACCES), "{path}");
        }
        assert_eq!(errno(fs::read_dir(tree.0.path())), Some(libc::EACCES));
        assert_eq!(errno(File::create(tree.at("certs/new"))), Some(libc::EACCES));
        assert_eq!(errno(OpenOptions::new().append(true).open(tree.at("certs/tls.crt"))), Some(libc::EACCES));
        assert!(fs::read_to_string("/proc/self/stat").unwrap().contains('('));
        // As the kubelet does.
        outside.has(|| {
            symlink("..2", tree.at("certs/..tmp")).unwrap();
            fs::rename(tree.at("certs/..tmp"), tree.at("certs/..data")).unwrap();
            fs::remove_dir_all(tree.at("certs/..1")).unwrap();
        });
        assert_eq!(tree.read("certs/tls.crt").unwrap(), "two");
        // As a renewal does that writes beside and renames.
        outside.has(|| {
            fs::write(tree.at("certs/new"), "three").unwrap();
            fs::rename(tree.at("certs/new"), tree.at("certs/tls.crt")).unwrap();
        });
        assert_eq!(tree.read("certs/tls.crt").unwrap(), "three");
    });
}

#[test]
fn a_log_can_be_rotated_in_its_directory_and_nowhere_else() {
    let tree = Tree::new();
    inside(&[Part::Files, Part::SystemCalls], &tree.needs(), |_| {
        let open = |path: &str| OpenOptions::new().append(true).create(true).open(tree.at(path));
        fs::rename(tree.at("var/log/server.log"), tree.at("var/log/server.log.1")).unwrap();
        open("var/log/server.log").unwrap().set_len(0).unwrap();
        fs::remove_file(tree.at("var/log/server.log.1")).unwrap();
        assert_eq!(fs::read_dir(tree.at("var/log")).unwrap().count(), 1);
        assert_eq!(errno(open("elsewhere/server.log")), Some(libc::EACCES));
        let out = fs::rename(tree.at("var/log/server.log"), tree.at("elsewhere/server.log"));
        assert!(matches!(errno(out), Some(libc::EACCES | libc::EXDEV)));
        assert_eq!(errno(fs::remove_file(tree.at("elsewhere/key.pem"))), Some(libc::EACCES));
        assert_eq!(errno(fs::create_dir(tree.at("var/log/directory"))), Some(libc::EPERM));
        assert_eq!(
            errno(fs::set_permissions(tree.at("var/log/server.log"), PermissionsExt::from_mode(0o666))),
            Some(libc::EPERM)
        );
    });
}

#[test]
fn the_socket_of_the_hand_over_can_be_removed_and_nothing_be_put_in_its_place() {
    let tree = Tree::new();
    let socket = tree.at("elsewhere/handover.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let needs = Needs { files: vec![need(socket.clone(), Role::Socket)], ..Needs::default() };
    inside(&[Part::Files], &needs, |_| {
        fs::remove_file(&socket).unwrap();
        assert_eq!(errno(File::create(&socket)), Some(libc::EACCES));
        assert_eq!(errno(tree.read("elsewhere/key.pem")), Some(libc::EACCES));
    });
}

#[test]
fn no_port_can_be_had_and_only_the_upstream_s_connected_to() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (open, closed) = (listener.local_addr().unwrap(), other.local_addr().unwrap());
    inside(&[Part::Network, Part::SystemCalls], &upstream(open.port(), false), |_| {
        TcpStream::connect(open).unwrap();
        assert_eq!(errno(TcpStream::connect(closed)), Some(libc::EACCES));
        let unknown = errno(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        assert_eq!(unknown, Some(libc::ENOSYS), "bind is not a call that a server needs");
        assert_eq!(errno(UnixListener::bind("/tmp/qtls-test.sock")), Some(libc::ENOSYS));
        assert_eq!(rustix::net::listen(&listener, 1), Err(rustix::io::Errno::PERM), "of a socket that is there");
        // What is there already goes on.
        assert!(listener.accept().is_ok());
    });
    inside(&[Part::Network, Part::SystemCalls], &Needs::default(), |_| {
        assert_eq!(errno(TcpStream::connect(open)), Some(libc::EACCES), "no upstream, no connections");
    });
}

#[test]
fn names_are_looked_up() {
    inside(&[Part::Files, Part::SystemCalls], &upstream(8080, true), |_| {
        for file in ["/etc/resolv.conf", "/etc/hosts"] {
            File::open(file).unwrap();
        }
        // Whom resolv.conf names is asked over UDP, from a socket that nobody binds.
        UdpSocket::bind(("127.0.0.1", 0)).unwrap_err();
        let family = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
        rustix::net::connect(family.unwrap(), &std::net::SocketAddr::from(([127, 0, 0, 1], 53))).unwrap();
    });
}

#[test]
fn no_program_is_run_and_threads_are() {
    inside(&[Part::Files, Part::SystemCalls], &Needs::default(), |_| {
        assert_eq!(errno(Command::new("/bin/true").spawn()), Some(libc::EPERM));
        let inherited = thread::spawn(|| errno(File::open("/etc/passwd"))).join().unwrap();
        assert_eq!(inherited, Some(libc::EACCES));
    });
}

#[test]
fn other_processes_are_left_in_peace() {
    inside(&[Part::SystemCalls], &Needs::default(), |_| {
        let parent = getppid().unwrap();
        assert_eq!(test_kill_process(parent), Err(rustix::io::Errno::PERM));
        assert_eq!(kill_process(Pid::INIT, Signal::CONT), Err(rustix::io::Errno::PERM));
        test_kill_process(rustix::process::getpid()).unwrap();
        // SAFETY: attaching to another process changes nothing in this one's memory, and is refused.
        let attached = unsafe { libc::ptrace(libc::PTRACE_ATTACH, parent.as_raw_nonzero(), 0, 0) };
        assert_eq!((attached, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)));
        for other in [parent, rustix::process::getpid()] {
            assert_eq!(setpriority_process(Some(other), 19), Err(rustix::io::Errno::PERM));
        }
        assert_eq!(setpriority_pgrp(None, 19), Err(rustix::io::Errno::PERM));
        setpriority_process(None, 19).unwrap();
    });
}

#[test]
fn memory_is_not_turned_into_code() {
    /// The errno of mapping a page with `protection`, or then changing it to `later`.
    fn map(protection: i32, later: i32) -> i32 {
        const PAGE: usize = 4096;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice, which nobody reads, writes or runs, and
        // which is taken away again.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let page = libc::mmap(std::ptr::null_mut(), PAGE, protection, flags, -1, 0);
            let failed = page == libc::MAP_FAILED || libc::mprotect(page, PAGE, later) != 0;
            let errno = if failed { io::Error::last_os_error().raw_os_error().unwrap() } else { 0 };
            if page != libc::MAP_FAILED {
                libc::munmap(page, PAGE);
            }
            errno
        }
    }
    let (read, write, run) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
    assert_eq!(map(read | write | run, read | run), 0, "outside");
    inside(&[Part::SystemCalls], &Needs::default(), |_| {
        assert_eq!(map(read | write, read), 0);
        assert_eq!(map(read | write | run, read), libc::EPERM);
        assert_eq!(map(read | write, read | run), libc::EPERM);
    });
}

#[test]
fn other_system_calls_are_refused_in_a_way_that_libraries_cope_with() {
    inside(&[Part::SystemCalls], &Needs::default(), |_| {
        use rustix::net::{AddressFamily, SocketType, socket};
        let code = |result: rustix::io::Result<_>| result.err().map(|error: rustix::io::Errno| error.raw_os_error());
        let route = socket(AddressFamily::NETLINK, SocketType::RAW, None);
        assert_eq!(code(route.map(drop)), Some(libc::ENOSYS));
        assert_eq!(code(socket(AddressFamily::PACKET, SocketType::RAW, None).map(drop)), Some(libc::ENOSYS));
        assert_eq!(code(rustix::thread::set_no_new_privs(true)), Some(libc::ENOSYS), "not among the calls of prctl");
        // SAFETY: none of these calls is given a pointer, and each is refused before the kernel looks at it.
        let call = |number: libc::c_long| match unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) } {
            -1 => io::Error::last_os_error().raw_os_error(),
            _ => None,
        };
        for (name, number) in calls::REFUSED {
            assert_eq!(call(*number), Some(libc::EPERM), "{name}");
        }
        assert_eq!(call(libc::SYS_landlock_create_ruleset), Some(libc::ENOSYS));
        assert_eq!(call(libc::SYS_clone3), Some(libc::ENOSYS));
        assert_eq!(call(1_000_000), Some(libc::ENOSYS), "of a later kernel");
        let (one, mut other) = UnixStream::pair().unwrap();
        drop(one);
        assert_eq!(io::Read::read(&mut other, &mut [0]).unwrap(), 0);
    });
}

#[test]
fn the_state_says_part_by_part_what_is_in_force() {
    let tree = Tree::new();
    let needs = Needs { ports: upstream(8080, false).ports, ..tree.needs() };
    let settings = Settings::new(Sandbox::BestEffort, None);
    let state = rehearse(&settings, &needs, &origins()).unwrap().state;
    let root = tree.0.path().canonicalize().unwrap().display().to_string();
    let shown = state.to_string();
    let user = if geteuid().is_root() { "user: root (uid 0); capabilities: none" } else { "user: " };
    assert!(shown.starts_with(user), "{shown}");
    if state.refusals().is_some() {
        return;
    }
    let files = format!(", reading in {root}/certs, writing in {root}/var");
    for part in [
        "no_new_privileges: set",
        "files: Landlock ",
        &files,
        "network: no listening, connecting to port 8080 only",
        "system_calls: filtered",
        "no_core_dumps: none",
    ] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    assert!(state.has(Part::User) != geteuid().is_root());
    // The caller is what it was: the rehearsal took the sandbox along.
    File::open("/etc/passwd").unwrap();
}

#[test]
fn off_takes_nothing_away() {
    let settings = Settings::new(Sandbox::Off, None);
    inside_of(&settings, &Needs::default(), |entered, _| {
        assert!(!entered.state.has(Part::Files) && entered.state.refusals().is_none(), "{}", entered.state);
        File::open("/etc/passwd").unwrap();
        entered.fence.covers(&upstream(1, true), &origins()).unwrap();
    });
}

#[test]
fn a_thread_beside_keeps_the_sandbox_from_being_entered() {
    // A test has threads beside it.
    let settings = Settings::new(Sandbox::Off, None);
    let error = thread::scope(|scope| {
        let beside = scope.spawn(thread::park);
        let error = enter(&settings, &Needs::default(), &origins()).unwrap_err();
        beside.thread().unpark();
        error
    });
    assert!(error.message().ends_with("threads exist before the sandbox is entered"), "{error}");
}

/// `server.user` of a configuration, with a `user` that every system has.
fn nobody() -> Option<Target> {
    if !geteuid().is_root() {
        return None;
    }
    let source = Source { overrides: vec![("server.user".to_owned(), "nobody".to_owned())], ..Source::default() };
    let loaded = load_server(&source).unwrap();
    Some(
        Target::of("server.user", loaded.value.server.user.as_deref(), &loaded.origins).unwrap().expect("this is root"),
    )
}

#[test]
fn another_user_is_become_with_its_groups_and_what_it_cannot_read_is_told() {
    let Some(target) = nobody() else { return };
    let tree = Tree::new();
    fs::set_permissions(tree.0.path(), PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(tree.at("certs/key.pem"), "key").unwrap();
    fs::set_permissions(tree.at("certs/key.pem"), PermissionsExt::from_mode(0o640)).unwrap();
    let mut needs = tree.needs();
    needs.files.push(need(tree.at("certs/key.pem"), Role::Credential));
    let settings = Settings::new(Sandbox::BestEffort, Some(target.clone()));
    let look = |entered: Entered| {
        assert_eq!(geteuid().as_raw(), target.account.uid);
        assert!(entered.state.to_string().starts_with(&format!("user: {}; ", target.account)), "{}", entered.state);
        entered.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let problems = inside_of(&settings, &needs, |entered, _| look(entered));
    let expected = |path: &str, verb: &str, then: &str| {
        let path = tree.at(path);
        format!("{} may not be {verb} by user {}, as whom the server runs: {then}", path.display(), target.account)
    };
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].starts_with("logging.file: "), "{}", problems[0]);
    assert!(problems[0].contains(&expected(
        "var/log/server.log",
        "written",
        "the log can't be rotated or opened anew"
    )));
    assert!(problems[1].starts_with("certificates.server_key: "), "{}", problems[1]);
    assert!(problems[1].contains(&expected("certs/key.pem", "read", "a reload will be refused")), "{}", problems[1]);
    assert!(problems[1].contains("\n  hint: give that user, or a group that it is in, read access"), "{}", problems[1]);

    // Its group is enough for the key, and being its own for the log.
    chown(tree.at("certs/key.pem"), None, Some(target.gid)).unwrap();
    for path in ["var/log", "var/log/server.log"] {
        chown(tree.at(path), Some(target.account.uid), Some(target.gid)).unwrap();
    }
    let problems = inside_of(&settings, &needs, |entered, _| {
        assert_eq!(tree.read("certs/key.pem").unwrap(), "key");
        OpenOptions::new().append(true).open(tree.at("var/log/server.log")).unwrap();
        look(entered)
    });
    assert_eq!(problems, [""; 0]);
}

#[test]
fn a_log_comes_back_in_a_directory_that_was_made_anew() {
    let Some(target) = nobody() else { return };
    let tree = Tree::new();
    fs::set_permissions(tree.0.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let own = || chown(tree.at("var/log"), Some(target.account.uid), None).unwrap();
    own();
    chown(tree.at("var/log/server.log"), Some(target.account.uid), None).unwrap();
    let settings = Settings::new(Sandbox::BestEffort, Some(target.clone()));
    let needs = Needs { files: vec![need(tree.at("var/log/server.log"), Role::Log)], ..Needs::default() };
    inside_of(&settings, &needs, |_, outside| {
        outside.has(|| {
            fs::rename(tree.at("var/log"), tree.at("var/old")).unwrap();
            fs::create_dir(tree.at("var/log")).unwrap();
            own();
        });
        File::create(tree.at("var/log/server.log")).unwrap();
        assert_eq!(errno(File::create(tree.at("var/server.log"))), Some(libc::EACCES), "by its permissions");
    });
}

#[test]
fn what_is_made_with_later_rights_belongs_to_the_later_user() {
    let Some(target) = nobody() else { return };
    let tree = Tree::new();
    fs::set_permissions(tree.0.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let settings = Settings::new(Sandbox::BestEffort, Some(target.clone()));
    let create = |path: &str| settings.with_later_rights(|| File::create(tree.at(path)).map(drop)).unwrap();
    assert_eq!(errno(create("var/log/new.log")), Some(libc::EACCES), "the directory is root's");
    chown(tree.at("var/log"), Some(target.account.uid), None).unwrap();
    create("var/log/new.log").unwrap();
    let made = fs::metadata(tree.at("var/log/new.log")).unwrap();
    assert_eq!((made.uid(), made.gid()), (target.account.uid, target.gid));
    // And everything is as before.
    assert!(geteuid().is_root());
    assert!(File::open("/etc/shadow").is_ok());
    // Without another user, it is root without the right to pass over permissions.
    let settings = Settings::new(Sandbox::BestEffort, None);
    let created = settings.with_later_rights(|| File::create(tree.at("var/log/root.log")).map(drop)).unwrap();
    assert_eq!(errno(created), Some(libc::EACCES));
    File::create(tree.at("var/log/root.log")).unwrap();
}

#[test]
fn a_user_that_is_not_there_and_one_that_cannot_be_become_are_told() {
    let of = |user: &str| {
        let source = Source { overrides: vec![("server.user".to_owned(), user.to_owned())], ..Source::default() };
        let loaded = load_server(&source).unwrap();
        Target::of("server.user", loaded.value.server.user.as_deref(), &loaded.origins)
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        of("no-such-user").unwrap_err(),
        "command line: server.user: there is no user \"no-such-user\" on this host\n  hint: make it (`useradd --system \
         --no-create-home --shell /usr/sbin/nologin no-such-user`), or correct the name"
    );
    let current = Account::current();
    if let Some(name) = &current.name {
        assert_eq!(of(name).unwrap(), None, "nothing to switch");
    }
    if let Some(target) = nobody() {
        // From inside, root is out of reach.
        let settings = Settings::new(Sandbox::Off, Some(target.clone()));
        let error = inside_of(&settings, &Needs::default(), |_, _| of("root").unwrap_err());
        assert_eq!(
            error,
            format!(
                "command line: server.user: only root can become another user: this is {}, not root\n  hint: start the \
                 server (or this check) as root, or as root, or remove the key",
                target.account
            )
        );
    }
}
