//! What is wrong with a header.

use std::fmt;

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The bytes begin neither as version 1 nor as version 2 does.
    Missing,
    /// A line of version 1 that has no end within [`MAX_LINE`](super::v1::MAX_LINE) octets.
    TooLong,
    /// A line of version 1 that is ended by CR or LF alone, or has either in it.
    LineEnd,
    /// A line of version 1 that doesn't have the parts that it must have, separated by single spaces.
    Line,
    /// A line of version 1 with an address that is none, or not of the protocol that it names.
    Address,
    /// A line of version 1 with a port that is none, or has zeros in front.
    Port,
    /// A version that is neither 1 nor 2.
    Version,
    /// A command that is neither LOCAL nor PROXY.
    Command,
    /// An address family or a transport protocol that the specification doesn't know.
    Family,
    /// A length that leaves no room for the addresses of the family.
    Length,
    /// A TLV that reaches beyond the header.
    Tlv,
    /// A unique ID of more than [`MAX_UNIQUE_ID`](super::tlv::MAX_UNIQUE_ID) octets.
    UniqueId,
    /// A checksum that doesn't fit, or isn't four octets long, or stands there twice.
    Checksum,
}

impl Malformed {
    /// A short, stable name: the label `reason` of `qtls_proxy_protocol_errors_total`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLong => "too_long",
            Self::LineEnd => "line_end",
            Self::Line => "line",
            Self::Address => "address",
            Self::Port => "port",
            Self::Version => "version",
            Self::Command => "command",
            Self::Family => "family",
            Self::Length => "length",
            Self::Tlv => "tlv",
            Self::UniqueId => "unique_id",
            Self::Checksum => "checksum",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the connection begins with something else than a PROXY header",
            Self::TooLong => "the line of version 1 has no end within 107 octets",
            Self::LineEnd => "the line of version 1 is not ended by CR and LF",
            Self::Line => "the line of version 1 has other parts than it must have",
            Self::Address => "an address of version 1 can't be read",
            Self::Port => "a port of version 1 can't be read",
            Self::Version => "the version is neither 1 nor 2",
            Self::Command => "the command is neither LOCAL nor PROXY",
            Self::Family => "the address family or the transport protocol is unknown",
            Self::Length => "the length leaves no room for the addresses",
            Self::Tlv => "a TLV reaches beyond the header",
            Self::UniqueId => "the unique ID has more than 128 octets",
            Self::Checksum => "the checksum doesn't fit",
        })
    }
}

impl std::error::Error for Malformed {}

/// Every reason for which a header is refused, for metrics: those of [`Malformed`], and those of reading one.
pub const REASONS: &[&str] = &[
    "address",
    "checksum",
    "closed",
    "command",
    "family",
    "length",
    "line",
    "line_end",
    "missing",
    "port",
    "timeout",
    "tlv",
    "too_long",
    "unique_id",
    "untrusted",
    "version",
];
