//! Initial packets sealed and opened by rustls, so that nothing under test checks itself.

use icpgate::http::quic::{Reading, Version};
use rustls::Side;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::Keys;

use super::tls::named;

/// The connection IDs of a client that is written here.
pub const DCID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
pub const SCID: [u8; 5] = [1, 2, 3, 4, 5];

/// A packet before it is sealed; by default a client's Initial of version 1.
#[derive(Clone, Debug)]
pub struct Plain {
    pub version: Version,
    /// The connection ID the packet goes to.
    pub dcid: Vec<u8>,
    /// The one the keys come from; `None`: the same.
    pub keys_of: Option<Vec<u8>>,
    pub scid: Vec<u8>,
    pub token: Vec<u8>,
    pub number: u64,
    pub number_octets: usize,
    /// The first octet before protection is added to these bits.
    pub first: u8,
    /// The fixed bit, 0x40 or 0.
    pub fixed: u8,
    pub side: Side,
    pub frames: Vec<u8>,
    /// The packet is padded to this length.
    pub octets: usize,
}

impl Plain {
    /// An Initial with these frames in a datagram of the smallest size.
    pub fn new(frames: Vec<u8>) -> Self {
        Self {
            version: Version::V1,
            dcid: DCID.to_vec(),
            keys_of: None,
            scid: SCID.to_vec(),
            token: Vec::new(),
            number: 0,
            number_octets: 2,
            first: 0,
            fixed: 0x40,
            side: Side::Client,
            frames,
            octets: 1200,
        }
    }

    /// Seals it.
    pub fn sealed(&self) -> Vec<u8> {
        let kind = if self.version == Version::V1 { 0 } else { 0x10 };
        let low = u8::try_from(self.number_octets - 1).expect("one to four");
        let mut packet = vec![0x80 | self.fixed | kind | self.first | low];
        packet.extend_from_slice(&self.version.wire().to_be_bytes());
        for part in [&self.dcid, &self.scid] {
            packet.push(u8::try_from(part.len()).expect("a short connection ID"));
            packet.extend_from_slice(part);
        }
        packet.extend_from_slice(&varint(self.token.len() as u64));
        packet.extend_from_slice(&self.token);
        let before = packet.len() + 2 + self.number_octets + 16;
        let mut payload = self.frames.clone();
        payload.resize(payload.len().max(self.octets.saturating_sub(before)), 0);
        let length = u16::try_from(self.number_octets + payload.len() + 16).expect("a short packet");
        packet.extend_from_slice(&(0x4000 | length).to_be_bytes());
        let number_at = packet.len();
        packet.extend_from_slice(&self.number.to_be_bytes()[8 - self.number_octets..]);
        let keys = keys(self.version, self.keys_of.as_ref().unwrap_or(&self.dcid), self.side).local;
        let tag = keys.packet.encrypt_in_place(self.number, &packet, &mut payload).expect("sealed");
        let (mut first, mut rest) = (packet[0], packet[number_at..].to_vec());
        payload.extend_from_slice(tag.as_ref());
        let sample = &payload[4 - self.number_octets..][..16];
        keys.header.encrypt_in_place(sample, &mut first, &mut rest).expect("protected");
        packet[0] = first;
        packet[number_at..].copy_from_slice(&rest);
        packet.extend_from_slice(&payload);
        packet
    }
}

/// The keys of one side as rustls derives them.
pub fn keys(version: Version, dcid: &[u8], side: Side) -> Keys {
    let version = match version {
        Version::V1 => rustls::quic::Version::V1,
        Version::V2 => rustls::quic::Version::V2,
    };
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("a suite of TLS 1.3");
    Keys::initial(version, suite, suite.quic.expect("a suite of QUIC"), dcid, side)
}

/// Removes a server packet's protection as a client with rustls does.
pub fn opened_by_client(version: Version, dcid: &[u8], reply: &[u8], number_at: usize) -> (u64, Vec<u8>) {
    let keys = keys(version, dcid, Side::Client).remote;
    let (mut first, mut number) = (reply[0], reply[number_at..number_at + 4].to_vec());
    let sample = &reply[number_at + 4..][..16];
    keys.header.decrypt_in_place(sample, &mut first, &mut number).expect("a sample");
    let number_octets = usize::from(first & 3) + 1;
    assert_eq!(first & 0x0c, 0, "reserved bits");
    let number = &number[..number_octets];
    let header = [&[first], &reply[1..number_at], number].concat();
    let mut payload = reply[number_at + number_octets..].to_vec();
    let number = number.iter().fold(0, |value, octet| (value << 8) | u64::from(*octet));
    let frames = keys.packet.decrypt_in_place(number, &header, &mut payload).expect("authentic");
    (number, frames.to_vec())
}

/// A CRYPTO frame.
pub fn crypto(offset: usize, octets: &[u8]) -> Vec<u8> {
    [&[6][..], &varint(offset as u64), &varint(octets.len() as u64), octets].concat()
}

/// A variable-length integer in four octets, below 2^30.
pub fn varint(value: u64) -> [u8; 4] {
    (0x8000_0000 | u32::try_from(value).expect("a small value")).to_be_bytes()
}

/// A reading in the words of the labels.
pub fn summary(reading: &Reading<'_>) -> String {
    match reading {
        Reading::Hello(hello) => named(hello),
        Reading::Malformed(_) => "reject".to_owned(),
        Reading::NeedMore => "need_more".to_owned(),
        Reading::Closed | Reading::Nothing => "drop".to_owned(),
    }
}
