//! Connections counted by client, so that one client cannot take the places of all others.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;

use crate::model::one_client;

/// How many connections each client has.
pub struct Clients {
    counts: DashMap<IpAddr, usize>,
    each_max: usize,
}

impl Clients {
    /// None yet; each may have up to `each_max`.
    pub fn new(each_max: usize) -> Arc<Self> {
        Arc::new(Self { counts: DashMap::new(), each_max })
    }

    /// How many each may have.
    pub fn each_max(&self) -> usize {
        self.each_max
    }

    /// True while there is a place for one more connection from `addr`.
    pub fn has_room(&self, addr: IpAddr) -> bool {
        self.counts.get(&one_client(addr)).map_or(0, |count| *count) < self.each_max
    }

    /// A place for one more connection from `addr`, unless its client has too many.
    pub fn enter(self: &Arc<Self>, addr: IpAddr) -> Option<ClientPlace> {
        let client = one_client(addr);
        let mut count = self.counts.entry(client).or_insert(0);
        if *count >= self.each_max {
            return None;
        }
        *count += 1;
        Some(ClientPlace { clients: self.clone(), client })
    }
}

/// One connection of a client; dropping it, also when its task is aborted, counts it out.
pub struct ClientPlace {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.clients.counts.remove_if_mut(&self.client, |_, count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_64_are_one_client() {
        let clients = Clients::new(1);
        let enter = |addr: &str| clients.enter(addr.parse().expect("an address"));
        let has_room = |addr: &str| clients.has_room(addr.parse().expect("an address"));
        assert!(has_room("2001:db8::2"));
        let first = enter("2001:db8::1");
        assert!(first.is_some() && !has_room("2001:db8::2") && has_room("192.0.2.1"));
        assert!(enter("2001:db8::2").is_none());
        let other = enter("2001:db8:0:1::1");
        assert!(other.is_some());
        assert!(enter("192.0.2.1").is_some());
        drop(first);
        assert!(enter("2001:db8::2").is_some());
        drop(other);
        assert!(clients.counts.is_empty(), "who has no connection takes no memory");
    }
}
