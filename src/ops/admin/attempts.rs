//! Wrong tokens, counted by client: who guesses is made to wait, and a guess in that time is not even looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use crate::model::one_client;

/// Wrong tokens in a row: an operator who mistypes, a scraper with yesterday's file.
const BURST: u32 = 10;
/// A wrong token more after this: ten a minute, which a scraper every fifteen seconds keeps below.
const REFILL: Duration = Duration::from_secs(6);
/// Clients that are remembered; all beyond share one account, so that many addresses guess no faster than one more. This
/// host has its own always: nobody elsewhere can keep its operator out.
const CLIENTS_MAX: usize = 4096;
/// The account that they share, under an address that is nobody's (RFC 4291 section 2.7).
const ALL_OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0));
/// This host, as far as it needs an account of its own.
const THIS_HOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// What one client has left, as of a time.
#[derive(Clone, Copy)]
struct Account {
    /// When the account is full again, had it no more failures.
    full_at: Instant,
}

impl Account {
    /// How long until one more may be wrong; `None` when it may be now.
    fn wait(self, now: Instant) -> Option<Duration> {
        let missing = self.full_at.saturating_duration_since(now);
        missing.checked_sub(REFILL * (BURST - 1)).filter(|wait| !wait.is_zero())
    }

    fn take(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + REFILL;
    }
}

/// See the module's text.
#[derive(Default)]
pub struct Attempts {
    clients: DashMap<IpAddr, Account>,
}

impl Attempts {
    /// Looks at a token by `is_right`, unless the client has to wait: the error is for how long.
    pub fn attempt(&self, client: IpAddr, now: Instant, is_right: impl FnOnce() -> bool) -> Result<bool, Duration> {
        let is_here = THIS_HOST.contains(&client.to_canonical());
        let mut client = one_client(client);
        if !is_here && self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&client) {
            self.clients.retain(|_, account| account.full_at > now);
            if self.clients.len() >= CLIENTS_MAX {
                client = ALL_OTHERS;
            }
        }
        if let Some(mut account) = self.clients.get_mut(&client) {
            if let Some(wait) = account.wait(now) {
                return Err(wait);
            }
            let is_right = is_right();
            if !is_right {
                account.take(now);
            }
            return Ok(is_right);
        }
        let is_right = is_right();
        if !is_right {
            self.clients.entry(client).or_insert(Account { full_at: now }).take(now);
        }
        Ok(is_right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn who_guesses_waits_and_nobody_else() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(attempts.attempt(addr("192.0.2.1"), now, || false), Ok(false));
        }
        assert_eq!(attempts.attempt(addr("192.0.2.1"), now, || unreachable!("not looked at")), Err(REFILL));
        assert_eq!(attempts.attempt(addr("192.0.2.2"), now, || true), Ok(true));
        let later = now + REFILL;
        assert_eq!(attempts.attempt(addr("192.0.2.1"), later, || true), Ok(true), "the right one costs nothing");
        assert_eq!(attempts.attempt(addr("192.0.2.1"), later, || false), Ok(false));
        assert!(attempts.attempt(addr("192.0.2.1"), later, || true).is_err());
        assert_eq!(attempts.attempt(addr("192.0.2.1"), now + REFILL * 20, || true), Ok(true));
    }

    #[test]
    fn one_network_of_ipv6_is_one_client_and_memory_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for i in 0..BURST {
            assert_eq!(attempts.attempt(addr(&format!("2001:db8::{i:x}")), now, || false), Ok(false));
        }
        assert!(attempts.attempt(addr("2001:db8::ffff"), now, || true).is_err());
        for i in 0..2 * CLIENTS_MAX {
            let _ = attempts.attempt(addr(&format!("10.{}.{}.1", i >> 8, i & 255)), now, || false);
        }
        assert!(attempts.clients.len() <= CLIENTS_MAX + 1);
        assert!(attempts.attempt(addr("198.51.100.1"), now, || true).is_err(), "the shared account is empty");
        for here in ["127.0.0.1", "::1"] {
            assert_eq!(attempts.attempt(addr(here), now, || true), Ok(true), "{here}");
        }
        assert_eq!(attempts.attempt(addr("198.51.100.1"), now + REFILL * 20, || true), Ok(true));
    }
}
