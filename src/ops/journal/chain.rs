//! The hash chain of a journal: each line ends in its number and a hash that rests on the line before.
//!
//! ```text
//! {"time":"…", … ,"seq":8,"hash":"<64 hexadecimal digits>"}
//!                ╰ hash = SHA-256(hash of line 7, 32 octets ‖ this line up to `,"hash":`)
//! ```
//!
//! Who changes, removes, inserts or moves a line breaks it there. Nothing in it is secret: who can write the file can
//! also write a chain of their own from some line on, and can cut lines off its end. Against both helps a hash that was
//! noted elsewhere, in the log of another machine for example.
//!
//! Every file begins with a head, a line of the chain that is no verdict and names the hash it goes on from, so that a
//! file can be verified without the one before.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// What stands between a line's content and its hash.
const BEFORE_HASH: &[u8] = b",\"hash\":\"";
/// What stands between the content proper and the number.
const BEFORE_SEQ: &[u8] = b",\"seq\":";
/// Octets of a hash.
const HASH_OCTETS: usize = 32;

/// A SHA-256; shown as lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash([u8; HASH_OCTETS]);

impl Hash {
    /// What the first line of a chain goes on from.
    pub const NONE: Self = Self([0; HASH_OCTETS]);

    /// The hash of `parts`, one behind the other.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        let mut res = Self::NONE;
        res.0.copy_from_slice(context.finish().as_ref());
        res
    }

    /// Reads 64 lower-case hexadecimal digits.
    pub fn read(text: &[u8]) -> Option<Self> {
        let digit = |octet: u8| match octet {
            b'0'..=b'9' => Some(octet - b'0'),
            b'a'..=b'f' => Some(octet - b'a' + 10),
            _ => None,
        };
        if text.len() != 2 * HASH_OCTETS {
            return None;
        }
        let mut res = Self::NONE;
        for (octet, pair) in res.0.iter_mut().zip(text.chunks_exact(2)) {
            *octet = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(res)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// How far a chain has come: the number and the hash of its last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The number, from 1; 0 before the first line.
    pub seq: u64,
    /// The hash.
    pub hash: Hash,
}

impl Link {
    /// Before the first line.
    pub const START: Self = Self { seq: 0, hash: Hash::NONE };

    /// Puts number and hash at the end of `line`, a JSON object, and goes on to it.
    pub fn seal(&mut self, line: &mut String) {
        let brace = line.pop();
        debug_assert_eq!(brace, Some('}'), "a JSON object");
        self.seq += 1;
        line.push_str(&format!(",\"seq\":{}", self.seq));
        self.hash = Hash::of(&[&self.hash.0, line.as_bytes()]);
        line.push_str(&format!(",\"hash\":\"{}\"}}", self.hash));
    }
}

/// A line that has the form of one in a chain, without its line feed; what its hash says is not looked at yet.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'a> {
    /// What it says of itself.
    pub link: Link,
    content: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Reads the end of a line; `None` where it is no line of a chain.
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_suffix(b"\"}")?;
        let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(2 * HASH_OCTETS)?)?;
        let (content, hash) = (rest.strip_suffix(BEFORE_HASH)?, Hash::read(hash)?);
        let digits = content.iter().rev().take_while(|octet| octet.is_ascii_digit()).count();
        let (before, number) = content.split_at(content.len() - digits);
        if !before.ends_with(BEFORE_SEQ) || !line.starts_with(b"{") {
            return None;
        }
        // None that a gate comes to: 0, or so many that the next could not be counted.
        let seq = std::str::from_utf8(number).ok()?.parse().ok().filter(|seq| (1..u64::MAX / 2).contains(seq))?;
        Some(Self { link: Link { seq, hash }, content })
    }

    /// The hash it should have behind a line with the hash `previous`.
    pub fn hash_after(&self, previous: Hash) -> Hash {
        Hash::of(&[&previous.0, self.content])
    }

    /// True when its hash rests on `previous`.
    pub fn follows(&self, previous: Hash) -> bool {
        self.hash_after(previous) == self.link.hash
    }

    /// The head it is, if it is one.
    pub fn head(&self) -> Option<Head> {
        let whole = [self.content, b"}"].concat();
        serde_json::from_slice(&whole).ok().filter(|head: &Head| head.journal == OPENED)
    }
}

/// The word by which a head is known.
const OPENED: &str = "opened";

/// The line a file begins with, and one that goes on behind octets that are no whole line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// `opened`.
    pub journal: String,
    /// The hash of the line that the chain goes on from; zeros for a new chain.
    pub previous: String,
    /// What stands before it in the file and is no line of the chain: the end of a process that was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn: Option<Torn>,
    /// Octets that stood in the file before the chain began; nothing vouches for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchained: Option<u64>,
}

/// Octets of which a head says that they are no line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Torn {
    /// How many, without the line feed that was put behind them.
    pub octets: u64,
    /// Their SHA-256.
    pub sha256: String,
}

impl Torn {
    /// What a head says of `octets`.
    pub fn of(octets: &[u8]) -> Self {
        Self { octets: octets.len() as u64, sha256: Hash::of(&[octets]).to_string() }
    }
}

impl Head {
    /// A head behind `link`.
    pub fn new(time: String, link: Link, torn: Option<Torn>) -> Self {
        Self { time, journal: OPENED.to_owned(), previous: link.hash.to_string(), torn, unchained: None }
    }

    /// The hash it says it goes on from.
    pub fn previous(&self) -> Option<Hash> {
        Hash::read(self.previous.as_bytes())
    }

    /// One line of JSON, to be sealed.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a head has text keys and no values JSON cannot hold")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_rests_on_the_one_before() {
        let mut link = Link::START;
        let (mut first, mut second) = (r#"{"a":1}"#.to_owned(), r#"{"b":2}"#.to_owned());
        link.seal(&mut first);
        let before = link;
        link.seal(&mut second);
        assert!(first.starts_with(r#"{"a":1,"seq":1,"hash":""#) && first.ends_with("\"}"), "{first}");
        let value: serde_json::Value = serde_json::from_str(&second).expect("still JSON");
        assert_eq!((value["b"].as_u64(), value["seq"].as_u64()), (Some(2), Some(2)));
        let sealed = Sealed::read(second.as_bytes()).expect("a line of the chain");
        assert_eq!(sealed.link, link);
        assert!(sealed.follows(before.hash) && !sealed.follows(Hash::NONE));
        // By hand, as an auditor would with any other program.
        let content = br#"{"a":1,"seq":1"#;
        assert_eq!(before.hash, Hash::of(&[&[0; 32], content]));
    }

    #[test]
    fn other_lines_have_not_its_form() {
        let mut line = r#"{"a":1}"#.to_owned();
        Link::START.clone().seal(&mut line);
        let upper = line.replace(|c: char| c.is_ascii_lowercase() && c.is_ascii_hexdigit(), "A");
        let cut = &line[..line.len() - 1];
        let zero = line.replace("\"seq\":1", "\"seq\":0");
        for text in [r#"{"a":1}"#, "", "}", &upper, cut, &line[1..], r#"{"seq":x,"hash":""}"#, &zero] {
            assert!(Sealed::read(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_head_says_what_it_goes_on_from() {
        let mut link = Link { seq: 7, hash: Hash::of(&[b"x"]) };
        let head = Head::new("2026-11-24T00:00:00.000Z".to_owned(), link, Some(Torn::of(b"{\"ti")));
        let (mut line, before) = (head.json(), link.hash);
        link.seal(&mut line);
        let sealed = Sealed::read(line.as_bytes()).expect("a line of the chain");
        assert_eq!(sealed.head(), Some(head.clone()));
        assert_eq!(head.previous(), Some(before));
        let mut verdict = r#"{"time":"","journal":"closed","previous":""}"#.to_owned();
        link.seal(&mut verdict);
        assert_eq!(Sealed::read(verdict.as_bytes()).and_then(|sealed| sealed.head()), None);
    }
}
