//! The gate as connections meet it.

use std::future::Future;
use std::net::Ipv4Addr;
use std::task::Poll;

use super::*;
use crate::observe::view::View;
use crate::upstream::capture::{self, Captured};

const VALUES: Values = Values {
    max_connections: 3,
    per_address: 0,
    per_network: 0,
    network_prefix_v4: 24,
    network_prefix_v6: 64,
    handshakes_per_second: 0,
    memory_mb: 0,
    when_full: WhenFull::Queue,
    workers: 1,
    passed_on: false,
    section: "server",
};

const REFUSING: Values = Values { when_full: WhenFull::Refuse, ..VALUES };

fn gate(values: Values) -> Arc<Gate> {
    capture::install();
    Gate::new(values, Arc::new(Metrics::new().unwrap()))
}

fn client(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

/// Whether the future is ready now.
async fn now<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

/// What the metrics say of a series.
fn counted(gate: &Gate, series: &str) -> u64 {
    let text = String::from_utf8(gate.metrics.read(&View::default()).text()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_waits_for_one() {
    let gate = gate(VALUES);
    let mut places = vec![gate.enter().await.unwrap(), gate.enter().await.unwrap(), gate.enter().await.unwrap()];
    let (mut fourth, mut fifth) = (Box::pin(gate.enter()), Box::pin(gate.enter()));
    assert!(now(fourth.as_mut()).await.is_none() && now(fifth.as_mut()).await.is_none());
    assert_eq!(counted(&gate, "qtls_limit_hits_total{limit=\"max_connections\"}"), 2);
    places.pop();
    places.push(fourth.await.unwrap());
    assert!(now(fifth.as_mut()).await.is_none());
    places.clear();
    drop(fifth.await.unwrap());
    assert_eq!(gate.open(), 0);
    assert_eq!(counted(&gate, "qtls_connections_refused_total{limit=\"max_connections\"}"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_does_not_take_the_turn_of_another() {
    let gate = gate(Values { max_connections: 1, ..VALUES });
    let place = gate.enter().await.unwrap();
    let (mut first, mut second) = (Box::pin(gate.enter()), Box::pin(gate.enter()));
    assert!(now(first.as_mut()).await.is_none() && now(second.as_mut()).await.is_none());
    drop(place);
    drop(first);
    second.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_is_refused_where_that_is_wanted() {
    let gate = gate(REFUSING);
    let places = [gate.enter().await.unwrap(), gate.enter().await.unwrap(), gate.enter().await.unwrap()];
    assert_eq!(gate.enter().await.unwrap_err(), Refused(Limit::MaxConnections));
    assert_eq!(counted(&gate, "qtls_connections_refused_total{limit=\"max_connections\"}"), 1);
    drop(places);
    gate.enter().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_number_of_places_changes_while_they_are_held() {
    let gate = gate(VALUES);
    let mut places = vec![gate.enter().await.unwrap(), gate.enter().await.unwrap(), gate.enter().await.unwrap()];
    let mut waiting = Box::pin(gate.enter());
    assert!(now(waiting.as_mut()).await.is_none());
    // Fewer: nobody has to leave, and nobody gets in before enough have left by themselves.
    gate.set(Values { max_connections: 1, ..VALUES });
    places.truncate(1);
    assert!(now(waiting.as_mut()).await.is_none());
    // More: who waits gets in at once.
    gate.set(Values { max_connections: 2, ..VALUES });
    places.push(now(waiting.as_mut()).await.unwrap().unwrap());
    // Who waits is refused once waiting is not wanted any more.
    let mut waiting = Box::pin(gate.enter());
    assert!(now(waiting.as_mut()).await.is_none());
    gate.set(Values { max_connections: 2, ..REFUSING });
    assert_eq!(now(waiting.as_mut()).await.unwrap().unwrap_err(), Refused(Limit::MaxConnections));
}

#[tokio::test(start_paused = true)]
async fn too_much_memory_lets_nobody_in_but_one() {
    const MIB: u64 = 1 << 20;
    let gate = gate(Values { memory_mb: 100, ..VALUES });
    gate.memory.judge(101 * MIB, 100 * MIB);
    // A budget that is too small for the process alone is no outage.
    let only = gate.enter().await.unwrap();
    let mut waiting = Box::pin(gate.enter());
    assert!(now(waiting.as_mut()).await.is_none());
    assert_eq!(counted(&gate, "qtls_limit_hits_total{limit=\"memory\"}"), 1);
    drop(only);
    let mut other = Box::pin(gate.enter());
    let second = now(waiting.as_mut()).await.unwrap().unwrap();
    assert!(now(other.as_mut()).await.is_none());
    assert!(!gate.memory.judge(95 * MIB, 100 * MIB));
    assert!(now(other.as_mut()).await.is_none());
    assert!(gate.memory.judge(90 * MIB, 100 * MIB));
    gate.freed.notify_waiters();
    now(other.as_mut()).await.unwrap().unwrap();
    drop(second);

    gate.set(Values { memory_mb: 100, ..REFUSING });
    gate.memory.judge(101 * MIB, 100 * MIB);
    let _only = gate.enter().await.unwrap();
    assert_eq!(gate.enter().await.unwrap_err(), Refused(Limit::MemoryMb));
}

#[tokio::test(start_paused = true)]
async fn the_memory_is_measured_and_who_waits_hears_of_it() {
    let gate = gate(Values { memory_mb: 1, ..VALUES });
    tokio::spawn(gate.clone().watch());
    let _only = gate.enter().await.unwrap();
    tokio::time::sleep(2 * MEASURE).await;
    assert!(gate.memory.is_over() && gate.memory.resident() > 1 << 20);
    let waiting = gate.enter();
    let more = async {
        tokio::time::sleep(3 * LOOK).await;
        gate.set(Values { memory_mb: 1 << 20, ..VALUES });
    };
    let (place, ()) = tokio::join!(timeout(60 * LOOK, waiting), more);
    place.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_address_waits_for_its_own_connections_and_holds_up_nobody_else() {
    let gate = gate(Values { per_address: 1, ..VALUES });
    let until = Instant::now() + Duration::from_secs(10);
    let first = gate.visit(client(1)).unwrap();
    let mut second = gate.visit(client(1)).unwrap();
    assert!(!first.waits() && second.waits());
    assert!(!gate.visit(client(2)).unwrap().waits());
    // As many wait as may be open.
    assert_eq!(gate.visit(client(1)).unwrap_err(), Refused(Limit::PerAddress));
    {
        let mut admitted = Box::pin(second.admitted(&gate, client(1), until));
        assert!(now(admitted.as_mut()).await.is_none());
        assert_eq!(counted(&gate, "qtls_connections_waiting"), 1);
        drop(first);
        admitted.await.unwrap();
    }
    assert!(!second.waits());
    // Its time is the handshake's: then it is refused.
    let mut third = gate.visit(client(1)).unwrap();
    assert_eq!(third.admitted(&gate, client(1), until).await.unwrap_err(), Refused(Limit::PerAddress));
    assert_eq!(Instant::now(), until);
    drop((second, third));
    assert!(!gate.visit(client(1)).unwrap().waits());
    assert_eq!(counted(&gate, "qtls_connections_waiting"), 0);
    assert_eq!(counted(&gate, "qtls_limit_hits_total{limit=\"per_address\"}"), 3);
    assert_eq!(counted(&gate, "qtls_connections_refused_total{limit=\"per_address\"}"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_network_is_limited_beside_its_addresses() {
    let gate = gate(Values { per_address: 2, per_network: 3, ..REFUSING });
    let mut held: Vec<_> = [1, 1, 2].map(|last| gate.visit(client(last)).unwrap()).into();
    assert_eq!(gate.visit(client(1)).unwrap_err(), Refused(Limit::PerAddress));
    assert_eq!(gate.visit(client(3)).unwrap_err(), Refused(Limit::PerNetwork));
    gate.visit(Ipv4Addr::new(192, 0, 3, 1).into()).unwrap();
    // Who is refused for the network takes no place of the address.
    held.truncate(2);
    held.push(gate.visit(client(3)).unwrap());
    assert_eq!(gate.visit(client(4)).unwrap_err(), Refused(Limit::PerNetwork));
    gate.set(Values { per_address: 2, per_network: 0, ..REFUSING });
    gate.visit(client(4)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waited_for_its_address_still_waits_for_its_network() {
    let gate = gate(Values { per_address: 1, per_network: 2, ..VALUES });
    let until = Instant::now() + Duration::from_secs(10);
    let (one, two) = (gate.visit(client(1)).unwrap(), gate.visit(client(2)).unwrap());
    let mut three = gate.visit(client(1)).unwrap();
    let mut four = gate.visit(client(3)).unwrap();
    assert!(three.waits() && four.waits());
    let mut admitted = Box::pin(three.admitted(&gate, client(1), until));
    assert!(now(admitted.as_mut()).await.is_none());
    drop(one);
    // The place of the network goes to who asked for it first.
    four.admitted(&gate, client(3), until).await.unwrap();
    assert!(now(admitted.as_mut()).await.is_none());
    drop(two);
    admitted.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn handshakes_have_their_turn_in_order_within_their_time() {
    let gate = gate(Values { handshakes_per_second: 2, ..VALUES });
    let start = Instant::now();
    let until = start + Duration::from_millis(1100);
    gate.turn(until).await.unwrap();
    gate.turn(until).await.unwrap();
    assert_eq!(Instant::now(), start);
    let mut late = [Box::pin(gate.turn(until)), Box::pin(gate.turn(until)), Box::pin(gate.turn(until))];
    let [third, fourth, fifth] = &mut late;
    assert!(now(third.as_mut()).await.is_none() && now(fourth.as_mut()).await.is_none());
    assert_eq!(now(fifth.as_mut()).await, Some(Err(Refused(Limit::HandshakesPerSecond))));
    third.await.unwrap();
    assert_eq!(start.elapsed().as_millis(), 500);
    fourth.await.unwrap();
    assert_eq!(start.elapsed().as_millis(), 1000);
    assert_eq!(counted(&gate, "qtls_limit_hits_total{limit=\"handshakes_per_second\"}"), 3);
    assert_eq!(counted(&gate, "qtls_connections_refused_total{limit=\"handshakes_per_second\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_waits_hears_of_other_limits() {
    let gate = gate(Values { handshakes_per_second: 1, ..VALUES });
    let until = Instant::now() + Duration::from_secs(100);
    for _ in 0..50 {
        let mut turn = Box::pin(gate.turn(until));
        let _ = now(turn.as_mut()).await;
    }
    let mut waiting = Box::pin(gate.turn(until));
    assert!(now(waiting.as_mut()).await.is_none());
    let begin = Instant::now();
    gate.set(VALUES);
    assert!(!gate.has_turns());
    waiting.await.unwrap();
    assert_eq!(begin, Instant::now());
    gate.set(Values { handshakes_per_second: 1, ..REFUSING });
    gate.turn(until).await.unwrap();
    assert_eq!(gate.turn(until).await.unwrap_err(), Refused(Limit::HandshakesPerSecond));
}

#[tokio::test(start_paused = true)]
async fn the_log_says_what_is_reached_what_happens_and_the_remedy_and_when_it_is_over() {
    let log = Captured::start();
    let gate = gate(Values { per_network: 1, ..REFUSING });
    let held = gate.visit(client(1)).unwrap();
    for _ in 0..100 {
        gate.visit(client(2)).unwrap_err();
    }
    gate.tell();
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].contains(
            "WARN qtls_proxy::limits: limits.per_network is reached: 1 connections of one network are open, more are \
             refused; raise it, or turn it off, if many clients share a network"
        ),
        "{}",
        lines[0]
    );
    assert!(lines[0].contains("limit=\"per_network\" client=\"192.0.2.0/24\""), "{}", lines[0]);
    drop(held);
    tokio::time::advance(Duration::from_secs(5)).await;
    gate.tell();
    gate.tell();
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[1].contains("INFO") && lines[1].contains("the limit per_network is no longer reached"),
        "{}",
        lines[1]
    );
    assert!(lines[1].contains("connections=100"), "{}", lines[1]);
}

#[tokio::test(start_paused = true)]
async fn accepting_that_fails_is_said_once_with_its_reason_and_its_end() {
    let log = Captured::start();
    let gate = gate(VALUES);
    for _ in 0..100 {
        gate.cannot_accept(&io::Error::from_raw_os_error(libc::EMFILE));
        gate.cannot_accept(&io::Error::from_raw_os_error(libc::ENOBUFS));
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("no file descriptors are left for more connections"), "{}", lines[0]);
    assert!(lines[1].contains("can't accept connections: No buffer space available"), "{}", lines[1]);
    assert_eq!(counted(&gate, "qtls_limit_hits_total{limit=\"descriptors\"}"), 100);
    tokio::time::advance(Duration::from_secs(5)).await;
    gate.tell();
    let lines = log.lines();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[2].contains("the limit descriptors is no longer reached"), "{}", lines[2]);
    assert!(lines[3].contains("connections can be accepted again"), "{}", lines[3]);
}
