//! A PostgreSQL session within TLS: its first packet, and what is seen of its beginning.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::cancel::{self, Place, Session, Sessions};
use super::postgres::{self, First, Messages, SessionKey, sqlstate};
use crate::connection::{End, Span, unreached};
use crate::limits::Life;
use crate::observe::metrics::Metrics;
use crate::observe::repeats;
use crate::relay::{self, Watch};
use crate::shutdown::Shutdown;
use crate::stream::{TlsStream, Traffic};
use crate::upstream::{Connected, Peer, Upstream};
use crate::worker::Shared;

/// The limit on the time up to the first packet, and the reason of those that it ended.
const LATE: &str = "handshake_timeout";
/// The reason of those that began in no way that there is, as before the handshake.
const MALFORMED: &str = "starttls_malformed";

/// Serves a client whose handshake is complete. Its first packet has to come before `until`. `header` is what the server
/// gets before anything else.
#[expect(clippy::too_many_arguments, reason = "each is one thing that a connection has")]
pub(crate) async fn serve(
    upstream: &Arc<Upstream>,
    mut stream: TlsStream,
    client: SocketAddr,
    header: &[u8],
    until: Instant,
    life: Option<Life>,
    shared: &Shared,
    shutdown: &mut Shutdown,
) -> End {
    let traffic = stream.traffic();
    let mut packet = Vec::new();
    let first = tokio::select! {
        biased;
        first = timeout_at(until, first(&mut stream, &mut packet)) => first.unwrap_or(Err(LATE)),
        () = shutdown.closing() => Err("stopped"),
    };
    let end = |reason, upstream| {
        let limit = (reason == LATE).then_some(LATE);
        End { reason, limit, traffic: traffic.get(), upstream, leg: None, requests: None }
    };
    match first {
        Ok(First::Startup) => {}
        Ok(First::Cancel(request)) => {
            let common = &shared.common;
            let passing = cancel::pass_on(&request, true, client, &common.sessions, &common.metrics);
            let peer = tokio::select! {
                biased;
                (_, peer) = passing => peer,
                () = shutdown.closing() => None,
            };
            // Its client waits for this: it is how it knows that the server has looked at the request.
            stream.close().await;
            return end("cancel_request", peer);
        }
        Ok(First::Malformed(what)) => {
            if repeats::admit("session refused", what) {
                warn!(%client, reason = MALFORMED, "session refused: {what}");
            }
            return say_no(stream, end, "08P01", "this is no way to begin a session within TLS", what).await;
        }
        Ok(First::More) => {
            stream.close().await;
            return end("clean", None);
        }
        Err(reason) => {
            stream.close().await;
            return end(reason, None);
        }
    }
    // Connecting is a part of it.
    let span = Span::begin(upstream, life);
    let Connected { mut link, server, busy: _busy } = match upstream.connect(client.ip(), header).await {
        Ok(connected) => connected,
        Err(error) => {
            // It is in the log already, with all others of this second.
            let hint = "The log of qtls-server says why.";
            let no = say_no(stream, |_, _| (), "57P03", "no database server takes connections at the moment", hint);
            no.await;
            return end(unreached(&error), None);
        }
    };
    upstream.requested(server);
    let _open = upstream.opened(server);
    let (peer, leg) = (upstream.peer(server, &link), link.leg());
    let mut watch = Beginning {
        from_server: Messages::default(),
        from_client: Messages::default(),
        place: Place { upstream: upstream.clone(), server, peer: peer.clone() },
        sessions: &shared.common.sessions,
        metrics: &shared.common.metrics,
        client,
        session: None,
        asked: None,
        bound: false,
    };
    let begun = traffic.get();
    // What a link over TLS doesn't take at once goes with the rest.
    let (ended, rest) = match link.write_all(&packet).await {
        Ok(()) => {
            let idle = shared.live.config.limits.idle_timeout.min(upstream.idle_timeout());
            relay::watched(stream, link, idle, span.life, &mut watch, shutdown).await
        }
        Err(error) => (relay::End::Upstream(error), Traffic::default()),
    };
    let (reason, limit) = span.conclude(upstream, server, &ended);
    watch.conclude();
    let traffic = Traffic { received: begun.received + rest.received, sent: begun.sent + rest.sent };
    End { reason, limit, traffic, upstream: peer, leg, requests: None }
}

/// Reads the first packet, as far as it has to be known here. [`First::More`] is the end of the connection before it.
async fn first(stream: &mut TlsStream, packet: &mut Vec<u8>) -> Result<First, &'static str> {
    loop {
        match stream.read_buf(packet).await {
            Ok(0) => return Ok(First::More),
            Ok(_) => match First::parse(packet) {
                First::More => {}
                first => return Ok(first),
            },
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err("truncated"),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Err("tls_error"),
            Err(_) => return Err("client_error"),
        }
    }
}

/// Refuses a session in the words of the protocol.
async fn say_no<T>(
    mut stream: TlsStream,
    end: impl FnOnce(&'static str, Option<Peer>) -> T,
    sqlstate: &str,
    message: &str,
    hint: &str,
) -> T {
    // One that is gone needs no answer.
    let _ = stream.write_all(&postgres::error(sqlstate, message, hint)).await;
    stream.close().await;
    end(MALFORMED, None)
}

/// The beginning of a session as it passes by, up to its being ready for a query.
struct Beginning<'a> {
    from_server: Messages,
    from_client: Messages,
    place: Place,
    sessions: &'a Sessions,
    metrics: &'a Metrics,
    client: SocketAddr,
    /// The session is known for as long as this lives: to the end of the connection.
    session: Option<Session>,
    /// The server asked for SASL authentication, and whether it offered to bind it to its TLS connection; gone with the
    /// client's answer.
    asked: Option<bool>,
    /// The client bound its authentication to its own TLS connection.
    bound: bool,
}

const SASL: &[u8] = &10_u32.to_be_bytes();
const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";

impl Watch for Beginning<'_> {
    fn sent(&mut self, bytes: &[u8]) -> bool {
        let Self { from_server, place, sessions, metrics, client, session, asked, bound, .. } = self;
        from_server.push(bytes, |kind, body| match kind {
            b'R' => {
                if let Some(mechanisms) = body.strip_prefix(SASL) {
                    *asked = Some(mechanisms.split(|byte| *byte == 0).any(|mechanism| mechanism == PLUS));
                }
                true
            }
            b'K' => {
                if let Some(key) = SessionKey::announced(body) {
                    *session = Some(sessions.begin(key, place.clone(), metrics));
                }
                true
            }
            b'E' => {
                // Of a wrong password, the code is another one.
                if *bound && sqlstate(body) == Some(b"28000") {
                    tell_of_binding(*client);
                }
                false
            }
            // Ready for a query: nothing of interest comes any more.
            b'Z' => false,
            _ => true,
        })
    }

    fn received(&mut self, bytes: &[u8]) -> bool {
        let Self { from_client, asked, bound, .. } = self;
        from_client.push(bytes, |kind, body| {
            // SASLInitialResponse: the name of the mechanism comes first.
            if kind == b'p' && asked.take().is_some() {
                *bound = body.split(|byte| *byte == 0).next() == Some(PLUS);
            }
            true
        })
    }
}

impl Beginning<'_> {
    /// At the end of the connection.
    fn conclude(&self) {
        static TOLD: AtomicBool = AtomicBool::new(false);
        // It left when it saw that there is nothing to bind to. So do those that have no password yet: no reason to warn.
        if self.asked == Some(false) && !TOLD.swap(true, Ordering::Relaxed) {
            info!(
                client = %self.client,
                "a client left when it was asked for a SCRAM password: it has none to give, or it has \
                 channel_binding=require, which can't hold where TLS ends at a server before PostgreSQL: it needs \
                 channel_binding=prefer (said once)"
            );
        }
    }
}

fn tell_of_binding(client: SocketAddr) {
    if repeats::admit("channel binding failed", "") {
        warn!(
            %client,
            "channel binding failed: the client bound its SCRAM authentication to its TLS connection, which ends here, and \
             PostgreSQL to its own; set channel_binding=disable for the client, use the same certificate here and there, \
             or have no TLS between here and there"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::capture::Captured;
    use crate::upstream::tests::upstream;

    /// What a server says, and what the client answers.
    enum Said<'a> {
        Server(u8, &'a [u8]),
        Client(u8, &'a [u8]),
    }
    use Said::{Client, Server};

    /// Has a session begin so, in pieces of three bytes, and end. The log, how many sessions were known before the end,
    /// and whether there was more to look at.
    fn begin(conversation: &[Said<'_>]) -> (Vec<String>, usize, bool) {
        let log = Captured::start();
        let (sessions, metrics) = (Sessions::default(), Metrics::new().unwrap());
        let upstream = upstream(&[("127.0.0.1", 1)]);
        let server = upstream.order(std::net::Ipv4Addr::LOCALHOST.into()).next().unwrap();
        let mut watch = Beginning {
            from_server: Messages::default(),
            from_client: Messages::default(),
            place: Place { upstream, server, peer: None },
            sessions: &sessions,
            metrics: &metrics,
            client: SocketAddr::from(([192, 0, 2, 7], 1)),
            session: None,
            asked: None,
            bound: false,
        };
        let mut goes_on = true;
        for said in conversation {
            let (Server(kind, body) | Client(kind, body)) = said;
            let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
            let message = [&[*kind][..], &length, body].concat();
            for piece in message.chunks(3) {
                goes_on = match said {
                    Server(..) => watch.sent(piece),
                    Client(..) => watch.received(piece),
                };
            }
        }
        watch.conclude();
        let known = usize::from(format!("{sessions:?}") == "Sessions(1)");
        drop(watch);
        assert_eq!(format!("{sessions:?}"), "Sessions(0)", "a session is known for longer than it lasts");
        (log.lines(), known, goes_on)
    }

    const WITHOUT_BINDING: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256\0\0";
    const WITH_BINDING: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

    #[test]
    fn a_session_is_known_when_it_has_begun_and_then_nobody_looks_on() {
        let (log, known, goes_on) = begin(&[
            Server(b'R', WITHOUT_BINDING),
            Client(b'p', b"SCRAM-SHA-256\0\0\0\0\x01y"),
            Server(b'R', b"\0\0\0\x0cv=x"),
            Server(b'R', b"\0\0\0\0"),
            Server(b'S', &[b'x'; 5000]),
            Server(b'K', b"\0\0\0\x011234"),
            Server(b'Z', b"I"),
        ]);
        assert_eq!((log, known, goes_on), (Vec::new(), 1, false));
    }

    #[test]
    fn channel_binding_that_failed_is_told_with_the_remedy() {
        let bound = Client(b'p', b"SCRAM-SHA-256-PLUS\0\0\0\0\x01p");
        let (log, known, _) = begin(&[
            Server(b'R', WITH_BINDING),
            bound,
            Server(b'E', b"SFATAL\0VFATAL\0C28000\0MSCRAM channel binding check failed\0\0"),
        ]);
        assert_eq!((log.len(), known), (1, 0), "{log:?}");
        for part in
            ["WARN", "client=192.0.2.7:1", "channel binding failed: ", "set channel_binding=disable for the client"]
        {
            assert!(log[0].contains(part), "{part}: {log:?}");
        }
        // A wrong password, with binding and without it, is nothing else; and neither is another refusal.
        for (answer, refusal) in [
            (&b"SCRAM-SHA-256-PLUS\0"[..], &b"SFATAL\0C28P01\0Mpassword\0\0"[..]),
            (b"SCRAM-SHA-256\0", b"SFATAL\0C28000\0Mno pg_hba.conf entry\0\0"),
        ] {
            let (log, ..) = begin(&[Server(b'R', WITH_BINDING), Client(b'p', answer), Server(b'E', refusal)]);
            assert_eq!(log, Vec::<String>::new());
        }
    }
}
