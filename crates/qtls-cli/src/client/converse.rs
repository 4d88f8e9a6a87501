//! Standard input to the server and what the server sends to standard output, as bytes, both at once.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use qtls_core::{Error, Fault, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::stdio::{Output, input};
use super::transport::{Outcome, Transport};

/// How much is read from the server at once.
const CHUNK: usize = 64 * 1024;
/// How long [`farewell`] waits for a server that has something against the connection to say so.
const LATE_REFUSAL: Duration = Duration::from_secs(2);

/// Goes on until the server closes. The end of standard input is passed on.
///
/// # Errors
/// The connection failed or was cut off, or standard input or output failed.
pub(super) async fn converse(mut transport: Transport, outcome: Rc<Outcome>) -> Result<()> {
    let mut output = Output::open();
    let shared = RefCell::new(&mut transport);
    let received = {
        let mut sending = pin!(send(&shared, input()));
        let mut receiving = pin!(receive(&shared, &mut output));
        let mut sent = false;
        loop {
            // Sending first: what it sends is what makes the server's answer due.
            tokio::select! {
                biased;
                result = &mut sending, if !sent => match result {
                    Ok(()) => sent = true,
                    Err(error) => break Err(error),
                },
                result = &mut receiving => break result,
            }
        }
    };
    // What came is written out also where the end is missing.
    let written = output.finish().await;
    match received {
        Ok(()) => {
            let _ = transport.shutdown().await;
            written
        }
        Err(error) => Err(outcome.failure().unwrap_or(error)),
    }
}

/// Closes a connection that nothing is wanted from.
///
/// # Errors
/// The server refused the handshake, which in TLS 1.3 it can do after the client's part of it is complete.
pub(super) async fn farewell(mut transport: Transport, outcome: Rc<Outcome>) -> Result<()> {
    let ending = async {
        poll_fn(|cx| transport.poll_close_write(cx)).await?;
        // A server that sends data has accepted the connection.
        transport.read(&mut [0; 1]).await
    };
    // An end of any other kind is what was asked for.
    let _ = timeout(LATE_REFUSAL, ending).await;
    match outcome.failure() {
        Some(error) if error.fault() != Fault::Connection => Err(error),
        _ => {
            let _ = transport.shutdown().await;
            Ok(())
        }
    }
}

async fn send(transport: &RefCell<&mut Transport>, mut input: mpsc::Receiver<io::Result<Vec<u8>>>) -> Result<()> {
    while let Some(chunk) = input.recv().await {
        let chunk = chunk.map_err(|error| Error::internal(format!("standard input can't be read: {error}")))?;
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let count =
                poll_fn(|cx| Pin::new(&mut **transport.borrow_mut()).poll_write(cx, rest)).await.map_err(failed)?;
            rest = &rest[count..];
        }
        poll_fn(|cx| Pin::new(&mut **transport.borrow_mut()).poll_flush(cx)).await.map_err(failed)?;
    }
    poll_fn(|cx| transport.borrow_mut().poll_close_write(cx)).await.map_err(failed)
}

async fn receive(transport: &RefCell<&mut Transport>, output: &mut Output) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = poll_fn(|cx| {
            let mut unfilled = ReadBuf::new(&mut buffer);
            Pin::new(&mut **transport.borrow_mut()).poll_read(cx, &mut unfilled).map_ok(|()| unfilled.filled().len())
        })
        .await
        .map_err(failed)?;
        if count == 0 || !output.write(buffer[..count].to_vec()).await {
            return Ok(());
        }
        // Whoever reads standard output may have taken long: that was not the server.
        transport.borrow_mut().wait_anew();
    }
}

/// Used where the transport itself has noted nothing better.
fn failed(error: io::Error) -> Error {
    Error::new(Fault::Connection, format!("the connection failed: {error}"))
}
