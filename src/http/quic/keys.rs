//! The keys of Initial packets, which the destination connection ID determines, and what they open and seal.
//!
//! Sources: RFC 9001 sections 5.2 to 5.4, RFC 9369 sections 3.3.1 and 3.3.2.

use std::fmt;

use aws_lc_rs::aead::quic::{AES_128, HeaderProtectionKey};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use super::header::{Long, Version};

/// Octets of the authentication tag.
pub const TAG_OCTETS: usize = 16;
/// Octets of ciphertext that header protection samples, and how far after the start of the packet number.
const SAMPLE_OCTETS: usize = 16;
const SAMPLE_AFTER: usize = 4;
/// Octets of a secret, of SHA-256.
const SECRET_OCTETS: usize = 32;
/// Octets of an AES-128 key.
const KEY_OCTETS: usize = 16;

/// Who sends the packets a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// The keys for the Initials of one side.
pub struct Keys {
    packet: LessSafeKey,
    iv: [u8; NONCE_LEN],
    header: HeaderProtectionKey,
}

/// A packet without its protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The whole packet number.
    pub number: u64,
    /// The frames.
    pub payload: &'a [u8],
    /// The reserved bits are not 0, which is an error of the sender (RFC 9000 section 17.2).
    pub has_reserved_bits: bool,
}

impl Keys {
    /// Derives the keys of `side` from the destination connection ID of the client's first Initial, or its first after a
    /// Retry. Cost: five HMACs and two key schedules.
    pub fn derive(version: Version, dcid: &[u8], side: Side) -> Self {
        let [key_label, iv_label, header_label]: [&[u8]; 3] = match version {
            Version::V1 => [b"quic key", b"quic iv", b"quic hp"],
            Version::V2 => [b"quicv2 key", b"quicv2 iv", b"quicv2 hp"],
        };
        let side_label: &[u8] = match side {
            Side::Client => b"client in",
            Side::Server => b"server in",
        };
        let initial = Salt::new(HKDF_SHA256, salt(version)).extract(dcid);
        let secret = Prk::new_less_safe(HKDF_SHA256, &expand_label::<SECRET_OCTETS>(&initial, side_label));
        let key: [u8; KEY_OCTETS] = expand_label(&secret, key_label);
        let header: [u8; KEY_OCTETS] = expand_label(&secret, header_label);
        Self {
            packet: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).expect("the key has AES-128's length")),
            iv: expand_label(&secret, iv_label),
            header: HeaderProtectionKey::new(&AES_128, &header).expect("the key has AES-128's length"),
        }
    }

    /// Opens a packet into `scratch`; `None` if it is not authentic under these keys.
    ///
    /// `largest` is the largest packet number opened before, which tells the octets of this one's that were left out
    /// (RFC 9000 appendix A.3). Cost: copies the packet once.
    pub fn open<'s>(&self, long: &Long<'_>, largest: Option<u64>, scratch: &'s mut Vec<u8>) -> Option<Opened<'s>> {
        const RESERVED: u8 = 0x0c;
        let sample = long.packet.get(long.number_at + SAMPLE_AFTER..)?.get(..SAMPLE_OCTETS)?;
        let mask = self.header.new_mask(sample).ok()?;
        scratch.clear();
        scratch.extend_from_slice(long.packet);
        scratch[0] ^= mask[0] & 0x0f;
        let first = scratch[0];
        let number_octets = usize::from(first & 3) + 1;
        let (header, payload) = scratch.split_at_mut(long.number_at + number_octets);
        let mut short = 0;
        for (octet, mask) in header[long.number_at..].iter_mut().zip(&mask[1..]) {
            *octet ^= mask;
            short = (short << 8) | u64::from(*octet);
        }
        let number = whole_number(short, number_octets, largest.map_or(0, |largest| largest + 1));
        let payload = self.packet.open_in_place(self.nonce(number), Aad::from(&*header), payload).ok()?;
        Some(Opened { number, payload, has_reserved_bits: first & RESERVED != 0 })
    }

    /// Seals `payload` behind `header`, which ends in the packet number in the octets its first octet says.
    ///
    /// Payload and packet number must have four octets at least, so that there is a sample: ours do.
    pub(super) fn seal(&self, header: &[u8], number: u64, payload: &[u8]) -> Vec<u8> {
        let number_octets = usize::from(header[0] & 3) + 1;
        let number_at = header.len() - number_octets;
        let mut res = [header, payload].concat();
        let sealed = &mut res[header.len()..];
        let tag = self.packet.seal_in_place_separate_tag(self.nonce(number), Aad::from(header), sealed);
        res.extend_from_slice(tag.expect("a payload below 64 kB can be sealed").as_ref());
        let sample = &res[number_at + SAMPLE_AFTER..][..SAMPLE_OCTETS];
        let mask = self.header.new_mask(sample).expect("the sample has its length");
        res[0] ^= mask[0] & 0x0f;
        res[number_at..header.len()].iter_mut().zip(&mask[1..]).for_each(|(octet, mask)| *octet ^= mask);
        res
    }

    /// The nonce of one packet (RFC 9001 section 5.3).
    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = self.iv;
        nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()).for_each(|(octet, number)| *octet ^= number);
        Nonce::assume_unique_for_key(nonce)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// The salt of a version's Initial secrets (RFC 9001 section 5.2, RFC 9369 section 3.3.1).
fn salt(version: Version) -> &'static [u8; 20] {
    match version {
        Version::V1 => &[
            0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb,
            0x7f, 0x0a,
        ],
        Version::V2 => &[
            0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd,
            0x2e, 0xd9,
        ],
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
fn expand_label<const N: usize>(secret: &Prk, label: &[u8]) -> [u8; N] {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    const PREFIX: &[u8] = b"tls13 ";
    let octets = u16::try_from(N).expect("keys are short").to_be_bytes();
    let label_octets = [u8::try_from(PREFIX.len() + label.len()).expect("labels are short")];
    let info = [&octets[..], &label_octets, PREFIX, label, &[0]];
    let mut res = [0; N];
    let expanded = secret.expand(&info, Length(N)).and_then(|okm| okm.fill(&mut res));
    expanded.expect("255 blocks can be expanded and one or two are");
    res
}

/// The packet number nearest to the one expected that ends in these octets (RFC 9000 appendix A.3).
fn whole_number(short: u64, octets: usize, expected: u64) -> u64 {
    const NUMBER_MAX: u64 = (1 << 62) - 1;
    let window = 1u64 << (8 * octets);
    let half = window / 2;
    let candidate = (expected & !(window - 1)) | short;
    if candidate + half <= expected && candidate + window <= NUMBER_MAX {
        candidate + window
    } else if candidate > expected + half && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_numbers_are_completed() {
        // RFC 9000 appendix A.3: 0xa82f30ea was the largest, 0x9b32 in two octets is 0xa82f9b32.
        assert_eq!(whole_number(0x9b32, 2, 0xa82f_30eb), 0xa82f_9b32);
        assert_eq!(whole_number(2, 4, 0), 2);
        assert_eq!(whole_number(0xff, 1, 0x100), 0xff);
        assert_eq!(whole_number(0x01, 1, 0xff), 0x101);
        assert_eq!(whole_number(94_014 & 0xff_ffff, 3, 0), 94_014);
        assert_eq!(whole_number(0xffff_ffff, 4, (1 << 62) - 1), (1 << 62) - 1);
    }
}
