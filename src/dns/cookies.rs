//! DNS cookies of a server (RFC 7873, RFC 9018): who returns one has an address that answers reach, and is no attacker's
//! victim.
//!
//! A server cookie is a function of the client's cookie, its address, the time and a secret: nothing is kept about clients.
//! Servers that share an address share the secret, or clients of one start again at the next.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use siphasher::sip::SipHasher24;

use crate::chance;

/// How old a server cookie may be (RFC 9018 section 4.3).
const AGE_MAX: u32 = 3600;
/// How far from the future it may come: clocks of servers that share a secret differ.
const AHEAD_MAX: u32 = 300;
/// Version, and three octets that are zero (RFC 9018 section 4.1 and 4.2).
const VERSION: [u8; 4] = [1, 0, 0, 0];

/// Octets of a secret.
pub const SECRET_OCTETS: usize = 16;
/// A secret of SipHash-2-4.
pub type Secret = [u8; SECRET_OCTETS];
/// What a client makes up for a server.
pub type ClientCookie = [u8; 8];
/// What a server makes for a client.
pub type ServerCookie = [u8; 16];

/// Makes server cookies and knows them again.
pub struct Cookies {
    /// The first signs, all are accepted: a new secret is put before the old one.
    secrets: Vec<Secret>,
    /// What signed before these, and until when, in seconds: what it signed by then is good for its hour. Not longer, for
    /// it may have been replaced because others know it.
    before: Option<(Secret, u32)>,
}

impl Cookies {
    /// By these secrets, or by one of this process where there are none.
    pub fn new(secrets: &[Secret]) -> Self {
        if !secrets.is_empty() {
            return Self { secrets: secrets.to_vec(), before: None };
        }
        let [first, second] = chance::words().map(u64::to_le_bytes);
        let mut secret = [0; SECRET_OCTETS];
        secret[..8].copy_from_slice(&first);
        secret[8..].copy_from_slice(&second);
        Self { secrets: vec![secret], before: None }
    }

    /// By other secrets from `now` on; clients that got a cookie before keep it.
    pub fn replaced(&self, secrets: &[Secret], now: SystemTime) -> Self {
        let before = self.secrets.first().filter(|before| secrets.first() != Some(before));
        // A reload that changes none but the others leaves what was before as it was.
        let before = before.map_or(self.before, |before| Some((*before, seconds(now))));
        Self { before, ..Self::new(secrets) }
    }

    /// The option's data for this client: its own cookie, and a server cookie of now.
    pub fn answer(&self, client: ClientCookie, addr: IpAddr, now: SystemTime) -> [u8; 24] {
        let mut res = [0; 24];
        res[..8].copy_from_slice(&client);
        if let Some(secret) = self.secrets.first() {
            res[8..].copy_from_slice(&cookie(secret, client, addr, seconds(now)));
        }
        res
    }

    /// True for a server cookie that was made here for this client, not too long ago.
    pub fn is_good(&self, client: ClientCookie, server: ServerCookie, addr: IpAddr, now: SystemTime) -> bool {
        let Some(made) = server.get(4..8).and_then(|octets| octets.try_into().ok()).map(u32::from_be_bytes) else {
            return false;
        };
        // Serial number arithmetic (RFC 1982).
        let age = seconds(now).wrapping_sub(made);
        let is_of_now = age <= AGE_MAX || age.wrapping_neg() <= AHEAD_MAX;
        // Whoever could measure how far two cookies agree would need 2^64 tries all the same; compared whole nevertheless.
        let is_equal = |secret: &Secret| {
            let expected = cookie(secret, client, addr, made);
            expected.iter().zip(&server).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
        };
        let was_before = |(secret, until): &(Secret, u32)| until.wrapping_sub(made) <= AGE_MAX && is_equal(secret);
        is_of_now && (self.secrets.iter().any(is_equal) || self.before.as_ref().is_some_and(was_before))
    }
}

/// RFC 9018 section 4.
fn cookie(secret: &Secret, client: ClientCookie, addr: IpAddr, seconds: u32) -> ServerCookie {
    let mut input = [0; 32];
    input[..8].copy_from_slice(&client);
    input[8..12].copy_from_slice(&VERSION);
    input[12..16].copy_from_slice(&seconds.to_be_bytes());
    let length = match addr.to_canonical() {
        IpAddr::V4(addr) => {
            input[16..20].copy_from_slice(&addr.octets());
            20
        }
        IpAddr::V6(addr) => {
            input[16..32].copy_from_slice(&addr.octets());
            32
        }
    };
    let hash = SipHasher24::new_with_key(secret).hash(&input[..length]);
    let mut res = [0; 16];
    res[..4].copy_from_slice(&VERSION);
    res[4..8].copy_from_slice(&seconds.to_be_bytes());
    res[8..].copy_from_slice(&hash.to_le_bytes());
    res
}

/// Seconds since 1970 in 32 bits.
fn seconds(now: SystemTime) -> u32 {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    (seconds & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn octets<const N: usize>(hex: &str) -> [u8; N] {
        let octet = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex");
        std::array::from_fn(octet)
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn cookies_are_those_of_the_rfc() {
        // RFC 9018, appendices A.1, A.2 and A.4.
        let secret = octets("e5e973e5a6b2a43f48e7dc849e37bfcf");
        for (client, addr, made, expected) in [
            ("2464c4abcf10c957", "198.51.100.100", 1_559_731_985, "010000005cf79f111f8130c3eee29480"),
            ("fc93fc62807ddb86", "203.0.113.203", 1_559_734_700, "010000005cf7a9acf73a7810aca2381e"),
        ] {
            let cookies = Cookies::new(&[secret]);
            let (client, addr) = (octets(client), addr.parse().expect("an address"));
            let answer = cookies.answer(client, addr, at(made));
            assert_eq!((&answer[..8], &answer[8..]), (&client[..], &octets::<16>(expected)[..]));
        }
        let old = octets("dd3bdf9344b678b185a6f5cb60fca715");
        let new = octets("445536bcd2513298075a5d379663c962");
        let (client, addr) = (octets("22681ab97d52c298"), "2001:db8:220:1:59de:d0f4:8769:82b8".parse().expect("one"));
        let cookies = Cookies::new(&[new, old]);
        let by_old = octets("010000005cf7c57926556bd0934c72f8");
        assert!(cookies.is_good(client, by_old, addr, at(1_559_741_961)));
        let by_new = octets::<16>("010000005cf7c609a6bb79d16625507a");
        assert_eq!(&cookies.answer(client, addr, at(1_559_741_961))[8..], &by_new[..]);
    }

    #[test]
    fn a_cookie_is_good_for_its_client_and_its_hour() {
        let cookies = Cookies::new(&[]);
        let (client, addr) = ([7; 8], IpAddr::from([192, 0, 2, 1]));
        let answer = cookies.answer(client, addr, at(10_000));
        let server: ServerCookie = answer[8..].try_into().expect("16 octets");
        let good = |client, server, addr, seconds| cookies.is_good(client, server, addr, at(seconds));
        assert!(good(client, server, addr, 10_000) && good(client, server, addr, 13_600));
        assert!(good(client, server, addr, 9700), "another server's clock");
        assert!(!good(client, server, addr, 13_601) && !good(client, server, addr, 9699));
        assert!(!good([8; 8], server, addr, 10_000));
        assert!(!good(client, server, IpAddr::from([192, 0, 2, 2]), 10_000));
        assert!(!Cookies::new(&[]).is_good(client, server, addr, at(10_000)), "another process's secret");
        for at in 0..server.len() {
            let mut changed = server;
            changed[at] ^= 1;
            assert!(!good(client, changed, addr, 10_000), "octet {at}");
        }
        assert!(good(client, server, "::ffff:192.0.2.1".parse().expect("an address"), 10_000));
    }

    #[test]
    fn cookies_of_before_are_good_for_their_hour_and_no_new_ones_are_made_by_their_secret() {
        let (old, new) = ([1; 16], [2; 16]);
        let (client, addr) = ([7; 8], IpAddr::from([192, 0, 2, 1]));
        let made = |cookies: &Cookies, seconds| -> ServerCookie {
            cookies.answer(client, addr, at(seconds))[8..].try_into().expect("16 octets")
        };
        let before = Cookies::new(&[old]);
        let cookies = before.replaced(&[new], at(10_000));
        let good = |server, seconds| cookies.is_good(client, server, addr, at(seconds));
        assert_eq!(made(&cookies, 10_001), made(&Cookies::new(&[new]), 10_001));
        assert!(good(made(&before, 9000), 10_001) && good(made(&before, 10_000), 13_600));
        assert!(!good(made(&before, 9000), 12_601), "its hour is over");
        assert!(!good(made(&before, 10_001), 10_002), "made by somebody who knows the old secret");
        // The same file again, or one more secret behind: nothing is forgotten.
        let again = cookies.replaced(&[new, [3; 16]], at(11_000));
        assert!(again.is_good(client, made(&before, 10_000), addr, at(11_001)));
        // Both in the file: the old one is good without an end, as servers that share them need it.
        let both = before.replaced(&[new, old], at(10_000));
        assert!(both.is_good(client, made(&before, 10_500), addr, at(10_501)));
    }
}
