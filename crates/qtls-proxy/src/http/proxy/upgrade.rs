//! WebSocket (RFC 6455), also from HTTP/2 (RFC 8441): the one protocol that a request may switch to.
//!
//! Other protocols are not passed on: the request is served without them, as RFC 9110, section 7.8 has it. h2c behind a
//! gateway is a way around it.

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::Parts;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use qtls_core::credentials::random;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::bodies::RequestBody;
use super::heads::{Heads, Watched};
use super::observed::Observed;
use super::pool::{Lease, Sender};
use super::{Failure, Inner, Sent, fields, request};
use crate::http::Cause;
use crate::http::activity::Exchange;
use crate::http::reply::Refusal;
use crate::http::tunnel::{self, CloseWrite, Terms};
use crate::observe::metrics::OpenUpstream;
use crate::shutdown::Shutdown;
use crate::upstream::{Link, ServerId};

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// What a request wants to switch to WebSocket by.
pub(super) enum Wanted {
    /// `Upgrade`, in HTTP/1.1.
    Upgrade,
    /// The extended CONNECT of HTTP/2, whose stream is the client's side. The key is ours, and goes to the upstream.
    Connect { stream: OnUpgrade, key: String },
}

/// A WebSocket that the upstream has agreed to.
pub(in crate::http) struct Tunnel {
    /// The client's side, where it is not the whole connection.
    pub(in crate::http) stream: Option<OnUpgrade>,
    switched: Switched,
    server: ServerId,
    proxy: Rc<Inner>,
    /// Held, so that the connection counts as busy.
    _exchange: Rc<Exchange>,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("server", &self.server).finish_non_exhaustive()
    }
}

/// The upstream's side, once hyper is done with it.
type Switched = oneshot::Receiver<(Parts<TokioIo<Watched<Observed>>>, Option<OpenUpstream>)>;

impl Wanted {
    /// Finds out what a request wants, and makes it a plain request of the one kind that upstreams know.
    ///
    /// # Errors
    /// There is no randomness for a key.
    pub(super) fn of(request: &mut Request<Incoming>) -> Result<Option<Self>, Refusal> {
        if request.method() == Method::CONNECT {
            let Some(protocol) = request.extensions_mut().remove::<Protocol>() else { return Ok(None) };
            if !protocol.as_str().eq_ignore_ascii_case("websocket") {
                return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "no protocol but websocket is supported"));
            }
            let key = random::<16>().map_err(|_| NO_KEY)?;
            let stream = hyper::upgrade::on(&mut *request);
            *request.method_mut() = Method::GET;
            return Ok(Some(Self::Connect { stream, key: Base64::encode_string(&key) }));
        }
        let headers = request.headers();
        let wants = request.version() == Version::HTTP_11
            && request.method() == Method::GET
            && request.body().is_end_stream()
            && has_member(headers, &header::CONNECTION, b"upgrade")
            && has_member(headers, &header::UPGRADE, b"websocket");
        Ok(wants.then_some(Self::Upgrade))
    }

    /// Says to the upstream what is wanted.
    fn ask(&self, headers: &mut HeaderMap) {
        headers.remove(header::TE);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, WEBSOCKET);
        if let Self::Connect { key, .. } = self
            && let Ok(key) = HeaderValue::from_str(key)
        {
            headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
    }

    /// Checks a response that switches, and makes it one for the client.
    fn accept(&self, response: &Response<Incoming>) -> Result<Response<()>, &'static str> {
        let headers = response.headers();
        if !has_member(headers, &header::UPGRADE, b"websocket") {
            return Err("it switches to another protocol than was asked for");
        }
        let (mut accepted, ()) = Response::new(()).into_parts();
        accepted.headers = headers.clone();
        fields::strip_response(&mut accepted.headers);
        accepted.headers.remove(header::CONTENT_LENGTH);
        match self {
            Self::Upgrade => {
                accepted.status = StatusCode::SWITCHING_PROTOCOLS;
                accepted.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                accepted.headers.insert(header::UPGRADE, WEBSOCKET);
            }
            Self::Connect { key, .. } => {
                let answer = accepted.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
                if answer.is_none_or(|answer| answer.as_bytes() != qtls_core::web_socket::accept(key).as_bytes()) {
                    return Err("its Sec-WebSocket-Accept is not that of the request's key");
                }
            }
        }
        Ok(Response::from_parts(accepted, ()))
    }
}

/// What an upstream answered.
pub(super) enum Answer {
    /// It serves the request as any.
    Passed(Response<Incoming>, Lease),
    Switched(Response<()>, Tunnel),
}

impl Answer {
    pub(super) fn of((response, lease): (Response<Incoming>, Lease)) -> Self {
        Self::Passed(response, lease)
    }
}

impl Inner {
    /// Sends a request that wants to switch, always on a connection of its own.
    pub(super) async fn switch(
        self: &Rc<Self>,
        wanted: Wanted,
        mut outgoing: request::Outgoing,
        method: &Method,
        client: IpAddr,
        exchange: &Rc<Exchange>,
    ) -> Result<Answer, Refusal> {
        wanted.ask(outgoing.request.headers_mut());
        let mut last: Option<(ServerId, Failure)> = None;
        for server in self.upstream.order(client) {
            if let Some((before, _)) = last {
                self.upstream.passed_on(before);
            }
            exchange.occupies(server, self.upstream.occupy(server));
            let link = match self.upstream.connect_for_upgrade(server, "a WebSocket").await {
                Ok(link) => link,
                Err(error) => {
                    last = Some((server, Failure::Connect(error)));
                    continue;
                }
            };
            let (lease, switched) = match self.open_to_switch(link, server).await {
                Ok(opened) => opened,
                Err(error) => {
                    let failure = Failure::Closed(error.to_string());
                    self.report(server, &failure, method);
                    last = Some((server, failure));
                    continue;
                }
            };
            let response = match self.send(lease, outgoing.request, exchange).await {
                Sent::Answered(response, _) if response.status() == StatusCode::SWITCHING_PROTOCOLS => response,
                Sent::Unsent(unsent) => {
                    outgoing.request = unsent;
                    let failure = Failure::Closed("before the request".to_owned());
                    self.report(server, &failure, method);
                    last = Some((server, failure));
                    continue;
                }
                sent => {
                    let (response, lease) = self.settle(sent, server, method)?;
                    // To CONNECT it would mean that everything from here on is WebSocket.
                    if matches!(wanted, Wanted::Connect { .. }) && response.status().is_success() {
                        return Err(NOT_SWITCHED);
                    }
                    return Ok(Answer::Passed(response, lease));
                }
            };
            return match wanted.accept(&response) {
                Ok(response) => {
                    self.upstream.answered(server);
                    let stream = match wanted {
                        Wanted::Upgrade => None,
                        Wanted::Connect { stream, .. } => Some(stream),
                    };
                    let exchange = exchange.clone();
                    let tunnel = Tunnel { stream, switched, server, proxy: self.clone(), _exchange: exchange };
                    Ok(Answer::Switched(response, tunnel))
                }
                Err(why) => {
                    let failure = Failure::Invalid(why.to_owned());
                    self.report(server, &failure, method);
                    Err(failure.refusal())
                }
            };
        }
        let failure = last.map_or_else(|| Failure::Connect(self.upstream.none_up()), |(_, failure)| failure);
        Err(failure.refusal())
    }

    async fn open_to_switch(&self, link: Link, server: ServerId) -> hyper::Result<(Lease, Switched)> {
        let heads = Heads::default();
        let (link, reached) = Observed::new(link, self.upstream.clone(), server);
        let link = TokioIo::new(Watched::new(link, heads.clone()));
        let (sender, connection) = self.http1.handshake::<_, RequestBody>(link).await?;
        let open = self.upstream.opened(server);
        let (give, switched) = oneshot::channel();
        let task = tokio::task::spawn_local(async move {
            match connection.without_shutdown().await {
                // Nobody waits for it where the upstream didn't switch.
                Ok(parts) => drop(give.send((parts, open))),
                Err(error) => tracing::debug!("an upstream connection failed: {error}"),
            }
        });
        let sender = Sender::Http1 { sender, task: task.abort_handle() };
        Ok((Lease::new(sender, heads, server, reached), switched))
    }
}

impl Tunnel {
    /// Passes bytes on, until the end. `early` came from the client behind its request.
    pub(in crate::http) async fn run<C>(self, client: C, early: Bytes, terms: Terms, shutdown: &mut Shutdown) -> Cause
    where
        C: CloseWrite + AsyncRead + AsyncWrite + Unpin,
    {
        let Ok((Parts { io, read_buf, .. }, _open)) = self.switched.await else { return Cause::UpstreamBrokeOff };
        let upstream = &self.proxy.upstream;
        let terms = Terms { idle: terms.idle.min(upstream.idle_timeout()), ..terms };
        let cause = tunnel::run(client, io.into_inner().into_inner(), early, read_buf, terms, shutdown).await;
        if cause == Cause::UpstreamBrokeOff {
            upstream.count_error(self.server, "broke_off");
        }
        cause
    }
}

const NOT_SWITCHED: Refusal =
    Refusal::new(StatusCode::BAD_GATEWAY, "the server behind this one does not speak WebSocket here");
const NO_KEY: Refusal = Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "there is no randomness for a key");

/// Whether one of the values of a field, which are lists, has this member.
fn has_member(headers: &HeaderMap, name: &HeaderName, member: &[u8]) -> bool {
    let mut members = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members.any(|one| one.trim_ascii().eq_ignore_ascii_case(member))
}
