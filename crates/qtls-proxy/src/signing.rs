//! Where slow signatures are made: on threads of their own, so that a worker's other connections keep their latency.

use std::fmt;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

/// How many handshakes may wait for a signature or be signing. More are refused at once rather than left to time out.
const QUEUE: usize = 4096;

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
        let runtime = Builder::new_current_thread().max_blocking_threads(threads).thread_name("qtls-sign").build()?;
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

impl Drop for SigningPool {
    /// A signer that hangs must not keep the process from ending.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
