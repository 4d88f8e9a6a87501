//! The journal, in its own protocol: an event arrives there with its priority and its fields.
//!
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL>: one datagram an event, in it `KEY=value` and a line feed for each field,
//! or, where the value has line feeds itself, `KEY`, a line feed, the length in 64 bits with the lowest octet first, the
//! value, and a line feed.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::Level;

use super::file::Kind;
use super::record::{Record, Value};
use super::text;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// How long an event may wait for a journal that takes none. Serving comes before logging.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a journal that took none is not waited for again, and one that has gone is not looked for.
const PAUSE: Duration = Duration::from_secs(5);

/// A connection to the journal. Made at the start: a sandbox would keep later ones out.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    identifier: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    socket: UnixDatagram,
    /// Until when nothing is tried, and what becomes of events meanwhile.
    paused: Option<(Instant, Sent)>,
    /// Events that it did not take since the last one that it took.
    unwritten: u64,
    datagram: Vec<u8>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The journal has it.
    Yes,
    /// The journal is there, and takes nothing. It will hear how many it missed.
    Lost,
    /// It can't go this way: there is no journal any more, or the event is too large for a datagram.
    Unsent,
}

impl Journal {
    /// The journal, if it is what standard error goes to.
    pub(super) fn of_process() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let stderr = rustix::fs::fstat(io::stderr()).ok()?;
        // Inherited by a program whose standard error was sent elsewhere, the variable names another one.
        if stream != format!("{}:{}", stderr.st_dev, stderr.st_ino) {
            return None;
        }
        let program = std::env::current_exe().ok();
        let identifier =
            program.as_deref().and_then(Path::file_name).map_or("qtls".into(), |name| name.to_string_lossy());
        Self::connect(Path::new(SOCKET), &identifier).ok()
    }

    /// Connects to the socket at `path`. `identifier` is what `journalctl -t` selects by.
    pub(super) fn connect(path: &Path, identifier: &str) -> io::Result<Self> {
        let state = State { socket: socket(path)?, paused: None, unwritten: 0, datagram: Vec::new() };
        Ok(Self { path: path.to_owned(), identifier: identifier.to_owned(), state: Mutex::new(state) })
    }

    /// Sends an event.
    pub(super) fn send(&self, record: &Record) -> Sent {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if let Some((_, meanwhile)) = state.paused.filter(|(until, _)| Instant::now() < *until) {
            state.unwritten += u64::from(meanwhile == Sent::Lost);
            return meanwhile;
        }
        if state.unwritten > 0 {
            let missing = super::missing(Kind::Log, state.unwritten);
            match self.transmit(state, &missing) {
                Ok(()) => state.unwritten = 0,
                Err(error) => return state.fail(&error),
            }
        }
        match self.transmit(state, record) {
            Ok(()) => {
                state.paused = None;
                Sent::Yes
            }
            Err(error) => state.fail(&error),
        }
    }

    fn transmit(&self, state: &mut State, record: &Record) -> io::Result<()> {
        state.datagram.clear();
        encode(record, &self.identifier, &mut state.datagram);
        match state.socket.send(&state.datagram) {
            // Without systemd's own socket unit, a journal that was restarted has another socket.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected) => {
                state.socket = socket(&self.path)?;
                state.socket.send(&state.datagram).map(|_| ())
            }
            outcome => outcome.map(|_| ()),
        }
    }
}

impl State {
    fn fail(&mut self, error: &io::Error) -> Sent {
        if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) {
            return Sent::Unsent;
        }
        let meanwhile = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Sent::Lost,
            _ => Sent::Unsent,
        };
        self.unwritten += u64::from(meanwhile == Sent::Lost);
        self.paused = Some((Instant::now() + PAUSE, meanwhile));
        meanwhile
    }
}

fn socket(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    // As large as it may be: datagrams that don't fit go another way.
    let _ = socket2::SockRef::from(&socket).set_send_buffer_size(8 << 20);
    Ok(socket)
}

/// `MESSAGE` is what people see in `journalctl`: the message and the fields, as in a line of text. The fields come once
/// more, each on its own, in upper case and with `QTLS_` in front.
fn encode(record: &Record, identifier: &str, into: &mut Vec<u8>) {
    let mut message = String::new();
    text::event(record, &mut message);
    put("MESSAGE", &message, into);
    // As syslog has them (RFC 5424, table 2).
    let priority = match record.level() {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    };
    put("PRIORITY", priority, into);
    put("SYSLOG_IDENTIFIER", identifier, into);
    let mut name = String::new();
    for (key, value) in record.fields() {
        name.clear();
        name.push_str("QTLS_");
        // Upper case letters, digits and underscores, and no more than 64 of them: anything else is dropped unseen.
        let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        name.extend(key.chars().map(fits).take(64 - 5));
        match value {
            Value::Text(text) => put(&name, text, into),
            Value::Unsigned(number) => put(&name, &number.to_string(), into),
            Value::Signed(number) => put(&name, &number.to_string(), into),
            Value::Float(number) => put(&name, &number.to_string(), into),
            Value::Bool(flag) => put(&name, if flag { "true" } else { "false" }, into),
        }
    }
}

fn put(key: &str, value: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        into.push(b'\n');
        into.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        into.push(b'=');
    }
    into.extend_from_slice(value.as_bytes());
    into.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn record(message: &str, fill: impl FnOnce(&mut Record)) -> Record {
        let mut record = Record::new(SystemTime::UNIX_EPOCH, Level::WARN);
        record.say(message);
        fill(&mut record);
        record
    }

    /// The fields of a datagram, as the protocol says to read them.
    fn decode(mut datagram: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while !datagram.is_empty() {
            let end = datagram.iter().position(|octet| *octet == b'\n').unwrap();
            let (line, rest) = (&datagram[..end], &datagram[end + 1..]);
            let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
            if let Some(equals) = line.iter().position(|octet| *octet == b'=') {
                fields.push((text(&line[..equals]), text(&line[equals + 1..])));
                datagram = rest;
            } else {
                let (length, rest) = rest.split_first_chunk::<8>().unwrap();
                let (value, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
                fields.push((text(line), text(value)));
                datagram = rest.strip_prefix(b"\n").unwrap();
            }
        }
        fields
    }

    fn received(socket: &UnixDatagram) -> Vec<(String, String)> {
        let mut buffer = vec![0; 1 << 20];
        let length = socket.recv(&mut buffer).unwrap();
        decode(&buffer[..length])
    }

    #[test]
    fn an_event_arrives_with_priority_and_fields_and_nothing_forges_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listening = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path, "qtls-server").unwrap();
        let forged = "a\nPRIORITY=0\nMESSAGE=forged\n";
        let event = record("refused", |record| {
            record.text("server_name", forged);
            record.number("received", 3);
            record.flag("pq", true);
            record.text("log.target", "x");
        });
        assert_eq!(journal.send(&event), Sent::Yes);
        let fields = received(&listening);
        let expected = [
            ("MESSAGE", "refused server_name=\"a\\nPRIORITY=0\\nMESSAGE=forged\\n\" received=3 pq=true log.target=x"),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "qtls-server"),
            ("QTLS_SERVER_NAME", forged),
            ("QTLS_RECEIVED", "3"),
            ("QTLS_PQ", "true"),
            ("QTLS_LOG_TARGET", "x"),
        ];
        assert!(fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).eq(expected), "{fields:?}");
    }

    #[test]
    fn what_is_too_large_goes_another_way_and_the_next_one_this_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listening = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path, "qtls-server").unwrap();
        assert_eq!(journal.send(&record(&"x".repeat(40 << 20), |_| ())), Sent::Unsent);
        assert_eq!(journal.send(&record("small", |_| ())), Sent::Yes);
        assert_eq!(received(&listening)[0], ("MESSAGE".to_owned(), "small".to_owned()));
    }

    #[test]
    fn a_journal_that_takes_nothing_hears_afterwards_how_many_it_missed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listening = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path, "qtls-server").unwrap();
        let mut queued = 0;
        while journal.send(&record("queued", |_| ())) == Sent::Yes {
            queued += 1;
        }
        // It is not waited for again.
        assert_eq!(journal.send(&record("lost", |_| ())), Sent::Lost);
        for _ in 0..queued {
            received(&listening);
        }
        assert_eq!(journal.send(&record("lost", |_| ())), Sent::Lost);
        journal.state.lock().unwrap().paused = None;
        assert_eq!(journal.send(&record("again", |_| ())), Sent::Yes);
        let said = received(&listening);
        assert_eq!(said[0].1, "lines of this log could not be written count=3");
        assert_eq!(received(&listening)[0].1, "again");
    }

    #[test]
    fn a_journal_that_was_restarted_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listening = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path, "qtls-server").unwrap();
        drop(listening);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(journal.send(&record("gone", |_| ())), Sent::Unsent);
        let listening = UnixDatagram::bind(&path).unwrap();
        // It is not looked for with every event.
        assert_eq!(journal.send(&record("gone", |_| ())), Sent::Unsent);
        journal.state.lock().unwrap().paused = None;
        assert_eq!(journal.send(&record("back", |_| ())), Sent::Yes);
        assert_eq!(received(&listening)[0].1, "back");
    }
}
