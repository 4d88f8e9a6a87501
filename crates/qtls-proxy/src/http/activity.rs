//! What goes on on a client's connection, as far as time limits need to know.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::framing::Flaw;
use crate::upstream::{Busy, Leg, Peer, ServerId};

/// How many requests a client may take back, if it is the greater part of them.
const MOST_TAKEN_BACK: u64 = 500;

/// How long a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Without a request, or without a byte in either direction during one.
    pub(super) idle: Duration,
    /// From the first byte of a request head to its last. HTTP/1.1 only: in HTTP/2 an unfinished head is idleness.
    pub(super) head: Duration,
}

/// Which limit was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// There was no request.
    Idle,
    /// A head was begun and not ended.
    Head,
    /// A request is under way, and the client neither sends nor takes anything.
    Stalled,
}

/// What goes on on one connection.
#[derive(Debug)]
pub(super) struct Activity {
    /// The last byte in either direction.
    moved: Cell<Instant>,
    /// When the last request ended, or the connection began.
    idle_since: Cell<Instant>,
    /// When a head began that is incomplete.
    head_since: Cell<Option<Instant>>,
    /// Whether what has come is whole requests. HTTP/1.1 only.
    whole: Cell<bool>,
    /// Requests whose response is not complete.
    in_flight: Cell<usize>,
    /// Those of them whose next step is the upstream's, which has limits of its own.
    waiting: Cell<usize>,
    /// Whether the client doesn't take what is written.
    blocked: Cell<bool>,
    requests: Cell<u64>,
    /// How many of them the client took back while an upstream was at work on them.
    taken_back: Cell<u64>,
    /// The upstream server that was reached last.
    upstream: RefCell<Option<Peer>>,
    /// What was negotiated with it, over TLS.
    leg: Cell<Option<Leg>>,
    /// The number of a request, from 0, that is to be refused, and why.
    flaw: Cell<Option<(u64, Flaw)>>,
    /// Whether the stream failed.
    failed: Cell<bool>,
    /// Whether the stream was shut down.
    shut: Cell<bool>,
}

impl Activity {
    pub(super) fn new() -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            moved: Cell::new(now),
            idle_since: Cell::new(now),
            head_since: Cell::new(None),
            whole: Cell::new(true),
            in_flight: Cell::new(0),
            waiting: Cell::new(0),
            blocked: Cell::new(false),
            requests: Cell::new(0),
            taken_back: Cell::new(0),
            upstream: RefCell::new(None),
            leg: Cell::new(None),
            flaw: Cell::new(None),
            failed: Cell::new(false),
            shut: Cell::new(false),
        })
    }

    pub(super) fn moved(&self) {
        self.moved.set(Instant::now());
        self.blocked.set(false);
    }

    pub(super) fn blocked(&self, blocked: bool) {
        self.blocked.set(blocked);
    }

    pub(super) fn failed(&self) {
        self.failed.set(true);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    pub(super) fn shut(&self) {
        self.shut.set(true);
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut.get()
    }

    pub(super) fn in_head(&self, in_head: bool) {
        match (in_head, self.head_since.get()) {
            (true, None) => self.head_since.set(Some(Instant::now())),
            (false, Some(_)) => self.head_since.set(None),
            _ => {}
        }
    }

    /// What has come by now is whole requests, or it is not.
    pub(super) fn whole(&self, whole: bool) {
        self.whole.set(whole);
    }

    /// Since when nothing has been under way in either direction. HTTP/1.1 only.
    pub(super) fn rests_since(&self) -> Option<Instant> {
        let rests = self.is_idle() && self.whole.get() && !self.blocked.get() && self.head_since.get().is_none();
        // Shutting down takes a second where the client doesn't close, too: what is under way then is the end.
        (rests && !self.is_shut()).then(|| self.idle_since.get())
    }

    /// The request with this number, from 0, and all behind it are to be refused.
    pub(super) fn flawed(&self, request: u64, flaw: Flaw) {
        self.flaw.set(Some((request, flaw)));
    }

    /// The client took a request back that an upstream was at work on.
    pub(super) fn taken_back(&self) {
        self.taken_back.set(self.taken_back.get() + 1);
    }

    /// Whether the client makes upstreams work for nothing (CVE-2023-44487): who goes elsewhere in time, as browsers do,
    /// doesn't do so with most of very many requests.
    pub(super) fn takes_back_too_much(&self) -> bool {
        self.taken_back.get() >= MOST_TAKEN_BACK && self.taken_back.get() > self.requests.get() / 2
    }

    /// How many requests there were.
    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// The address of the upstream server that was reached last.
    pub(super) fn upstream(&self) -> Option<Peer> {
        self.upstream.borrow().clone()
    }

    /// What was negotiated with that server, over TLS.
    pub(super) fn leg(&self) -> Option<Leg> {
        self.leg.get()
    }

    /// Whether no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.get() == 0
    }

    /// When to look next at whether the client is overdue.
    pub(super) fn deadline(&self, limits: Limits) -> Instant {
        if self.in_flight.get() > 0 {
            let since = if self.waits_for_upstream() { Instant::now() } else { self.moved.get() };
            return since + limits.idle;
        }
        match self.head_since.get() {
            Some(since) => since + limits.head,
            // The end of a response may still be on its way to a slow client.
            None if self.blocked.get() => self.moved.get() + limits.idle,
            None => self.idle_since.get() + limits.idle,
        }
    }

    /// The deadline, if it comes before the one that was known when the connection was last looked at.
    pub(super) fn earlier_deadline(&self, limits: Limits) -> Option<Instant> {
        if self.in_flight.get() > 0 {
            return None;
        }
        self.head_since.get().map(|since| since + limits.head)
    }

    /// Which limit the client has passed.
    pub(super) fn overdue(&self, limits: Limits) -> Option<Overdue> {
        if self.deadline(limits) > Instant::now() {
            return None;
        }
        Some(match (self.in_flight.get(), self.head_since.get()) {
            (0, Some(_)) => Overdue::Head,
            (0, None) if !self.blocked.get() => Overdue::Idle,
            _ => Overdue::Stalled,
        })
    }

    fn waits_for_upstream(&self) -> bool {
        self.waiting.get() > 0 && !self.blocked.get()
    }
}

/// A request that is under way, until the last one who holds it is done with its parts.
pub(super) struct Exchange {
    activity: Rc<Activity>,
    /// From 0.
    number: u64,
    waiting: Cell<bool>,
    /// Whether the response head is awaited.
    headless: Cell<bool>,
    /// Whether a part of the request body is awaited from the client.
    starved: Cell<bool>,
    /// Whether the request body broke off.
    broken: Cell<bool>,
    /// Whether the request body is larger than it may be.
    too_large: Cell<bool>,
    /// Whether the request body is being passed on.
    uploading: Cell<bool>,
    /// When a part of the request body was last passed on.
    uploaded: Cell<Option<Instant>>,
    /// The server that it is under way on.
    busy: Cell<Option<(ServerId, Busy)>>,
}

impl Exchange {
    pub(super) fn begin(activity: &Rc<Activity>) -> Rc<Self> {
        let number = activity.requests.get();
        activity.requests.set(number + 1);
        activity.in_flight.set(activity.in_flight.get() + 1);
        Rc::new(Self {
            activity: activity.clone(),
            number,
            waiting: Cell::new(false),
            headless: Cell::new(false),
            starved: Cell::new(false),
            broken: Cell::new(false),
            too_large: Cell::new(false),
            uploading: Cell::new(false),
            uploaded: Cell::new(None),
            busy: Cell::new(None),
        })
    }

    /// Why the request is to be refused although it parses.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        self.activity.flaw.get().filter(|(first, _)| *first <= self.number).map(|(_, flaw)| flaw)
    }

    /// The request goes to the upstream server with this address.
    pub(super) fn reaches(&self, upstream: Option<&Peer>, leg: Option<Leg>) {
        self.activity.upstream.replace(upstream.cloned());
        self.activity.leg.set(leg);
    }

    /// The request is under way on a server, which has this much more to do; not on the one before.
    pub(super) fn occupies(&self, server: ServerId, busy: Busy) {
        self.busy.set(Some((server, busy)));
    }

    /// The server that the request is under way on.
    pub(super) fn server(&self) -> Option<ServerId> {
        let busy = self.busy.take();
        let server = busy.as_ref().map(|(server, _)| *server);
        self.busy.set(busy);
        server
    }

    /// The upstream's head is awaited, or has come.
    pub(super) fn awaits_head(&self, awaits: bool) {
        self.headless.set(awaits);
        self.awaits_upstream(awaits && !self.starved.get());
    }

    /// Something is awaited from the upstream, or has come.
    pub(super) fn awaits_upstream(&self, awaits: bool) {
        if self.waiting.replace(awaits) != awaits {
            let waiting = &self.activity.waiting;
            waiting.set(if awaits { waiting.get() + 1 } else { waiting.get() - 1 });
        }
    }

    /// A part of the request body is awaited from the client, or has come.
    pub(super) fn awaits_client(&self, awaits: bool) {
        if !awaits {
            self.uploaded.set(Some(Instant::now()));
        }
        if self.starved.replace(awaits) != awaits && self.headless.get() {
            self.awaits_upstream(!awaits);
        }
    }

    /// Whether a part of the request body is awaited from the client.
    pub(super) fn is_starved(&self) -> bool {
        self.starved.get()
    }

    /// The client no longer wants the response, of which there was more to come.
    pub(super) fn taken_back(&self) {
        self.activity.taken_back();
    }

    /// The request body broke off.
    pub(super) fn broke_off(&self) {
        self.broken.set(true);
    }

    /// Whether the request body broke off.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// The request body is larger than it may be, and so is not passed on to its end.
    pub(super) fn exceeds(&self) {
        self.broken.set(true);
        self.too_large.set(true);
    }

    /// Whether the request body is larger than it may be.
    pub(super) fn is_too_large(&self) -> bool {
        self.too_large.get()
    }

    /// The request body is being passed on, or no longer is.
    pub(super) fn uploading(&self, uploading: bool) {
        self.uploading.set(uploading);
    }

    /// Whether the request body is being passed on.
    pub(super) fn is_uploading(&self) -> bool {
        self.uploading.get()
    }

    /// When a part of the request body will have been passed on for the last time `limit` ago, if that is to come.
    pub(super) fn uploaded_within(&self, limit: Duration) -> Option<Instant> {
        self.uploaded.get().map(|at| at + limit).filter(|later| *later > Instant::now())
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("activity", &self.activity).finish_non_exhaustive()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.awaits_upstream(false);
        let left = self.activity.in_flight.get() - 1;
        self.activity.in_flight.set(left);
        if left == 0 {
            self.activity.idle_since.set(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: Limits = Limits { idle: Duration::ZERO, head: Duration::ZERO };
    const LONG: Limits = Limits { idle: Duration::from_secs(60), head: Duration::from_secs(30) };

    #[test]
    fn what_is_overdue_depends_on_who_is_awaited() {
        let activity = Activity::new();
        assert_eq!(activity.overdue(LONG), None);
        assert_eq!(activity.overdue(PASSED), Some(Overdue::Idle));
        activity.in_head(true);
        assert_eq!(activity.overdue(PASSED), Some(Overdue::Head));
        activity.in_head(false);

        let exchange = Exchange::begin(&activity);
        assert_eq!(activity.overdue(PASSED), Some(Overdue::Stalled));
        exchange.awaits_head(true);
        assert!(activity.deadline(LONG) > Instant::now() + LONG.idle - Duration::from_secs(1));
        assert!(activity.waits_for_upstream());
        exchange.awaits_client(true);
        assert!(!activity.waits_for_upstream());
        exchange.awaits_client(false);
        assert!(activity.waits_for_upstream());
        // The upstream's answer would not help a client that takes nothing.
        activity.blocked(true);
        assert!(!activity.waits_for_upstream());
        activity.moved();
        assert!(activity.waits_for_upstream());
        exchange.awaits_head(false);
        assert!(!activity.waits_for_upstream());
        // Uploading goes on after the head, but is no longer what the response waits for.
        exchange.awaits_client(true);
        exchange.awaits_client(false);
        assert!(!activity.waits_for_upstream());
        drop(exchange);
        assert_eq!(activity.overdue(PASSED), Some(Overdue::Idle));
        assert_eq!((activity.requests(), activity.in_flight.get(), activity.waiting.get()), (1, 0, 0));
    }

    #[test]
    fn what_has_begun_or_is_being_shut_down_does_not_rest() {
        let activity = Activity::new();
        assert!(activity.rests_since().is_some());
        let exchange = Exchange::begin(&activity);
        assert_eq!(activity.rests_since(), None);
        drop(exchange);
        activity.whole(false);
        assert_eq!(activity.rests_since(), None);
        activity.whole(true);
        activity.blocked(true);
        assert_eq!(activity.rests_since(), None);
        activity.moved();
        assert!(activity.rests_since().is_some());
        activity.shut();
        assert_eq!(activity.rests_since(), None);
    }

    #[test]
    fn what_is_behind_a_flaw_is_flawed_too() {
        let activity = Activity::new();
        activity.flawed(1, Flaw::LineFeed);
        let requests = [0, 1, 2].map(|_| Exchange::begin(&activity));
        let flaw = Some(Flaw::LineFeed);
        assert_eq!(requests.each_ref().map(|request| request.flaw()), [None, flaw, flaw]);
    }

    #[test]
    fn taking_back_the_greater_part_of_very_many_requests_is_too_much() {
        let activity = Activity::new();
        let request = |taken_back| {
            drop(Exchange::begin(&activity));
            if taken_back {
                activity.taken_back();
            }
        };
        (1..MOST_TAKEN_BACK).for_each(|_| request(true));
        assert!(!activity.takes_back_too_much());
        request(true);
        assert!(activity.takes_back_too_much());
        (0..MOST_TAKEN_BACK).for_each(|_| request(false));
        assert!(!activity.takes_back_too_much());
    }

    #[test]
    fn a_beginning_head_has_the_earlier_deadline() {
        let activity = Activity::new();
        assert_eq!(activity.earlier_deadline(LONG), None);
        activity.in_head(true);
        let deadline = activity.earlier_deadline(LONG).unwrap();
        assert!(deadline < activity.idle_since.get() + LONG.idle);
        let _exchange = Exchange::begin(&activity);
        assert_eq!(activity.earlier_deadline(LONG), None);
    }
}
