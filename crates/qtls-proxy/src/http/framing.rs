//! Where the messages of an HTTP/1.1 connection begin, followed along with the parser that serves them.
//!
//! The parser in hyper resolves a request with both `Content-Length` and `Transfer-Encoding` as RFC 9112, section 6.1
//! allows, joins equal lengths, ends lines at a bare line feed (section 2.2), and hides all of it. Such a request is an
//! attempt at smuggling until proven otherwise, and is refused here. The same pass measures heads, and tells when one has
//! begun and not ended, which limits need.
//!
//! This only ever adds refusals: what hyper refuses stays refused. Where this loses track it has found a flaw.

use std::mem;

/// Longer lines can't be one of the two fields with a value that makes sense, nor the size of a chunk.
const LINE: usize = 128;

/// What is wrong with a request that hyper would serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It has both `Content-Length` and `Transfer-Encoding`.
    Lengths,
    /// It has more than one `Content-Length`, or one that is no number.
    Length,
    /// A line ends with a line feed alone.
    LineFeed,
    /// The request line is larger than a whole head may be.
    Target,
    /// The head is larger than it may be.
    Head,
}

/// Follows the bytes of one connection.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The line that is incomplete so far, up to [`LINE`] bytes of it.
    line: Vec<u8>,
    overlong: bool,
    /// Whether the last byte was a carriage return.
    returned: bool,
    length: Option<u64>,
    /// Whether there is a length that can't be taken for one.
    bad_length: bool,
    chunked: bool,
    /// How many bytes a head may have.
    limit: u64,
    /// How many the one that has begun has.
    size: u64,
    /// Heads that are complete.
    heads: u64,
    flaw: Option<(u64, Flaw)>,
}

/// Where to stop, and what hyper is to read instead of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// How much of what has been read stays.
    pub(super) at: usize,
    pub(super) substitute: &'static [u8],
}

/// Completes a head whose request line is too long already, so that it can be answered.
const COMPLETION: &[u8] = b" HTTP/1.1\r\n\r\n";
/// Refused by hyper wherever a line of a chunked body can be cut off: in the size, its extension, or the trailers.
const POISON: &[u8] = b"\0\n\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a request line. Empty lines are skipped here (RFC 9112, section 2.2).
    Between,
    Fields,
    /// So many bytes of a body, or of a chunk with the line end behind it.
    Skip(u64, After),
    ChunkSize,
    Trailers,
    /// No longer followed.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Message,
    Chunk,
}

impl Framing {
    /// Before the first byte. `limit` is what a head may take.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: State::Between,
            line: Vec::new(),
            overlong: false,
            returned: false,
            length: None,
            bad_length: false,
            chunked: false,
            limit: limit as u64,
            size: 0,
            heads: 0,
            flaw: None,
        }
    }

    /// Follows what has been read. There may be a point where hyper is to see nothing more of it, or of what comes later.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<Cut> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.state {
                State::Lost => return None,
                State::Skip(count, after) => {
                    let here = rest.len().min(usize::try_from(count).unwrap_or(usize::MAX));
                    rest = &rest[here..];
                    // No loss: `here` was a usize from the start.
                    let left = count - here as u64;
                    self.state = match (left, after) {
                        (0, After::Message) => State::Between,
                        (0, After::Chunk) => State::ChunkSize,
                        _ => State::Skip(left, after),
                    };
                }
                _ => {
                    let end = memchr::memchr(b'\n', rest);
                    let (line, behind) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
                    let before = self.size;
                    if matches!(self.state, State::Between | State::Fields) {
                        self.size += line.len() as u64;
                    }
                    if self.state == State::Between && self.size > self.limit {
                        self.flaw(Flaw::Target);
                        if end.is_none() {
                            self.state = State::Lost;
                            // No loss: it is no more than what was given.
                            let kept = self.limit.saturating_sub(before) as usize;
                            let at = bytes.len() - rest.len() + kept.min(line.len());
                            return Some(Cut { at, substitute: COMPLETION });
                        }
                    }
                    let in_body = matches!(self.state, State::ChunkSize | State::Trailers);
                    match end {
                        Some(end) => self.on_line_end(&line[..end]),
                        None => self.keep(line),
                    }
                    if in_body && self.state == State::Lost {
                        return Some(Cut { at: bytes.len() - rest.len(), substitute: POISON });
                    }
                    rest = behind;
                }
            }
        }
        None
    }

    /// Whether a head has begun and not ended.
    pub(super) fn in_head(&self) -> bool {
        match self.state {
            State::Fields => true,
            State::Between => !self.line.is_empty(),
            _ => false,
        }
    }

    /// Whether what has been read so far is whole messages.
    pub(super) fn is_whole(&self) -> bool {
        self.state == State::Between && self.line.is_empty()
    }

    /// Gives memory back that is not needed between messages.
    pub(super) fn shrink(&mut self) {
        self.line.shrink_to_fit();
    }

    /// The number, from 0, of the first request that is to be refused, and why. Nothing behind it is to be served.
    pub(super) fn first_flaw(&self) -> Option<(u64, Flaw)> {
        self.flaw
    }

    fn keep(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.returned = *last == b'\r';
        let room = LINE - self.line.len();
        self.overlong |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// `rest` is what the line has before its line feed, and not in `self.line`.
    fn on_line_end(&mut self, rest: &[u8]) {
        if self.line.is_empty() {
            let returned = rest.last() == Some(&b'\r');
            self.overlong = rest.len() > LINE;
            return self.on_line(rest, returned);
        }
        self.keep(rest);
        let mut line = mem::take(&mut self.line);
        self.on_line(&line, self.returned);
        line.clear();
        self.line = line;
    }

    fn on_line(&mut self, line: &[u8], returned: bool) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.state {
            State::Between | State::Fields if !returned => self.flaw(Flaw::LineFeed),
            State::ChunkSize | State::Trailers if !returned => self.state = State::Lost,
            _ => {}
        }
        match self.state {
            State::Between if line.is_empty() => self.size = 0,
            State::Between => self.state = State::Fields,
            State::Fields if line.is_empty() => self.on_head(),
            State::Fields => self.on_field(line),
            State::ChunkSize => self.on_chunk_size(line),
            State::Trailers if line.is_empty() => self.state = State::Between,
            State::Trailers | State::Skip(..) | State::Lost => {}
        }
        self.overlong = false;
    }

    fn on_field(&mut self, line: &[u8]) {
        if !matches!(line[0] | 0x20, b'c' | b't') {
            return;
        }
        let Some(colon) = memchr::memchr(b':', line) else { return };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            match number(value.trim_ascii(), 10) {
                Some(length) if !self.overlong && self.length.is_none() => self.length = Some(length),
                _ => self.bad_length = true,
            }
        }
    }

    fn on_head(&mut self) {
        if self.size > self.limit {
            self.flaw(Flaw::Head);
        }
        let (length, chunked) = (self.length.take(), mem::take(&mut self.chunked));
        let bad_length = mem::take(&mut self.bad_length);
        if chunked && (bad_length || length.is_some()) {
            self.flaw(Flaw::Lengths);
        } else if bad_length {
            self.flaw(Flaw::Length);
        }
        self.heads += 1;
        self.size = 0;
        self.state = match (length, chunked) {
            _ if self.flaw.is_some() => State::Lost,
            (_, true) => State::ChunkSize,
            (None | Some(0), false) => State::Between,
            (Some(length), false) => State::Skip(length, After::Message),
        };
    }

    fn on_chunk_size(&mut self, line: &[u8]) {
        let mut parts = line.splitn(2, |byte| *byte == b';');
        let size = parts.next().unwrap_or_default();
        let is_whole = !self.overlong || parts.next().is_some();
        match number(size.trim_ascii_end(), 16) {
            Some(0) if is_whole => self.state = State::Trailers,
            Some(size) if is_whole && size < u64::MAX - 2 => self.state = State::Skip(size + 2, After::Chunk),
            _ => self.state = State::Lost,
        }
    }

    /// The first flaw counts. It is one of the head that is not complete.
    fn flaw(&mut self, flaw: Flaw) {
        self.flaw.get_or_insert((self.heads, flaw));
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    u64::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    #[derive(Debug, PartialEq, Eq)]
    struct Outcome {
        flaw: Option<(u64, Flaw)>,
        lost: bool,
        heads: u64,
        in_head: bool,
    }

    /// Feeds whole and byte by byte: the outcome must not depend on how reads fall.
    fn outcome(bytes: &[u8]) -> Outcome {
        let mut whole = Framing::new(LIMIT);
        whole.feed(bytes);
        let mut split = Framing::new(LIMIT);
        for byte in bytes {
            split.feed(std::slice::from_ref(byte));
        }
        let outcome = |framing: &Framing| Outcome {
            flaw: framing.first_flaw(),
            lost: framing.state == State::Lost,
            heads: framing.heads,
            in_head: framing.in_head(),
        };
        assert_eq!(outcome(&whole), outcome(&split), "{}", String::from_utf8_lossy(bytes));
        outcome(&whole)
    }

    fn flaw(bytes: &[u8]) -> Option<(u64, Flaw)> {
        outcome(bytes).flaw
    }

    #[test]
    fn both_lengths_are_ambiguous_in_either_order_and_any_case() {
        let head =
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y\r\nTRANSFER-encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(flaw(head), Some((0, Flaw::Lengths)));
        let head = b"POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\ncontent-length:5\r\n\r\n";
        assert_eq!(flaw(head), Some((0, Flaw::Lengths)));
        // hyper doesn't look at a length behind the coding.
        for length in ["x", "+5", "99999999999999999999999", &"0".repeat(200)] {
            let head = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(flaw(head.as_bytes()), Some((0, Flaw::Lengths)), "{length}");
        }
    }

    #[test]
    fn there_is_one_length_and_it_is_a_number() {
        let zeros = format!("{}5", "0".repeat(200));
        for lengths in [&["5", "5"][..], &["5", "6"], &["5, 5"], &["+5"], &["0x5"], &[""], &[&zeros]] {
            let fields: String = lengths.iter().map(|length| format!("Content-Length: {length}\r\n")).collect();
            assert_eq!(
                flaw(format!("POST / HTTP/1.1\r\n{fields}\r\n").as_bytes()),
                Some((0, Flaw::Length)),
                "{fields}"
            );
        }
    }

    #[test]
    fn a_line_feed_alone_ends_no_line() {
        for head in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(flaw(head.as_bytes()), Some((0, Flaw::LineFeed)), "{head:?}");
        }
        let long = format!("GET / HTTP/1.1\r\nX: {}\n\r\n", "x".repeat(LINE));
        assert_eq!(flaw(long.as_bytes()), Some((0, Flaw::LineFeed)));
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(LINE));
        assert_eq!(flaw(long.as_bytes()), None);
    }

    #[test]
    fn bodies_are_passed_over() {
        let body = b"Content-Length: 1\nTransfer-Encoding: chunked\n\n";
        let mut bytes = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(outcome(&bytes), Outcome { flaw: None, lost: false, heads: 2, in_head: false });

        let mut bytes = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        bytes.extend_from_slice(format!("{:x};name=value\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n0\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(outcome(&bytes), Outcome { flaw: None, lost: false, heads: 1, in_head: false });
        bytes.extend_from_slice(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(flaw(&bytes), Some((1, Flaw::Lengths)));
    }

    #[test]
    fn a_body_that_cannot_be_followed_ends_where_it_is_bad() {
        for body in [
            "5\nhello\r\n0\r\n\r\n",
            "5;x\nhello\r\n0\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n\n",
            "x\r\n",
            "\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "ffffffffffffffff\r\n",
            "10000000000000005\r\nhello",
            &format!("{}5\r\nhello", "0".repeat(200)),
        ] {
            let bytes = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET / HTTP/1.1\r\n\r\n");
            let outcome = outcome(bytes.as_bytes());
            assert_eq!((outcome.lost, outcome.flaw, outcome.heads), (true, None, 1), "{body:?}");
            let cut = Framing::new(LIMIT).feed(bytes.as_bytes()).unwrap();
            let kept = &bytes[..cut.at];
            assert!(kept.ends_with("\r\n") && body.starts_with(kept.split_once("\r\n\r\n").unwrap().1), "{kept:?}");
        }
    }

    #[test]
    fn knows_when_a_head_has_begun() {
        let in_head = |bytes: &[u8]| outcome(bytes).in_head;
        assert!(!in_head(b""));
        assert!(!in_head(b"\r\n"));
        assert!(in_head(b"G"));
        assert!(in_head(b"GET / HTTP/1.1\r\n"));
        assert!(in_head(b"GET / HTTP/1.1\r\nHost: a\r\n"));
        assert!(!in_head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!in_head(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"));
    }

    #[test]
    fn heads_are_measured() {
        let head = |size: usize| {
            let rest = "GET / HTTP/1.1\r\nX: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(size - rest))
        };
        let pair = head(LIMIT) + &head(LIMIT);
        assert_eq!((flaw(pair.as_bytes()), flaw(head(LIMIT + 1).as_bytes())), (None, Some((0, Flaw::Head))));
        let target = |size: usize| format!("GET {} HTTP/1.1\r\n", "/".repeat(size - "GET  HTTP/1.1\r\n".len()));
        assert_eq!(
            (flaw(target(LIMIT).as_bytes()), flaw(target(LIMIT + 1).as_bytes())),
            (None, Some((0, Flaw::Target)))
        );
    }

    #[test]
    fn of_a_request_line_that_does_not_end_the_rest_is_cut_off() {
        let mut framing = Framing::new(LIMIT);
        assert_eq!(framing.feed(b"GET / HTTP/1.1\r\n\r\nGET /"), None);
        assert_eq!(framing.feed(&[b'a'; LIMIT]), Some(Cut { at: LIMIT - "GET /".len(), substitute: COMPLETION }));
        assert_eq!(framing.first_flaw(), Some((1, Flaw::Target)));
        assert_eq!(framing.feed(&[b'a'; LIMIT]), None);
        assert!(framing.line.capacity() <= 2 * LINE);
    }
}
