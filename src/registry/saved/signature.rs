//! Who vouches for a file: an Ed25519 signature (RFC 8032) over SHA-256 of every section.
//!
//! The checksums of the section table tell damage, not forgery: whoever changes a section can give it one that fits. What
//! is signed is therefore computed anew from the sections themselves, and only where a signature is asked for. The
//! signature is a section of its own, which readers that ask for none pass over.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use thiserror::Error;

use super::{SavedError, VERSION};

/// Octets of the section: the public key and the signature.
const SECTION_OCTETS: usize = KEY_OCTETS + 64;
/// Octets of a public key.
const KEY_OCTETS: usize = 32;
/// What a public key in `SubjectPublicKeyInfo` begins with (RFC 8410 section 4); the key itself follows.
const PUBLIC_KEY_BEGIN: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Octets of a key file: some keys with comments; a longer one is some other file.
const KEY_FILE_OCTETS_MAX: u64 = 64 << 10;
/// What the signed text begins with, so that no signature made for anything else fits.
const PURPOSE: &[u8] = b"icpgate registry snapshot\0";

/// Why a key file cannot be used. Never shows what the file holds.
#[derive(Debug, Error)]
#[error("{}: {fault}", path.display())]
pub struct KeyError {
    path: PathBuf,
    fault: KeyFault,
}

impl KeyError {
    /// What is wrong, for who names the file.
    pub fn fault(&self) -> String {
        self.fault.to_string()
    }
}

/// What is wrong with it.
#[derive(Debug, Error)]
enum KeyFault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("holds no {0}")]
    Missing(&'static str),
    #[error("is no Ed25519 key; expected {0}")]
    NotEd25519(&'static str),
    #[error("is no PEM file; expected {0}")]
    NotPem(&'static str),
    #[error("mode {0:04o} lets every user of this machine read it; expected 0600 (chmod 600 KEYFILE)")]
    Open(u32),
    #[error("is longer than {KEY_FILE_OCTETS_MAX} octets; expected {0}")]
    TooLong(&'static str),
}

/// What a file of a private key is to be.
const PRIVATE: &str = "PRIVATE KEY, not encrypted, as of openssl genpkey -algorithm ed25519";
/// What a file of public keys is to be.
const PUBLIC: &str = "PUBLIC KEY, as of openssl pkey -in KEYFILE -pubout for an Ed25519 key";

/// A key by the first half of its SHA-256, as messages show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 16]);

impl KeyId {
    fn of(key: &[u8]) -> Self {
        Self(digest(&SHA256, key).as_ref()[..16].try_into().expect("SHA-256 has 32 octets"))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ed25519:")?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whose signatures are good: one key, or several while one replaces another.
#[derive(Clone, Debug)]
pub struct PublicKeys {
    path: PathBuf,
    keys: Vec<[u8; KEY_OCTETS]>,
}

impl PublicKeys {
    /// Reads every `PUBLIC KEY` of a PEM file.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let refuse = |fault| KeyError { path: path.to_owned(), fault };
        let (_, text) = read_key_file(path, PUBLIC).map_err(refuse)?;
        let found: Result<Vec<_>, pem::Error> = SubjectPublicKeyInfoDer::pem_slice_iter(&text).collect();
        let found = found.map_err(|_| refuse(KeyFault::NotPem(PUBLIC)))?;
        if found.is_empty() {
            return Err(refuse(KeyFault::Missing(PUBLIC)));
        }
        let keys = found.iter().map(|info| info.strip_prefix(&PUBLIC_KEY_BEGIN).and_then(|key| key.try_into().ok()));
        let keys: Option<Vec<_>> = keys.collect();
        let keys = keys.ok_or_else(|| refuse(KeyFault::NotEd25519(PUBLIC)))?;
        Ok(Self { path: path.to_owned(), keys })
    }

    /// The file they were read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True when what `key` signs is good.
    pub fn include(&self, key: &SigningKey) -> bool {
        self.keys.iter().any(|own| own == key.public())
    }
}

impl fmt::Display for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.keys.iter().map(|key| KeyId::of(key).to_string()).collect();
        f.write_str(&ids.join(", "))
    }
}

/// Signs files. Its `Debug` shows the public half alone.
#[derive(Debug)]
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads a private key in PKCS#8 from a PEM file that not every user of the machine can read.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let refuse = |fault| KeyError { path: path.to_owned(), fault };
        let (mode, text) = read_key_file(path, PRIVATE).map_err(refuse)?;
        if mode & 0o007 != 0 {
            return Err(refuse(KeyFault::Open(mode)));
        }
        let key = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|error| match error {
            pem::Error::NoItemsFound => refuse(KeyFault::Missing(PRIVATE)),
            _ => refuse(KeyFault::NotPem(PRIVATE)),
        })?;
        let pair = Ed25519KeyPair::from_pkcs8(key.secret_pkcs8_der());
        pair.map(Self).map_err(|_| refuse(KeyFault::NotEd25519(PRIVATE)))
    }

    /// Its public half, as messages show it.
    pub fn id(&self) -> KeyId {
        KeyId::of(self.public())
    }

    fn public(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// The section that vouches for `sections`: kind, number and content of each.
    pub(super) fn sign(&self, sections: &[(u32, usize, &[u8])]) -> Vec<u8> {
        let digests = sections.iter().map(|(_, _, octets)| digest_of(octets));
        let text = signed_text(sections.iter().zip(digests).map(|(&(kind, number, octets), digest)| Signed {
            kind,
            number,
            length: octets.len(),
            digest,
        }));
        [self.public(), self.0.sign(&text).as_ref()].concat()
    }
}

/// A section as the signature sees it.
pub(super) struct Signed {
    pub kind: u32,
    pub number: usize,
    pub length: usize,
    pub digest: [u8; 32],
}

/// Which cannot be made to fit another content.
pub(super) fn digest_of(octets: &[u8]) -> [u8; 32] {
    digest(&SHA256, octets).as_ref().try_into().expect("SHA-256 has 32 octets")
}

/// Checks that one of `keys` vouches for `sections`; `found` is the signature's own section.
pub(super) fn verify(
    keys: &PublicKeys,
    found: &[u8],
    sections: impl Iterator<Item = Signed>,
) -> Result<(), SavedError> {
    let Some((key, signature)) = found.split_at_checked(KEY_OCTETS).filter(|_| found.len() == SECTION_OCTETS) else {
        return Err(SavedError::Damaged("its signature has another length"));
    };
    if !keys.keys.iter().any(|own| own == key) {
        return Err(SavedError::SignedByAnother { found: KeyId::of(key), expected: keys.clone() });
    }
    let is_good = UnparsedPublicKey::new(&ED25519, key).verify(&signed_text(sections), signature).is_ok();
    if is_good { Ok(()) } else { Err(SavedError::Forged) }
}

/// All that a signature vouches for.
fn signed_text(sections: impl Iterator<Item = Signed>) -> Vec<u8> {
    let mut res = PURPOSE.to_vec();
    res.extend_from_slice(&VERSION.to_le_bytes());
    for Signed { kind, number, length, digest } in sections {
        res.extend_from_slice(&kind.to_le_bytes());
        res.extend_from_slice(&(number as u64).to_le_bytes());
        res.extend_from_slice(&(length as u64).to_le_bytes());
        res.extend_from_slice(&digest);
    }
    res
}

/// The mode and the octets of a small file.
fn read_key_file(path: &Path, expected: &'static str) -> Result<(u32, Vec<u8>), KeyFault> {
    let file = File::open(path)?;
    let mode = mode_of(&file)?;
    let mut res = Vec::new();
    file.take(KEY_FILE_OCTETS_MAX + 1).read_to_end(&mut res)?;
    if res.len() as u64 > KEY_FILE_OCTETS_MAX {
        return Err(KeyFault::TooLong(expected));
    }
    Ok((mode, res))
}

#[cfg(unix)]
fn mode_of(file: &File) -> io::Result<u32> {
    use std::os::unix::fs::MetadataExt;
    file.metadata().map(|data| data.mode() & 0o7777)
}

#[cfg(not(unix))]
fn mode_of(_: &File) -> io::Result<u32> {
    Ok(0)
}
