//! What the service manager is told: the protocol of sd_notify(3), as systemd's `Type=notify` and
//! `Type=notify-reload` want it.
//!
//! The socket is connected once, early: a sandbox that is applied later can forbid reaching it, but not using it. A
//! crate for this would be larger than what is needed, and connects anew for each message.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::{debug, warn};

/// A manager that doesn't read its socket must not stop the server.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to the service manager, or to nobody where there is none.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    manager: Mutex<Option<Manager>>,
    watchdog: Option<Duration>,
    /// What was said last.
    status: Mutex<String>,
    complained: AtomicBool,
}

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    /// Where it was reached; not known where another process connected it.
    address: Option<SocketAddr>,
}

impl Notifier {
    /// The manager that this process was started by, as the variables NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID
    /// say. What is wrong with them is logged: a server that can't report must still serve.
    pub(crate) fn of_process() -> Self {
        Self::new(|name| std::env::var_os(name), std::process::id())
    }

    fn new(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Self::default() };
        let manager = match Manager::connect(&name) {
            Ok(manager) => manager,
            Err(error) => {
                warn!(
                    "the service manager can't be told anything: NOTIFY_SOCKET is {}: {error}",
                    name.to_string_lossy()
                );
                return Self::default();
            }
        };
        Self { manager: Mutex::new(Some(manager)), watchdog: watchdog(variable, pid), ..Self::default() }
    }

    /// A manager that another process was told about: its connected socket, and how often it wants to hear of us.
    pub(crate) fn inherited(socket: OwnedFd, watchdog: Option<Duration>) -> Self {
        let socket = UnixDatagram::from(socket);
        Self { manager: Mutex::new(Some(Manager { socket, address: None })), watchdog, ..Self::default() }
    }

    /// Whether there is a manager.
    pub(crate) fn is_connected(&self) -> bool {
        lock(&self.manager).is_some()
    }

    /// Within which time the manager must hear [`watchdog`](Self::watchdog), if it must.
    pub(crate) fn watchdog_timeout(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Serving: at the end of the start, and of a reload.
    pub(crate) fn ready(&self, status: &str) {
        self.send_with_status("READY=1", status);
    }

    /// A reload begins. [`ready`](Self::ready) ends it, whatever came of it.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        // `notify-reload` tells by the time whether this answers its own signal.
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// The end has begun, and may take `at_most`, whatever the manager's own limit for stopping is.
    pub(crate) fn stopping(&self, at_most: Duration, status: &str) {
        self.send_with_status(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", at_most.as_micros()), status);
    }

    /// What `systemctl status` shows, on one line. The same as before is not sent again.
    pub(crate) fn status(&self, status: &str) {
        let line = one_line(status);
        let mut before = lock(&self.status);
        if *before != line {
            self.send(&format!("STATUS={line}"));
            *before = line;
        }
    }

    /// Alive.
    pub(crate) fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// Makes `pid` the main process of this service, and says nothing more: only the main process is heard.
    pub(crate) fn replaced_by(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}"));
        self.retire();
    }

    /// Says nothing more.
    pub(crate) fn retire(&self) {
        *lock(&self.manager) = None;
    }

    /// The socket, to be passed to another process of the same service.
    pub(crate) fn socket(&self) -> Option<OwnedFd> {
        lock(&self.manager).as_ref().and_then(|manager| manager.socket.as_fd().try_clone_to_owned().ok())
    }

    fn send_with_status(&self, message: &str, status: &str) {
        let line = one_line(status);
        self.send(&format!("{message}\nSTATUS={line}"));
        *lock(&self.status) = line;
    }

    fn send(&self, message: &str) {
        let manager = lock(&self.manager);
        let Some(manager) = manager.as_ref() else { return };
        match manager.send(message.as_bytes()) {
            Ok(()) => {
                debug!(message = %message.replace('\n', " "), "told the service manager");
                self.complained.store(false, Ordering::Relaxed);
            }
            Err(error) if !self.complained.swap(true, Ordering::Relaxed) => {
                warn!("the service manager can't be told {:?}: {error}", message.lines().next().unwrap_or_default());
            }
            Err(_) => {}
        }
    }
}

impl Manager {
    fn connect(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                let message = "neither an absolute path nor an abstract socket (@…)";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect_addr(&address)?;
        Ok(Self { socket, address: Some(address) })
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        let sent = match (self.socket.send(message), &self.address) {
            // The manager has a new socket at the same place.
            (Err(error), Some(address)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.socket.connect_addr(address)?;
                self.socket.send(message)?
            }
            (sent, _) => sent?,
        };
        if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watchdog(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Option<Duration> {
    let number = |name: &str| -> Option<Option<u64>> {
        let text = variable(name)?;
        let number = text.to_str().and_then(|text| text.parse().ok());
        if number.is_none() {
            warn!("the watchdog of the service manager is not served: {name} is {}", text.to_string_lossy());
        }
        Some(number)
    };
    let microseconds = number("WATCHDOG_USEC")??;
    match number("WATCHDOG_PID") {
        // Meant for another process, which passed its environment on.
        Some(Some(other)) if other != u64::from(pid) => None,
        Some(None) => None,
        _ => Some(microseconds).filter(|microseconds| *microseconds > 0).map(Duration::from_micros),
    }
}

/// A message is lines: what would begin one of its own is taken out.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Bed {
        directory: tempfile::TempDir,
        manager: UnixDatagram,
    }

    impl Bed {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let manager = UnixDatagram::bind(directory.path().join("notify")).unwrap();
            manager.set_nonblocking(true).unwrap();
            Self { directory, manager }
        }

        fn notifier(&self, more: &[(&str, &str)]) -> Notifier {
            let path = self.directory.path().join("notify");
            let mut variables: BTreeMap<String, OsString> =
                more.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
            variables.entry("NOTIFY_SOCKET".to_owned()).or_insert_with(|| path.into());
            Notifier::new(|name| variables.get(name).cloned(), 17)
        }

        fn heard(&self) -> Vec<String> {
            let next = || {
                let mut buffer = [0; 4096];
                let length = self.manager.recv(&mut buffer).ok()?;
                Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
            };
            std::iter::from_fn(next).collect()
        }
    }

    #[test]
    fn a_life_is_told_in_the_words_of_the_manager() {
        let bed = Bed::new();
        let notifier = bed.notifier(&[]);
        notifier.ready("0 connections open");
        notifier.status("0 connections open");
        notifier.status("1 connection open");
        notifier.watchdog();
        notifier.stopping(Duration::from_millis(1500), "a\nMAINPID=1");
        notifier.replaced_by(4);
        notifier.watchdog();
        assert_eq!(
            bed.heard(),
            [
                "READY=1\nSTATUS=0 connections open",
                "STATUS=1 connection open",
                "WATCHDOG=1",
                "STOPPING=1\nEXTEND_TIMEOUT_USEC=1500000\nSTATUS=a MAINPID=1",
                "MAINPID=4",
            ]
        );
    }

    #[test]
    fn a_reload_carries_the_monotonic_time() {
        let bed = Bed::new();
        let notifier = bed.notifier(&[]);
        let clock = || {
            let now = clock_gettime(ClockId::Monotonic);
            i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000
        };
        let before = clock();
        notifier.reloading();
        let after = clock();
        let heard = bed.heard();
        let time = heard[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((before..=after).contains(&time), "{before} {time} {after}");
    }

    #[test]
    fn abstract_sockets_are_reached_too() {
        let name = format!("qtls-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let bed = Bed::new();
        bed.notifier(&[("NOTIFY_SOCKET", &format!("@{name}"))]).ready("x");
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1\nSTATUS=x");
    }

    #[test]
    fn a_manager_that_was_restarted_is_found_again() {
        let mut bed = Bed::new();
        let notifier = bed.notifier(&[]);
        let path = bed.directory.path().join("notify");
        std::fs::remove_file(&path).unwrap();
        bed.manager = UnixDatagram::bind(&path).unwrap();
        bed.manager.set_nonblocking(true).unwrap();
        notifier.watchdog();
        assert_eq!(bed.heard(), ["WATCHDOG=1"]);
    }

    #[test]
    fn without_a_manager_nothing_is_said_and_nothing_fails() {
        let nobody = |socket: &str| Notifier::new(|name| (name == "NOTIFY_SOCKET").then(|| socket.into()), 17);
        for socket in ["", "relative", "vsock:2:1234", "/there/is/none"] {
            let notifier = nobody(socket);
            assert!(!notifier.is_connected(), "{socket}");
            notifier.ready("x");
        }
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let bed = Bed::new();
        let timeout = |more: &[(&str, &str)]| bed.notifier(more).watchdog_timeout();
        let second = Some(Duration::from_secs(1));
        assert_eq!(timeout(&[("WATCHDOG_USEC", "1000000")]), second);
        assert_eq!(timeout(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "17")]), second);
        assert_eq!(timeout(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "18")]), None);
        assert_eq!(timeout(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "x")]), None);
        assert_eq!(timeout(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(timeout(&[("WATCHDOG_USEC", "soon")]), None);
        assert_eq!(timeout(&[]), None);
    }
}
