//! Address blocks as people write them: a prefix, a single address, or `first-last`.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use super::span::{Family, Span};

/// Why a text is no address block; each says what would have been right.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BlockError {
    /// The address part is none.
    #[error("{0:?} is no address; expected a prefix such as 203.0.113.0/24, an address, or first-last")]
    Address(String),
    /// The last address is below the first.
    #[error("{last} is below {first}; expected first-last in ascending order")]
    Descending {
        /// As written.
        first: IpAddr,
        /// As written.
        last: IpAddr,
    },
    /// The ends are of different families.
    #[error("{first} and {last} are of different families; expected first-last of one")]
    Families {
        /// As written.
        first: IpAddr,
        /// As written.
        last: IpAddr,
    },
    /// The length part is no number in range.
    #[error("/{written} is no prefix length; expected a number from 0 to {max}")]
    Length {
        /// After the slash.
        written: String,
        /// 32 or 128.
        max: u8,
    },
}

/// A block as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// A prefix, canonical or not; a single address is one of full length.
    Prefix {
        /// Without host bits.
        prefix: IpNet,
        /// True when the text had bits set below the prefix.
        had_host_bits: bool,
        /// True when the text was a bare address.
        is_bare: bool,
    },
    /// `first-last`.
    Range(Family, Span),
}

impl Block {
    /// Reads a block; blanks around it and around the dash are fine.
    pub fn parse(text: &str) -> Result<Self, BlockError> {
        let text = text.trim();
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (parse_addr(first.trim())?, parse_addr(last.trim())?);
            let ((family, low), (other, high)) = (Family::of(first), Family::of(last));
            if family != other {
                return Err(BlockError::Families { first, last });
            }
            if high < low {
                return Err(BlockError::Descending { first, last });
            }
            return Ok(Self::Range(family, Span { first: low, last: high }));
        }
        let Some((addr, length)) = text.split_once('/') else {
            let prefix = IpNet::from(parse_addr(text)?);
            return Ok(Self::Prefix { prefix, had_host_bits: false, is_bare: true });
        };
        let addr = parse_addr(addr)?;
        let max = if addr.is_ipv4() { 32 } else { 128 };
        let is_number = (1..=3).contains(&length.len()) && length.bytes().all(|octet| octet.is_ascii_digit());
        let number = length.parse::<u8>().ok().filter(|number| is_number && *number <= max);
        let written = number.and_then(|number| IpNet::new(addr, number).ok());
        let written = written.ok_or_else(|| BlockError::Length { written: length.to_owned(), max })?;
        let prefix = written.trunc();
        Ok(Self::Prefix { prefix, had_host_bits: prefix != written, is_bare: false })
    }

    /// The family and span.
    pub fn span(self) -> (Family, Span) {
        match self {
            Self::Prefix { prefix, .. } => Span::of(prefix),
            Self::Range(family, span) => (family, span),
        }
    }

    /// The fewest prefixes that make it up.
    pub fn prefixes(self) -> Vec<IpNet> {
        match self {
            Self::Prefix { prefix, .. } => vec![prefix],
            Self::Range(family, span) => span.cidrs(family),
        }
    }
}

/// Reads an address in its one standard form: no short or octal IPv4, no zone.
pub fn parse_addr(text: &str) -> Result<IpAddr, BlockError> {
    text.parse().map_err(|_| BlockError::Address(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_in_each_form() {
        let prefixes = |text: &str| {
            Block::parse(text).map(|block| block.prefixes().iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(prefixes(" 203.0.113.0/24 ").expect("a prefix"), ["203.0.113.0/24"]);
        assert_eq!(prefixes("203.0.113.7").expect("an address"), ["203.0.113.7/32"]);
        assert_eq!(prefixes("203.0.113.0 - 203.0.113.2").expect("a range"), ["203.0.113.0/31", "203.0.113.2/32"]);
        assert_eq!(prefixes("2400:3200::1/32").expect("host bits are cut"), ["2400:3200::/32"]);
        assert!(matches!(Block::parse("1.2.3.4/24"), Ok(Block::Prefix { had_host_bits: true, .. })));
    }

    #[test]
    fn what_is_no_block_says_what_would_be_right() {
        for (text, expected) in [
            ("", "is no address"),
            ("1.2.3/24", "\"1.2.3\" is no address"),
            ("01.2.3.4", "is no address"),
            ("1.2.3.4/33", "from 0 to 32"),
            ("1.2.3.4/+8", "no prefix length"),
            ("1.2.3.4/", "no prefix length"),
            ("240e::/129", "from 0 to 128"),
            ("1.2.3.4-1.2.3.3", "is below"),
            ("1.2.3.4-240e::", "different families"),
            ("fe80::1%eth0", "is no address"),
        ] {
            let error = Block::parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
