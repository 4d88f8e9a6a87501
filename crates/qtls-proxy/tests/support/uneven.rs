//! Data that can be told apart, written and read in pieces of any size and at any pace, the same for the same seed.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A small generator of reproducible numbers (xorshift): what is tested is the relay, not the randomness.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> usize {
        usize::try_from(self.next() % limit).unwrap()
    }
}

pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut numbers = Numbers(seed | 1);
    (0..length).map(|_| numbers.next() as u8).collect()
}

/// Writes in pieces of random size, with pauses, then says that it is done.
pub async fn write_unevenly(mut to: impl tokio::io::AsyncWrite + Unpin, data: Arc<Vec<u8>>, seed: u64) {
    let mut numbers = Numbers(seed | 1);
    let mut rest = &data[..];
    while !rest.is_empty() {
        let limit = [1, 100, 20_000, 300_000][numbers.below(4)];
        let (piece, later) = rest.split_at((1 + numbers.below(limit)).min(rest.len()));
        to.write_all(piece).await.unwrap();
        rest = later;
        for _ in 0..numbers.below(3) {
            tokio::task::yield_now().await;
        }
    }
    to.shutdown().await.unwrap();
}

/// Reads in pieces of random size, with pauses, to the end.
pub async fn read_unevenly(mut from: impl tokio::io::AsyncRead + Unpin, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed | 1);
    let mut received = Vec::new();
    let mut buffer = vec![0; 300_000];
    loop {
        let limit = [1, 5000, 299_999][numbers.below(3)];
        let size = 1 + numbers.below(limit);
        match from.read(&mut buffer[..size]).await.unwrap() {
            0 => return received,
            count => received.extend_from_slice(&buffer[..count]),
        }
        for _ in 0..numbers.below(3) {
            tokio::task::yield_now().await;
        }
    }
}
