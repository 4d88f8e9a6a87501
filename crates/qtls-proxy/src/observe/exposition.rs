//! The port of the metrics, in plain HTTP: what Prometheus scrapes, and the dashboard.
//!
//! Who may see what is decided by the address that was connected to. Nothing here changes the server: everything is GET
//! or HEAD.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::info;

use super::dashboard::{self, Dashboard};
use super::health::Health;
use super::metrics::{Metrics, Reading};
use super::view::View;
use crate::config;
use crate::listen::{Listener, Origin, Role};
use crate::live::Live;
use crate::shutdown::Phase;

/// Scrapers keep a connection or two, browsers a few; anything more than this is neither.
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

const DASHBOARD: &str = "/dashboard";
const DASHBOARD_JSON: &str = "/dashboard.json";

/// What is to be seen of a server, on all listeners together.
pub(crate) struct Exposition {
    pub(crate) subject: Box<dyn Subject>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    /// `None` for those that have no clients to show.
    pub(crate) dashboard: Option<Dashboard>,
}

/// Whose metrics these are.
pub(crate) trait Subject: Send + Sync + 'static {
    /// The section of the configuration in force. Where the metrics are switched off, there is no listener.
    fn config(&self) -> Option<config::Metrics>;

    /// The state at this moment.
    fn view(&self, phase: Phase) -> View;
}

impl Subject for watch::Receiver<Arc<Live>> {
    fn config(&self) -> Option<config::Metrics> {
        self.borrow().config.metrics.clone()
    }

    fn view(&self, phase: Phase) -> View {
        View::of(&self.borrow(), phase)
    }
}

impl Exposition {
    /// Serves on the current runtime until everything is closed: a draining server is still watched, unless another
    /// process has taken its place.
    ///
    /// # Errors
    /// A socket can't be used with the runtime.
    pub(crate) fn start(self, listeners: Vec<Listener>) -> io::Result<()> {
        let this = Arc::new(self);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let config = this.subject.config();
        if let Some(config) = &config {
            for listener in listeners.iter().filter(|listener| listener.role == Role::Metrics) {
                info!("metrics on http://{}{}", listener.address, config.path);
            }
            if let Some(shown) = config.dashboard_address {
                info!("dashboard on http://{}{DASHBOARD}", SocketAddr::new(shown, config.port));
            }
        }
        for Listener { role, address, origin, socket } in listeners {
            let is_for_metrics = role == Role::Metrics
                && (origin == Origin::Activated
                    || config.as_ref().is_some_and(|config| config.address == address.ip()));
            let listener = tokio::net::TcpListener::from_std(socket)?;
            tokio::spawn(this.clone().accept(listener, is_for_metrics, places.clone()));
        }
        tokio::spawn(this.record());
        Ok(())
    }

    /// `is_for_metrics`: whether all who connect to this listener may have the metrics.
    async fn accept(self: Arc<Self>, listener: tokio::net::TcpListener, is_for_metrics: bool, places: Arc<Semaphore>) {
        let mut shutdown = self.health.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.unobserved() => return,
            };
            let Ok((socket, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = places.clone().try_acquire_owned() else { continue };
            let Ok(local) = socket.local_addr().map(|local| local.ip()) else { continue };
            let this = self.clone();
            let mut shutdown = shutdown.clone();
            tokio::spawn(async move {
                let answer = service_fn(|request: Request<Incoming>| {
                    let response =
                        this.health.answer(&request).unwrap_or_else(|| this.answer(&request, local, is_for_metrics));
                    async { Ok::<_, Infallible>(response) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(socket), answer);
                tokio::pin!(connection);
                // A scraper that misbehaves hurts nobody but itself. One that keeps its connection open must not go on
                // asking a process that was replaced.
                tokio::select! {
                    _ = connection.as_mut() => {}
                    () = shutdown.unobserved() => {
                        connection.as_mut().graceful_shutdown();
                        let _ = connection.await;
                    }
                }
                drop(place);
            });
        }
    }

    /// Keeps the history of the dashboard going, whether or not anybody looks.
    async fn record(self: Arc<Self>) {
        let Some(dashboard) = &self.dashboard else { return };
        let mut shutdown = self.health.shutdown.clone();
        let mut tick = interval(Dashboard::PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => dashboard.record(&self.metrics.counted()),
                () = shutdown.unobserved() => return,
            }
        }
    }

    fn answer<B>(&self, request: &Request<B>, local: IpAddr, is_for_metrics: bool) -> Response<Full<Bytes>> {
        let Some(config) = &self.subject.config() else { return Page::not_found(String::new()).into() };
        let view = || self.subject.view(self.health.shutdown.phase());
        let path = request.uri().path();
        let page = if path == config.path {
            if is_for_metrics || config.serves_metrics_on(local) {
                read_only(request, || Page::new(Reading::CONTENT_TYPE, self.metrics.read(&view()).text()))
            } else {
                Page::forbidden(format!(
                    "The metrics are not served on {local}: metrics.address is {}.\n",
                    config.address
                ))
            }
        } else if let Some(dashboard) = &self.dashboard
            && matches!(path, DASHBOARD | DASHBOARD_JSON)
        {
            match self.refusal(request, config, local) {
                Some(refusal) => refusal,
                None if path == DASHBOARD => read_only(request, || {
                    let page = dashboard.page(&self.metrics, &view());
                    Page::new("text/html; charset=utf-8", page).with(header::CONTENT_SECURITY_POLICY, dashboard::POLICY)
                }),
                None => read_only(request, || match dashboard.json(&self.metrics, &view()) {
                    Ok(json) => Page::new("application/json", json),
                    Err(_) => Page::text(StatusCode::INTERNAL_SERVER_ERROR, "The figures can't be written as JSON.\n"),
                }),
            }
        } else if path == "/" && self.dashboard.is_some() && self.refusal(request, config, local).is_none() {
            let there = HeaderValue::from_static(DASHBOARD);
            read_only(request, || {
                Page::text(StatusCode::FOUND, "The dashboard is at /dashboard.\n").with(header::LOCATION, there)
            })
        } else {
            let dashboard = config.dashboard_address.map_or("", |_| ", the dashboard is at /dashboard");
            Page::not_found(format!("The metrics are at {}{dashboard}.\n", config.path))
        };
        page.into()
    }

    /// Why this request doesn't get to see the dashboard.
    fn refusal<B>(&self, request: &Request<B>, config: &config::Metrics, local: IpAddr) -> Option<Page> {
        let Some(address) = config.dashboard_address else {
            let text = "There is no dashboard: metrics.dashboard_address is null.\n";
            return Some(Page::text(StatusCode::NOT_FOUND, text));
        };
        if !config.shows_dashboard_on(local) {
            return Some(Page::forbidden(format!(
                "The dashboard is not shown on {local}: metrics.dashboard_address is {address}. From elsewhere, forward a \
                 port of your machine (ssh -L, kubectl port-forward), or change metrics.dashboard_address.\n"
            )));
        }
        // The page of a stranger could have its own name resolve to this address, and read what the browser reads.
        if !request.headers().get(header::HOST).is_some_and(|host| is_address_or_localhost(host.as_bytes())) {
            return Some(Page::forbidden(
                "The dashboard is shown under localhost or an IP address only, and not under a name: whoever owns the name \
                 could read it by your browser. Use http://localhost or the address that metrics.dashboard_address gives.\n"
                    .to_owned(),
            ));
        }
        None
    }
}

fn read_only<B>(request: &Request<B>, page: impl FnOnce() -> Page) -> Page {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return page();
    }
    let allowed = HeaderValue::from_static("GET, HEAD");
    Page::text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD.\n").with(header::ALLOW, allowed)
}

/// What a request is answered with.
struct Page {
    status: StatusCode,
    kind: &'static str,
    content: Bytes,
    field: Option<(HeaderName, HeaderValue)>,
}

impl Page {
    fn new(kind: &'static str, content: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, kind, content: content.into(), field: None }
    }

    fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self { status, ..Self::new("text/plain; charset=utf-8", text) }
    }

    fn forbidden(text: String) -> Self {
        Self::text(StatusCode::FORBIDDEN, text)
    }

    fn not_found(text: String) -> Self {
        Self::text(StatusCode::NOT_FOUND, text)
    }

    fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { field: Some((name, value)), ..self }
    }
}

/// What every answer has. Without a policy of its own, an answer is nothing that may load or be framed.
const EVERY: [(HeaderName, HeaderValue); 5] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
];

impl From<Page> for Response<Full<Bytes>> {
    fn from(page: Page) -> Self {
        let mut response = Self::new(Full::new(page.content));
        *response.status_mut() = page.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(page.kind));
        for (name, value) in EVERY.into_iter().chain(page.field) {
            headers.insert(name, value);
        }
        response
    }
}

/// Whether an authority, with its port or without, is an IP address or `localhost`.
fn is_address_or_localhost(authority: &[u8]) -> bool {
    let Ok(authority) = std::str::from_utf8(authority) else { return false };
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port));
    }
    let (host, port) = match authority.find(':') {
        Some(colon) => authority.split_at(colon),
        None => (authority, ""),
    };
    (port.is_empty() || is_port(port))
        && (host.eq_ignore_ascii_case("localhost") || matches!(host.parse(), Ok(IpAddr::V4(_))))
}

/// `:` and a port.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_addresses() {
        for host in ["localhost", "LocalHost:9091", "127.0.0.1", "192.0.2.1:9091", "[::1]", "[2001:db8::1]:80"] {
            assert!(is_address_or_localhost(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9091",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:",
            "localhost:x",
            "[::1",
            "[::1]x",
            "[::1]:",
            "::1",
            "127.0.0.1@evil.example",
            "\u{a0}localhost",
        ] {
            assert!(!is_address_or_localhost(host.as_bytes()), "{host}");
        }
    }
}
