//! What hostile peers cost a server, and those who behave: memory, processor time, and how long an honest client waits.

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::rogue::Rogue;
use crate::server::Server;
use crate::wire;

/// Between two honest clients, and between two looks at the memory.
const PAUSE: Duration = Duration::from_millis(20);

/// What was measured while something went on.
#[derive(Debug)]
pub struct Figures {
    what: &'static str,
    /// Resident memory of the server before, in bytes.
    pub before: u64,
    /// The most that was seen meanwhile.
    pub most: u64,
    /// When it was over.
    pub after: u64,
    /// Processor time of the server meanwhile.
    pub processor: Duration,
    /// How long it went on.
    pub lasted: Duration,
    /// How long each honest client took meanwhile, from connecting to a complete handshake, the quickest first.
    pub handshakes: Vec<Duration>,
    /// What went wrong for honest clients.
    pub failures: Vec<String>,
}

impl Figures {
    /// By how many bytes the memory grew at most.
    pub fn growth(&self) -> u64 {
        self.most.saturating_sub(self.before)
    }

    /// Asserts that every honest client had its handshake, of which there were some.
    ///
    /// # Panics
    /// When one had not.
    #[track_caller]
    pub fn expect_others_unaffected(&self) -> &Self {
        assert!(self.failures.is_empty(), "{self}\n{:#?}", self.failures);
        assert!(!self.handshakes.is_empty(), "nobody tried: {self}");
        self
    }

    /// Asserts that the memory never grew by more.
    ///
    /// # Panics
    /// When it did.
    #[track_caller]
    pub fn expect_growth_below(&self, bytes: u64) -> &Self {
        assert!(self.growth() < bytes, "more than {} KiB: {self}", bytes / 1024);
        self
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |part: usize| {
            let index = (self.handshakes.len() * part / 100).min(self.handshakes.len().saturating_sub(1));
            self.handshakes.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        write!(
            f,
            "{}: memory {} KiB before, at most {} KiB, {} KiB after; {:.2} s of processor time in {:.2} s; {} honest \
             handshakes meanwhile: median {:.1} ms, 99th percentile {:.1} ms, {} failed",
            self.what,
            self.before / 1024,
            self.most / 1024,
            self.after / 1024,
            self.processor.as_secs_f64(),
            self.lasted.as_secs_f64(),
            self.handshakes.len(),
            milliseconds(50),
            milliseconds(99),
            self.failures.len()
        )
    }
}

/// Measures what `attack` costs `server`, and prints it.
pub fn measure<T>(server: &Server, what: &'static str, attack: impl FnOnce() -> T) -> (T, Figures) {
    // What the first connections allocate for good is not what is measured.
    for _ in 0..3 {
        honest(server.port).expect("nothing is wrong yet");
    }
    let over = Arc::new(AtomicBool::new(false));
    let client = {
        let (port, over) = (server.port, over.clone());
        thread::spawn(move || {
            let (mut handshakes, mut failures) = (Vec::new(), Vec::new());
            // At least one, however soon it is over.
            loop {
                match honest(port) {
                    Ok(took) => handshakes.push(took),
                    Err(error) => failures.push(error.to_string()),
                }
                if over.load(Relaxed) {
                    break;
                }
                thread::sleep(PAUSE);
            }
            handshakes.sort();
            (handshakes, failures)
        })
    };
    let (before, processor, begin) = (server.resident_memory(), server.processor_time(), Instant::now());
    let (outcome, most) = thread::scope(|scope| {
        let meter = scope.spawn(|| {
            let mut most = before;
            while !over.load(Relaxed) {
                most = most.max(server.resident_memory());
                thread::sleep(PAUSE);
            }
            most
        });
        // Also where the attack panics, or its threads would be waited for in vain.
        let end = End(&over);
        let outcome = attack();
        drop(end);
        (outcome, meter.join().expect("the meter doesn't panic"))
    });
    let lasted = begin.elapsed();
    let processor = server.processor_time() - processor;
    let (handshakes, failures) = client.join().expect("the client doesn't panic");
    let after = server.resident_memory();
    let figures = Figures { what, before, most, after, processor, lasted, handshakes, failures };
    // Not captured by the test's harness, as what `println!` writes is: people want to read it.
    let _ = writeln!(std::io::stderr(), "measured: {figures}");
    (outcome, figures)
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A client that connects, verifies, and leaves in order. How long until its handshake was complete.
fn honest(port: u16) -> std::io::Result<Duration> {
    let begin = Instant::now();
    let client = Rogue::over(wire::connect(port), &[])?;
    let took = begin.elapsed();
    drop(client);
    Ok(took)
}
