//! What was negotiated, as one value: logs, metrics, headers and the status page all read it.

use rustls::pki_types::CertificateDer;
use rustls::{CommonState, HandshakeKind, ProtocolVersion, SignatureScheme};
use serde::Serialize;
use serde::ser::SerializeMap;

use crate::policy::{CipherSuite, Group, group_name, scheme_name};

/// The facts of one connection after its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The protocol version.
    pub version: ProtocolVersion,
    /// Code point of the key exchange group.
    pub group: u16,
    /// The cipher suite.
    pub suite: u16,
    /// What the server's CertificateVerify was signed with; `None` when resumed, since then there is none.
    pub scheme: Option<SignatureScheme>,
    /// The server certificate that was chosen, by its name in logs and metrics. Known to servers only.
    pub certificate: Option<String>,
    /// Why it was this certificate. Known to servers only.
    pub reason: Option<String>,
    /// The protocol agreed by ALPN.
    pub alpn: Option<Vec<u8>>,
    /// The name asked for by SNI.
    pub server_name: Option<String>,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// Whether a HelloRetryRequest was needed.
    pub hello_retry_request: bool,
    /// The peer's chain, leaf first; empty where the peer showed none.
    pub peer_chain: Vec<CertificateDer<'static>>,
}

impl Facts {
    /// Reads what rustls knows of a connection whose handshake is complete; `None` before that.
    ///
    /// The scheme, the certificate and the server name are the caller's to add: rustls doesn't tell them.
    pub fn of(connection: &CommonState) -> Option<Self> {
        let kind = connection.handshake_kind()?;
        Some(Self {
            version: connection.protocol_version()?,
            group: connection.negotiated_key_exchange_group()?.name().into(),
            suite: connection.negotiated_cipher_suite()?.suite().into(),
            scheme: None,
            certificate: None,
            reason: None,
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name: None,
            resumed: kind == HandshakeKind::Resumed,
            hello_retry_request: kind == HandshakeKind::FullWithHelloRetryRequest,
            peer_chain: connection.peer_certificates().unwrap_or_default().to_vec(),
        })
    }

    /// Whether the key exchange withstands a quantum computer that reads a recording of this connection.
    pub fn post_quantum(&self) -> bool {
        Group::from_code_point(self.group).is_some_and(Group::is_post_quantum)
    }

    /// The group's name in the registry.
    pub fn group_name(&self) -> String {
        group_name(self.group)
    }

    /// The suite's name in the registry.
    pub fn suite_name(&self) -> &'static str {
        CipherSuite::from_code_point(self.suite).map_or("unknown", CipherSuite::iana_name)
    }

    /// The scheme's name in the registry, or `none` for a resumed session.
    pub fn scheme_name(&self) -> String {
        self.scheme.map_or_else(|| "none".to_owned(), scheme_name)
    }

    /// The version as people write it.
    pub fn version_name(&self) -> &'static str {
        match self.version {
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "unknown",
        }
    }

    /// The ALPN protocol as text.
    pub fn alpn_name(&self) -> Option<String> {
        self.alpn.as_ref().map(|protocol| String::from_utf8_lossy(protocol).into_owned())
    }
}

/// The shape of `/status.json` and of `qtls-client --json`.
impl Serialize for Facts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", self.version_name())?;
        map.serialize_entry("group", &self.group_name())?;
        map.serialize_entry("post_quantum", &self.post_quantum())?;
        map.serialize_entry("suite", self.suite_name())?;
        map.serialize_entry("scheme", &self.scheme.map(scheme_name))?;
        map.serialize_entry("certificate", &self.certificate)?;
        map.serialize_entry("certificate_reason", &self.reason)?;
        map.serialize_entry("alpn", &self.alpn_name())?;
        map.serialize_entry("server_name", &self.server_name)?;
        map.serialize_entry("resumed", &self.resumed)?;
        map.serialize_entry("hello_retry_request", &self.hello_retry_request)?;
        map.end()
    }
}
