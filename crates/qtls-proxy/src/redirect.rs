//! The port of plain HTTP: every request is told the way to https, and nothing is served.
//!
//! Only names that a certificate of this server covers are sent on, and the address that was connected to: whoever can
//! make a client or a cache ask with any `Host` must not get to choose where it goes.

use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, timeout};
use tracing::info;

use crate::listen::Listener;
use crate::live::Live;
use crate::observe::metrics::Metrics;
use crate::shutdown::{Phase, Shutdown};

/// How many may ask at the same time. An answer takes no time, so that only an attack has more.
const MAX_CONNECTIONS: usize = 256;
/// How large a head may be. hyper takes no less.
const MAX_HEAD: usize = 8192;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to ask, once the server stops, and how long those are let in who knocked before.
const LAST_CALL: Duration = Duration::from_secs(1);
/// For all of a connection.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of a body that nobody wants, so that its sender gets to read the answer.
const DISCARDED: u64 = 64 * 1024;

/// Every result, for metrics.
pub(crate) const RESULTS: &[&str] = &["dropped", "redirected", "refused"];

/// Answers on the port of plain HTTP.
#[derive(Debug)]
pub(crate) struct Redirector<T> {
    pub(crate) live: watch::Receiver<Arc<Live>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shutdown: Shutdown,
    /// Held as long as a client may be waiting for an answer.
    pub(crate) _busy: T,
}

impl<T: Send + Sync + 'static> Redirector<T> {
    /// Serves on the current runtime until the server drains.
    ///
    /// # Errors
    /// A socket can't be used with the runtime.
    pub(crate) fn start(self, listeners: Vec<Listener>) -> io::Result<()> {
        let this = Arc::new(self);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        for Listener { address, socket, .. } in listeners {
            info!("redirecting from http://{address} to https");
            let listener = tokio::net::TcpListener::from_std(socket)?;
            tokio::spawn(this.clone().accept(listener, places.clone()));
        }
        Ok(())
    }

    async fn accept(self: Arc<Self>, listener: tokio::net::TcpListener, places: Arc<Semaphore>) {
        let mut shutdown = self.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.draining() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => self.begin(socket, &places),
                // Those who knock wait in the kernel's queue.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        // As the workers do: closing the socket resets what waits in its queue, unless another process has it too.
        let until = Instant::now() + LAST_CALL;
        while shutdown.phase() < Phase::Closing && !shutdown.queues_are_served() && Instant::now() < until {
            // Whatever the runtime thinks of tasks that go on for long.
            let waiting = timeout(Duration::ZERO, unconstrained(listener.accept())).await;
            let Ok(Ok((socket, _))) = waiting else { return };
            self.begin(socket, &places);
        }
    }

    fn begin(self: &Arc<Self>, socket: TcpStream, places: &Arc<Semaphore>) {
        let Ok(place) = places.clone().try_acquire_owned() else { return self.metrics.redirect("dropped") };
        let this = self.clone();
        tokio::spawn(async move {
            let _ = timeout(TIMEOUT, this.serve(socket)).await;
            drop((place, this));
        });
    }

    /// One request a connection: the next one goes elsewhere.
    async fn serve(&self, socket: TcpStream) {
        let Ok(local) = socket.local_addr() else { return };
        let answer =
            service_fn(|request: Request<Incoming>| ready(Ok::<_, Infallible>(self.answer(&request, local.ip()))));
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .keep_alive(false)
            .serve_connection(TokioIo::new(socket), answer);
        let mut shutdown = self.shutdown.clone();
        let served = {
            let mut serving = pin!(poll_fn(|cx| connection.poll_without_shutdown(cx)));
            tokio::select! {
                served = &mut serving => served,
                // What it has asked may be on its way.
                () = shutdown.draining() => match timeout(LAST_CALL, serving).await {
                    Ok(served) => served,
                    Err(_) => return,
                },
            }
        };
        if served.is_ok() {
            let mut socket = connection.into_parts().io.into_inner();
            if socket.shutdown().await.is_ok() {
                let _ = tokio::io::copy(&mut socket.take(DISCARDED), &mut tokio::io::sink()).await;
            }
        }
    }

    fn answer<B>(&self, request: &Request<B>, local: IpAddr) -> Response<Full<Bytes>> {
        let live = self.live.borrow().clone();
        // Where it is switched off, there is no listener.
        let port = live.config.redirect.as_ref().map_or(443, |redirect| redirect.target(&live.config.server));
        let location = location(request, port, |host| match host {
            Host::Name(name) => live.names.covers(name),
            Host::Address(address) => address == local.to_canonical(),
        });
        let (status, text, field) = match location {
            Ok(location) => {
                let text = format!("This server is reached by https: {location}\n");
                (StatusCode::PERMANENT_REDIRECT, text, Some(location))
            }
            Err(status) => {
                let what = match status {
                    StatusCode::MISDIRECTED_REQUEST => "this server has no such host",
                    _ => "a request names one host, and a path on it",
                };
                let reason = status.canonical_reason().unwrap_or("error");
                (status, format!("{} {reason}: {what}\n", status.as_u16()), None)
            }
        };
        self.metrics.redirect(if field.is_some() { "redirected" } else { "refused" });
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        // RFC 9110, section 15.4.9: with 308 a POST stays a POST, and keeps its body. A redirect that browsers kept would
        // outlive the configuration; that https is used the next time is for `Strict-Transport-Security`.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(location) = field.and_then(|location| HeaderValue::try_from(location).ok()) {
            headers.insert(header::LOCATION, location);
        }
        response
    }
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host<'a> {
    Name(&'a str),
    Address(IpAddr),
}

impl<'a> Host<'a> {
    /// From an authority, with its port or without.
    fn of(authority: &'a str) -> Option<Self> {
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => (address, port),
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let digits = port.strip_prefix(':').unwrap_or(port);
        if port.len() > 6 || !digits.bytes().all(|digit| digit.is_ascii_digit()) || port.starts_with(char::is_numeric) {
            return None;
        }
        match host.parse::<IpAddr>() {
            Ok(address) if address.is_ipv6() == authority.starts_with('[') => {
                Some(Self::Address(address.to_canonical()))
            }
            Ok(_) => None,
            Err(_) => {
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                (!host.is_empty() && host.len() <= 253 && !authority.starts_with('[') && host.bytes().all(is_name))
                    .then_some(Self::Name(host))
            }
        }
    }
}

/// Where a request is sent: the same path of the same host, if `is_ours`.
///
/// # Errors
/// The status of the refusal.
fn location<B>(request: &Request<B>, port: u16, is_ours: impl Fn(Host<'_>) -> bool) -> Result<String, StatusCode> {
    let mut fields = request.headers().get_all(header::HOST).iter();
    let field = fields.next().filter(|_| fields.next().is_none()).ok_or(StatusCode::BAD_REQUEST)?;
    let field = field.to_str().map_err(|_| StatusCode::BAD_REQUEST)?;
    let uri = request.uri();
    if uri.authority().is_some_and(|authority| !authority.as_str().eq_ignore_ascii_case(field)) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if !path.starts_with('/') || !matches!(uri.scheme_str(), None | Some("http")) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let host = Host::of(field).ok_or(StatusCode::BAD_REQUEST)?;
    if !is_ours(host) {
        return Err(StatusCode::MISDIRECTED_REQUEST);
    }
    let name = match host {
        Host::Name(name) => name.to_ascii_lowercase(),
        Host::Address(IpAddr::V4(address)) => address.to_string(),
        Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
    };
    Ok(if port == 443 { format!("https://{name}{path}") } else { format!("https://{name}:{port}{path}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(target: &str, hosts: &[&str], port: u16) -> Result<String, u16> {
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header("host", *host);
        }
        let ours = |host: Host<'_>| match host {
            Host::Name(name) => name.eq_ignore_ascii_case("a.example"),
            Host::Address(address) => ["192.0.2.1", "2001:db8::1"].iter().any(|ours| ours.parse() == Ok(address)),
        };
        location(&request.body(()).unwrap(), port, ours).map_err(|status| status.as_u16())
    }

    #[test]
    fn our_hosts_are_sent_to_the_same_path() {
        for (target, host, port, location) in [
            ("/", "a.example", 443, "https://a.example/"),
            ("/b?c=d&e=%0d%0a", "A.Example:80", 443, "https://a.example/b?c=d&e=%0d%0a"),
            ("/b", "a.example:8080", 8443, "https://a.example:8443/b"),
            ("//evil.example/", "a.example", 443, "https://a.example//evil.example/"),
            ("/@evil.example", "a.example:", 443, "https://a.example/@evil.example"),
            ("http://a.example/b", "a.example", 443, "https://a.example/b"),
            ("http://a.example", "a.example", 443, "https://a.example/"),
            ("/b", "192.0.2.1", 443, "https://192.0.2.1/b"),
            ("/b", "[2001:db8::1]:80", 8443, "https://[2001:db8::1]:8443/b"),
        ] {
            assert_eq!(ask(target, &[host], port).as_deref(), Ok(location), "{target} of {host}");
        }
    }

    #[test]
    fn nobody_is_sent_anywhere_else() {
        for host in ["b.example", "a.example.evil.example", "evil.example", "192.0.2.2", "[::1]", "localhost", "a"] {
            assert_eq!(ask("/", &[host], 443), Err(421), "{host}");
        }
        for host in [
            "",
            ":80",
            "a.example@evil.example",
            "evil.example/a.example",
            "a.example evil.example",
            "a.example,evil.example",
            "a.example\\",
            "a.example#",
            "a.example:x",
            "a.example:123456",
            "[a.example]",
            "[192.0.2.1]",
            "2001:db8::1",
            "[2001:db8::1]80",
            "[2001:db8::1",
        ] {
            assert_eq!(ask("/", &[host], 443), Err(400), "{host}");
        }
        assert_eq!(ask("/", &[], 443), Err(400));
        assert_eq!(ask("/", &["a.example", "a.example"], 443), Err(400));
        for target in ["http://evil.example/", "https://a.example/", "a.example:80", "*"] {
            assert_eq!(ask(target, &["a.example"], 443), Err(400), "{target}");
        }
    }
}
