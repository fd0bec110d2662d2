//! The registry as one file, to start from in place of the tables.
//!
//! ```text
//! magic │ version │ sections │ per section: kind, number, place, length, checksum │ checksum of all this │ sections
//! ```
//!
//! All numbers are little-endian. A section is what lies in memory, so reading is copying and checking. Every section has
//! a checksum, every slot is checked to lead to a whole entry, and the file names who wrote it, for which provider, by
//! which rules: whatever does not fit refuses the file with the reason, and the tables are loaded instead. The file is
//! read into memory and never mapped. It is written beside its place and renamed, so that a crash leaves the old one.
//!
//! A file may be signed; where a key is set, only files signed by it are taken (`signature`).

mod read;
mod signature;
mod write;

use std::io;

use siphasher::sip128::SipHasher13;
use thiserror::Error;

use super::arena::CHUNKS_MAX;

pub use read::{read, read_signed};
pub use signature::{KeyError, KeyId, PublicKeys, SigningKey};
pub use write::{write, write_signed};

/// What the file begins with.
const MAGIC: [u8; 8] = *b"icpgate\0";
/// Changes whenever a section is written otherwise, or another of several rows counts.
const VERSION: u32 = 5;
/// Octets before the section table.
const HEAD: usize = 16;
/// Octets of one line of the section table.
const TABLE_LINE: usize = 40;
/// Most sections: three a chunk and some.
const SECTIONS_MAX: usize = 3 * CHUNKS_MAX + 16;
/// Octets of one section: far above what a chunk can hold.
const SECTION_OCTETS_MAX: u64 = 8 << 30;

/// Why a file is not taken.
#[derive(Debug, Error)]
pub enum SavedError {
    /// Its octets are not those that were written.
    #[error("the file is damaged: {0}")]
    Damaged(&'static str),
    /// Signed by the right key, but for another content.
    #[error("its signature does not fit its content; expected the file as icpgate registry compile --sign wrote it")]
    Forged,
    /// Unreadable.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Not a file of this kind.
    #[error("is no registry snapshot; expected a file written by icpgate registry compile or by the server")]
    NotASnapshot,
    /// Written under other settings or rules.
    #[error("was written for {what} {found}; expected {expected}")]
    Other {
        /// What differs.
        what: &'static str,
        /// In the file.
        found: String,
        /// Here.
        expected: String,
    },
    /// Signed by a key that is none of those set.
    #[error("is signed by {found}; expected one of {expected} ({})", expected.path().display())]
    SignedByAnother {
        /// In the file.
        found: KeyId,
        /// Those set.
        expected: PublicKeys,
    },
    /// Without the signature that is asked for.
    #[error(
        "has no signature; expected one by {0} ({file}), as of icpgate registry compile --sign KEYFILE",
        file = .0.path().display()
    )]
    Unsigned(PublicKeys),
}

/// What a state was made under: rows read otherwise under another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Whose access is "here".
    pub provider: String,
    /// Encoding of tables without a mark.
    pub encoding: &'static str,
    /// Hash of the public suffix list.
    pub suffix_hash: u64,
    /// The year numbers were checked against.
    pub year: i32,
}

impl Circumstances {
    /// Each by its name.
    fn named(&self) -> [(&'static str, String); 5] {
        [
            ("release", env!("CARGO_PKG_VERSION").to_owned()),
            ("provider", self.provider.clone()),
            ("encoding", self.encoding.to_owned()),
            ("the suffix list", format!("{:016x}", self.suffix_hash)),
            ("year", self.year.to_string()),
        ]
    }
}

/// What a section holds. Numbers stay as they are; new ones are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Circumstances = 1,
    Figures = 2,
    Texts = 3,
    Places = 4,
    Files = 5,
    RowsOf = 6,
    Events = 7,
    Base = 8,
    Overlay = 9,
    Entries = 10,
    Cold = 11,
    Blocks = 12,
    /// Holds nothing of the state, so its number is far from theirs.
    Signature = 1000,
}

/// Tells damage, not forgery.
fn checksum(octets: &[u8]) -> [u8; 16] {
    let hash = SipHasher13::new_with_keys(3, 4).hash(octets);
    ((u128::from(hash.h1) << 64) | u128::from(hash.h2)).to_le_bytes()
}
