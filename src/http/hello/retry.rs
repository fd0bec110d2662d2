//! A server's first message: does it ask for a second hello?
//!
//! After a HelloRetryRequest the client sends another hello in the open. It must carry the same name (RFC 8446 section
//! 4.1.2 names what may change, and server_name is not among it), and it is this hello that the server answers: a gate
//! that reads the first alone can be shown two names (D-T11). In QUIC both hellos are in the same octets, and
//! [`crate::http::quic::Flight`] compares them.

/// What a server's first octets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The beginning of something; more octets are needed.
    NeedMore,
    /// Anything else: no second hello in the open will follow.
    Other,
    /// A HelloRetryRequest.
    Retry,
}

/// The random that makes a ServerHello a HelloRetryRequest (RFC 8446 section 4.1.3: SHA-256 of its name).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11,
    0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Tells what a server answered, from its octets so far.
///
/// Lengths and versions are not compared: the server is one of ours, and none cuts its first message within the 43 octets
/// looked at here. A gate that trusts no server may look for a second hello in any case: where the client goes on otherwise,
/// [`super::Reader`] finds [`super::Reading::Malformed`].
pub fn answer(received: &[u8]) -> Answer {
    const RECORD_TYPE_AT: usize = 0;
    const MESSAGE_TYPE_AT: usize = 5;
    const RANDOM_AT: usize = 11;
    for (at, expected) in [(RECORD_TYPE_AT, 22), (MESSAGE_TYPE_AT, 2)] {
        match received.get(at) {
            None => return Answer::NeedMore,
            Some(octet) if *octet != expected => return Answer::Other,
            Some(_) => {}
        }
    }
    let random = received.get(RANDOM_AT..).unwrap_or_default();
    let random = &random[..random.len().min(RETRY_RANDOM.len())];
    match random {
        random if *random != RETRY_RANDOM[..random.len()] => Answer::Other,
        random if random.len() < RETRY_RANDOM.len() => Answer::NeedMore,
        _ => Answer::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_hello(random: &[u8; 32]) -> Vec<u8> {
        [&[22, 3, 3, 0, 56, 2, 0, 0, 52, 3, 3][..], random, &[0, 0x13, 1, 0, 0, 12]].concat()
    }

    #[test]
    fn a_retry_request_is_told_by_its_random() {
        let retry = server_hello(&RETRY_RANDOM);
        for end in 0..43 {
            assert_eq!(answer(&retry[..end]), Answer::NeedMore, "{end}");
        }
        assert_eq!(answer(&retry), Answer::Retry);
        let mut other = RETRY_RANDOM;
        other[31] ^= 1;
        assert_eq!(answer(&server_hello(&other)), Answer::Other);
        assert_eq!(answer(&[21, 3, 3, 0, 2, 2, 40]), Answer::Other);
        assert_eq!(answer(&[22, 3, 3, 0, 2, 11]), Answer::Other);
    }
}
