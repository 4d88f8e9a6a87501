//! The endpoint that Prometheus scrapes, in plain HTTP on a port of its own.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use super::metrics::{self, Metrics};
use crate::shutdown::Shutdown;

/// Scrapers keep a connection or two; anything more than this is not one.
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `metrics` at `path` on the current runtime until everything is closed: a draining server is still watched.
///
/// # Errors
/// The socket can't be used with the runtime.
pub fn start(listener: TcpListener, path: String, metrics: Arc<Metrics>, mut shutdown: Shutdown) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let path: Arc<str> = path.into();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.closing() => return,
            };
            let Ok((socket, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = places.clone().try_acquire_owned() else { continue };
            let (path, metrics) = (path.clone(), metrics.clone());
            tokio::spawn(async move {
                let answer = service_fn(|request: Request<Incoming>| {
                    let response = answer(&request, &path, &metrics);
                    async { Ok::<_, Infallible>(response) }
                });
                // A scraper that misbehaves hurts nobody but itself.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(socket), answer)
                    .await;
                drop(place);
            });
        }
    });
    Ok(())
}

fn answer<B>(request: &Request<B>, path: &str, metrics: &Metrics) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    };
    if request.uri().path() != path {
        return plain(StatusCode::NOT_FOUND, format!("The metrics are at {path}.\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD.\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = Response::new(Full::from(metrics.text()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    response
}
