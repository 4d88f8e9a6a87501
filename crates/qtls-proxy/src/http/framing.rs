//! Where the messages of an HTTP/1.1 connection begin, followed along with the parser that serves them.
//!
//! The parser in hyper resolves a request with both `Content-Length` and `Transfer-Encoding` as RFC 9112, section 6.1
//! allows, and hides that there was a conflict. Such a request is an attempt at smuggling until proven otherwise, and
//! is refused here. The same pass tells when a head has begun and not ended, which a time limit needs.
//!
//! This only ever adds refusals: where it loses track, hyper's verdict stands alone.

use std::mem;

/// Longer lines can't be one of the two fields with a value that hyper accepts.
const LINE: usize = 128;

/// Follows the bytes of one connection.
#[derive(Debug, Default)]
pub(super) struct Framing {
    state: State,
    /// The line that is incomplete so far, up to [`LINE`] bytes of it.
    line: Vec<u8>,
    overlong: bool,
    length: Option<u64>,
    chunked: bool,
    /// Heads that are complete.
    heads: u64,
    ambiguous: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a request line. Empty lines are skipped here (RFC 9112, section 2.2).
    #[default]
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
    /// Follows what has been read.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.state {
                State::Lost => return,
                State::Skip(count, after) => {
                    let here = bytes.len().min(usize::try_from(count).unwrap_or(usize::MAX));
                    bytes = &bytes[here..];
                    // No loss: `here` was a usize from the start.
                    let left = count - here as u64;
                    self.state = match (left, after) {
                        (0, After::Message) => State::Between,
                        (0, After::Chunk) => State::ChunkSize,
                        _ => State::Skip(left, after),
                    };
                }
                _ => match memchr::memchr(b'\n', bytes) {
                    Some(end) => {
                        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
                        bytes = rest;
                        if self.line.is_empty() && !self.overlong {
                            self.on_line(line);
                        } else {
                            self.keep(line);
                            let line = mem::take(&mut self.line);
                            self.on_line(&line);
                            self.overlong = false;
                        }
                    }
                    None => {
                        self.keep(bytes);
                        return;
                    }
                },
            }
        }
    }

    /// Whether a head has begun and not ended.
    pub(super) fn in_head(&self) -> bool {
        match self.state {
            State::Fields => true,
            State::Between => !self.line.is_empty(),
            _ => false,
        }
    }

    /// The number, from 0, of the first request whose length is ambiguous. Nothing behind it is followed.
    pub(super) fn ambiguous(&self) -> Option<u64> {
        self.ambiguous
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE - self.line.len();
        self.overlong |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn on_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.state {
            State::Between if line.is_empty() => {}
            State::Between => self.state = State::Fields,
            State::Fields if line.is_empty() => self.on_head(),
            State::Fields => self.on_field(line),
            State::ChunkSize => self.on_chunk_size(line),
            State::Trailers if line.is_empty() => self.state = State::Between,
            State::Trailers | State::Skip(..) | State::Lost => {}
        }
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
                Some(length) if !self.overlong => self.length = Some(length),
                _ => self.state = State::Lost,
            }
        }
    }

    fn on_head(&mut self) {
        let number = self.heads;
        self.heads += 1;
        self.state = match (self.length.take(), mem::take(&mut self.chunked)) {
            (Some(_), true) => {
                self.ambiguous = Some(number);
                State::Lost
            }
            (None, true) => State::ChunkSize,
            (None | Some(0), false) => State::Between,
            (Some(length), false) => State::Skip(length, After::Message),
        };
    }

    fn on_chunk_size(&mut self, line: &[u8]) {
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        self.state = match number(size.trim_ascii(), 16) {
            Some(0) => State::Trailers,
            Some(size) if size < u64::MAX - 2 => State::Skip(size + 2, After::Chunk),
            _ => State::Lost,
        };
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    u64::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds whole and byte by byte: the outcome must not depend on how reads fall.
    fn outcome(bytes: &[u8]) -> (Option<u64>, u64, bool) {
        let mut whole = Framing::default();
        whole.feed(bytes);
        let mut split = Framing::default();
        for byte in bytes {
            split.feed(std::slice::from_ref(byte));
        }
        let outcome = |framing: &Framing| (framing.ambiguous(), framing.heads, framing.in_head());
        assert_eq!(outcome(&whole), outcome(&split));
        outcome(&whole)
    }

    #[test]
    fn both_lengths_are_ambiguous_in_either_order_and_any_case() {
        let head =
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y\r\nTRANSFER-encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(outcome(head), (Some(0), 1, false));
        let head = b"POST / HTTP/1.1\ntransfer-encoding:chunked\ncontent-length:5\n\n";
        assert_eq!(outcome(head), (Some(0), 1, false));
    }

    #[test]
    fn bodies_are_passed_over() {
        let body = b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut bytes = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(outcome(&bytes), (None, 2, false));

        let mut bytes = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        bytes.extend_from_slice(format!("{:x};name=value\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n0\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(outcome(&bytes), (None, 1, false));
        bytes.extend_from_slice(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(outcome(&bytes), (Some(1), 2, false));
    }

    #[test]
    fn knows_when_a_head_has_begun() {
        assert!(!outcome(b"").2);
        assert!(!outcome(b"\r\n").2);
        assert!(outcome(b"G").2);
        assert!(outcome(b"GET / HTTP/1.1\r\n").2);
        assert!(outcome(b"GET / HTTP/1.1\r\nHost: a\r\n").2);
        assert!(!outcome(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").2);
        assert!(!outcome(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc").2);
    }

    #[test]
    fn long_lines_take_no_memory() {
        let mut framing = Framing::default();
        framing.feed(b"GET /");
        for _ in 0..1000 {
            framing.feed(&[b'a'; 1000]);
        }
        assert!(framing.line.capacity() <= 2 * LINE);
        framing.feed(b" HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(framing.ambiguous(), Some(0));
    }

    #[test]
    fn what_hyper_refuses_is_left_to_it() {
        for field in ["Content-Length: +5", "Content-Length: x", "Content-Length: 99999999999999999999999"] {
            let head = format!("POST / HTTP/1.1\r\n{field}\r\nTransfer-Encoding: chunked\r\n\r\n");
            let mut framing = Framing::default();
            framing.feed(head.as_bytes());
            assert_eq!(framing.state, State::Lost);
        }
    }
}
