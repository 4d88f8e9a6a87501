//! One error type that says who is at fault, what failed, where, and the way out.

mod tls;

use std::fmt;

pub use tls::{REASONS, reason};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who is at fault. The exit code of every binary follows from it, by [`Fault::exit_code`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A bug of ours, or the operating system refusing something that no configuration names.
    Internal,
    /// The command line or the configuration.
    Configuration,
    /// One of *our own* certificates or keys.
    Certificate,
    /// The network: resolving, connecting, time-outs, resets.
    Connection,
    /// The peer's certificate chain or name did not verify.
    Verification,
    /// The handshake was refused, by the peer or because the peer's messages were wrong.
    Handshake,
    /// The peer and this side have no algorithm in common that the policy allows.
    Policy,
}

impl Fault {
    /// The exit code of a process that ends for this reason. 0 is success; codes are never reused.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Configuration | Self::Certificate => 2,
            Self::Connection => 3,
            Self::Verification => 4,
            Self::Handshake => 5,
            Self::Policy => 6,
        }
    }
}

/// What failed, where, and what to do about it.
///
/// Displayed as `WHERE: KEY: MESSAGE`, then on lines of their own `caused by:` and `hint:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    fault: Fault,
    message: String,
    place: Option<String>,
    key: Option<String>,
    hint: Option<String>,
}

impl Error {
    /// An error with nothing but who is at fault and what failed.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into(), place: None, key: None, hint: None }
    }

    /// The configuration or the command line is at fault.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(Fault::Configuration, message)
    }

    /// One of our own certificates or keys is at fault.
    pub fn certificate(message: impl Into<String>) -> Self {
        Self::new(Fault::Certificate, message)
    }

    /// A bug of ours, or the operating system.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Fault::Internal, message)
    }

    /// Names the place: `server.json:12:5`, or `environment variable QTLS_SERVER_PORT`, or a file.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place.get_or_insert_with(|| place.to_string());
        self
    }

    /// Names the configuration key, as a dotted path: `tls.hybrid_mode`.
    #[must_use]
    pub fn key(mut self, key: impl fmt::Display) -> Self {
        self.key.get_or_insert_with(|| key.to_string());
        self
    }

    /// Names another configuration key than before.
    #[must_use]
    pub fn rekeyed(mut self, key: impl fmt::Display) -> Self {
        self.key = Some(key.to_string());
        self
    }

    /// Says the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Moves the place into the message, so that an outer one can be named before it: the line of a configuration
    /// that names a file, before what is wrong in that file.
    #[must_use]
    pub fn nested(mut self) -> Self {
        if let Some(place) = self.place.take() {
            self.message = format!("{place}: {}", self.message);
        }
        self
    }

    /// Who is at fault.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// What failed, without place and hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The configuration key this is about, if there is one.
    pub fn key_path(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The place this is about, if it is known.
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// The way out, if one is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The whole error on one line, for a log.
    pub fn one_line(&self) -> String {
        self.to_string().replace("\n  hint: ", "; hint: ")
    }

    /// The exit code of a process that ends with this error.
    pub fn exit_code(&self) -> u8 {
        self.fault.exit_code()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The known name nearest to `given`, if one is near enough to be what was meant.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&given, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_place_key_message_and_hint() {
        let error = Error::configuration("unknown key")
            .at("server.json:3:5")
            .key("server.listen_prot")
            .hint("did you mean `listen_port`?");
        assert_eq!(
            error.to_string(),
            "server.json:3:5: server.listen_prot: unknown key\n  hint: did you mean `listen_port`?"
        );
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_innermost_place_wins() {
        assert_eq!(Error::internal("x").at("inner").at("outer").place(), Some("inner"));
    }

    #[test]
    fn nearest_finds_typos_and_nothing_else() {
        let known = ["listen_port", "listen_address", "worker_threads"];
        assert_eq!(nearest("listen_prot", known), Some("listen_port"));
        assert_eq!(nearest("Worker_Thread", known), Some("worker_threads"));
        assert_eq!(nearest("zzz", known), None);
    }
}
