//! Protocols whose connections begin in plain text and ask for TLS in words of their own.
//!
//! What is said before the handshake is a [`Preamble`], of either side: a function from the bytes that came to what is to
//! be done, without a socket. A protocol more is a file with its two preambles, and a name in [`Starttls`]. The rest of
//! this module carries a preamble out over a socket, and holds what is true for all of them: nothing that comes in plain
//! text behind the request for TLS, or behind its answer, is ever taken for a part of the conversation.

pub(crate) mod cancel;
pub mod postgres;
pub(crate) mod session;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::str::FromStr;

use qtls_core::{Error, Fault};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::postgres::CancelRequest;
use crate::handshake::{Established, Failure};
use crate::socket::Socket;
use crate::stream::send_and_close;

/// The protocols, as configurations name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Starttls {
    /// PostgreSQL: `SSLRequest`, or TLS at once with the application protocol `postgresql`.
    Postgres,
}

impl Starttls {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Postgres];

    /// The name in configurations, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
        }
    }

    /// The name that says that TLS came at once.
    const fn direct_name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres-direct",
        }
    }

    /// The application protocol (RFC 7301) that clients name where they begin with TLS at once.
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Postgres => postgres::ALPN,
        }
    }

    /// What a server says before the handshake.
    pub fn server(self) -> Box<dyn Preamble> {
        match self {
            Self::Postgres => Box::new(postgres::Server::default()),
        }
    }

    /// What a server says that has no encryption to offer.
    pub fn decliner(self) -> Box<dyn Preamble> {
        match self {
            Self::Postgres => Box::new(postgres::Decliner::default()),
        }
    }

    /// What a client is told that is not served after all, before it has heard anything else.
    pub(crate) fn complaint(self, message: &str) -> Cow<'static, [u8]> {
        match self {
            // sqlclient_unable_to_establish_sqlconnection
            Self::Postgres => postgres::error("08001", message, "The tunnel's log says more."),
        }
    }

    /// What a client says before the handshake.
    pub fn client(self) -> Box<dyn Preamble> {
        match self {
            Self::Postgres => Box::new(postgres::Client),
        }
    }
}

impl FromStr for Starttls {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.iter().copied().find(|protocol| protocol.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|protocol| protocol.name()).collect();
            Error::configuration(format!("{text:?} is no protocol that asks for TLS"))
                .hint(format!("known: {}", names.join(", ")))
        })
    }
}

impl fmt::Display for Starttls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One side of what is said before the handshake.
pub trait Preamble: Send {
    /// What this side says first, before it has heard anything.
    fn opening(&self) -> &'static [u8] {
        b""
    }

    /// Looks at all that came since the last step that took it, at least one byte.
    fn receive(&mut self, received: &[u8]) -> Step;
}

/// What follows from the bytes that came.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// They are too few to tell.
    More,
    /// All of them are taken: this is the answer to them, and the other side speaks next.
    Answer(&'static [u8]),
    /// All of them are taken: the handshake begins, after this answer.
    Tls(&'static [u8]),
    /// They are the beginning of the handshake itself.
    Direct,
    /// A request that stands for itself, and needs no TLS.
    Cancel(CancelRequest),
    /// There is no going on. The answer says so in the words of the protocol, where it has some.
    Refuse {
        /// Why.
        refusal: Refusal,
        /// What the other side is told.
        answer: Cow<'static, [u8]>,
    },
}

impl Step {
    /// A refusal without an answer: what came is no word of the protocol, or not to be trusted.
    pub(crate) fn refuse(refusal: Refusal) -> Self {
        Self::Refuse { refusal, answer: Cow::Borrowed(b"") }
    }
}

/// Why there is no TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client wants to go on in plain text.
    Plain(Starttls),
    /// So many bytes came in plain text behind the request for TLS, or behind the answer to it: nobody knows who put them
    /// there.
    Smuggled(usize),
    /// What came is no word of the protocol.
    Malformed(Starttls, &'static str),
    /// The client began with TLS at once, and didn't name the application protocol.
    NoAlpn(Starttls),
    /// The server takes no TLS.
    NoTls(Starttls),
}

impl Refusal {
    /// The reasons, as metrics and logs name them.
    pub const REASONS: &[&str] =
        &["starttls_malformed", "starttls_no_alpn", "starttls_no_tls", "starttls_plain", "starttls_smuggled"];

    /// A short, stable name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Plain(_) => "starttls_plain",
            Self::Smuggled(_) => "starttls_smuggled",
            Self::Malformed(..) => "starttls_malformed",
            Self::NoAlpn(_) => "starttls_no_alpn",
            Self::NoTls(_) => "starttls_no_tls",
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Plain(protocol) => Self::new(
                Fault::Policy,
                format!(
                    "the client speaks {protocol} without TLS (its sslmode should be require, or better verify-full)"
                ),
            ),
            Refusal::Smuggled(count) => Self::new(
                Fault::Handshake,
                format!(
                    "{count} bytes came in plain text before the handshake, behind what asks for TLS: a broken peer, or \
                     someone on the way who injects commands"
                ),
            ),
            Refusal::Malformed(protocol, what) => {
                Self::new(Fault::Handshake, format!("the peer speaks neither TLS nor {protocol}: {what}"))
            }
            Refusal::NoAlpn(protocol) => Self::new(
                Fault::Policy,
                format!(
                    "the client begins with TLS at once, which takes the application protocol \"{}\" (ALPN), and it offers \
                     none",
                    String::from_utf8_lossy(protocol.alpn())
                ),
            ),
            Refusal::NoTls(protocol) => {
                Self::new(Fault::Handshake, format!("the {protocol} server takes no TLS connections"))
            }
        }
    }
}

/// How a client came to the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// It asked in the words of the protocol.
    Asked(Starttls),
    /// It began with the handshake.
    Direct(Starttls),
}

impl Beginning {
    /// The label `beginning` of `qtls_starttls_total`.
    pub(crate) const NAMES: &[&str] = &["asked", "direct"];

    /// As the access log has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Asked(protocol) => protocol.name(),
            Self::Direct(protocol) => protocol.direct_name(),
        }
    }

    /// The labels of `qtls_starttls_total`.
    pub(crate) const fn labels(self) -> [&'static str; 2] {
        match self {
            Self::Asked(protocol) => [protocol.name(), "asked"],
            Self::Direct(protocol) => [protocol.name(), "direct"],
        }
    }

    /// What a completed handshake of this kind must have agreed on.
    pub(crate) fn check(self, alpn: Option<&[u8]>) -> Result<(), Refusal> {
        match self {
            // As PostgreSQL has it: without a name for what follows, TLS at once may be meant for another service
            // (RFC 7301, and the ALPACA attacks).
            Self::Direct(protocol) if alpn != Some(protocol.alpn()) => Err(Refusal::NoAlpn(protocol)),
            Self::Asked(_) | Self::Direct(_) => Ok(()),
        }
    }
}

/// What a client's connection began with.
#[derive(Debug)]
pub(crate) enum Opened {
    /// The handshake is next; these bytes are its first.
    Tls { socket: Socket, received: Vec<u8>, beginning: Beginning },
    /// A request to cancel, in plain text.
    Cancel { socket: Socket, request: CancelRequest },
}

/// More than any protocol says before the handshake.
const MOST: usize = 1024;
/// More questions than any client asks before the handshake: a peer must not go on asking for as long as it likes.
const MOST_STEPS: usize = 8;

/// Does the server's side of `protocol` up to the handshake. `received` is what was read already.
///
/// # Errors
/// The client goes away, or is refused; it has been told when this returns.
pub(crate) async fn open(mut socket: Socket, mut received: Vec<u8>, protocol: Starttls) -> Result<Opened, Failure> {
    let mut preamble = protocol.server();
    send(&mut socket, preamble.opening()).await?;
    let mut silent = received.is_empty();
    for _ in 0..MOST_STEPS {
        let step = match next(&mut socket, &mut received, preamble.as_mut(), protocol).await {
            Err(Failure::Closed(error)) if silent && received.is_empty() && is_end(&error) => {
                return Err(Failure::Silent);
            }
            step => step?,
        };
        silent = false;
        match step {
            Step::More => {}
            Step::Answer(answer) => {
                received.clear();
                send(&mut socket, answer).await?;
            }
            Step::Tls(answer) => {
                send(&mut socket, answer).await?;
                return Ok(Opened::Tls { socket, received: Vec::new(), beginning: Beginning::Asked(protocol) });
            }
            Step::Direct => return Ok(Opened::Tls { socket, received, beginning: Beginning::Direct(protocol) }),
            Step::Cancel(request) => return Ok(Opened::Cancel { socket, request }),
            Step::Refuse { refusal, answer } => {
                send_and_close(socket, &answer).await;
                return Err(Failure::Starttls(refusal));
            }
        }
    }
    Err(Failure::Starttls(Refusal::Malformed(protocol, "it asks for encryption again and again")))
}

/// Asks the server at the other end of `socket` for TLS, in the words of `protocol`: the client's handshake is next.
///
/// # Errors
/// The server takes no TLS, goes away, or says something else than the protocol has, such as bytes in plain text behind
/// its consent.
pub async fn ask(socket: &mut Socket, protocol: Starttls) -> Result<(), Failure> {
    let mut preamble = protocol.client();
    send(socket, preamble.opening()).await?;
    let mut received = Vec::new();
    for _ in 0..MOST_STEPS {
        match next(socket, &mut received, preamble.as_mut(), protocol).await? {
            Step::Answer(answer) => {
                received.clear();
                send(socket, answer).await?;
            }
            Step::Tls(answer) => return send(socket, answer).await,
            Step::Refuse { refusal, .. } => return Err(Failure::Starttls(refusal)),
            Step::More | Step::Direct | Step::Cancel(_) => break,
        }
    }
    Err(Failure::Starttls(Refusal::Malformed(protocol, "it doesn't come to an end")))
}

/// Tells the client at the other end of `socket` that there is no encryption, should it ask for some. Returns what it
/// begins with then, which is for the server that it means.
///
/// # Errors
/// The client goes away, or says something else than the protocol has.
pub(crate) async fn decline(socket: &mut Socket, protocol: Starttls) -> Result<Vec<u8>, Failure> {
    let mut preamble = protocol.decliner();
    send(socket, preamble.opening()).await?;
    let mut received = Vec::new();
    for _ in 0..MOST_STEPS {
        let step = match next(socket, &mut received, preamble.as_mut(), protocol).await {
            Err(Failure::Closed(error)) if received.is_empty() && is_end(&error) => return Err(Failure::Silent),
            step => step?,
        };
        match step {
            Step::Answer(answer) => {
                received.clear();
                send(socket, answer).await?;
            }
            Step::Direct => return Ok(received),
            Step::Refuse { refusal, answer } => {
                send(socket, &answer).await?;
                return Err(Failure::Starttls(refusal));
            }
            Step::More | Step::Tls(_) | Step::Cancel(_) => break,
        }
    }
    Err(Failure::Starttls(Refusal::Malformed(protocol, "it asks for encryption again and again")))
}

/// Reads until `preamble` knows what to do.
async fn next(
    socket: &mut Socket,
    received: &mut Vec<u8>,
    preamble: &mut dyn Preamble,
    protocol: Starttls,
) -> Result<Step, Failure> {
    loop {
        if !received.is_empty() {
            let step = preamble.receive(received);
            if step != Step::More {
                return Ok(step);
            }
            if received.len() >= MOST {
                return Ok(Step::refuse(Refusal::Malformed(protocol, "it says too much before the handshake")));
            }
        }
        let room = MOST - received.len();
        let count = (&mut *socket).take(room as u64).read_buf(received).await.map_err(Failure::Closed)?;
        if count == 0 {
            return Err(Failure::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Judges a handshake on a listener whose clients `began` so.
pub(crate) async fn conclude(
    began: Option<Beginning>,
    outcome: Result<Established, Failure>,
) -> Result<Established, Failure> {
    let Some(began) = began else { return outcome };
    let established = match outcome {
        // It has said something before.
        Err(Failure::Silent) => return Err(Failure::Closed(io::ErrorKind::UnexpectedEof.into())),
        outcome => outcome?,
    };
    match began.check(established.facts.alpn.as_deref()) {
        Ok(()) => Ok(established),
        Err(refusal) => {
            established.stream.close().await;
            Err(Failure::Starttls(refusal))
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

async fn send(socket: &mut Socket, bytes: &[u8]) -> Result<(), Failure> {
    if bytes.is_empty() {
        return Ok(());
    }
    socket.write_all(bytes).await.map_err(Failure::Closed)
}
