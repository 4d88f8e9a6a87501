//! The phases of a server's life, as every part of it sees them.

use tokio::sync::watch;

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything is there, but nothing is accepted yet.
    Starting,
    /// Accepting and serving.
    Running,
    /// Accepting and serving, but no longer ready: load balancers are to look elsewhere.
    Leaving,
    /// No longer accepting; what is open may finish.
    Draining,
    /// What is still open is closed.
    Closing,
}

impl Phase {
    /// The name, as health checks show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
            Self::Closing => "closing",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    replaced: Option<Replaced>,
}

/// Another process serves by now.
#[derive(Clone, Copy, Debug)]
struct Replaced {
    /// All of the same sockets.
    complete: bool,
}

/// The one who decides on the phase.
#[derive(Debug)]
pub struct Conductor(watch::Sender<State>);

impl Conductor {
    /// Starts in [`Phase::Running`].
    pub fn new() -> Self {
        Self::at(Phase::Running)
    }

    /// Starts in [`Phase::Starting`].
    pub fn starting() -> Self {
        Self::at(Phase::Starting)
    }

    /// Goes to `phase`. There is no way back.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let later = phase > current.phase;
            current.phase = phase.max(current.phase);
            later
        });
    }

    /// Goes to [`Phase::Draining`], since another process serves by now; `complete`, if it serves all of the same sockets.
    pub fn replaced(&self, complete: bool) {
        self.0.send_modify(|current| {
            current.phase = current.phase.max(Phase::Draining);
            current.replaced = Some(Replaced { complete });
        });
    }

    /// A view of the phase.
    pub fn watch(&self) -> Shutdown {
        Shutdown(self.0.subscribe())
    }

    fn at(phase: Phase) -> Self {
        Self(watch::Sender::new(State { phase, replaced: None }))
    }
}

impl Default for Conductor {
    fn default() -> Self {
        Self::new()
    }
}

/// A view of the phase.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<State>);

impl Shutdown {
    /// The phase at this moment.
    pub fn phase(&self) -> Phase {
        self.0.borrow().phase
    }

    /// Whether another process accepts what waits in the queues of the sockets.
    pub fn queues_are_served(&self) -> bool {
        self.0.borrow().replaced.is_some_and(|replaced| replaced.complete)
    }

    /// The same view, for the many who wait on one thread: whoever waits through it meets nobody of another thread. Must be
    /// asked for inside a `LocalSet`.
    pub(crate) fn of_this_thread(&self) -> Self {
        let mut everywhere = self.0.clone();
        let (here, view) = watch::channel(*everywhere.borrow_and_update());
        tokio::task::spawn_local(async move {
            loop {
                tokio::select! {
                    changed = everywhere.changed() => if changed.is_err() { return },
                    () = here.closed() => return,
                }
                here.send_replace(*everywhere.borrow_and_update());
            }
        });
        Self(view)
    }

    /// Waits until the server accepts, or is past that.
    pub async fn accepting(&mut self) {
        self.reached(Phase::Running).await;
    }

    /// Waits until the server no longer accepts.
    pub async fn draining(&mut self) {
        self.reached(Phase::Draining).await;
    }

    /// Waits until what is open is closed.
    pub async fn closing(&mut self) {
        self.reached(Phase::Closing).await;
    }

    /// Waits until nobody is to ask this process about its state any more: another one answers, or what is open is
    /// closed.
    pub async fn unobserved(&mut self) {
        let _ = self.0.wait_for(|current| current.replaced.is_some() || current.phase >= Phase::Closing).await;
    }

    /// Waits for a phase, or a later one, with a view of its own.
    pub(crate) fn past(&self, phase: Phase) -> impl Future<Output = ()> + use<> {
        let mut view = self.clone();
        async move { view.reached(phase).await }
    }

    async fn reached(&mut self, phase: Phase) {
        // Whoever conducted is gone: there is nothing to wait for.
        let _ = self.0.wait_for(|current| current.phase >= phase).await;
    }
}
