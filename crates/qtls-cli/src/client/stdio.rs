//! Standard input and output without blocking the connection: each has a thread of its own.
//!
//! The threads are not waited for: one that hangs in a read from a terminal must not keep the process from ending.

use std::io::{self, ErrorKind, Read, Write};
use std::thread;

use qtls_core::Result;
use tokio::sync::{mpsc, oneshot};

use crate::ui;

/// How much is read from standard input at once.
const CHUNK: usize = 16 * 1024;
/// How many chunks wait in either direction before who produces them has to wait.
const QUEUE: usize = 16;

/// What comes from standard input; it ends with the input, or with the error that ended it.
pub(super) fn input() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; CHUNK];
        loop {
            let chunk = match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(buffer[..count].to_vec()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let last = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// Standard output.
pub(super) struct Output {
    chunks: mpsc::Sender<Vec<u8>>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    /// Standard output of this process.
    pub(super) fn open() -> Self {
        Self::of(io::stdout())
    }

    fn of(mut out: impl Write + Send + 'static) -> Self {
        let (chunks, mut receiver) = mpsc::channel::<Vec<u8>>(QUEUE);
        let (sender, done) = oneshot::channel();
        thread::spawn(move || {
            let mut outcome = Ok(());
            while let Some(chunk) = receiver.blocking_recv() {
                outcome = out.write_all(&chunk).and_then(|()| out.flush());
                if outcome.is_err() {
                    break;
                }
            }
            // First, so that who writes learns that nobody reads; then why.
            drop(receiver);
            let _ = sender.send(outcome);
        });
        Self { chunks, done }
    }

    /// Writes, and says whether there is still someone who reads.
    pub(super) async fn write(&mut self, chunk: Vec<u8>) -> bool {
        self.chunks.send(chunk).await.is_ok()
    }

    /// Waits until everything is written. A reader that has gone away, as with `| head`, is no error.
    ///
    /// # Errors
    /// Standard output couldn't be written for another reason.
    pub(super) async fn finish(self) -> Result<()> {
        drop(self.chunks);
        match self.done.await {
            Ok(Err(error)) if error.kind() != ErrorKind::BrokenPipe => Err(ui::unwritable(&error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::tests::Fails;

    /// Writes until told that nobody reads, then finishes.
    fn written_to(kind: ErrorKind) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut output = Output::of(Fails(kind));
            while output.write(b"x".to_vec()).await {}
            output.finish().await
        })
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_but_a_full_disk_is() {
        assert!(written_to(ErrorKind::BrokenPipe).is_ok());
        let error = written_to(ErrorKind::StorageFull).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.message().starts_with("standard output can't be written: "), "{error}");
    }
}
