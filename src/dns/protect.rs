//! What keeps forged addresses from using the gate against others: cookies and limits on rates, as one answer meets them.

use std::time::UNIX_EPOCH;

use super::edns::{COOKIE_OCTETS, Cookie};
use super::handler::{Client, Gate};
use super::question::Query;
use super::rate::Admission;
use super::rewrite;
use super::send::Transport;
use super::wire::flag;

impl Gate {
    /// The client's cookie with ours, where it has one.
    pub(super) fn cookie(&self, query: &Query, client: Client) -> Option<[u8; COOKIE_OCTETS]> {
        match query.edns?.asks.cookie {
            Cookie::There(cookie, _) if self.settings.cookies => {
                Some(self.cookies.load().answer(cookie, client.addr, self.view.now()))
            }
            _ => None,
        }
    }

    /// Whether an answer may be sent: over UDP the address of who gets it may be somebody else's, but for who has shown a
    /// cookie of ours.
    pub(super) fn admit(&self, finished: &rewrite::Finished, client: Client, query: &Query) -> Admission {
        let Some(limiter) = self.limiter.as_ref().filter(|_| client.transport == Transport::Udp) else {
            return Admission::Pass;
        };
        let now = self.view.now();
        if let Some(Cookie::There(cookie, Some(server))) = query.edns.map(|edns| edns.asks.cookie)
            && self.settings.cookies
            && self.cookies.load().is_good(cookie, server, client.addr, now)
        {
            return Admission::Pass;
        }
        let code =
            u16::from(finished.rcode_high) << 4 | u16::from(finished.octets.get(3).copied().unwrap_or(0)) & flag::RCODE;
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        limiter.admit(client.addr, query.question.name.as_ref(), code, second)
    }
}
