//! The file of ticket keys: what it holds, and how it is rotated. Reading and writing it are others' work.
//!
//! ```text
//! # A comment, on a line of its own or behind a key.
//! 8b1f…64 hexadecimal digits…        # the first key seals
//! next 03c9…                         # opens already, and seals after the next rotation
//! 77aa…                              # opens what it has sealed before
//! ```
//! Every key opens. A key must be known everywhere before anyone seals with it, or a client would come with a ticket to
//! a server that can't open it; so a rotation promotes the key that the one before it has prepared, and prepares
//! another. One file a rotation has to be spread, in any order and without haste.

use zeroize::Zeroizing;

use super::tickets::{TicketKey, is_varied};
use crate::credentials::{Source, date, random};
use crate::{Error, Result};

/// How many keys a file may have.
const MAX_KEYS: usize = 100;

const DIGITS: usize = 64;

/// What a key of the file does, besides opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRole {
    /// It seals.
    Seals,
    /// It will seal after the next rotation.
    Next,
    /// Nothing.
    Opens,
}

/// The content of a file of ticket keys. Keys and comments are wiped when it is dropped, and never shown by `Debug`.
#[derive(Debug)]
pub struct TicketKeyFile {
    entries: Vec<Entry>,
    /// Comments behind the last key.
    trailer: Comments,
}

/// Comments may hold a key that was taken out.
#[derive(Clone, Default)]
struct Comments(Vec<Zeroizing<String>>);

#[derive(Debug)]
struct Entry {
    /// Whole lines before it.
    above: Comments,
    next: bool,
    key: TicketKey,
    /// Behind it.
    beside: Comments,
}

/// What a rotation did.
#[derive(Debug)]
pub struct Rotation {
    /// What the file is to hold from now on.
    pub file: TicketKeyFile,
    /// Whether a prepared key was promoted. Where none had been prepared, the old one goes on sealing.
    pub promoted: bool,
    /// How many of the oldest keys were left out.
    pub dropped: usize,
}

impl TicketKeyFile {
    /// A first key, and the one after it.
    pub fn generate() -> Result<Self> {
        let mut seals = Entry::generate(false)?;
        seals.above = Comments(HEADER.iter().map(|line| Zeroizing::new((*line).to_owned())).collect());
        Ok(Self { entries: vec![seals, Entry::generate(true)?], trailer: Comments::default() })
    }

    /// Reads the content of a file.
    ///
    /// # Errors
    /// Anything that is no key, a key twice, no key at all. Each names the line; none shows what is in it.
    pub fn parse(source: Source<'_>) -> Result<Self> {
        let text = std::str::from_utf8(source.bytes).map_err(|_| {
            Error::configuration("is not text, as a file of ticket keys is").at(source.origin).hint(HOW)
        })?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines = Vec::new();
        let mut above = Comments::default();
        for (index, line) in text.lines().enumerate() {
            let at = |error: Error| error.at(format_args!("{}:{}", source.origin, index + 1));
            let (content, comment) = match line.split_once('#') {
                Some((content, comment)) => (content, Some(comment.trim())),
                None => (line, None),
            };
            let comment = comment.map(|comment| Zeroizing::new(comment.to_owned()));
            let words: Vec<_> = content.split_whitespace().collect();
            let (next, digits) = match words[..] {
                [] => {
                    above.0.extend(comment);
                    continue;
                }
                ["next", digits] => (true, digits),
                [digits] => (false, digits),
                _ => {
                    let message = "is neither a key nor `next` and a key";
                    return Err(at(Error::configuration(message).hint("one key a line, comments behind a `#`")));
                }
            };
            let secret = secret(digits).map_err(at)?;
            let entry = Entry {
                above: std::mem::take(&mut above),
                next,
                key: TicketKey::new(secret)?,
                beside: Comments(comment.into_iter().collect()),
            };
            if let Some(same) = entries.iter().position(|other| other.key == entry.key) {
                let message = format!("is the same key as in line {}", lines[same]);
                return Err(at(Error::configuration(message).hint("remove one of the two")));
            }
            if next && entries.is_empty() {
                return Err(at(Error::configuration("the first key seals, so it can't be the `next` one")
                    .hint("put the key before it that is in use")));
            }
            if next && entries.iter().any(|other| other.next) {
                return Err(at(Error::configuration("is a second `next` key: only one can be the next")
                    .hint("take the word `next` away from the older one")));
            }
            if entries.len() == MAX_KEYS {
                let message = format!("is one key too many: a file may have {MAX_KEYS}");
                return Err(at(Error::configuration(message).hint("remove the oldest")));
            }
            entries.push(entry);
            lines.push(index + 1);
        }
        if entries.is_empty() {
            return Err(Error::configuration("holds no ticket key").at(source.origin).hint(HOW));
        }
        Ok(Self { entries, trailer: above })
    }

    /// The content of the file.
    pub fn text(&self) -> Zeroizing<String> {
        let comments = self.entries.iter().flat_map(|entry| [&entry.above, &entry.beside]).chain([&self.trailer]);
        let length: usize = comments.flat_map(|comments| &comments.0).map(|comment| comment.len() + 4).sum();
        // All at once: growing would leave copies of the keys behind.
        let mut text = Zeroizing::new(String::with_capacity(length + self.entries.len() * (DIGITS + 16)));
        for Entry { above, next, key, beside } in &self.entries {
            above.push_lines(&mut text);
            if *next {
                text.push_str("next ");
            }
            push_hex(&mut text, key.secret());
            for comment in &beside.0 {
                text.push_str("  # ");
                text.push_str(comment);
            }
            text.push('\n');
        }
        self.trailer.push_lines(&mut text);
        text
    }

    /// The file after a rotation: the `next` key seals, there is a new `next` one, and of those that only open the
    /// newest `keep` stay, with the one that has sealed so far.
    ///
    /// Where there is no `next` key, one is prepared, and nothing else changes: to seal with a key that nobody else
    /// knows would cost sessions.
    pub fn rotate(self, keep: usize) -> Result<Rotation> {
        let Self { mut entries, trailer } = self;
        let header = std::mem::take(&mut entries[0].above);
        let prepared = entries.iter().position(|entry| entry.next);
        let promoted = prepared.map(|index| Entry { next: false, ..entries.remove(index) });
        let promotes = promoted.is_some();
        let mut file: Vec<Entry> = promoted.into_iter().collect();
        if !promotes {
            file.push(entries.remove(0));
        }
        file[0].above.0.splice(..0, header.0);
        file.push(Entry::generate(true)?);
        let dropped = entries.len().saturating_sub(keep);
        entries.truncate(keep);
        file.append(&mut entries);
        Ok(Rotation { file: Self { entries: file, trailer }, promoted: promotes, dropped })
    }

    /// Each key by the start of its name, with its role, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = (String, KeyRole)> {
        self.entries.iter().enumerate().map(|(index, entry)| {
            let role = match (index, entry.next) {
                (0, _) => KeyRole::Seals,
                (_, true) => KeyRole::Next,
                (_, false) => KeyRole::Opens,
            };
            (entry.key.short_name(), role)
        })
    }

    /// The keys, the one that seals first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &TicketKey> {
        self.entries.iter().map(|entry| &entry.key)
    }
}

const HOW: &str = "make one with `qtls ticket-keys generate FILE`";

const HEADER: &[&str] = &[
    "Ticket keys of Q-TLS: secret, and the same on every server that is to resume the others' sessions.",
    "The first key seals new tickets; all of them open. `next` seals after the next `qtls ticket-keys rotate`.",
];

impl Entry {
    fn generate(next: bool) -> Result<Self> {
        let key = TicketKey::new(Zeroizing::new(random()?))?;
        let made = Zeroizing::new(format!("made {}", date(std::time::SystemTime::now())));
        Ok(Self { above: Comments::default(), next, key, beside: Comments(vec![made]) })
    }
}

impl Comments {
    fn push_lines(&self, text: &mut String) {
        for comment in &self.0 {
            text.push('#');
            if !comment.is_empty() {
                text.push(' ');
            }
            text.push_str(comment);
            text.push('\n');
        }
    }
}

impl std::fmt::Debug for Comments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} comments", self.0.len())
    }
}

fn secret(digits: &str) -> Result<Zeroizing<[u8; 32]>> {
    let wrong = |message: String| Error::configuration(message).hint("a key is what `openssl rand -hex 32` prints");
    if !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return Err(wrong("has a character that is no hexadecimal digit".to_owned()));
    }
    if digits.len() != DIGITS {
        return Err(wrong(format!("has {} hexadecimal digits, and a key has {DIGITS}", digits.len())));
    }
    let mut secret = Zeroizing::new([0; DIGITS / 2]);
    for (octet, pair) in secret.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let value = |digit: u8| match digit {
            b'0'..=b'9' => digit - b'0',
            digit => digit.to_ascii_lowercase() - b'a' + 10,
        };
        *octet = value(pair[0]) << 4 | value(pair[1]);
    }
    if !is_varied(&*secret) {
        return Err(wrong("is no random key: it has hardly any different bytes".to_owned()));
    }
    Ok(secret)
}

/// Appends hexadecimal digits; there must be room for them, or a copy stays behind.
pub(super) fn push_hex(text: &mut String, octets: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for octet in octets {
        for digit in [octet >> 4, octet & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const B: &str = "f00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const C: &str = "e00102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";

    fn parse(text: &str) -> Result<TicketKeyFile> {
        TicketKeyFile::parse(Source { origin: "ticket.keys", bytes: text.as_bytes() })
    }

    #[track_caller]
    fn refusal(text: &str) -> String {
        let error = parse(text).unwrap_err();
        for digits in [A, B, C] {
            assert!(!error.to_string().contains(&digits[..8]), "{error}");
        }
        error.to_string()
    }

    fn roles(file: &TicketKeyFile) -> Vec<KeyRole> {
        file.names().map(|(_, role)| role).collect()
    }

    #[test]
    fn a_file_keeps_its_keys_order_and_comments() {
        let text = format!("# ours\n#\n\n{A}  # the first\r\n\t next  {B}\n  # of May\n{C}#x\n# the end\n");
        let file = parse(&text).unwrap();
        assert_eq!(roles(&file), [KeyRole::Seals, KeyRole::Next, KeyRole::Opens]);
        let lower = C.to_ascii_lowercase();
        let written = format!("# ours\n#\n{A}  # the first\nnext {B}\n# of May\n{lower}  # x\n# the end\n");
        assert_eq!(*file.text(), written);
        assert_eq!(*parse(&written).unwrap().text(), written);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_without_the_key() {
        let short = &A[..63];
        for (text, message) in [
            (String::new(), "ticket.keys: holds no ticket key\n  hint: make one with `qtls ticket-keys generate FILE`"),
            ("# only\n\n# comments\n".to_owned(), "ticket.keys: holds no ticket key\n"),
            (
                format!("{A}\n\n{short}"),
                "ticket.keys:3: has 63 hexadecimal digits, and a key has 64\n  hint: a key is what `openssl rand -hex 32` prints",
            ),
            (format!("{A}{B}"), "ticket.keys:1: has 128 hexadecimal digits, and a key has 64\n"),
            (format!("# x\n{short}g"), "ticket.keys:2: has a character that is no hexadecimal digit\n"),
            (format!("{short}é"), "ticket.keys:1: has a character that is no hexadecimal digit\n"),
            (format!("{A}\n{B}\n# x\n{A}"), "ticket.keys:4: is the same key as in line 1\n"),
            (format!("{A}\nnext {A}"), "ticket.keys:2: is the same key as in line 1\n"),
            (format!("next {A}\n{B}"), "ticket.keys:1: the first key seals, so it can't be the `next` one\n"),
            (format!("{A}\nnext {B}\nnext {C}"), "ticket.keys:3: is a second `next` key: only one can be the next\n"),
            (format!("{A} {B}"), "ticket.keys:1: is neither a key nor `next` and a key\n"),
            (format!("old {A}"), "ticket.keys:1: is neither a key nor `next` and a key\n"),
            ("next".to_owned(), "ticket.keys:1: has a character that is no hexadecimal digit\n"),
            ("0".repeat(64), "ticket.keys:1: is no random key: it has hardly any different bytes\n"),
        ] {
            let told = refusal(&text);
            assert!(told.starts_with(message), "{text:?}: {told}");
            assert!(told.contains("\n  hint: "), "{told}");
        }
        let binary = TicketKeyFile::parse(Source { origin: "ticket.keys", bytes: &[0xff, 0xfe] }).unwrap_err();
        assert!(binary.to_string().starts_with("ticket.keys: is not text"), "{binary}");
        let many: String = (0..=MAX_KEYS).map(|index| format!("{}{index:04x}\n", &A[4..])).collect();
        assert!(refusal(&many).starts_with("ticket.keys:101: is one key too many: a file may have 100\n"));
    }

    /// At no point does a server seal with a key that a server with the file of the rotation before doesn't have, and the
    /// other way round.
    #[test]
    fn a_rotation_promotes_what_the_one_before_has_prepared() {
        let mut file = TicketKeyFile::generate().unwrap();
        assert_eq!(roles(&file), [KeyRole::Seals, KeyRole::Next]);
        let mut retired = Vec::new();
        for round in 0..5 {
            let before: Vec<_> = file.names().map(|(name, _)| name).collect();
            let old_text = file.text();
            let Rotation { file: rotated, promoted, dropped } = file.rotate(2).unwrap();
            let after: Vec<_> = rotated.names().map(|(name, _)| name).collect();
            assert!(promoted);
            assert_eq!(after[0], before[1], "the prepared key seals");
            assert!(!before.contains(&after[1]) && !retired.contains(&after[1]), "the next one is new");
            assert_eq!(after[2], before[0], "what has sealed until now opens");
            assert_eq!(dropped, usize::from(round >= 2));
            assert_eq!(after.len(), [3, 4, 4, 4, 4][round]);
            assert_eq!(roles(&rotated)[..3], [KeyRole::Seals, KeyRole::Next, KeyRole::Opens]);
            // A server still has the old file.
            let (old, new) = (parse(&old_text).unwrap(), parse(&rotated.text()).unwrap());
            for (sealing, opening) in [(&old, &new), (&new, &old)] {
                let sealing = sealing.keys().next().unwrap();
                assert!(opening.keys().any(|key| key == sealing));
            }
            assert!(rotated.text().starts_with("# Ticket keys of Q-TLS: "), "the header stays at the head");
            retired.extend(before);
            file = rotated;
        }
    }

    #[test]
    fn a_file_without_a_prepared_key_goes_on_with_its_first_one() {
        let file = parse(&format!("# ours\n{A}\n{B}  # old\n{C}  # older\n")).unwrap();
        let Rotation { file, promoted, dropped } = file.rotate(1).unwrap();
        assert_eq!((promoted, dropped), (false, 1));
        let text = file.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[1]), (4, "# ours", A));
        assert!(lines[2].starts_with("next "));
        assert_eq!(lines[3], format!("{B}  # old"));
    }

    #[test]
    fn keys_and_comments_are_not_shown() {
        let shown = format!("{:?}", parse(&format!("#  {B}\n{A}\n")).unwrap());
        assert!(!shown.contains(&A[..16]) && !shown.contains(&B[..16]) && !shown.contains("4, 5, 6"), "{shown}");
    }
}
