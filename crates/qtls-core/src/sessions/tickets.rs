//! Tickets: sessions that clients keep, sealed, so that every server with the same keys can resume them.
//!
//! rustls has tickets of its own, but their keys are random and can't be shared.
//!
//! # A ticket
//! ```text
//! key name (16) ‖ salt (32) ‖ nonce (12) ‖ AES-256-GCM( issue time (8) ‖ session ) ‖ tag (16)
//! ```
//! The key name tells which of the ticket keys has sealed it, and says nothing else. The AES key is made for this one
//! ticket: HKDF-SHA256 of the ticket key with the salt and, as its context, the [`Binding`]. So a ticket of one virtual
//! host or policy is nothing but a wrong ticket to another. Name and salt are authenticated as additional data, the
//! issue time (Unix time in seconds) is inside.
//!
//! # Why nonces don't collide
//! AES-GCM must never see a nonce twice under one key, and servers that share a key can't keep a common count. With
//! random nonces alone (96 bits), NIST allows 2³² tickets a key (SP 800-38D, section 8.3), which a fleet can reach. Here
//! each ticket has an AES key of its own by 256 bits of salt from the generator of each server. After 2⁶⁴ tickets of a
//! whole fleet under one ticket key, the chance that any two share an AES key is below 2⁻¹²⁸; they would also have to
//! share the random 96-bit nonce, which the cryptographic module draws beside it. No server needs to know of another.
//!
//! # What time does
//! The ticket lifetime that a client is told is a hint (RFC 9846 §4.6.1), and rustls leaves the rest to the rolling of
//! keys. Here the issue time inside is checked, so that the timeout holds however long the keys live.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use super::counters::{LookupResult, SessionCounters};
use super::key_file::TicketKeyFile;
use super::lifetime;
use crate::credentials::random;
use crate::endpoint::Binding;
use crate::{Error, Result};

/// How far a sibling's clock may be ahead of ours before its tickets are refused.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);

/// How many steps may lie within the timeout. The keys of all of them are derived when a server starts.
pub const MAX_STEPS: u64 = 1000;

/// The shortest secret that keys are derived from, in octets.
const MIN_SECRET: usize = 32;

/// How many different octets there are at least in 32 random ones, but for a chance of less than 2⁻¹⁰⁰.
const MIN_VARIETY: usize = 8;

const NAME: usize = 16;
const SALT: usize = 32;
const HEADER: usize = NAME + SALT;
const NONCE: usize = 12;
const TIME: usize = 8;
const TAG: usize = 16;

/// Labels that keep the uses of HKDF apart. They change with the format of tickets.
const TICKET_CONTEXT: &[u8] = b"Q-TLS ticket 1: key of one ticket";
const NAME_CONTEXT: &[u8] = b"Q-TLS ticket 1: name of a ticket key";
const STEP_CONTEXT: &[u8] = b"Q-TLS ticket 1: ticket key of a step";
const SECRET_CONTEXT: &[u8] = b"Q-TLS ticket 1: name of a secret";
/// Where there is nothing random to salt with. Approved modes ask for a salt.
const FIXED_SALT: &[u8] = b"Q-TLS ticket 1";

/// What the operator keeps: 32 octets that seal tickets.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TicketKey {
    name: [u8; NAME],
    secret: Zeroizing<[u8; 32]>,
}

impl TicketKey {
    pub(super) fn new(secret: Zeroizing<[u8; 32]>) -> Result<Self> {
        let mut name = [0; NAME];
        hkdf(FIXED_SALT, &*secret, &[NAME_CONTEXT], &mut name)?;
        Ok(Self { name, secret })
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The start of its name, in hexadecimal digits: the same wherever this key is, and of no use without it.
    pub(super) fn short_name(&self) -> String {
        hex(&self.name[..4])
    }

    fn for_one_ticket(&self, salt: &[u8], binding: &Binding) -> Option<RandomizedNonceKey> {
        let mut key = Zeroizing::new([0; 32]);
        hkdf(salt, &*self.secret, &[TICKET_CONTEXT, binding.as_bytes()], &mut *key).ok()?;
        RandomizedNonceKey::new(&AES_256_GCM, &*key).ok()
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKey({}…)", self.short_name())
    }
}

/// Something that many servers know, and that ticket keys are derived from. Wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketSecret(Zeroizing<Vec<u8>>);

impl TicketSecret {
    /// What a file holds. Of a file that is text, line ends and spaces behind it are no part of the secret: editors and
    /// shells add or remove them.
    ///
    /// # Errors
    /// Fewer than 32 octets, or hardly any different ones. `origin` is the place that the error names.
    pub fn new(mut octets: Zeroizing<Vec<u8>>, origin: impl fmt::Display) -> Result<Self> {
        if octets.iter().all(|octet| octet.is_ascii_graphic() || octet.is_ascii_whitespace()) {
            let length = octets.trim_ascii_end().len();
            octets.truncate(length);
        }
        let make = "make one with `qtls ticket-keys generate --secret FILE`, and give every server the same";
        if octets.len() < MIN_SECRET {
            let message = format!(
                "holds {} bytes, and a secret that ticket keys are derived from needs {MIN_SECRET} at least",
                octets.len()
            );
            return Err(Error::configuration(message).at(origin).hint(make));
        }
        if !is_varied(&octets) {
            let message = format!("holds fewer than {MIN_VARIETY} different bytes, which nothing random does");
            return Err(Error::configuration(message).at(origin).hint(make));
        }
        Ok(Self(octets))
    }

    /// A new one, as the text of a file: 64 hexadecimal digits.
    pub fn generate_text() -> Result<Zeroizing<String>> {
        let secret = Zeroizing::new(random::<32>()?);
        let mut text = Zeroizing::new(String::with_capacity(65));
        super::key_file::push_hex(&mut text, &*secret);
        text.push('\n');
        Ok(text)
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketSecret(…)")
    }
}

/// Whether these octets can be random: zeros are not, nor is what somebody typed by holding a key.
pub(super) fn is_varied(octets: &[u8]) -> bool {
    let mut seen = [false; 256];
    octets.iter().for_each(|octet| seen[usize::from(*octet)] = true);
    seen.iter().filter(|seen| **seen).count() >= MIN_VARIETY
}

/// The keys that seal and open tickets.
#[derive(Debug)]
pub struct TicketKeys(Keys);

#[derive(Debug)]
enum Keys {
    /// The first seals.
    Listed(Vec<TicketKey>),
    Derived(Derived),
}

impl TicketKeys {
    /// Those of a key file.
    pub fn from_file(file: &TicketKeyFile) -> Result<Self> {
        Ok(Self(Keys::Listed(file.keys().cloned().collect())))
    }

    /// Those that follow from a secret by time: a new one every `step`, counted from 1970, so that servers with the same
    /// secret and step have the same keys without a word between them.
    ///
    /// A key opens tickets as long as any of `timeout` can be of its step; and the key of the next step opens already,
    /// since a sibling's clock may be ahead.
    ///
    /// # Errors
    /// A step of less than a second, or more than [`MAX_STEPS`] within `timeout`.
    pub fn derived(secret: TicketSecret, step: Duration, timeout: Duration) -> Result<Self> {
        let step = step.as_secs();
        let back = (step > 0).then(|| timeout.as_secs().div_ceil(step));
        let Some(back) = back.filter(|back| *back <= MAX_STEPS) else {
            return Err(Error::configuration(format!(
                "steps of {step} s are too short: more than {MAX_STEPS} of them lie within the {} s that a session lasts",
                timeout.as_secs()
            ))
            .hint("choose a longer step, such as 3600"));
        };
        let derived = Derived { secret, step, back, window: RwLock::default() };
        derived.window(unix_time())?;
        Ok(Self(Keys::Derived(derived)))
    }

    /// How many keys open tickets now.
    pub fn count(&self) -> usize {
        match &self.0 {
            Keys::Listed(keys) => keys.len(),
            Keys::Derived(derived) => derived.window(unix_time()).map_or(0, |window| window.keys.len()),
        }
    }

    /// The start of the name of the key that seals now: servers that show the same resume each other's sessions. `none`
    /// where the cryptographic library fails.
    pub fn sealing_name(&self) -> String {
        self.sealing(unix_time()).map_or_else(|| "none".to_owned(), |key| key.short_name())
    }

    fn sealing(&self, now: u64) -> Option<TicketKey> {
        match &self.0 {
            Keys::Listed(keys) => keys.first().cloned(),
            Keys::Derived(derived) => derived.window(now).ok().map(|window| window.sealing().clone()),
        }
    }

    fn opening(&self, now: u64, name: &[u8; NAME]) -> Option<TicketKey> {
        match &self.0 {
            // There are few.
            Keys::Listed(keys) => keys.iter().find(|key| key.name == *name).cloned(),
            Keys::Derived(derived) => derived.window(now).ok()?.opening(name).cloned(),
        }
    }

    fn seal(&self, now: u64, binding: &Binding, session: &[u8]) -> Option<Vec<u8>> {
        let key = self.sealing(now)?;
        let mut header = [0; HEADER];
        header[..NAME].copy_from_slice(&key.name);
        header[NAME..].copy_from_slice(&random::<SALT>().ok()?);
        // Room for the tag: growing would leave a copy of the session behind.
        let mut sealed = Vec::with_capacity(TIME + session.len() + TAG);
        sealed.extend_from_slice(&now.to_be_bytes());
        sealed.extend_from_slice(session);
        let aead = key.for_one_ticket(&header[NAME..], binding)?;
        let Ok(nonce) = aead.seal_in_place_append_tag(Aad::from(&header), &mut sealed) else {
            drop(Zeroizing::new(sealed));
            return None;
        };
        Some([&header, &nonce.as_ref()[..], &sealed].concat())
    }

    fn open(&self, now: u64, timeout: u64, binding: &Binding, ticket: &[u8]) -> Result<Vec<u8>, LookupResult> {
        use LookupResult::{Expired, Invalid, Unknown};
        let name = ticket.first_chunk::<NAME>().ok_or(Invalid)?;
        let key = self.opening(now, name).ok_or(Unknown)?;
        let (header, rest) = ticket.split_first_chunk::<HEADER>().ok_or(Invalid)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(Invalid)?;
        let aead = key.for_one_ticket(&header[NAME..], binding).ok_or(Invalid)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let plain = aead.open_in_place(Nonce::from(nonce), Aad::from(header), &mut plain).map_err(|_| Invalid)?;
        let (issued, session) = plain.split_first_chunk::<TIME>().ok_or(Invalid)?;
        let issued = u64::from_be_bytes(*issued);
        if issued > now.saturating_add(MAX_CLOCK_SKEW.as_secs()) {
            return Err(Invalid);
        }
        // As in the cache, the timeout is over when it has passed.
        if now.saturating_sub(issued) >= timeout {
            return Err(Expired);
        }
        Ok(session.to_vec())
    }
}

/// The keys by the starts of their names, in their order; or the secret by its own, and the step. The same wherever the
/// keys are the same, at any time.
impl fmt::Display for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Keys::Listed(keys) => {
                let names: Vec<_> = keys.iter().map(TicketKey::short_name).collect();
                f.write_str(&names.join(", "))
            }
            Keys::Derived(Derived { secret, step, .. }) => {
                let mut name = [0; 4];
                hkdf(FIXED_SALT, &secret.0, &[SECRET_CONTEXT], &mut name).map_err(|_| fmt::Error)?;
                write!(f, "from secret {} by steps of {step} s", hex(&name))
            }
        }
    }
}

/// Keys that follow from a secret.
#[derive(Debug)]
struct Derived {
    secret: TicketSecret,
    /// In seconds.
    step: u64,
    /// How many steps before the current one still matter.
    back: u64,
    window: RwLock<Option<Arc<Window>>>,
}

/// The keys of the steps around one moment.
#[derive(Debug)]
struct Window {
    current: u64,
    first: u64,
    /// From `first` on, without a gap; the one behind the current is the last.
    keys: Vec<TicketKey>,
    by_name: HashMap<[u8; NAME], usize>,
}

impl Derived {
    fn window(&self, now: u64) -> Result<Arc<Window>> {
        let current = now / self.step;
        let kept = self.window.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.current == current) {
            return Ok(kept.clone());
        }
        let first = current.saturating_sub(self.back);
        // Once a step. Workers that come here together derive the same.
        let keys = (first..=current.saturating_add(1))
            .map(|index| match kept.as_ref().and_then(|kept| kept.keys.get(index.checked_sub(kept.first)? as usize)) {
                Some(key) => Ok(key.clone()),
                None => self.key(index),
            })
            .collect::<Result<Vec<_>>>()?;
        let by_name = keys.iter().enumerate().map(|(index, key)| (key.name, index)).collect();
        let window = Arc::new(Window { current, first, keys, by_name });
        *self.window.write().unwrap_or_else(PoisonError::into_inner) = Some(window.clone());
        Ok(window)
    }

    fn key(&self, index: u64) -> Result<TicketKey> {
        let mut secret = Zeroizing::new([0; 32]);
        let context = [STEP_CONTEXT, &self.step.to_be_bytes(), &index.to_be_bytes()];
        hkdf(FIXED_SALT, &self.secret.0, &context, &mut *secret)?;
        TicketKey::new(secret)
    }
}

impl Window {
    fn sealing(&self) -> &TicketKey {
        &self.keys[(self.current - self.first) as usize]
    }

    fn opening(&self, name: &[u8; NAME]) -> Option<&TicketKey> {
        self.by_name.get(name).map(|index| &self.keys[*index])
    }
}

/// The tickets of one endpoint.
#[derive(Debug)]
pub(crate) struct SealedSessions {
    keys: Arc<TicketKeys>,
    binding: Binding,
    timeout: Duration,
    counters: Arc<SessionCounters>,
}

impl SealedSessions {
    pub(super) fn new(
        keys: Arc<TicketKeys>,
        binding: Binding,
        timeout: Duration,
        counters: Arc<SessionCounters>,
    ) -> Self {
        Self { keys, binding, timeout, counters }
    }

    pub(super) fn keys(&self) -> &TicketKeys {
        &self.keys
    }
}

impl ProducesTickets for SealedSessions {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        lifetime(self.timeout)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(unix_time(), &self.binding, plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let opened = self.keys.open(unix_time(), self.timeout.as_secs(), &self.binding, ticket);
        self.counters.ticket(opened.as_ref().err().copied().unwrap_or(LookupResult::Ok));
        opened.ok()
    }
}

fn hex(octets: &[u8]) -> String {
    let mut text = String::new();
    super::key_file::push_hex(&mut text, octets);
    text
}

/// In seconds. A clock before 1970 stands at its start.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// HKDF with SHA-256. All parts of `context` but the last have a fixed length.
fn hkdf(salt: &[u8], secret: &[u8], context: &[&[u8]], out: &mut [u8]) -> Result<()> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(context, Length(out.len()))
        .and_then(|derived| derived.fill(out))
        .map_err(|_| Error::internal("the cryptographic library could not derive a key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Source;

    const TIMEOUT: u64 = 3600;

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|index| u8::from_str_radix(&text[index..index + 2], 16).unwrap()).collect()
    }

    fn counting_key() -> TicketKeys {
        let digits: String = (0..32).map(|octet| format!("{octet:02x}")).collect();
        let file = TicketKeyFile::parse(Source { origin: "a test", bytes: digits.as_bytes() }).unwrap();
        TicketKeys::from_file(&file).unwrap()
    }

    fn new_key() -> TicketKeys {
        TicketKeys::from_file(&TicketKeyFile::generate().unwrap()).unwrap()
    }

    fn secret(text: &str) -> Result<TicketSecret> {
        TicketSecret::new(Zeroizing::new(text.as_bytes().to_vec()), "the secret")
    }

    fn derived(step: u64, timeout: u64) -> TicketKeys {
        let secret = secret("0123456789abcdef0123456789abcdef").unwrap();
        TicketKeys::derived(secret, Duration::from_secs(step), Duration::from_secs(timeout)).unwrap()
    }

    fn binding(seed: u8) -> Binding {
        Binding::for_tests(seed)
    }

    /// Replicas of different releases share keys: the format must not change by accident. These were made by the crypto
    /// module of Node 24.
    #[test]
    fn a_ticket_made_elsewhere_opens() {
        let ticket = unhex(
            "aeebd434867d81f1944523d10098d9645a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5aa5a5a5a5a5a5\
             a5a5a5a5a5a5e95b3f6ccf39fccbd0ed09fbe03d8810776af9037f51c2ff0a330e56fda7915006",
        );
        let opened = counting_key().open(1_800_000_000, TIMEOUT, &binding(1), &ticket);
        assert_eq!(opened, Ok(b"a session".to_vec()));
        assert_eq!((counting_key().sealing_name(), counting_key().to_string()), ("aeebd434".into(), "aeebd434".into()));
        let steps = derived(3600, TIMEOUT);
        assert_eq!(steps.sealing(500_000 * 3600).unwrap().name.to_vec(), unhex("4c2bd903cc261d41d5c1837ad52979d9"));
        assert_eq!(steps.sealing(500_000 * 3600 + 3599).unwrap().short_name(), "4c2bd903");
    }

    #[test]
    fn a_ticket_opens_wherever_the_key_is_and_nowhere_else() {
        let (ours, theirs) = (counting_key(), counting_key());
        let ticket = ours.seal(1000, &binding(1), b"session").unwrap();
        assert_eq!(theirs.open(1000, TIMEOUT, &binding(1), &ticket), Ok(b"session".to_vec()));
        assert_eq!(new_key().open(1000, TIMEOUT, &binding(1), &ticket), Err(LookupResult::Unknown));
        assert_eq!(theirs.open(1000, TIMEOUT, &binding(2), &ticket), Err(LookupResult::Invalid));
    }

    #[test]
    fn the_age_is_checked_in_both_directions() {
        let keys = counting_key();
        let ticket = keys.seal(10_000, &binding(1), b"session").unwrap();
        let open = |now| keys.open(now, TIMEOUT, &binding(1), &ticket);
        for now in [10_000, 10_001, 13_599, 9_999, 9_700] {
            assert!(open(now).is_ok(), "{now}");
        }
        assert_eq!(open(13_600), Err(LookupResult::Expired));
        assert_eq!(open(u64::MAX), Err(LookupResult::Expired));
        assert_eq!(open(9_699), Err(LookupResult::Invalid), "more than five minutes ahead of us");
        assert_eq!(open(0), Err(LookupResult::Invalid));
    }

    #[test]
    fn no_change_goes_unseen_and_no_length_panics() {
        for keys in [counting_key(), derived(3600, TIMEOUT)] {
            let ticket = keys.seal(1_800_000_000, &binding(1), b"session").unwrap();
            assert_eq!(ticket.len(), HEADER + NONCE + TIME + b"session".len() + TAG);
            for index in 0..ticket.len() {
                let mut changed = ticket.clone();
                changed[index] ^= 1;
                let expected = if index < NAME { LookupResult::Unknown } else { LookupResult::Invalid };
                assert_eq!(keys.open(1_800_000_000, TIMEOUT, &binding(1), &changed), Err(expected), "octet {index}");
                assert!(keys.open(1_800_000_000, TIMEOUT, &binding(1), &ticket[..index]).is_err());
            }
            let longer = [&ticket[..], &[0]].concat();
            assert_eq!(keys.open(1_800_000_000, TIMEOUT, &binding(1), &longer), Err(LookupResult::Invalid));
        }
    }

    #[test]
    fn two_tickets_of_one_session_have_nothing_in_common_but_the_key_name() {
        let keys = counting_key();
        let [one, other] = [(); 2].map(|()| keys.seal(1000, &binding(1), b"session").unwrap());
        assert_eq!(one[..NAME], other[..NAME]);
        assert_ne!(one[NAME..HEADER], other[NAME..HEADER]);
        assert_ne!(one[HEADER..HEADER + NONCE], other[HEADER..HEADER + NONCE]);
        assert_ne!(one[HEADER + NONCE..], other[HEADER + NONCE..]);
    }

    #[test]
    fn every_step_within_the_timeout_opens_and_the_next_one_too() {
        // The timeout is two and a half steps.
        let (step, timeout) = (60, 150);
        let server = |now| {
            let keys = derived(step, timeout);
            (move |ticket: &[u8]| keys.open(now, timeout, &binding(1), ticket), now)
        };
        let sealed_at = |now| derived(step, timeout).seal(now, &binding(1), b"session").unwrap();
        for start in [1_800_000_000, 1_800_000_059, 1_800_000_030] {
            for age in 0..timeout {
                let (open, _) = server(start + age);
                assert!(open(&sealed_at(start)).is_ok(), "after {age} s");
            }
            let (open, _) = server(start + timeout);
            assert_eq!(open(&sealed_at(start)), Err(LookupResult::Expired));
            let (open, _) = server(start + timeout + 2 * step);
            assert_eq!(open(&sealed_at(start)), Err(LookupResult::Unknown), "the key is gone");
            // The sibling's clock is ahead by less than a step.
            for ahead in 1..=step {
                let (open, _) = server(start - ahead);
                assert!(open(&sealed_at(start)).is_ok(), "{ahead} s ahead");
            }
            let (open, _) = server(start - 2 * step);
            assert_eq!(open(&sealed_at(start)), Err(LookupResult::Unknown));
        }
    }

    #[test]
    fn a_server_goes_with_its_clock_also_where_that_jumps() {
        let keys = derived(60, 150);
        let one = keys.seal(6000, &binding(1), b"session").unwrap();
        let first = keys.count();
        assert!(keys.open(6149, 150, &binding(1), &one).is_ok());
        assert!(keys.open(6149 + 86_400, 150, &binding(1), &one).is_err());
        assert!(keys.open(6149, 150, &binding(1), &one).is_ok(), "the clock was set back");
        assert!(keys.seal(0, &binding(1), b"session").is_some(), "to 1970");
        assert!(keys.seal(u64::MAX, &binding(1), b"session").is_some(), "and to the end of time");
        assert_eq!(first, keys.count());
    }

    #[test]
    fn other_secrets_and_steps_are_other_keys() {
        let name = |keys: &TicketKeys| keys.sealing(1_800_000_000).unwrap().name;
        let other = secret("0123456789abcdef0123456789abcdeg").unwrap();
        let other = TicketKeys::derived(other, Duration::from_secs(3600), Duration::from_secs(TIMEOUT)).unwrap();
        let ours = name(&derived(3600, TIMEOUT));
        assert_ne!(ours, name(&other));
        assert_ne!(ours, name(&derived(1800, TIMEOUT)));
        assert_eq!(ours, name(&derived(3600, 7 * 86_400)), "the timeout has no part in them");
        let shown = derived(3600, TIMEOUT).to_string();
        assert!(shown.starts_with("from secret ") && shown.ends_with(" by steps of 3600 s"), "{shown}");
        assert_eq!(shown, derived(3600, 60).to_string());
        assert_ne!(shown, other.to_string());
        assert_eq!(derived(3600, 3600).count(), 3);
        assert_eq!(derived(60, 60_000).count(), 1002);
        let secret = secret("0123456789abcdef0123456789abcdef").unwrap();
        let error = TicketKeys::derived(secret.clone(), Duration::from_secs(60), Duration::from_secs(60_001));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("steps of 60 s are too short: more than 1000 of them"), "{error}");
        assert!(TicketKeys::derived(secret, Duration::ZERO, Duration::from_secs(60)).is_err());
    }

    #[test]
    fn a_secret_is_long_and_varied_and_not_shown() {
        let error = secret("0123456789abcdef0123456789abcde\n").unwrap_err();
        let message =
            "the secret: holds 31 bytes, and a secret that ticket keys are derived from needs 32 at least\n  hint: ";
        assert!(error.to_string().starts_with(message), "{error}");
        let error = secret(&"0".repeat(64)).unwrap_err();
        assert!(error.message().contains("fewer than 8 different bytes"), "{error}");
        assert!(secret("").unwrap_err().message().starts_with("holds 0 bytes"));
        let right = secret("0123456789abcdef0123456789abcdef").unwrap();
        assert_eq!(right, secret("0123456789abcdef0123456789abcdef \r\n").unwrap(), "an editor ended the line");
        assert_eq!(format!("{right:?}"), "TicketSecret(…)");
        let binary: Vec<u8> = (0..31).map(|octet| 0xf0 ^ octet).chain([b'\n']).collect();
        assert_eq!(TicketSecret::new(Zeroizing::new(binary), "x").unwrap().0.len(), 32, "what is no text stays");
        let text = TicketSecret::generate_text().unwrap();
        assert_eq!((text.len(), text.ends_with('\n')), (65, true));
        assert_eq!(secret(&text).unwrap().0.len(), 64);
    }

    #[test]
    fn keys_are_not_shown() {
        for (keys, digits) in [(counting_key(), "10, 11, 12"), (derived(3600, TIMEOUT), "0123456789abcdef")] {
            let shown = format!("{keys:?}");
            assert!(!shown.contains(digits) && !shown.contains("0a0b0c"), "{shown}");
        }
    }

    #[test]
    fn what_became_of_tickets_is_counted() {
        let counters = Arc::<SessionCounters>::default();
        let sessions = |keys, seed| {
            SealedSessions::new(Arc::new(keys), binding(seed), Duration::from_secs(TIMEOUT), counters.clone())
        };
        let ticket = sessions(counting_key(), 1).encrypt(b"session").unwrap();
        assert_eq!(sessions(counting_key(), 1).decrypt(&ticket), Some(b"session".to_vec()));
        assert_eq!(sessions(counting_key(), 2).decrypt(&ticket), None);
        assert_eq!(sessions(new_key(), 1).decrypt(&ticket), None);
        let old = counting_key().seal(unix_time() - TIMEOUT, &binding(1), b"session").unwrap();
        assert_eq!(sessions(counting_key(), 1).decrypt(&old), None);
        assert_eq!(LookupResult::ALL.map(|result| counters.tickets(result)), [1, 1, 1, 1]);
    }
}
