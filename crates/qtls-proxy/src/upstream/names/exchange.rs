//! One question to DNS servers, and the answer (RFC 1035, RFC 7766).
//!
//! Over UDP with a socket of its own for each question, from a port that the kernel chose and connected to the server, so
//! that answers from elsewhere don't arrive; over TCP where the answer doesn't fit.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

/// What passes every network unfragmented (RFC 9715).
const UDP_SIZE: u16 = 1232;

/// Whom to ask, and how patiently.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    pub(super) addresses: Vec<SocketAddr>,
    /// For each question to each server.
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// These addresses, for so long.
    Addresses(Vec<IpAddr>, Duration),
    /// There is no such name, or it has no such address.
    None,
    /// Nobody gave an answer.
    Failed(String),
}

/// Asks one server after the other until one knows.
pub(super) async fn ask(servers: &Servers, name: &str, kind: TYPE) -> Outcome {
    let mut why = "there is no DNS server to ask".to_owned();
    for _ in 0..servers.attempts {
        for server in &servers.addresses {
            match ask_one(*server, name, kind, servers.timeout).await {
                Ok(outcome) => return outcome,
                Err(reason) => why = format!("{server} {reason}"),
            }
        }
    }
    Outcome::Failed(why)
}

async fn ask_one(server: SocketAddr, name: &str, kind: TYPE, patience: Duration) -> Result<Outcome, String> {
    let deadline = Instant::now() + patience;
    let failed = |error: io::Error| format!("can't be asked: {error}");
    let late = || format!("gave no answer within {patience:?}");
    // Unpredictable: the keys are from the system's source of random numbers.
    let id = RandomState::new().hash_one(name) as u16;
    let query = query(id, name, kind)?;
    let over_udp = timeout_at(deadline, over_udp(server, id, &query)).await.map_err(|_| late())?.map_err(failed)?;
    let read = match read(&over_udp, kind)? {
        Read::Truncated => {
            let over_tcp = timeout_at(deadline, over_tcp(server, id, &query)).await;
            let answer = over_tcp.map_err(|_| late())?.map_err(failed)?;
            read_whole(&answer, kind)?
        }
        Read::Whole(outcome) => outcome,
    };
    Ok(read)
}

fn query(id: u16, name: &str, kind: TYPE) -> Result<Vec<u8>, String> {
    let bad = |error: simple_dns::SimpleDnsError| format!("can't be asked for such a name: {error}");
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(bad)?;
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: UDP_SIZE, version: 0 });
    packet.build_bytes_vec().map_err(bad)
}

async fn over_udp(server: SocketAddr, id: u16, query: &[u8]) -> io::Result<Vec<u8>> {
    // Connecting binds it, too: binding is what the sandbox refuses.
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM.nonblocking(), None)?;
    socket.connect(&server.into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(query).await?;
    let mut answer = vec![0; usize::from(UDP_SIZE)];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answers(&answer[..length], id, query) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, id: u16, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut message = (query.len() as u16).to_be_bytes().to_vec();
    message.extend_from_slice(query);
    stream.write_all(&message).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if answers(&answer, id, query) {
        Ok(answer)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question"))
    }
}

/// Whether a message is the answer to this question. Others are not heard: anybody could send them.
fn answers(answer: &[u8], id: u16, query: &[u8]) -> bool {
    let (Ok(answer), Ok(query)) = (Packet::parse(answer), Packet::parse(query)) else { return false };
    let same = |one: &Question<'_>, other: &Question<'_>| {
        one.qtype == other.qtype && one.qname.to_string().eq_ignore_ascii_case(&other.qname.to_string())
    };
    answer.id() == id
        && answer.has_flags(PacketFlag::RESPONSE)
        && answer.questions.len() == 1
        && answer.questions.iter().zip(&query.questions).all(|(one, other)| same(one, other))
}

enum Read {
    Truncated,
    Whole(Outcome),
}

fn read(answer: &[u8], kind: TYPE) -> Result<Read, String> {
    let packet = Packet::parse(answer).map_err(|error| format!("gave an answer that can't be read: {error}"))?;
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(Read::Truncated);
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Ok(Read::Whole(Outcome::None)),
        code => return Err(format!("refuses to answer: {code:?}")),
    }
    let mut addresses = Vec::new();
    let mut ttl = u32::MAX;
    for record in packet.answers.iter().filter(|record| record.class == CLASS::IN) {
        let address: Option<IpAddr> = match &record.rdata {
            RData::A(a) if kind == TYPE::A => Some(Ipv4Addr::from_bits(a.address).into()),
            RData::AAAA(aaaa) if kind == TYPE::AAAA => Some(Ipv6Addr::from_bits(aaaa.address).into()),
            // On the way to the name that has the addresses.
            RData::CNAME(_) => None,
            _ => continue,
        };
        addresses.extend(address);
        ttl = ttl.min(record.ttl);
    }
    if addresses.is_empty() {
        return Ok(Read::Whole(Outcome::None));
    }
    Ok(Read::Whole(Outcome::Addresses(addresses, Duration::from_secs(ttl.into()))))
}

fn read_whole(answer: &[u8], kind: TYPE) -> Result<Outcome, String> {
    match read(answer, kind)? {
        Read::Whole(outcome) => Ok(outcome),
        Read::Truncated => Err("cut its answer short over TCP, too".to_owned()),
    }
}
