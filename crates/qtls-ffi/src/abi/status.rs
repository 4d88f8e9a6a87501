//! The numbers of the header. A number that was given out is never given out again.

/// As the length of a text: a NUL byte ends it. The header has it as a macro.
pub(crate) const QTLS_NTS: usize = usize::MAX;

/// What a call came to.
///
/// Zero and positive values are no errors: QTLS_OK, or a combination of QTLS_WANT_READ and QTLS_WANT_WRITE, or QTLS_EOF.
/// Negative values are errors. Their numbers stay as they are from version to version, and the number of an error that no
/// longer occurs is not used again. New numbers may come: treat those that you don't know by their sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum qtls_status {
    /// Done.
    QTLS_OK = 0,
    /// Bytes from the peer are needed first: wait until the descriptor is readable, or feed. May be combined with
    /// QTLS_WANT_WRITE.
    QTLS_WANT_READ = 1,
    /// Bytes for the peer have to leave first: wait until the descriptor is writable, or drain.
    QTLS_WANT_WRITE = 2,
    /// The peer said that it sends no more (close_notify). The end of the transport without that is
    /// QTLS_E_TRUNCATED.
    QTLS_EOF = 4,

    /// A bug of the library, or the operating system refused something. The connection can't be used any more.
    QTLS_E_INTERNAL = -1,
    /// The function was called in a way that its documentation excludes: a NULL where an object is needed, a wrong
    /// role, a number out of range, or too early.
    QTLS_E_MISUSE = -2,
    /// The configuration is frozen: it can't be changed, and not be frozen again.
    QTLS_E_FROZEN = -3,
    /// A connection needs a frozen configuration.
    QTLS_E_NOT_FROZEN = -4,
    /// A name or a path has a NUL byte in it, or is not UTF-8, or is empty.
    QTLS_E_TEXT = -5,
    /// The object is in use: by another thread, or by the callback that this call comes from.
    QTLS_E_BUSY = -6,
    /// Nothing can be written after qtls_conn_shutdown().
    QTLS_E_SHUT_DOWN = -7,
    /// The handshake isn't complete, and what was asked for is known only then.
    QTLS_E_NOT_YET = -8,
    /// This build has no support for it: its message says for what.
    QTLS_E_UNSUPPORTED = -9,

    /// A value that the configuration can't have: an unknown name, a contradiction, something that is missing.
    QTLS_E_CONFIGURATION = -20,
    /// One of this side's own certificates or keys can't be used: damaged, not belonging together, wrong passphrase,
    /// or not allowed by the policy.
    QTLS_E_CERTIFICATE = -21,
    /// A file doesn't exist, or can't be read.
    QTLS_E_FILE = -22,

    /// Reading from or writing to the descriptor failed.
    QTLS_E_NETWORK = -40,
    /// The transport ended without a close_notify: what was received may be incomplete.
    QTLS_E_TRUNCATED = -41,

    /// The peer's certificate chain was refused, for a reason without a number of its own.
    QTLS_E_PEER_CERTIFICATE = -60,
    /// A certificate of the peer's chain has expired.
    QTLS_E_PEER_EXPIRED = -61,
    /// A certificate of the peer's chain is not valid yet.
    QTLS_E_PEER_NOT_YET_VALID = -62,
    /// The peer's chain leads to none of the trust anchors.
    QTLS_E_PEER_UNKNOWN_ISSUER = -63,
    /// The server's certificate is for other names.
    QTLS_E_PEER_WRONG_NAME = -64,
    /// The peer's certificate is not made for its side of TLS.
    QTLS_E_PEER_WRONG_PURPOSE = -65,
    /// A certificate of the peer's chain is revoked.
    QTLS_E_PEER_REVOKED = -66,
    /// No CRL says whether a certificate of the peer's chain is revoked.
    QTLS_E_PEER_REVOCATION_UNKNOWN = -67,
    /// The CRL for a certificate of the peer's chain is out of date.
    QTLS_E_PEER_REVOCATION_STALE = -68,
    /// The client showed no certificate, and one is required.
    QTLS_E_PEER_NO_CERTIFICATE = -69,
    /// The client's certificate is valid, and no rule of qtls_config_add_allowed() names its holder.
    QTLS_E_PEER_NOT_ALLOWED = -70,
    /// The verify callback refused the peer.
    QTLS_E_PEER_REFUSED = -71,
    /// The verify callback returned something else than one of its two answers.
    QTLS_E_CALLBACK = -72,

    /// The peer ended the handshake or the connection with an alert: see qtls_error_alert_received().
    QTLS_E_ALERT = -80,
    /// The peer broke the protocol.
    QTLS_E_PROTOCOL = -81,
    /// What the peer sent is not TLS.
    QTLS_E_NOT_TLS = -82,
    /// A record from the peer can't be decrypted: it was changed on the way.
    QTLS_E_DECRYPT = -83,

    /// The peer and the policy have something else not in common than what follows.
    QTLS_E_INCOMPATIBLE = -100,
    /// The peer and the policy have no key exchange group in common.
    QTLS_E_NO_COMMON_GROUP = -101,
    /// The peer and the policy have no signature scheme in common that a certificate can sign with.
    QTLS_E_NO_COMMON_SCHEME = -102,
    /// The peer and the policy have no cipher suite in common.
    QTLS_E_NO_COMMON_SUITE = -103,
    /// The peer doesn't speak TLS 1.3.
    QTLS_E_NO_COMMON_VERSION = -104,
    /// The peer offers no protocol by ALPN that is spoken here.
    QTLS_E_NO_COMMON_ALPN = -105,

    /// A signature is not one of this message by this key. Only from qtls/crypto.h.
    QTLS_E_SIGNATURE = -120,
    /// Somebody's public key or encapsulation key is damaged. Only from qtls/crypto.h.
    QTLS_E_PUBLIC_KEY = -121,
}

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum qtls_fault {
    /// Nobody: there was no error.
    QTLS_FAULT_NONE = 0,
    /// The library, or the operating system.
    QTLS_FAULT_INTERNAL = 1,
    /// The calling program: it used the library in a way that the documentation excludes.
    QTLS_FAULT_MISUSE = 2,
    /// The configuration: what the program was told by its user.
    QTLS_FAULT_CONFIGURATION = 3,
    /// One of this side's own certificates or keys.
    QTLS_FAULT_CERTIFICATE = 4,
    /// The network.
    QTLS_FAULT_NETWORK = 5,
    /// The peer's certificate chain or name.
    QTLS_FAULT_VERIFICATION = 6,
    /// The peer, or whoever changes its messages on the way.
    QTLS_FAULT_PEER = 7,
    /// The policies of the two sides, which have nothing in common.
    QTLS_FAULT_POLICY = 8,
}

/// The side of a handshake that a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum qtls_role {
    /// Clients.
    QTLS_CLIENT = 1,
    /// Servers.
    QTLS_SERVER = 2,
}

/// Whose order decides on the group; for qtls_config_set_group_preference().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum qtls_group_preference {
    /// Post-quantum groups first, without a round trip more than needed. The default.
    QTLS_PREFER_POST_QUANTUM = 0,
    /// The server's order, even where it costs a round trip.
    QTLS_PREFER_STRICT = 1,
    /// The client's order.
    QTLS_PREFER_CLIENT = 2,
}

/// Whether clients have to show a certificate; for qtls_config_set_client_auth().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum qtls_client_auth {
    /// Clients are not asked for one. The default.
    QTLS_CLIENT_AUTH_NONE = 0,
    /// Clients are asked for one, and may do without; one that is shown has to be valid.
    QTLS_CLIENT_AUTH_OPTIONAL = 1,
    /// Only clients with a valid certificate get in.
    QTLS_CLIENT_AUTH_REQUIRED = 2,
}

/// What happens where CRLs say nothing about a certificate; for qtls_config_set_crl_mode().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum qtls_crl_mode {
    /// It is refused. The default.
    QTLS_CRL_HARD = 0,
    /// It is let through.
    QTLS_CRL_SOFT = 1,
}

/// The answers of a verify callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum qtls_verify_answer {
    /// The peer is refused; it is sent the alert access_denied.
    QTLS_VERIFY_REFUSE = 0,
    /// The callback has nothing against the peer.
    QTLS_VERIFY_ACCEPT = 1,
}

impl qtls_status {
    /// All of them.
    pub(crate) const ALL: &[Self] = {
        use qtls_status::*;
        &[
            QTLS_OK,
            QTLS_WANT_READ,
            QTLS_WANT_WRITE,
            QTLS_EOF,
            QTLS_E_INTERNAL,
            QTLS_E_MISUSE,
            QTLS_E_FROZEN,
            QTLS_E_NOT_FROZEN,
            QTLS_E_TEXT,
            QTLS_E_BUSY,
            QTLS_E_SHUT_DOWN,
            QTLS_E_NOT_YET,
            QTLS_E_UNSUPPORTED,
            QTLS_E_CONFIGURATION,
            QTLS_E_CERTIFICATE,
            QTLS_E_FILE,
            QTLS_E_NETWORK,
            QTLS_E_TRUNCATED,
            QTLS_E_PEER_CERTIFICATE,
            QTLS_E_PEER_EXPIRED,
            QTLS_E_PEER_NOT_YET_VALID,
            QTLS_E_PEER_UNKNOWN_ISSUER,
            QTLS_E_PEER_WRONG_NAME,
            QTLS_E_PEER_WRONG_PURPOSE,
            QTLS_E_PEER_REVOKED,
            QTLS_E_PEER_REVOCATION_UNKNOWN,
            QTLS_E_PEER_REVOCATION_STALE,
            QTLS_E_PEER_NO_CERTIFICATE,
            QTLS_E_PEER_NOT_ALLOWED,
            QTLS_E_PEER_REFUSED,
            QTLS_E_CALLBACK,
            QTLS_E_ALERT,
            QTLS_E_PROTOCOL,
            QTLS_E_NOT_TLS,
            QTLS_E_DECRYPT,
            QTLS_E_INCOMPATIBLE,
            QTLS_E_NO_COMMON_GROUP,
            QTLS_E_NO_COMMON_SCHEME,
            QTLS_E_NO_COMMON_SUITE,
            QTLS_E_NO_COMMON_VERSION,
            QTLS_E_NO_COMMON_ALPN,
            QTLS_E_SIGNATURE,
            QTLS_E_PUBLIC_KEY,
        ]
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_status_is_missing_and_no_number_is_given_out_twice() {
        let source = include_str!("status.rs").split_once("pub enum qtls_status {").unwrap().1;
        let variants = source.split_once("\n}\n").unwrap().0.lines().filter(|line| line.contains(" = "));
        assert_eq!(variants.count(), qtls_status::ALL.len());
        let mut numbers: Vec<_> = qtls_status::ALL.iter().map(|status| *status as i32).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), qtls_status::ALL.len());
    }
}
