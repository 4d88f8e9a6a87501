//! Where slow signatures are made: on threads of their own, so that a worker's other connections keep their latency.

use std::fmt;
use std::sync::Once;

use rustix::io;
use rustix::process::{getpid, getpriority_process, setpriority_process};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

/// How many handshakes may wait for a signature or be signing. More are refused at once rather than left to time out.
const QUEUE: usize = 4096;

/// How much nicer a signing thread is than the others: a worker that has something to do takes the processor from it, where
/// it would have to wait for milliseconds, and what is left of a tenth of a processor is the signatures' in any case.
const NICER: i32 = 10;

/// A bounded pool of threads for signatures that take long.
///
/// The deadline is the handshake's: who stops waiting drops the result, and the thread is free when the signer answers.
#[derive(Debug)]
pub struct SigningPool {
    /// Always there, until the pool is dropped.
    runtime: Option<Runtime>,
    places: Semaphore,
}

/// Why a signature could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningError {
    /// Too many handshakes wait already.
    Full,
    /// The signer panicked.
    Panicked,
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "{QUEUE} handshakes wait for a signature already"),
            Self::Panicked => f.write_str("the signer panicked"),
        }
    }
}

impl SigningPool {
    /// A pool of at most `threads` threads, which are started when they are needed and end when they are not.
    ///
    /// # Errors
    /// The operating system gives no resources.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(threads)
            .thread_name("qtls-sign")
            .on_thread_start(|| {
                static WARNED: Once = Once::new();

                if let Err(error) = go_behind_the_others() {
                    WARNED.call_once(|| {
                        tracing::warn!(
                            "slow signatures can't be given a lower priority (setpriority: {error}): while one is made, \
                             other clients wait longer where processors are few"
                        );
                    });
                }
            })
            .build()?;
        Ok(Self { runtime: Some(runtime), places: Semaphore::new(QUEUE) })
    }

    /// Runs `work` on `value` on a thread of the pool, and gives both back.
    pub(crate) async fn run<T: Send + 'static, R: Send + 'static>(
        &self,
        mut value: T,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<(T, R), SigningError> {
        let _place = self.places.try_acquire().map_err(|_| SigningError::Full)?;
        let runtime = self.runtime.as_ref().ok_or(SigningError::Panicked)?;
        runtime
            .spawn_blocking(move || {
                let result = work(&mut value);
                (value, result)
            })
            .await
            .map_err(|_| SigningError::Panicked)
    }
}

/// Lowers the priority of the calling thread below that of the process.
fn go_behind_the_others() -> io::Result<()> {
    // Elsewhere this is the priority of the whole process.
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    setpriority_process(None, (getpriority_process(Some(getpid()))? + NICER).min(19))
}

impl Drop for SigningPool {
    /// A signer that hangs must not keep the process from ending.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn signatures_are_made_behind_the_others() {
        let before = getpriority_process(None).unwrap();
        let pool = SigningPool::new(1).unwrap();
        for _ in 0..2 {
            let (value, niceness) = pool.run("the key", |_| getpriority_process(None).unwrap()).await.unwrap();
            assert_eq!((value, niceness), ("the key", (before + 10).min(19)));
        }
        assert_eq!(getpriority_process(None).unwrap(), before, "of one thread and not of all");
    }
}
