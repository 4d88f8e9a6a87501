//! Both sides of a hand-over, in one process. Real processes do it in the interop suite `replacement`.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::UnboundedReceiver;

use super::wire::{receive, send};
use super::*;
use crate::listen::{Listener, Origin};

struct Bed {
    _directory: TempDir,
    path: PathBuf,
    runtime: Runtime,
    attendant: Attendant,
    takeovers: UnboundedReceiver<Takeover>,
    /// The old process' sockets.
    listeners: Vec<Listener>,
}

impl Bed {
    fn new(sockets: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("handover");
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listener = |index| {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let role = if index == 0 { Role::Metrics } else { Role::Tls };
            Listener { role, address: socket.local_addr().unwrap(), origin: Origin::Bound, socket }
        };
        let listeners: Vec<_> = (0..sockets).map(listener).collect();
        let manager = fs::File::open("/dev/null").unwrap().into();
        let offer = Offer::new(&listeners, Some((manager, Some(Duration::from_secs(30))))).unwrap();
        let control = Control::open(&path).unwrap();
        let (attendant, takeovers) = runtime.block_on(async { control.attend(offer).unwrap() });
        Self { _directory: directory, path, runtime, attendant, takeovers, listeners }
    }

    /// Runs a new process' part, while the old one answers.
    fn with<T: Send + 'static>(&self, new: impl FnOnce(PathBuf) -> T + Send + 'static) -> T {
        let path = self.path.clone();
        self.runtime.block_on(async { tokio::task::spawn_blocking(move || new(path)).await.unwrap() })
    }

    fn ask(&self) -> Inherited {
        self.with(|path| ask(&path)).unwrap().expect("the old process answers")
    }

    fn refusal(&self) -> String {
        self.with(|path| ask(&path)).unwrap_err().message().to_owned()
    }

    /// Lets the old process do what it has to do.
    fn idle(&self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    }
}

#[test]
fn the_same_sockets_serve_before_and_after() {
    let mut bed = Bed::new(4);
    let address = bed.listeners[3].address;
    let waiting = TcpStream::connect(address).unwrap();
    let inherited = bed.ask();
    let Inherited { predecessor, listeners, control, manager } = inherited;
    let told: Vec<_> = listeners.iter().map(|listener| (listener.role, listener.address, listener.origin)).collect();
    let old = bed.listeners.iter().enumerate();
    let expected: Vec<_> =
        old.map(|(index, listener)| (listener.role, listener.address, Origin::HandedOver(index))).collect();
    assert_eq!(told, expected);
    let same_group = control_group().is_some();
    assert_eq!(manager.is_some(), same_group);
    assert!(manager.is_none_or(|(_, watchdog)| watchdog == Some(Duration::from_secs(30))));

    // The old process' descriptors go; nothing is reset.
    let takeover = bed.runtime.block_on(async {
        let new = async {
            match predecessor.ready(vec![0, 1, 3]).await.unwrap() {
                Consent::Given(conversing) => conversing.serving().await,
                Consent::Alone => panic!("the old process lives"),
            }
        };
        let old = async {
            let takeover = bed.takeovers.recv().await.unwrap();
            let facts = (takeover.process, takeover.same_service, takeover.complete);
            bed.attendant.close();
            takeover.done(7).await;
            facts
        };
        tokio::join!(new, old).1
    });
    assert_eq!(takeover, (std::process::id(), same_group, false), "the socket 2 was not taken");
    bed.listeners.clear();
    let (_accepted, client) = listeners[3].socket.accept().unwrap();
    assert_eq!(client, waiting.local_addr().unwrap());

    // The next process asks the new one at the same path.
    let offer = Offer::new(&listeners, None).unwrap();
    let next = Control::inherited(control, &bed.path);
    let _attending = bed.runtime.block_on(async { next.attend(offer).unwrap() });
    assert_eq!(bed.ask().listeners.len(), 4);
}

#[test]
fn more_sockets_than_a_packet_holds_come_in_order() {
    let bed = Bed::new(300);
    let inherited = bed.ask();
    let addresses = |listeners: &[Listener]| listeners.iter().map(|listener| listener.address).collect::<Vec<_>>();
    assert_eq!(addresses(&inherited.listeners), addresses(&bed.listeners));
}

#[test]
fn a_new_process_that_ends_leaves_everything_as_it_was() {
    let bed = Bed::new(2);
    drop(bed.ask());
    bed.idle();
    // In the middle of its first word, and instead of it.
    for garbage in [&b"{\"message\":\"hel"[..], b"\0"] {
        bed.with(|path| {
            let socket = place::reach(&path, Duration::from_secs(5)).unwrap().unwrap();
            rustix::net::send(&socket, garbage, rustix::net::SendFlags::empty()).unwrap();
        });
        bed.idle();
    }
    assert_eq!(bed.ask().listeners.len(), 2);
}

#[test]
fn one_at_a_time() {
    let bed = Bed::new(1);
    let first = bed.ask();
    let expected =
        format!("the old process hands nothing over: process {} is taking over at this moment", std::process::id());
    assert_eq!(bed.refusal(), expected);
    drop(first);
    bed.idle();
    bed.ask();
}

#[test]
fn another_protocol_is_refused() {
    let bed = Bed::new(1);
    let answer = bed.with(|path| {
        let socket = place::reach(&path, Duration::from_secs(5)).unwrap().unwrap();
        let hello = Message::Hello { protocols: vec![2, 3], version: "9.9.9".to_owned(), control_group: None };
        send(&socket, &hello, &[]).unwrap();
        receive(&socket).unwrap().unwrap().0
    });
    let reason =
        format!("version 9.9.9 speaks other versions of the hand-over than this one ({})", qtls_core::version::VERSION);
    assert_eq!(answer, Message::Refused { reason });
}

#[test]
fn a_new_process_serves_where_the_old_one_has_ended() {
    let bed = Bed::new(1);
    let inherited = bed.ask();
    bed.attendant.close();
    bed.idle();
    let consent = bed.runtime.block_on(inherited.predecessor.ready(vec![0])).unwrap();
    assert!(matches!(consent, Consent::Alone));
}

#[test]
fn after_a_takeover_there_is_nobody_at_the_path_that_was_removed() {
    let bed = Bed::new(1);
    bed.attendant.close();
    bed.attendant.remove();
    bed.idle();
    assert!(!bed.path.exists());
    assert!(bed.with(|path| ask(&path)).unwrap().is_none());
}

#[test]
fn keys_of_later_versions_are_ignored() {
    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    rustix::net::send(&one, b"{\"message\":\"go\",\"later\":1}", rustix::net::SendFlags::empty()).unwrap();
    assert_eq!(receive(other.as_fd()).unwrap().unwrap().0, Message::Go);
}
