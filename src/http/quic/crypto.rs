//! Handshake octets put together from CRYPTO frames in any order (D-Q3).

/// The handshake of one flight as far as it has come; bounded, and one octet never has two values.
#[derive(Debug, Default)]
pub struct CryptoStream {
    /// Octets up to the highest that came; gaps hold zeros.
    octets: Vec<u8>,
    /// So many from the start have all come.
    ready: usize,
    /// One bit for each octet of `octets`, in words; a bit before `ready` may be unset.
    came: Vec<u64>,
}

/// Why octets are not taken. The client is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CryptoError {
    /// An octet that came with another value before.
    Contradiction,
    /// Octets past the limit.
    TooLong,
}

impl CryptoStream {
    /// The octets from the start without a gap.
    pub fn ready(&self) -> &[u8] {
        &self.octets[..self.ready]
    }

    /// Octets of memory it takes.
    pub fn kept_octets(&self) -> usize {
        self.octets.capacity() + self.came.capacity() * size_of::<u64>()
    }

    /// Takes the octets of a frame.
    ///
    /// Overlaps are compared: a sender that gives an octet twice gives the same one (RFC 9000 section 2.2, which calls the
    /// other case an error of the protocol; which of the two a server would take cannot be known).
    /// Cost: a copy in order, a step per octet out of order; memory for no more than `octets_max` octets.
    pub fn insert(&mut self, offset: u64, octets: &[u8], octets_max: usize) -> Result<(), CryptoError> {
        let start = usize::try_from(offset).map_err(|_| CryptoError::TooLong)?;
        let end = start.checked_add(octets.len()).filter(|end| *end <= octets_max).ok_or(CryptoError::TooLong)?;
        if start == self.octets.len() && start == self.ready {
            self.octets.extend_from_slice(octets);
            self.ready = end;
            return Ok(());
        }
        if end > self.octets.len() {
            self.octets.resize(end, 0);
        }
        self.came.resize(self.octets.len().div_ceil(64), 0);
        for (at, &octet) in (start..end).zip(octets) {
            let (word, bit) = (at / 64, 1 << (at % 64));
            if at < self.ready || self.came[word] & bit != 0 {
                if self.octets[at] != octet {
                    return Err(CryptoError::Contradiction);
                }
                continue;
            }
            self.octets[at] = octet;
            self.came[word] |= bit;
        }
        while self.ready < self.octets.len() && self.came[self.ready / 64] & (1 << (self.ready % 64)) != 0 {
            self.ready += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 200;

    #[test]
    fn pieces_join_in_any_order() {
        let whole: Vec<u8> = (0..150).collect();
        let cuts = [0, 1, 63, 64, 65, 128, 150];
        let pieces: Vec<(usize, usize)> = cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
        for first in 0..pieces.len() {
            for step in [1, 5] {
                let mut stream = CryptoStream::default();
                for i in 0..pieces.len() {
                    let (start, end) = pieces[(first + i * step) % pieces.len()];
                    assert!(stream.ready().len() < 150);
                    assert_eq!(stream.insert(start as u64, &whole[start..end], MAX), Ok(()));
                    assert_eq!(stream.ready(), &whole[..stream.ready().len()]);
                }
                assert_eq!(stream.ready(), whole);
            }
        }
    }

    #[test]
    fn an_octet_has_one_value() {
        let mut stream = CryptoStream::default();
        assert_eq!(stream.insert(4, b"efgh", MAX), Ok(()));
        assert_eq!(stream.insert(2, b"cdef", MAX), Ok(()));
        assert_eq!(stream.ready(), b"");
        assert_eq!(stream.insert(0, b"abc", MAX), Ok(()));
        assert_eq!(stream.ready(), b"abcdefgh");
        assert_eq!(stream.insert(0, b"abcdefghi", MAX), Ok(()));
        assert_eq!(stream.insert(7, b"hIj", MAX), Err(CryptoError::Contradiction));
        assert_eq!(stream.insert(3, b"x", MAX), Err(CryptoError::Contradiction));
    }

    #[test]
    fn the_limit_holds() {
        let mut stream = CryptoStream::default();
        assert_eq!(stream.insert(MAX as u64, b"a", MAX), Err(CryptoError::TooLong));
        assert_eq!(stream.insert(u64::MAX, b"a", MAX), Err(CryptoError::TooLong));
        assert_eq!(stream.insert(MAX as u64 - 1, b"ab", MAX), Err(CryptoError::TooLong));
        assert_eq!(stream.insert(MAX as u64 - 1, b"a", MAX), Ok(()));
        assert_eq!(stream.insert(MAX as u64, b"", MAX), Ok(()));
    }
}
