//! Whose connection it is: the peer's own, or whom a listed proxy speaks for.

use std::net::IpAddr;

use tokio::time::Instant;

use super::Connection;
use crate::http::head::{Field, RequestHead, list};
use crate::http::proxy_header::{self, ProxyHeader};

/// Addresses of a forwarding chain that are looked at.
const FORWARDERS_MAX: usize = 32;

impl Connection<'_> {
    /// Reads what a listed proxy sends first; false when it is a PROXY header and broken, or nothing came.
    pub(super) async fn read_proxy_header(&mut self) -> bool {
        let begun = Instant::now();
        loop {
            match proxy_header::read(self.input.filled()) {
                Ok(ProxyHeader::Absent) => return true,
                Ok(ProxyHeader::Partial) => {}
                Ok(ProxyHeader::Whole { octets, addrs }) => {
                    self.gate.counters().proxy_headers.increment();
                    if let Some((source, destination)) = addrs {
                        self.client = source.ip().to_canonical();
                        self.local = destination;
                    }
                    self.input.consume(octets);
                    return true;
                }
                Err(_) => {
                    self.gate.counters().proxy_header_errors.increment();
                    return false;
                }
            }
            let limit = self.gate.settings().head_timeout;
            let fill = self.input.fill(&mut self.stream);
            match self.timer.until(|| begun + limit, fill).await {
                Err(_) | Ok(Err(_) | Ok(0)) => return false,
                Ok(Ok(_)) => {}
            }
        }
    }

    /// True for proxies whose word on client addresses is taken.
    fn is_listed(&self, addr: IpAddr) -> bool {
        self.gate.settings().lists(addr)
    }

    /// The client a listed proxy speaks for: the last address of `X-Forwarded-For` that no listed proxy added.
    pub(super) fn original_client(&self, head: &RequestHead) -> IpAddr {
        let mut res = self.client;
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
