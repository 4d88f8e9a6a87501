//! HTTP/2 (RFC 9113), frame by frame.

use super::Rogue;

/// What a client's side begins with (section 3.4), and the SETTINGS that have to follow it, here without any setting.
pub fn preface() -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Types of frames (section 6).
pub const HEADERS: u8 = 1;
#[expect(missing_docs, reason = "the names are the RFC's")]
pub const RST_STREAM: u8 = 3;
#[expect(missing_docs, reason = "the names are the RFC's")]
pub const SETTINGS: u8 = 4;
#[expect(missing_docs, reason = "the names are the RFC's")]
pub const PING: u8 = 6;
#[expect(missing_docs, reason = "the names are the RFC's")]
pub const GOAWAY: u8 = 7;
#[expect(missing_docs, reason = "the names are the RFC's")]
pub const CONTINUATION: u8 = 9;

/// The flag of SETTINGS and PING that makes them an answer.
pub const ACK: u8 = 1;
/// The flag of the last frame of a stream's side.
pub const END_STREAM: u8 = 1;
/// The flag of the last frame of a header block.
pub const END_HEADERS: u8 = 4;

/// The error code for a peer that overdoes it (section 7).
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame (section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header block of `GET path`, for `localhost` (RFC 7541: indexed fields, and literals without indexing).
pub fn get(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    for (index, value) in [(1, "localhost"), (4, path)] {
        block.extend([index, u8::try_from(value.len()).expect("a short value")]);
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// A frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What is in it.
    pub payload: Vec<u8>,
}

/// The frames that come until the server ends the connection, and how it ends it.
pub fn until_end(rogue: &mut Rogue) -> (Vec<Frame>, String) {
    let (received, end) = rogue.read_to_end();
    (parse(&received), end)
}

/// The same, with an answer to each PING: a server that says goodbye waits for it.
pub fn answering_until_end(rogue: &mut Rogue) -> (Vec<Frame>, String) {
    let mut received = Vec::new();
    let mut answered = 0;
    let mut chunk = [0; 65_536];
    loop {
        match rogue.read(&mut chunk) {
            Ok(0) => return (parse(&received), "close_notify".to_owned()),
            Ok(count) => received.extend_from_slice(&chunk[..count]),
            Err(error) => return (parse(&received), error.to_string()),
        }
        let frames = parse(&received);
        let pings: Vec<_> = frames.iter().filter(|frame| frame.kind == PING && frame.flags & ACK == 0).collect();
        for ping in &pings[answered..] {
            // The end is told by the next read.
            let _ = rogue.send(&frame(PING, ACK, 0, &ping.payload));
        }
        answered = pings.len();
    }
}

/// The error code of the last GOAWAY.
pub fn goaway(frames: &[Frame]) -> Option<u32> {
    let last = frames.iter().rfind(|frame| frame.kind == GOAWAY)?;
    Some(u32::from_be_bytes(last.payload[4..8].try_into().expect("four bytes")))
}

fn parse(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, stream @ ..] = bytes {
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).expect("24 bits");
        // The last one may have broken off.
        let (Some(stream), Some(payload)) = (stream.first_chunk(), stream.get(4..4 + length)) else { break };
        let stream = u32::from_be_bytes(*stream);
        frames.push(Frame { kind: *kind, flags: *flags, stream, payload: payload.to_vec() });
        bytes = &bytes[9 + length..];
    }
    frames
}
