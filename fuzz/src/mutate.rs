//! Mutations of inputs, the same for the same seed.

/// A generator of numbers that need not be unpredictable (xorshift64*).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Begins from a seed.
    pub fn new(seed: u64) -> Self {
        // Zero is the one state that never leaves itself.
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % limit
    }
}

/// The longest input that is made, in octets.
pub const LONGEST: usize = 64 * 1024;

/// One to eight changes of `input`. `other` gives parts.
pub fn mutate(input: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut made = input.to_vec();
    for _ in 0..=numbers.below(8) {
        change(&mut made, other, numbers);
    }
    made.truncate(LONGEST);
    made
}

fn change(input: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    if input.is_empty() {
        input.extend_from_slice(other);
        return;
    }
    let at = numbers.below(input.len());
    match numbers.below(8) {
        0 => input[at] ^= 1 << numbers.below(8),
        1 => input[at] = BOUNDARIES[numbers.below(BOUNDARIES.len())],
        2 => input[at] = input[at].wrapping_add(numbers.below(5) as u8).wrapping_sub(2),
        3 => input.truncate(at),
        4 => {
            let end = at + numbers.below((input.len() - at).min(32) + 1);
            input.drain(at..end);
        }
        5 => {
            let end = at + numbers.below((input.len() - at).min(64) + 1);
            let part = input[at..end].to_vec();
            let times = 1 + numbers.below(4);
            input.splice(at..at, part.repeat(times));
        }
        6 if !other.is_empty() => {
            let from = numbers.below(other.len());
            let to = from + numbers.below((other.len() - from).min(256) + 1);
            input.splice(at..at, other[from..to].iter().copied());
        }
        // A length of DER or TLS that promises far more than there is.
        _ => {
            let lengths: [&[u8]; 5] = [
                &[0x84, 0xff, 0xff, 0xff, 0xff],
                &[0x84, 0x7f, 0xff, 0xff, 0xff],
                &[0x83, 0xff, 0xff, 0xff],
                &[0x80],
                &[0xff, 0xff],
            ];
            let length = lengths[numbers.below(lengths.len())];
            let end = (at + length.len()).min(input.len());
            input.splice(at..end, length.iter().copied());
        }
    }
}

/// The edges of number ranges, DER's tags, and what separates text.
const BOUNDARIES: [u8; 24] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0c, 0x13, 0x17, 0x18, 0x30, 0x31, 0x7f, 0x80, 0x81, 0xa0, 0xa3, 0xff,
    b'\n', b'\\', b'"', b'-', b'=',
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_another_makes_others() {
        let made = |seed| {
            let mut numbers = Numbers::new(seed);
            (0..100).map(|_| mutate(b"some input", b"another", &mut numbers)).collect::<Vec<_>>()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        let all = made(3);
        assert!(all.iter().any(|input| input.len() > 20) && all.iter().any(|input| input.len() < 5));
    }
}
