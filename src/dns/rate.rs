//! Response rate limiting: what one network is told again and again over UDP is bounded, for its address may be forged and
//! it the victim.
//!
//! An account is a client's prefix, what it is told about, and how: for answers the name without its first label, for
//! failures the code alone, so that made-up names have one account. Accounts stand in a table of fixed size, four to a set;
//! the one that was idle for longest gives way. Nothing is allocated and no lock taken.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use super::wire::rcode;
use crate::chance;
use crate::model::NameRef;

/// Sets of four accounts: 2 MiB in all.
const SETS: usize = 1 << 16;
const WAYS: usize = 4;
/// Seconds that an account can be in debt for: an attack is answered no sooner than that after it ends.
const WINDOW_SECONDS: i64 = 15;
/// What balances are stored above.
const ZERO: i64 = 1 << 23;

/// How responses are limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Responses a second of one account; 0 for no limit.
    pub responses_per_second: u32,
    /// Every so manieth response over the limit is sent short, so that a real client comes by TCP or with a cookie; 0 for none.
    pub slip: u32,
    /// Bits of an IPv4 address that make a network.
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 address that do.
    pub ipv6_prefix: u8,
    /// Clients that are not limited.
    pub exempt: Vec<IpNet>,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { responses_per_second: 0, slip: 2, ipv4_prefix: 24, ipv6_prefix: 56, exempt: Vec::new() }
    }
}

/// What is to become of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is not sent.
    Drop,
    /// It is sent.
    Pass,
    /// It is sent short.
    Slip,
}

/// The accounts.
pub struct Limiter {
    limit: RateLimit,
    key: (u64, u64),
    sets: Box<[[AtomicU64; WAYS]]>,
    over: AtomicU32,
}

impl Limiter {
    /// None yet. `None` where nothing is limited.
    pub fn new(limit: &RateLimit) -> Option<Self> {
        if limit.responses_per_second == 0 {
            return None;
        }
        let [first, second] = chance::words();
        let sets = (0..SETS).map(|_| Default::default()).collect();
        Some(Self { limit: limit.clone(), key: (first, second), sets, over: AtomicU32::new(0) })
    }

    /// Whether a response with `code` about `name` may go to `client` at `second` (of any clock that only grows).
    pub fn admit(&self, client: IpAddr, name: NameRef<'_>, code: u16, second: u64) -> Admission {
        let client = client.to_canonical();
        if self.limit.exempt.iter().any(|net| net.contains(&client)) || self.has_credit(client, name, code, second) {
            return Admission::Pass;
        }
        let over = self.over.fetch_add(1, Ordering::Relaxed);
        let is_slip = self.limit.slip > 0 && over.is_multiple_of(self.limit.slip);
        if is_slip { Admission::Slip } else { Admission::Drop }
    }

    fn has_credit(&self, client: IpAddr, name: NameRef<'_>, code: u16, second: u64) -> bool {
        let hash = self.account(client, name, code);
        // Never zero, which is an empty place.
        let tag = (hash >> 40) | 1;
        let now = second & 0xffff;
        let Some(set) = self.sets.get((hash & (SETS as u64 - 1)) as usize) else { return true };
        let age = |place: u64| now.wrapping_sub(place >> 24 & 0xffff) & 0xffff;
        let read = |place: &AtomicU64| place.load(Ordering::Relaxed);
        let known = set.iter().find(|place| read(place) >> 40 == tag);
        // An empty place is older than any other.
        let oldest = || set.iter().max_by_key(|place| if read(place) == 0 { u64::MAX } else { age(read(place)) });
        let Some(place) = known.or_else(oldest) else { return true };
        let rate = i64::from(self.limit.responses_per_second);
        // Another thread that was faster has taken from the account too: once more, and then without.
        for _ in 0..2 {
            let before = read(place);
            let balance = match before >> 40 == tag {
                true => {
                    let balance = (before & 0xff_ffff) as i64 - ZERO;
                    (balance + rate.saturating_mul(age(before) as i64)).min(rate)
                }
                false => rate,
            };
            let balance = (balance - 1).max(-rate * WINDOW_SECONDS).clamp(1 - ZERO, ZERO - 1);
            let after = tag << 40 | now << 24 | (balance + ZERO) as u64;
            if place.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return balance >= 0;
            }
        }
        true
    }

    fn account(&self, client: IpAddr, name: NameRef<'_>, code: u16) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        match client {
            IpAddr::V4(addr) => {
                let bits = 32 - u32::from(self.limit.ipv4_prefix.min(32));
                hasher.write_u32(u32::from(addr).checked_shr(bits).unwrap_or(0));
            }
            IpAddr::V6(addr) => {
                let bits = 128 - u32::from(self.limit.ipv6_prefix.min(128));
                hasher.write_u128(u128::from(addr).checked_shr(bits).unwrap_or(0));
            }
        }
        hasher.write_u16(code);
        if code == rcode::NOERROR {
            let above = name.parent().filter(|_| name.label_count() > 2);
            hasher.write(above.unwrap_or(name).wire());
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DomainName;

    fn limiter(limit: RateLimit) -> Limiter {
        Limiter::new(&limit).expect("a limit")
    }

    /// How many of `count` responses pass.
    fn passed(limiter: &Limiter, client: &str, name: &str, code: u16, second: u64, count: usize) -> usize {
        let (client, name) = (client.parse().expect("an address"), DomainName::from_host(name).expect("a name"));
        let admit = |_: &usize| limiter.admit(client, name.as_ref(), code, second) == Admission::Pass;
        (0..count).filter(admit).count()
    }

    #[test]
    fn one_network_is_told_so_much_of_one_thing_a_second() {
        let limiter = limiter(RateLimit { responses_per_second: 10, ..RateLimit::default() });
        assert_eq!(passed(&limiter, "192.0.2.1", "www.a.cn", 0, 100, 30), 10);
        // The same network, another name below the same; then another name, network, code.
        assert_eq!(passed(&limiter, "192.0.2.200", "shop.a.cn", 0, 100, 5), 0);
        assert_eq!(passed(&limiter, "192.0.2.1", "www.b.cn", 0, 100, 5), 5);
        assert_eq!(passed(&limiter, "192.0.3.1", "www.a.cn", 0, 100, 5), 5);
        assert_eq!(passed(&limiter, "192.0.2.1", "x1.a.cn", 3, 100, 6), 6);
        assert_eq!(passed(&limiter, "192.0.2.1", "x2.c.cn", 3, 100, 6), 4, "failures have one account");
        assert_eq!(passed(&limiter, "2001:db8::1", "www.a.cn", 0, 100, 30), 10);
        assert_eq!(passed(&limiter, "2001:db8::ff:1", "www.a.cn", 0, 100, 30), 0);
    }

    #[test]
    fn debts_are_paid_off_and_bounded() {
        let limiter = limiter(RateLimit { responses_per_second: 10, ..RateLimit::default() });
        assert_eq!(passed(&limiter, "192.0.2.1", "a.cn", 0, 100, 25), 10);
        assert_eq!(passed(&limiter, "192.0.2.1", "a.cn", 0, 101, 1), 0, "fifteen in debt");
        assert_eq!(passed(&limiter, "192.0.2.1", "a.cn", 0, 102, 30), 4);
        assert_eq!(passed(&limiter, "192.0.2.1", "a.cn", 0, 104, 100_000), 0);
        assert_eq!(passed(&limiter, "192.0.2.1", "a.cn", 0, 104 + 15, 1), 0);
        assert_eq!(passed(&limiter, "192.0.2.1", "a.cn", 0, 104 + 17, 100), 10);
        // The clock of sixteen bits comes round.
        assert_eq!(passed(&limiter, "192.0.2.9", "b.cn", 0, 0xffff, 100), 10);
        assert_eq!(passed(&limiter, "192.0.2.9", "b.cn", 0, 0x1_000a, 100), 10);
    }

    #[test]
    fn some_are_sent_short_and_some_clients_are_exempt() {
        let exempt = vec!["192.0.2.53/32".parse().expect("a prefix")];
        let with = |slip| RateLimit { responses_per_second: 1, slip, exempt: exempt.clone(), ..RateLimit::default() };
        for (slip, expected) in [(0, 0), (1, 100), (2, 50), (4, 25)] {
            let limiter = limiter(with(slip));
            let name = DomainName::from_host("a.cn").expect("a name");
            let admit = |addr: [u8; 4]| limiter.admit(IpAddr::from(addr), name.as_ref(), 0, 7);
            assert_eq!(admit([192, 0, 2, 1]), Admission::Pass);
            let slipped = (0..100).filter(|_| admit([192, 0, 2, 1]) == Admission::Slip).count();
            assert_eq!(slipped, expected, "slip {slip}");
            assert!((0..100).all(|_| admit([192, 0, 2, 53]) == Admission::Pass));
        }
        assert!(Limiter::new(&RateLimit::default()).is_none());
    }

    #[test]
    fn many_accounts_are_bounded_and_the_idle_give_way() {
        let limiter = limiter(RateLimit { responses_per_second: 1, ipv4_prefix: 32, ..RateLimit::default() });
        let name = DomainName::from_host("a.cn").expect("a name");
        for n in 0..1_000_000_u32 {
            assert_eq!(
                limiter.admit(IpAddr::from(n.to_be_bytes()), name.as_ref(), 0, u64::from(n >> 16)),
                Admission::Pass
            );
        }
        // The last ones are still known.
        let known = (999_000..1_000_000_u32)
            .filter(|n| limiter.admit(IpAddr::from(n.to_be_bytes()), name.as_ref(), 0, 15) != Admission::Pass)
            .count();
        assert!(known > 990, "{known}");
    }
}
