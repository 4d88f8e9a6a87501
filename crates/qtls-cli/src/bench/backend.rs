//! A server of plain HTTP/1.1 that costs little, to stand behind the one that is measured.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use qtls_core::{Error, Result};
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};

use super::arguments::Backend;
use super::runtime;
use crate::ui;

/// Serves until it is ended by a signal. The first line of the output is the address.
///
/// # Errors
/// The address can't be listened on.
pub(super) fn backend(options: &Backend) -> Result<()> {
    LocalSet::new().block_on(&runtime()?, async {
        let unable =
            |error| Error::configuration(format!("can't listen on {}: {error}", options.listen)).at("--listen");
        let listener = TcpListener::bind(options.listen).await.map_err(unable)?;
        let address = listener.local_addr().map_err(unable)?;
        ui::print(&mut io::stdout().lock(), &format!("{address}\n"))?;
        loop {
            // One that has gone already is nobody's loss.
            let Ok((socket, _)) = listener.accept().await else { continue };
            let _ = socket.set_nodelay(true);
            spawn_local(async {
                // Whoever breaks a connection off knows why.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(answer)).await;
            });
        }
    })
}

async fn answer(request: Request<Incoming>) -> std::result::Result<Response<Filling>, hyper::Error> {
    let length = match (request.method(), request.uri().path().strip_prefix("/bytes/").map(str::parse)) {
        (&Method::GET, Some(Ok(length))) => length,
        (&Method::GET, None) => 0,
        (&Method::POST, _) => {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                frame?;
            }
            0
        }
        _ => {
            let mut response = Response::new(Filling { left: 0 });
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }
    };
    Ok(Response::new(Filling { left: length }))
}

/// A body of so many bytes, all the same.
struct Filling {
    left: u64,
}

static FILLING: [u8; 64 * 1024] = [b'q'; 64 * 1024];

impl Body for Filling {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let part = Bytes::from_static(&FILLING);
        let part = part.slice(..usize::try_from(self.left).unwrap_or(usize::MAX).min(FILLING.len()));
        self.left -= part.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
