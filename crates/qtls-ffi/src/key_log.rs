//! The secrets of connections, for a function in C.

use std::fmt::Write as _;

use rustls::KeyLog;
use zeroize::Zeroizing;

use crate::abi::KeyLogCallback;

/// Gives lines in the NSS key log format to a function in C.
#[derive(Debug)]
pub(crate) struct Lines(pub(crate) KeyLogCallback);

impl KeyLog for Lines {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        // All of the room at once: a text that grows leaves copies of its beginning behind.
        let mut line =
            Zeroizing::new(String::with_capacity(label.len() + 2 * (1 + client_random.len() + secret.len())));
        line.push_str(label);
        for part in [client_random, secret] {
            line.push(' ');
            for byte in part {
                let _ = write!(line, "{byte:02x}");
            }
        }
        self.0.tell(&line);
    }
}
