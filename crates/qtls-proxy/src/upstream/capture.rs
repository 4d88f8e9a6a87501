//! The log of one test, line by line.
//!
//! One subscriber serves all tests of the process from the first on. Were each to bring its own, an event that another
//! thread meets for the first time at that moment could stay switched off: tracing remembers who is interested.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Once;

use tracing_subscriber::fmt::MakeWriter;

thread_local! {
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// What this thread logs from [`start`](Captured::start) on.
pub(crate) struct Captured(());

impl Captured {
    pub(crate) fn start() -> Self {
        install();
        LOG.set(Some(Vec::new()));
        Self(())
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        LOG.with_borrow(|log| {
            let text = String::from_utf8_lossy(log.as_deref().unwrap_or_default());
            text.lines().map(str::to_owned).collect()
        })
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        LOG.set(None);
    }
}

/// To be called by every test that may log what another captures.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt().with_writer(ThisThread).with_ansi(false).without_time().finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

#[derive(Clone, Copy)]
struct ThisThread;

impl Write for ThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.as_mut().map(|log| log.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for ThisThread {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}
