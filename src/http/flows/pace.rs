//! How often the gate answers on its own: replies a second, in all and to each network.
//!
//! Whoever forges addresses has the gate write to them. A reply is a small part of what it answers, so nothing is
//! amplified; the pace keeps it from being a nuisance, and from costing more than the clients that are served.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// Replies a second in all: far more refused visitors than a site has, and under 1 MB a second.
pub const REPLIES_MAX: u32 = 10_000;
/// Replies a second to one network: a large office behind one address, with every browser's several attempts.
pub const REPLIES_PER_NETWORK_MAX: u32 = 500;
/// Networks counted apart; two that share a place share their replies.
const PLACES: usize = 4096;

/// Replies sent in the second that runs.
pub struct Pace {
    second: u64,
    in_all: u32,
    /// Each with the second it counts.
    places: Box<[(u64, u32)]>,
    /// Seeded, so that nobody can choose whom to share a place with.
    hasher: RandomState,
}

impl Default for Pace {
    fn default() -> Self {
        let places = vec![(0, 0); PLACES].into_boxed_slice();
        Self { second: 0, in_all: 0, places, hasher: RandomState::new() }
    }
}

impl Pace {
    /// True for a reply that may be sent to `client` in this second, which then counts.
    pub fn allows(&mut self, client: IpAddr, second: u64) -> bool {
        if self.second != second {
            (self.second, self.in_all) = (second, 0);
        }
        let at = self.hasher.hash_one(network(client)) as usize % PLACES;
        let place = &mut self.places[at];
        if place.0 != second {
            *place = (second, 0);
        }
        let may = self.in_all < REPLIES_MAX && place.1 < REPLIES_PER_NETWORK_MAX;
        self.in_all += u32::from(may);
        place.1 += u32::from(may);
        may
    }
}

/// The network of an address: IPv4 /24, IPv6 /48.
fn network(addr: IpAddr) -> u64 {
    match addr.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits() >> 8),
        // The high bit tells it from any IPv4 network.
        IpAddr::V6(v6) => 1 << 63 | u64::try_from(v6.to_bits() >> 80).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_by_network_and_in_all() {
        let mut pace = Pace::default();
        let addr = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let sent = (0..1000).filter(|_| pace.allows(addr("192.0.2.1"), 1)).count();
        assert_eq!(sent, REPLIES_PER_NETWORK_MAX as usize);
        assert!(!pace.allows(addr("192.0.2.200"), 1), "the same /24");
        assert!(pace.allows(addr("192.0.2.200"), 2), "the next second");
        let (one, other) = (addr("2001:db8::1"), addr("2001:db8:0:ffff::1"));
        assert_eq!(network(one), network(other));
        assert_ne!(network(addr("0.0.0.0")), network(addr("::2")));
        let all = (0..u32::from(u16::MAX))
            .filter(|i| pace.allows(IpAddr::from((i << 8 | 0x0a00_0000).to_be_bytes()), 3))
            .count();
        assert_eq!(all, REPLIES_MAX as usize);
    }
}
