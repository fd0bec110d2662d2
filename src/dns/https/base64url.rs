//! Base 64 with the alphabet for URLs, without padding (RFC 4648 section 5, RFC 8484 section 6).

/// Decodes a text; `None` where it is none: other characters, a length that none has, bits that are left over.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut res = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for &c in group {
            bits = bits << 6 | u32::from(digit(c)?);
        }
        let [_, a, b, c] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        let (octets, rest): (&[u8], u32) = match group.len() {
            4 => (&[a, b, c], 0),
            3 => (&[a, b], u32::from(c)),
            2 => (&[a], u32::from(b) << 8 | u32::from(c)),
            _ => return None,
        };
        if rest != 0 {
            return None;
        }
        res.extend_from_slice(octets);
    }
    Some(res)
}

fn digit(c: u8) -> Option<u8> {
    match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded_or_refused() {
        for (text, expected) in [
            ("", Some(&b""[..])),
            // RFC 4648 section 10, without the padding.
            ("Zg", Some(b"f")),
            ("Zm8", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("Zm9vYg", Some(b"foob")),
            ("Zm9vYmE", Some(b"fooba")),
            ("Zm9vYmFy", Some(b"foobar")),
            ("-_-_", Some(&[0xfb, 0xff, 0xbf])),
            ("Zg==", None),
            ("Z", None),
            ("Zm9vY", None),
            ("Zh", None),
            ("Zm9", None),
            ("Zm+v", None),
            ("Zm/v", None),
            ("Zm%76", None),
            ("Zm v", None),
        ] {
            assert_eq!(decode(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }
}
