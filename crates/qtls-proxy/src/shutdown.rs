//! The three phases of a server's life, as every part of it sees them.

use tokio::sync::watch;

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Accepting and serving.
    Running,
    /// No longer accepting; what is open may finish.
    Draining,
    /// What is still open is closed.
    Closing,
}

/// The one who decides on the phase.
#[derive(Debug)]
pub struct Conductor(watch::Sender<Phase>);

impl Conductor {
    /// Starts in [`Phase::Running`].
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Running))
    }

    /// Goes to `phase`. There is no way back.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let later = phase > *current;
            *current = phase.max(*current);
            later
        });
    }

    /// A view of the phase.
    pub fn watch(&self) -> Shutdown {
        Shutdown(self.0.subscribe())
    }
}

impl Default for Conductor {
    fn default() -> Self {
        Self::new()
    }
}

/// A view of the phase.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Phase>);

impl Shutdown {
    /// The phase at this moment.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until the server no longer accepts.
    pub async fn draining(&mut self) {
        self.reached(Phase::Draining).await;
    }

    /// Waits until what is open is closed.
    pub async fn closing(&mut self) {
        self.reached(Phase::Closing).await;
    }

    async fn reached(&mut self, phase: Phase) {
        // Whoever conducted is gone: there is nothing to wait for.
        let _ = self.0.wait_for(|current| *current >= phase).await;
    }
}
