//! Whose connection it is: the peer's own, or whom a listed proxy speaks for.

use std::net::IpAddr;

use super::Connection;
use crate::http::head::{Field, RequestHead, list};

/// Addresses of a forwarding chain that are looked at.
const FORWARDERS_MAX: usize = 32;

impl Connection<'_> {
    /// True for proxies whose word on client addresses is taken.
    fn is_listed(&self, addr: IpAddr) -> bool {
        self.gate.settings().lists(addr)
    }

    /// The client a listed proxy speaks for: the last address of `X-Forwarded-For` that no listed proxy added.
    pub(super) fn original_client(&self, head: &RequestHead) -> IpAddr {
        let mut res = self.ends.client.ip();
        if !self.is_listed(res) {
            return res;
        }
        let values: Vec<&[u8]> = head.values(self.input.filled(), Field::XForwardedFor).flat_map(list).collect();
        for value in values.into_iter().rev().take(FORWARDERS_MAX) {
            let Some(addr) = std::str::from_utf8(value).ok().and_then(|text| text.parse::<IpAddr>().ok()) else {
                break;
            };
            res = addr.to_canonical();
            if !self.is_listed(res) {
                break;
            }
        }
        res
    }
}
