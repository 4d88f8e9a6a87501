//! One HTTP exchange, over HTTP/2 or HTTP/1.1.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use qtls_core::version::VERSION;
use qtls_core::{Error, Fault, Result};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use super::arguments;
use super::transport::{Outcome, Transport, silent};

/// How long a connection gets to say goodbye after its response is complete.
const GOODBYE: Duration = Duration::from_secs(2);

/// A response whose body is still to be read.
pub(super) struct Exchange {
    head: http::response::Parts,
    body: Incoming,
    outcome: Rc<Outcome>,
    patience: Duration,
    connection: JoinHandle<()>,
}

impl Exchange {
    /// Sends the request and waits for the head of its response. Needs a `LocalSet`.
    ///
    /// `patience` is how long the server may be silent while something is waited for. The transport can't tell: under
    /// HTTP/2 a server has to be silent while nobody takes the body.
    ///
    /// # Errors
    /// The connection failed, the handshake was refused after all, or the answer isn't HTTP.
    pub(super) async fn start(
        transport: Transport,
        outcome: Rc<Outcome>,
        protocol: Option<&[u8]>,
        request: &arguments::Request,
        authority: &str,
        patience: Duration,
    ) -> Result<Self> {
        let starting = Self::send(transport, &outcome, protocol, request, authority);
        let (response, connection) = timeout(patience, starting).await.map_err(|_| silent(patience))??;
        let (head, body) = response.into_parts();
        Ok(Self { head, body, outcome, patience, connection })
    }

    async fn send(
        transport: Transport,
        outcome: &Outcome,
        protocol: Option<&[u8]>,
        request: &arguments::Request,
        authority: &str,
    ) -> Result<(Response<Incoming>, JoinHandle<()>)> {
        let failed = |error| failed(outcome, &error);
        let io = TokioIo::new(transport);
        let (response, connection) = if protocol == Some(b"h2") {
            let (mut sender, connection) = http2::handshake(Local, io).await.map_err(failed)?;
            let connection = drive(connection);
            (sender.send_request(over_http2(request, authority)?).await, connection)
        } else {
            let (mut sender, connection) = http1::handshake(io).await.map_err(failed)?;
            let connection = drive(connection);
            (sender.send_request(over_http1(request, authority)?).await, connection)
        };
        Ok((response.map_err(failed)?, connection))
    }

    /// The status of the response.
    pub(super) fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The version of HTTP, as its status line has it.
    pub(super) fn version(&self) -> &'static str {
        match self.head.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
    }

    /// The fields of the response's header.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The next part of the body, or `None` after the last.
    ///
    /// # Errors
    /// The connection failed, ended before the body did, or the server was silent for too long.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = timeout(self.patience, self.body.frame()).await.map_err(|_| silent(self.patience))? {
            let frame = frame.map_err(|error| failed(&self.outcome, &error))?;
            // What isn't data are trailers, which nothing here asks for.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Closes the connection. The response is complete: that this fails is no loss.
    pub(super) async fn finish(self) {
        drop(self.body);
        let _ = timeout(GOODBYE, self.connection).await;
    }
}

/// Runs HTTP/2's own tasks on this thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

fn drive<E>(connection: impl Future<Output = Result<(), E>> + 'static) -> JoinHandle<()> {
    spawn_local(async {
        // Who waits for the response is told the same.
        let _ = connection.await;
    })
}

fn over_http1(request: &arguments::Request, authority: &str) -> Result<Request<Empty<Bytes>>> {
    finished(Request::builder().uri(Uri::from(request.path.clone())).header(HOST, authority), request)
}

fn over_http2(request: &arguments::Request, authority: &str) -> Result<Request<Empty<Bytes>>> {
    let uri = Uri::builder().scheme("https").authority(authority).path_and_query(request.path.clone()).build();
    finished(Request::builder().version(Version::HTTP_2).uri(uri.map_err(unusable)?), request)
}

fn finished(builder: http::request::Builder, request: &arguments::Request) -> Result<Request<Empty<Bytes>>> {
    // Servers wait for a body under these methods unless they are told that there is none (RFC 9110, section 8.6).
    let builder = match request.method {
        Method::POST | Method::PUT | Method::PATCH => builder.header(CONTENT_LENGTH, 0),
        _ => builder,
    };
    builder
        .method(request.method.clone())
        .header(USER_AGENT, format!("qtls-client/{VERSION}"))
        .header(ACCEPT, "*/*")
        .body(Empty::new())
        .map_err(unusable)
}

fn unusable(error: http::Error) -> Error {
    Error::configuration(format!("this request can't be made: {error}"))
}

/// Why an exchange failed. What the transport knows says more than what HTTP saw of it.
fn failed(outcome: &Outcome, error: &hyper::Error) -> Error {
    let new = |message: String| Error::new(Fault::Connection, message);
    outcome.failure().unwrap_or_else(|| {
        if error.is_parse() {
            new(format!("the server's answer is not HTTP: {error}"))
        } else if error.is_incomplete_message() || error.is_canceled() || is_short(error) {
            new("the server closed the connection before its response was complete".to_owned())
        } else {
            new(match std::error::Error::source(error) {
                Some(source) => format!("the HTTP exchange failed: {error}: {source}"),
                None => format!("the HTTP exchange failed: {error}"),
            })
        }
    })
}

/// Whether the body has ended before its length.
fn is_short(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|source| source.kind() == io::ErrorKind::UnexpectedEof)
}
