//! The race to the addresses of a name (Happy Eyeballs, RFC 8305): a dead one costs a quarter of a second, not the time
//! that a connection may take.
//!
//! Both families are asked for at once and tried in turn, IPv4 first: it is what origins here have. The first connection
//! that stands is used, and the other tries are given up.

use std::collections::VecDeque;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::connect_to;
use crate::http::counters::OriginFailure;

/// Time that a try has before the next one begins beside it (RFC 8305 section 8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How long addresses of the other family wait for those of the preferred one (RFC 8305 section 8).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// Addresses of a name that are tried, of each family: a name may have hundreds.
const TRIES_MAX: usize = 4;

/// Connects to one of the addresses that two look-ups bring, IPv4 and IPv6; `check` says whether and where a found address
/// may be tried. Lasts until one takes the connection or all have failed, or its owner gives up.
pub async fn race(
    v4: impl Future<Output = Vec<IpAddr>>,
    v6: impl Future<Output = Vec<IpAddr>>,
    check: impl Fn(IpAddr) -> Result<SocketAddr, OriginFailure>,
) -> Result<TcpStream, OriginFailure> {
    let (mut v4, mut v6) = (pin!(v4), pin!(v6));
    let (mut v4_awaited, mut v6_awaited) = (true, true);
    let mut course = Course { check, waiting: [VecDeque::new(), VecDeque::new()], turn: 0, failure: None };
    let mut tries = JoinSet::new();
    let mut next_at = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some(tried) = tries.join_next() => match tried {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(failure)) => {
                    course.failure = Some(failure);
                    next_at = Instant::now();
                }
                // A try that did not end of itself tells nothing.
                Err(_) => {}
            },
            found = &mut v4, if v4_awaited => {
                v4_awaited = false;
                course.add(0, found);
                if tries.is_empty() {
                    next_at = Instant::now();
                }
            }
            found = &mut v6, if v6_awaited => {
                v6_awaited = false;
                course.add(1, found);
                if v4_awaited {
                    next_at = Instant::now() + RESOLUTION_DELAY;
                }
            }
            () = sleep_until(next_at), if course.has_more() => {
                if let Some(addr) = course.next() {
                    tries.spawn(connect_to(addr));
                }
                next_at = Instant::now() + ATTEMPT_DELAY;
            }
            else => return Err(course.failure.unwrap_or(OriginFailure::Nowhere)),
        }
    }
}

/// What is still to be tried.
struct Course<C> {
    check: C,
    /// IPv4, IPv6.
    waiting: [VecDeque<SocketAddr>; 2],
    /// Whose turn it is.
    turn: usize,
    /// The last one.
    failure: Option<OriginFailure>,
}

impl<C: Fn(IpAddr) -> Result<SocketAddr, OriginFailure>> Course<C> {
    /// Takes those of a look-up that may be tried.
    fn add(&mut self, family: usize, found: Vec<IpAddr>) {
        for addr in found {
            match (self.check)(addr) {
                Ok(addr) if self.waiting[family].len() < TRIES_MAX => self.waiting[family].push_back(addr),
                Ok(_) => return,
                Err(failure) => self.failure = Some(failure),
            }
        }
    }

    fn has_more(&self) -> bool {
        self.waiting.iter().any(|family| !family.is_empty())
    }

    /// The families take turns, as far as both have some left.
    fn next(&mut self) -> Option<SocketAddr> {
        let first = self.turn;
        self.turn = 1 - first;
        self.waiting[first].pop_front().or_else(|| self.waiting[1 - first].pop_front())
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::net::TcpListener;

    use super::*;

    fn course() -> Course<impl Fn(IpAddr) -> Result<SocketAddr, OriginFailure>> {
        let check = |addr: IpAddr| match addr.is_loopback() {
            true => Err(OriginFailure::Loop),
            false => Ok(SocketAddr::new(addr, 80)),
        };
        Course { check, waiting: [VecDeque::new(), VecDeque::new()], turn: 0, failure: None }
    }

    fn addrs(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn families_take_turns_and_have_a_limit_each() {
        let mut course = course();
        course.add(0, addrs(&["192.0.2.1", "127.0.0.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"]));
        course.add(1, addrs(&["2001:db8::1", "2001:db8::2"]));
        let order: Vec<String> = std::iter::from_fn(|| course.next()).map(|addr| addr.ip().to_string()).collect();
        assert_eq!(order, ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2", "192.0.2.3", "192.0.2.4"]);
        assert_eq!((course.failure, course.has_more()), (Some(OriginFailure::Loop), false));
    }

    #[tokio::test]
    async fn a_family_that_is_not_told_holds_nothing_up() {
        let origin = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let addr = origin.local_addr().expect("an address");
        let check = |_| Ok(addr);
        let found = || ready(vec![addr.ip()]);
        assert!(race(found(), pending(), check).await.is_ok());
        assert!(race(pending(), found(), check).await.is_ok());
        let nothing = race(ready(Vec::new()), ready(Vec::new()), check).await;
        assert_eq!(nothing.expect_err("nowhere to go"), OriginFailure::Nowhere);
    }
}
