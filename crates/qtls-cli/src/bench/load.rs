//! Load: so many units of work, so many at a time, on so many threads; and handshakes, which are the simplest.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use qtls_core::{Error, Result};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use super::arguments::{Amount, Handshakes};
use super::measure::{Begun, Latencies, Window};
use super::process::Server;
use super::report::Report;
use super::requests::get;
use super::runtime;
use super::site::Site;

/// What one of those who generate load goes on with, from one unit to the next.
pub(super) trait Work: 'static {
    /// What has to be there before the first unit.
    fn prepare(&mut self) -> impl Future<Output = Result<()>>;

    /// Does one unit, and returns when that which is measured was done: tidying up may take longer.
    fn once(&mut self) -> impl Future<Output = Result<Instant>>;
}

/// What a load came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) latencies: Latencies,
    pub(super) window: Window,
}

/// Has so many units done, after those of the warm-up. `worker` makes what each of those at a time goes on with.
///
/// # Errors
/// That of the first unit that failed: the others are given up.
pub(super) fn generate<W: Work>(
    server: Option<Server>,
    amount: &Amount,
    worker: impl Fn() -> W + Sync,
) -> Result<Outcome> {
    if amount.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        return Err(Error::configuration("it has to be a number above 0").at("--rate"));
    }
    // Threads take units from one number, so that none of them ends long before the others.
    let warming = Arc::new(Units::new(amount.warm_up, None));
    let measured = Arc::new(Units::new(amount.count, amount.rate));
    // Everybody has warmed up; and the measurement has begun.
    let [warm, begun] = [(); 2].map(|()| Barrier::new(amount.threads as usize + 1));
    let one = |index: u32| -> Result<Latencies> {
        let share = amount.concurrency / amount.threads + u32::from(index < amount.concurrency % amount.threads);
        let prepare = async {
            let mut works: Vec<W> = (0..share).map(|_| worker()).collect();
            for work in &mut works {
                work.prepare().await?;
            }
            phase(works, &warming).await
        };
        let everything = async {
            let prepared = prepare.await;
            // Also where that failed: the others wait. Nothing else on this thread has anything to do.
            warm.wait();
            begun.wait();
            let (works, _) = prepared.inspect_err(|_| measured.give_up())?;
            Ok(phase(works, &measured).await?.1)
        };
        // As many threads as there are barriers for have to come here, whatever happens.
        match runtime() {
            Ok(runtime) => LocalSet::new().block_on(&runtime, everything),
            Err(error) => {
                warm.wait();
                begun.wait();
                Err(error)
            }
        }
    };
    thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..amount.threads).map(|index| scope.spawn(move || one(index))).collect();
        warm.wait();
        let beginning = Begun::now(server);
        measured.begin();
        begun.wait();
        if amount.rate.is_some() {
            scope.spawn(|| measured.pace());
        }
        let (mut latencies, mut failed) = (Latencies::default(), None);
        for thread in threads {
            match thread.join().unwrap_or_else(|_| Err(Error::internal("a thread panicked"))) {
                Ok(own) => latencies.append(own),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Outcome { latencies, window: beginning?.end()? }),
        }
    })
}

/// Units of work, to be taken one by one.
#[derive(Debug)]
struct Units {
    count: u64,
    taken: AtomicU64,
    rate: Option<f64>,
    began: OnceLock<Instant>,
    /// As many as are due and not taken, where there is a rate.
    due: Semaphore,
}

impl Units {
    fn new(count: u64, rate: Option<f64>) -> Self {
        Self { count, taken: AtomicU64::new(0), rate, began: OnceLock::new(), due: Semaphore::new(0) }
    }

    fn begin(&self) {
        let _ = self.began.set(Instant::now());
    }

    /// When a unit is due, where there is a rate.
    fn due(&self, number: u64) -> Option<Instant> {
        Some(*self.began.get()? + Duration::from_secs_f64(number as f64 / self.rate?))
    }

    /// Lets each be taken when it is due. On a thread of its own, since the runtime's clock goes by milliseconds, which is
    /// longer than what is measured; asleep, since the server may need the processor.
    fn pace(&self) {
        for number in 0..self.count {
            let Some(due) = self.due(number) else { break };
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.taken.load(Relaxed) >= self.count {
                break;
            }
            self.due.add_permits(1);
        }
        self.release();
    }

    /// The next one, and when it was due, where there is a rate; `None` when there are no more.
    async fn take(&self) -> Option<Option<Instant>> {
        if self.rate.is_some() {
            self.due.acquire().await.ok()?.forget();
        }
        let number = self.taken.fetch_add(1, Relaxed);
        (number < self.count).then(|| self.due(number))
    }

    /// Whoever waits for one that won't come goes on.
    fn release(&self) {
        self.due.add_permits(1 << 20);
    }

    /// The others end with what they are at.
    fn give_up(&self) {
        self.taken.store(self.count, Relaxed);
        self.release();
    }
}

async fn phase<W: Work>(works: Vec<W>, units: &Arc<Units>) -> Result<(Vec<W>, Latencies)> {
    let mut tasks = JoinSet::new();
    for mut work in works {
        let units = units.clone();
        tasks.spawn_local(async move {
            let mut latencies = Latencies::default();
            while let Some(due) = units.take().await {
                let begun = due.unwrap_or_else(Instant::now);
                latencies.add(work.once().await?.saturating_duration_since(begun));
            }
            Ok((work, latencies))
        });
    }
    let (mut works, mut all) = (Vec::new(), Latencies::default());
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.map_err(|error| Error::internal(format!("a task ended: {error}")));
        let (work, latencies) = ended.and_then(|ended| ended).inspect_err(|_| units.give_up())?;
        works.push(work);
        all.append(latencies);
    }
    Ok((works, all))
}

/// Measures handshakes, full or resumed.
///
/// # Errors
/// The first connection that failed or got something else.
pub(super) fn handshakes(options: &Handshakes, resumed: bool) -> Result<()> {
    let site = Site::new(&options.target)?;
    let facts = site.look(resumed)?;
    let outcome = generate(site.server, &options.amount, || Handshaking {
        site: if resumed { site.remembering() } else { site.clone() },
        resumed,
        path: options.request.clone(),
    })?;
    let command = if resumed { "resume" } else { "handshakes" };
    Report::new(command, &facts).load("handshake", outcome).print(options.target.json)
}

/// One client that connects again and again.
pub(super) struct Handshaking {
    site: Site,
    resumed: bool,
    path: Option<String>,
}

impl Handshaking {
    /// With full handshakes, and nothing behind them.
    pub(super) fn full(site: Site) -> Self {
        Self { site, resumed: false, path: None }
    }

    async fn connect(&mut self, resumed: bool) -> Result<Instant> {
        let (stream, _) = self.site.connect(resumed).await?;
        let mut done = Instant::now();
        match &self.path {
            None => Site::farewell(stream).await?,
            Some(path) => {
                let mut http = Site::http(stream).await?;
                http.ask(get(path, &self.site.authority())?).await?;
                done = Instant::now();
                http.close().await;
            }
        }
        Ok(done)
    }
}

impl Work for Handshaking {
    async fn prepare(&mut self) -> Result<()> {
        // The session that the first is resumed from.
        if self.resumed {
            self.connect(false).await?;
        }
        Ok(())
    }

    async fn once(&mut self) -> Result<Instant> {
        self.connect(self.resumed).await
    }
}
