//! The dashboard: one page for people, and the same figures for programs. It shows and changes nothing.

mod chart;
mod figures;
mod format;
mod grid;
mod history;
mod page;
mod sections;

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::header::HeaderValue;

use self::figures::{FALLBACKS, Figures, Sources};
use self::history::{Counts, History};
use super::metrics::{Metrics, Reading};
use super::view::View;

/// The policy of the page: nothing is loaded but the page itself.
pub(super) const POLICY: HeaderValue = page::POLICY;

/// What the dashboard knows beyond the metrics: what was when.
#[derive(Debug)]
pub(crate) struct Dashboard {
    host: String,
    listens: SocketAddr,
    began: Instant,
    history: Mutex<History>,
}

impl Dashboard {
    /// How often there is something to [`record`](Self::record).
    pub(crate) const PERIOD: Duration = history::FINE;

    /// For the server on `listens`, which starts now.
    pub(crate) fn new(listens: SocketAddr) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let began = Instant::now();
        Self { host, listens, began, history: Mutex::new(History::new(began)) }
    }

    /// So much has been counted until now.
    pub(crate) fn record(&self, reading: &Reading) {
        self.history().record(Instant::now(), Counts::of(reading));
    }

    /// The page.
    pub(super) fn page(&self, metrics: &Metrics, view: &View) -> String {
        page::render(&self.figures(metrics, view))
    }

    /// The same figures in JSON.
    pub(super) fn json(&self, metrics: &Metrics, view: &View) -> serde_json::Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(&self.figures(metrics, view))?;
        json.push(b'\n');
        Ok(json)
    }

    fn figures(&self, metrics: &Metrics, view: &View) -> Figures {
        let reading = metrics.read(view);
        self.record(&reading);
        let history = self.history();
        Figures::of(&Sources {
            host: &self.host,
            listens: self.listens.to_string(),
            now: SystemTime::now(),
            uptime: self.began.elapsed().as_secs(),
            reading: &reading,
            view,
            last_reload: metrics.last_reload(),
            fallbacks: metrics.fallbacks(FALLBACKS),
            minute: history.minute(),
            hour: history.hour(),
            day: history.day(),
        })
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
