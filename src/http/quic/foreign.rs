//! Datagrams of other protocols that servers may take on the port of QUIC.
//!
//! All of them have a first octet below 0x40, as QUIC packets have whose two peers agreed that the fixed bit says nothing
//! (RFC 9287). Where that is so, the first packets of those that carry a name are told by what follows.

/// True for what begins as a gQUIC packet with a version (up to Q043, the last with a public header), or as a DTLS record.
///
/// The fixed bit is taken to be 0. Of QUIC packets with random octets it is true for one in 600,000, which then is lost.
pub fn is_foreign(datagram: &[u8]) -> bool {
    is_gquic(datagram) || is_dtls(datagram)
}

/// Public flags, of which one says that a version follows the connection ID of 8 octets: a client's first packets.
fn is_gquic(datagram: &[u8]) -> bool {
    const HAS_VERSION: u8 = 0x01;
    let Some((flags, version)) = datagram.first().zip(datagram.get(9..13)) else { return false };
    flags & HAS_VERSION != 0 && version.starts_with(b"Q0") && version[2..].iter().all(u8::is_ascii_digit)
}

/// A record of DTLS 1.0 or 1.2, as which 1.3 begins as well (RFC 6347 section 4.1, RFC 9147 section 4).
fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram, [0x14..=0x1a, 0xfe, 0xff | 0xfd, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_told_by_their_first_octets() {
        for (datagram, expected) in [
            (&b"\x0d\x01\x02\x03\x04\x05\x06\x07\x08Q043\x01"[..], true),
            (b"\x09\x01\x02\x03\x04\x05\x06\x07\x08Q039", true),
            (b"\x08\x01\x02\x03\x04\x05\x06\x07\x08Q043", false), // without a version: no first packet
            (b"\x09\x01\x02\x03\x04\x05\x06\x07\x08Qxyz", false),
            (b"\x09\x01\x02\x03\x04\x05\x06\x07\x08Q04", false), // cut short
            (b"\x16\xfe\xff\x00", true),
            (b"\x16\xfe\xfd\x00", true),
            (b"\x16\xfe\xfe\x00", false),
            (b"\x16\xfe", false),
            (b"\x1b\xfe\xfd\x00", false),
            (b"\x01", false),
            (b"", false),
        ] {
            assert_eq!(is_foreign(datagram), expected, "{datagram:02x?}");
        }
    }
}
