//! Octets of a wire format, read from the front; what is not there is `None`, never a panic.

/// What is left to read of some octets, and where it stands in them.
#[derive(Clone, Copy, Debug)]
pub struct Octets<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Octets<'a> {
    /// All of `octets`.
    pub fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets, at: 0 }
    }

    /// How far reading has come, counted from the octets that [`Octets::new`] took.
    pub fn at(&self) -> usize {
        self.at
    }

    /// True at the end.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` octets.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        (self.rest, self.at) = (rest, self.at + count);
        Some(taken)
    }

    /// The next `count` octets as a part that keeps their position.
    pub fn part(&mut self, count: usize) -> Option<Octets<'a>> {
        let at = self.at;
        self.take(count).map(|rest| Octets { rest, at })
    }

    /// One octet.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[octet]| *octet)
    }

    /// Two octets in network order.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(|octets| u16::from_be_bytes(*octets))
    }

    /// Four octets in network order.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(|octets| u32::from_be_bytes(*octets))
    }

    /// A variable-length integer of QUIC, one to eight octets (RFC 9000 section 16).
    pub fn varint(&mut self) -> Option<u64> {
        let length = 1 << (self.rest.first()? >> 6);
        let octets = self.take(length)?;
        let first = u64::from(octets[0] & 0x3f);
        Some(octets[1..].iter().fold(first, |value, octet| (value << 8) | u64::from(*octet)))
    }

    /// A part whose length stands before it in one octet.
    pub fn part8(&mut self) -> Option<Octets<'a>> {
        let count = self.u8()?;
        self.part(usize::from(count))
    }

    /// A part whose length stands before it in two octets.
    pub fn part16(&mut self) -> Option<Octets<'a>> {
        let count = self.u16()?;
        self.part(usize::from(count))
    }

    /// A part whose length stands before it as a variable-length integer.
    pub fn part_varint(&mut self) -> Option<Octets<'a>> {
        let count = self.varint()?;
        self.part(usize::try_from(count).ok()?)
    }

    /// The next `N` octets.
    pub fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        (self.rest, self.at) = (rest, self.at + N);
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_length_integers_are_those_of_the_specification() {
        // RFC 9000 appendix A.1.
        for (octets, expected) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], Some(151_288_809_941_952_652)),
            (&[0x9d, 0x7f, 0x3e, 0x7d], Some(494_878_333)),
            (&[0x7b, 0xbd], Some(15_293)),
            (&[0x25], Some(37)),
            (&[0x40, 0x25], Some(37)),
            (&[0x40], None),
            (&[], None),
        ] {
            assert_eq!(Octets::new(octets).varint(), expected, "{octets:?}");
        }
    }

    #[test]
    fn parts_keep_their_position() {
        let mut octets = Octets::new(&[9, 0, 2, 7, 8, 1]);
        assert_eq!(octets.u8(), Some(9));
        let mut part = octets.part16().expect("two octets");
        assert_eq!((part.at(), part.u8(), part.at(), part.rest()), (3, Some(7), 4, &[8][..]));
        assert_eq!((octets.at(), octets.part8().is_none()), (5, true));
    }
}
