//! Whose connection it is: the peer's own, or whom a listed proxy speaks for.

use tokio::time::Instant;

use super::Connection;
use crate::http::proxy_header::{self, ProxyHeader};
use crate::http::stream::ClientStream;

impl<S: ClientStream> Connection<'_, S> {
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
                        self.party.speaks_for(source.ip());
                        self.party.local = destination;
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
}
