//! Against DNS servers on the loopback interface.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Mutex;
use std::thread;

use simple_dns::rdata::{A, AAAA, CNAME, RData};
use simple_dns::{CLASS, Name as DnsName, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::*;
use crate::upstream::capture::Captured;

/// What a server answers to a question: a message, in place of the one that asks.
type Answers = dyn Fn(&str, TYPE, bool) -> Reply + Send + Sync;

enum Reply {
    Records(Vec<(u32, RData<'static>)>),
    Code(RCODE),
    Truncated,
    /// Answers of somebody else's first.
    Forged(Vec<(u32, RData<'static>)>),
    Silence,
}

fn a(address: &str) -> RData<'static> {
    RData::A(A { address: address.parse::<Ipv4Addr>().unwrap().to_bits() })
}

fn message(query: &[u8], reply: &Reply) -> Option<Vec<u8>> {
    let query = Packet::parse(query).unwrap();
    let mut packet = Packet::new_reply(query.id());
    packet.questions.clone_from(&query.questions);
    match reply {
        Reply::Records(records) | Reply::Forged(records) => {
            let name = query.questions[0].qname.clone();
            let record =
                |(ttl, data): &(u32, RData<'static>)| ResourceRecord::new(name.clone(), CLASS::IN, *ttl, data.clone());
            packet.answers = records.iter().map(record).collect();
        }
        Reply::Code(code) => *packet.rcode_mut() = *code,
        Reply::Truncated => packet.set_flags(PacketFlag::TRUNCATION),
        Reply::Silence => return None,
    }
    Some(packet.build_bytes_vec().unwrap())
}

fn question(query: &[u8]) -> (String, TYPE) {
    let query = Packet::parse(query).unwrap();
    let QTYPE::TYPE(kind) = query.questions[0].qtype else { panic!("no type") };
    (query.questions[0].qname.to_string(), kind)
}

/// A DNS server over UDP and TCP; `answers` is told which.
fn server(answers: impl Fn(&str, TYPE, bool) -> Reply + Send + Sync + 'static) -> SocketAddr {
    let answers: Arc<Answers> = Arc::new(answers);
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    let over_tcp = answers.clone();
    thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).unwrap();
            let (name, kind) = question(&query);
            let answer = message(&query, &over_tcp(&name, kind, true)).unwrap();
            let framed = [&(answer.len() as u16).to_be_bytes(), answer.as_slice()].concat();
            stream.write_all(&framed).unwrap();
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 1500];
        loop {
            let (length, client) = udp.recv_from(&mut buffer).unwrap();
            let query = &buffer[..length];
            let (name, kind) = question(query);
            let reply = answers(&name, kind, false);
            if matches!(reply, Reply::Forged(_)) {
                let mut forged = message(query, &Reply::Records(vec![(60, a("192.0.2.66"))])).unwrap();
                forged[0] ^= 1;
                udp.send_to(&forged, client).unwrap();
                udp.send_to(b"no message", client).unwrap();
                let other = Packet::parse(query).unwrap();
                let mut other = Packet::new_reply(other.id());
                let name = DnsName::new_unchecked("other.test");
                other.questions.push(simple_dns::Question::new(name, QTYPE::TYPE(kind), CLASS::IN.into(), false));
                udp.send_to(&other.build_bytes_vec().unwrap(), client).unwrap();
            }
            if let Some(answer) = message(query, &reply) {
                udp.send_to(&answer, client).unwrap();
            }
        }
    });
    address
}

fn resolver(server: SocketAddr, resolv_conf: &str) -> (tempfile::TempDir, Resolver) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("resolv.conf"), resolv_conf).unwrap();
    let resolver = Resolver::with_files(directory.path(), Some(server));
    (directory, resolver)
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

#[tokio::test]
async fn both_families_are_asked_for_and_the_shortest_time_counts() {
    let server = server(|_, kind, _| {
        let alias = RData::CNAME(CNAME(DnsName::new_unchecked("real.test")));
        Reply::Records(match kind {
            TYPE::A => vec![(90, alias), (60, a("192.0.2.1")), (70, a("192.0.2.2"))],
            _ => vec![(80, RData::AAAA(AAAA { address: 1 }))],
        })
    });
    let (_keep, resolver) = resolver(server, "");
    let answer = resolver.look_up("db.test").await.unwrap();
    let expected = addresses(&["192.0.2.1", "192.0.2.2", "::1"]);
    assert_eq!(answer, Answer { addresses: expected, ttl: Duration::from_secs(60) });
}

#[tokio::test]
async fn what_does_not_fit_is_asked_for_over_tcp() {
    let server = server(|_, kind, over_tcp| match (kind, over_tcp) {
        (TYPE::A, false) => Reply::Truncated,
        (TYPE::A, true) => Reply::Records((0..200).map(|n| (60, a(&format!("192.0.2.{n}")))).collect()),
        _ => Reply::Records(Vec::new()),
    });
    let (_keep, resolver) = resolver(server, "");
    assert_eq!(resolver.look_up("db.test").await.unwrap().addresses.len(), 200);
}

#[tokio::test]
async fn answers_of_others_are_not_heard() {
    let server = server(|_, kind, _| match kind {
        TYPE::A => Reply::Forged(vec![(60, a("192.0.2.1"))]),
        _ => Reply::Records(Vec::new()),
    });
    let (_keep, resolver) = resolver(server, "");
    assert_eq!(resolver.look_up("db.test").await.unwrap().addresses, addresses(&["192.0.2.1"]));
}

#[tokio::test]
async fn names_are_completed_until_one_is_there() {
    let server = server(|name, _, _| match name {
        "db.b.test" => Reply::Records(vec![(60, a("192.0.2.1"))]),
        _ => Reply::Code(RCODE::NameError),
    });
    let (_keep, resolver) = resolver(server, "search a.test b.test\n");
    assert_eq!(resolver.look_up("db").await.unwrap().addresses, addresses(&["192.0.2.1"]));
    let error = resolver.look_up("other").await.unwrap_err();
    assert_eq!(error, "there is no such name, or it has no address");
}

#[tokio::test]
async fn failures_say_who_failed_and_how() {
    let refusing = server(|_, _, _| Reply::Code(RCODE::Refused));
    let (_keep, resolver) = resolver(refusing, "");
    assert_eq!(resolver.look_up("db.test").await.unwrap_err(), format!("{refusing} refuses to answer: Refused"));
    let silent = server(|_, _, _| Reply::Silence);
    let (_keep, resolver) = self::resolver(silent, "options timeout:1 attempts:1\n");
    assert_eq!(resolver.look_up("db.test").await.unwrap_err(), format!("{silent} gave no answer within 1s"));
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = mute.local_addr().unwrap();
    drop(mute);
    let (_keep, resolver) = self::resolver(nobody, "options attempts:1\n");
    let error = resolver.look_up("db.test").await.unwrap_err();
    assert!(error.starts_with(&format!("{nobody} can't be asked: ")), "{error}");
}

#[tokio::test]
async fn what_is_known_stays_known_and_each_change_is_said_once() {
    let log = Captured::start();
    let state = Arc::new(Mutex::new(Some("192.0.2.1")));
    let answers = state.clone();
    let server = server(move |_, kind, _| match (kind, *answers.lock().unwrap()) {
        (TYPE::A, Some(address)) => Reply::Records(vec![(0, a(address))]),
        (_, Some(_)) => Reply::Records(Vec::new()),
        (_, None) => Reply::Code(RCODE::ServerFailure),
    });
    let (_keep, resolver) = resolver(server, "options attempts:1\n");
    let name = Name::new("db.test", 5432);
    let mut failures = 0;
    let mut refresh = async || name.refresh(&resolver, "db.test:5432", &mut failures).await;
    let soon = Instant::now() + Duration::from_secs(5);
    assert_eq!(refresh().await, (true, Duration::from_secs(1)), "no shorter");
    assert_eq!(name.addresses(soon).await.unwrap().to_string(), "192.0.2.1");
    *state.lock().unwrap() = None;
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(refresh().await, (false, Duration::from_secs(seconds)));
    }
    assert_eq!(name.addresses(soon).await.unwrap().to_string(), "192.0.2.1", "the last one that was known");
    *state.lock().unwrap() = Some("192.0.2.1");
    refresh().await;
    *state.lock().unwrap() = Some("192.0.2.2");
    refresh().await;
    refresh().await;
    assert!(name.includes("192.0.2.2:5432".parse().unwrap()) && !name.includes("192.0.2.1:5432".parse().unwrap()));
    let lines = log.lines();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("its last known addresses stay in use: 192.0.2.1"));
    assert!(lines[1].contains("INFO") && lines[1].contains("the name resolves again, to 192.0.2.1"), "{}", lines[1]);
    assert!(lines[2].contains("resolves to 192.0.2.2 now; it was 192.0.2.1"), "{}", lines[2]);
}

#[tokio::test]
async fn who_comes_before_the_first_answer_waits_for_it() {
    let _log = Captured::start();
    let server = server(|_, _, _| Reply::Code(RCODE::NameError));
    let (_keep, resolver) = resolver(server, "");
    let name = Name::new("db.test", 5432);
    let late = name.addresses(Instant::now() + Duration::from_millis(10)).await.unwrap_err();
    assert_eq!(late, ConnectErrorKind::Unresolvable("no answer from the DNS server yet".to_owned()));
    let mut failures = 0;
    let (waited, _) = tokio::join!(
        name.addresses(Instant::now() + Duration::from_secs(20)),
        name.refresh(&resolver, "db.test:5432", &mut failures)
    );
    let why = "there is no such name, or it has no address".to_owned();
    assert_eq!(waited.unwrap_err(), ConnectErrorKind::Unresolvable(why));
}

#[test]
fn addresses_take_turns_and_bad_ones_come_last() {
    let list = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map(|address| address.parse().unwrap());
    let addresses = Addresses::new(list.to_vec());
    let order = || addresses.in_turn().map(|(place, _)| place).collect::<Vec<_>>();
    assert_eq!((order(), order()), (vec![0, 1, 2], vec![1, 2, 0]));
    addresses.tried(2, false);
    assert_eq!(order(), [0, 1, 2]);
    assert_eq!(order(), [0, 1, 2]);
    addresses.tried(2, true);
    assert_eq!(order(), [1, 2, 0]);
}
