//! Requests and bodies over connections that stay open, in HTTP/1.1: the same bytes whether the server reads HTTP or only
//! relays.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HOST;
use hyper::{Method, Request};
use qtls_core::{Error, Fault, Result};

use super::arguments::{Amount, Direction, Requests, Throughput};
use super::load::{Outcome, Work, generate};
use super::report::Report;
use super::site::{Http, Site};

/// Measures requests.
///
/// # Errors
/// The first connection or request that failed.
pub(super) fn requests(options: &Requests) -> Result<()> {
    let site = Site::new(&options.target)?;
    let facts = site.look(false)?;
    let outcome = generate(site.server, &options.amount, || Requesting {
        site: site.clone(),
        http: None,
        left: 0,
        per_connection: options.per_connection.unwrap_or(u64::MAX),
        exchange: Exchange::Get { path: options.path.clone(), length: None },
    })?;
    Report::new("requests", &facts).load("request", outcome).print(options.target.json)
}

/// Measures bodies.
///
/// # Errors
/// The first connection or request that failed, or a body of another length.
pub(super) fn throughput(options: &Throughput) -> Result<()> {
    if options.direction == Direction::Both && options.concurrency < 2 {
        return Err(Error::configuration("both directions need two connections").at("--concurrency"));
    }
    let site = Site::new(&options.target)?;
    let facts = site.look(false)?;
    let length = usize::try_from(options.body).map_err(|_| Error::configuration("too many bytes").at("--body"))?;
    let upload = match options.direction {
        Direction::Down => Bytes::new(),
        Direction::Up | Direction::Both => Bytes::from(vec![b'q'; length]),
    };
    let next = AtomicU32::new(0);
    let count = options.bytes.div_ceil(options.body);
    let concurrency = options.concurrency;
    let amount = Amount { count, warm_up: u64::from(concurrency), concurrency, threads: 1, rate: None };
    let outcome = generate(site.server, &amount, || {
        let is_up = match options.direction {
            Direction::Down => false,
            Direction::Up => true,
            Direction::Both => next.fetch_add(1, Relaxed) % 2 == 1,
        };
        let exchange = match is_up {
            true => Exchange::Post { body: upload.clone() },
            false => Exchange::Get { path: format!("/bytes/{length}"), length: Some(length as u64) },
        };
        Requesting { site: site.clone(), http: None, left: 0, per_connection: u64::MAX, exchange }
    })?;
    let Outcome { window, .. } = outcome;
    Report::new("throughput", &facts).bytes(count * options.body, options.direction, window).print(options.target.json)
}

/// A GET without a body.
///
/// # Errors
/// The path is none.
pub(super) fn get(path: &str, authority: &str) -> Result<Request<Full<Bytes>>> {
    request(Method::GET, path, authority, Bytes::new())
}

fn request(method: Method, path: &str, authority: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
    Request::builder().method(method).uri(path).header(HOST, authority).body(Full::new(body)).map_err(|error| {
        Error::configuration(format!("{path:?} can't be asked for: {error}")).hint("such as /index.html")
    })
}

enum Exchange {
    /// With the length that its body has to have.
    Get {
        path: String,
        length: Option<u64>,
    },
    Post {
        body: Bytes,
    },
}

struct Requesting {
    site: Site,
    http: Option<Http>,
    /// How many requests the connection has yet.
    left: u64,
    per_connection: u64,
    exchange: Exchange,
}

impl Requesting {
    async fn connect(&mut self) -> Result<()> {
        if let Some(http) = self.http.take() {
            http.close().await;
        }
        self.http = Some(Site::http(self.site.connect(false).await?.0).await?);
        self.left = self.per_connection;
        Ok(())
    }
}

impl Work for Requesting {
    async fn prepare(&mut self) -> Result<()> {
        self.connect().await
    }

    async fn once(&mut self) -> Result<Instant> {
        if self.left == 0 {
            self.connect().await?;
        }
        self.left -= 1;
        let authority = self.site.authority();
        let (request, expected) = match &self.exchange {
            Exchange::Get { path, length } => (get(path, &authority)?, *length),
            Exchange::Post { body } => (request(Method::POST, "/", &authority, body.clone())?, None),
        };
        let Some(http) = &mut self.http else { return Err(Error::internal("there is no connection")) };
        let length = http.ask(request).await?;
        match expected {
            Some(expected) if expected != length => Err(Error::new(
                Fault::Connection,
                format!("a body of {expected} bytes was asked for, and {length} came"),
            )
            .hint("`qtls-bench backend` behind the server has /bytes/N")),
            _ => Ok(Instant::now()),
        }
    }
}
