//! Secrets, and everything that programs said: none of the former may be in the latter, in whatever notation.

use std::collections::BTreeSet;
use std::path::Path;

use crate::process::{Finished, run};

/// How many octets of a binary secret in a row are a leak.
const WINDOW: usize = 18;

/// What must not be said.
#[derive(Debug, Default)]
pub struct Secrets {
    /// Each with what it is of.
    needles: Vec<(String, Vec<u8>)>,
}

impl Secrets {
    /// A passphrase or PIN.
    pub fn text(&mut self, what: &str, secret: &str) {
        assert!(secret.len() >= 8, "{what} is too short to be told from chance");
        self.needles.push((what.to_owned(), secret.as_bytes().to_vec()));
        self.binary(what, secret.as_bytes(), &[]);
    }

    /// Octets, but for those that are in one of `public`: a private key has its public key in it.
    pub fn binary(&mut self, what: &str, secret: &[u8], public: &[Vec<u8>]) {
        for window in secret.windows(WINDOW.min(secret.len())).step_by(3) {
            if public.iter().any(|public| contains(public, window)) {
                continue;
            }
            for notation in notations(window) {
                self.needles.push((what.to_owned(), notation));
            }
        }
    }

    /// A private key in PEM, as OpenSSL or Q-TLS writes it, whose certificate is in another file.
    pub fn key(&mut self, key: &Path, cert: &Path) {
        let what = key.display().to_string();
        let pem = std::fs::read_to_string(key).unwrap_or_else(|error| panic!("{what}: {error}"));
        let public: Vec<_> = pem_bodies(&std::fs::read_to_string(cert).expect("it is there"));
        let before = self.needles.len();
        for der in pem_bodies(&pem) {
            self.binary(&what, &der, &public);
        }
        // The lines as they stand in the file, where they are no part of the certificate's key.
        for line in pem.lines().filter(|line| !line.starts_with("-----") && line.len() >= 40) {
            let octets = decode_base64(line);
            if !public.iter().any(|public| contains(public, &octets[octets.len() / 3..2 * octets.len() / 3])) {
                self.needles.push((what.clone(), line.as_bytes().to_vec()));
            }
        }
        assert!(self.needles.len() > before, "{what} has nothing secret in it");
    }

    /// Fails the test where something of it was said.
    #[track_caller]
    pub fn assert_not_in(&self, said: &Said) {
        let mut found = BTreeSet::new();
        for (where_, text) in &said.0 {
            for (what, needle) in &self.needles {
                if contains(text, needle) {
                    found.insert(format!("{what} in {where_}: {}", String::from_utf8_lossy(needle)));
                }
            }
        }
        assert!(found.is_empty(), "{found:#?}");
    }

    /// What would be a leak, for a test of the test.
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.needles.iter().any(|(_, needle)| contains(text, needle))
    }
}

/// Everything that programs said.
#[derive(Debug, Default)]
pub struct Said(Vec<(String, Vec<u8>)>);

impl Said {
    /// Bytes from somewhere.
    pub fn add(&mut self, what: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.0.push((what.into(), text.into()));
    }

    /// What a program printed.
    pub fn finished(&mut self, finished: &Finished) {
        self.add(format!("stdout of {}", finished.what), finished.stdout.as_bytes());
        self.add(format!("stderr of {}", finished.what), finished.stderr.as_bytes());
    }

    /// Every file below a directory whose name has one of these parts.
    pub fn files(&mut self, directory: &Path, parts: &[&str]) {
        for path in crate::authority::walk(directory) {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if parts.iter().any(|part| name.contains(part)) {
                self.add(path.display().to_string(), std::fs::read(&path).expect("it can be read"));
            }
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|(_, text)| text.len()).sum()
    }

    /// Whether nobody said anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any of it contains `text`.
    pub fn contains(&self, text: &str) -> bool {
        self.0.iter().any(|(_, said)| contains(said, text.as_bytes()))
    }
}

/// Octets as they may be shown: raw, in hexadecimal digits, with and without colons, as a list of numbers, and in base64.
fn notations(octets: &[u8]) -> Vec<Vec<u8>> {
    let joined = |separator: &str, format: fn(&u8) -> String| {
        octets.iter().map(format).collect::<Vec<_>>().join(separator).into_bytes()
    };
    let mut all = vec![octets.to_vec()];
    all.push(joined("", |octet| format!("{octet:02x}")));
    all.push(joined("", |octet| format!("{octet:02X}")));
    all.push(joined(":", |octet| format!("{octet:02x}")));
    all.push(joined(":", |octet| format!("{octet:02X}")));
    all.push(joined(", ", u8::to_string));
    // Wherever they stand in a longer text: what depends on the neighbours is left out.
    for lead in 0..3 {
        let padded = [vec![0; lead], octets.to_vec()].concat();
        let whole = padded.len() / 3 * 3;
        let encoded = encode_base64(&padded[..whole]);
        all.push(encoded.as_bytes()[if lead == 0 { 0 } else { 4 }..].to_vec());
    }
    all
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// What is between the lines `-----BEGIN` and `-----END`, decoded.
fn pem_bodies(pem: &str) -> Vec<Vec<u8>> {
    let blocks =
        pem.split("-----BEGIN ").skip(1).filter_map(|block| block.split_once("-----\n")?.1.split_once("-----END"));
    blocks.map(|(body, _)| decode_base64(&body.replace('\n', ""))).collect()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode_base64(octets: &[u8]) -> String {
    let sextets = octets.chunks(3).flat_map(|chunk| {
        let bits = chunk.iter().fold(0u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(move |index| ALPHABET[(bits >> (18 - 6 * index) & 63) as usize])
    });
    sextets.map(char::from).collect()
}

fn decode_base64(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for sextet in text.bytes().filter_map(|digit| ALPHABET.iter().position(|known| *known == digit)) {
        bits = bits << 6 | sextet as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.push((bits >> count) as u8);
        }
    }
    octets
}

/// Runs `command` to its end, and adds what it printed.
pub fn run_and_add(said: &mut Said, command: &mut std::process::Command, input: &[u8]) -> Finished {
    let finished = run(command, input);
    said.finished(&finished);
    finished
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> (Secrets, Vec<u8>) {
        let octets: Vec<u8> = (0..64u8).map(|number| number.wrapping_mul(37).wrapping_add(11)).collect();
        let mut secrets = Secrets::default();
        secrets.binary("octets", &octets, &[]);
        secrets.text("passphrase", "correct horse");
        (secrets, octets)
    }

    #[test]
    fn a_leak_is_found_in_every_notation_and_at_every_place() {
        let (secrets, octets) = secrets();
        let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        for lead in 0..5 {
            let longer = [vec![0xee; lead], octets.clone(), vec![0xee; 5]].concat();
            assert!(secrets.is_in(format!("x{}y", encode_base64(&longer)).as_bytes()), "base64 behind {lead}");
            assert!(secrets.is_in(&longer));
        }
        for text in [
            hex.clone(),
            hex.to_uppercase(),
            format!("{octets:?}"),
            format!("left {} right", &hex[20..60]),
            "the passphrase \"correct horse\" is wrong".to_owned(),
            encode_base64(b"correct horse"),
        ] {
            assert!(secrets.is_in(text.as_bytes()), "{text}");
        }
        assert!(!secrets.is_in(b"nothing of interest"));
        assert!(!secrets.is_in(&hex.as_bytes()[..20]));
    }

    #[test]
    fn base64_is_read_as_it_is_written() {
        for length in 0..20 {
            let octets: Vec<u8> = (0..length).collect();
            assert_eq!(decode_base64(&encode_base64(&octets)), octets);
        }
        assert_eq!(encode_base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw");
    }

    #[test]
    fn the_public_part_of_a_key_is_no_secret() {
        let (_, octets) = secrets();
        let mut secrets = Secrets::default();
        secrets.binary("octets", &octets, &[octets[20..].to_vec()]);
        assert!(secrets.is_in(&octets[..20]));
        assert!(!secrets.is_in(&octets[20..]));
    }
}
