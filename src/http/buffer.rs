//! The input buffer of one connection: octets read and not yet used.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// First size: a request of a browser fits, and twenty thousand idle connections take 160 MB.
const OCTETS_INITIAL: usize = 8 << 10;
/// Size while a large body flows.
const OCTETS_STREAM: usize = 64 << 10;

/// A buffer that grows up to a bound and starts over when empty.
#[derive(Debug)]
pub struct Buffer {
    octets: Vec<u8>,
    start: usize,
    end: usize,
    octets_max: usize,
}

impl Buffer {
    /// An empty buffer that holds at least `octets_max` octets of one head, and a little more.
    pub fn new(octets_max: usize) -> Self {
        let octets_max = octets_max.max(OCTETS_STREAM) + OCTETS_INITIAL;
        Self { octets: vec![0; OCTETS_INITIAL], start: 0, end: 0, octets_max }
    }

    /// A buffer in which `octets` stand already.
    pub fn with(octets_max: usize, octets: &[u8]) -> Self {
        let mut res = Self::new(octets_max.max(octets.len()));
        if res.octets.len() < octets.len() {
            res.octets.resize(octets.len(), 0);
        }
        res.octets[..octets.len()].copy_from_slice(octets);
        res.end = octets.len();
        res
    }

    /// A buffer without memory, in place of one that is needed no more.
    pub fn empty() -> Self {
        Self { octets: Vec::new(), start: 0, end: 0, octets_max: 0 }
    }

    /// What was read and not used.
    pub fn filled(&self) -> &[u8] {
        &self.octets[self.start..self.end]
    }

    /// True with nothing unused.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Marks the first `count` octets used.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Reads once, making room first; 0 means the end of the stream. Cancel safe.
    pub async fn fill(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        self.make_room();
        let count = reader.read(&mut self.octets[self.end..]).await?;
        self.end += count;
        Ok(count)
    }

    /// Grows for a body that will fill more than one read.
    pub fn widen(&mut self, left: u64) {
        if left > self.octets.len() as u64 && self.octets.len() < OCTETS_STREAM {
            self.octets.resize(OCTETS_STREAM, 0);
        }
    }

    /// Gives memory back that a large message took.
    pub fn settle(&mut self) {
        if self.is_empty() && self.octets.len() > OCTETS_INITIAL {
            self.octets = vec![0; OCTETS_INITIAL];
        }
    }

    fn make_room(&mut self) {
        if self.end < self.octets.len() {
            return;
        }
        if self.start > 0 {
            self.octets.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            return;
        }
        let next = (2 * self.octets.len()).min(self.octets_max);
        // Whoever fills looks at what is there before asking for more, so a full buffer at its bound is our mistake.
        assert!(next > self.octets.len(), "a buffer is not filled beyond its bound");
        self.octets.resize(next, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn octets_come_out_in_order_whatever_is_consumed() {
        let all: Vec<u8> = (0..200_000u32).map(|n| u8::try_from(n % 251).expect("an octet")).collect();
        let (mut source, mut buffer, mut seen) = (&all[..], Buffer::new(1000), Vec::new());
        while buffer.fill(&mut source).await.expect("reads") > 0 {
            let count = buffer.filled().len().div_ceil(2);
            seen.extend_from_slice(&buffer.filled()[..count]);
            buffer.consume(count);
        }
        seen.extend_from_slice(buffer.filled());
        assert_eq!(seen, all);
    }
}
