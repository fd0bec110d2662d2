//! Paths whose clients have not proven their address, oldest first: of all, and of each client.
//!
//! Whoever forges addresses opens such paths in the name of others. So they are counted apart from a client's connections,
//! and a newer one takes the place of the oldest: a handshake takes less time than it takes to push it out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::path::Path;
use crate::model::one_client;

/// The paths by their number, which grows.
#[derive(Default)]
struct Table {
    paths: BTreeMap<u64, Weak<Path>>,
    by_client: HashMap<IpAddr, BTreeSet<u64>>,
}

/// Paths whose clients have not proven their address.
#[derive(Default)]
pub struct Opening(Mutex<Table>);

impl Opening {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table().paths.len()
    }

    /// How many there are of the client that has an address.
    pub fn count_of(&self, client: IpAddr) -> usize {
        self.table().by_client.get(&one_client(client)).map_or(0, BTreeSet::len)
    }

    /// Adds a path.
    pub fn add(&self, path: &Arc<Path>) {
        let mut table = self.table();
        table.paths.insert(path.number, Arc::downgrade(path));
        table.by_client.entry(one_client(path.pair.client_ip())).or_default().insert(path.number);
    }

    /// Takes a path out, if it is in.
    pub fn remove(&self, path: &Path) {
        self.table().remove(path.number, path.pair.client_ip());
    }

    /// Takes the oldest path out.
    pub fn pop(&self) -> Option<Arc<Path>> {
        let mut table = self.table();
        while let Some((_, path)) = table.paths.pop_first() {
            // One that is gone was taken out when it ended.
            if let Some(path) = path.upgrade() {
                table.remove(path.number, path.pair.client_ip());
                return Some(path);
            }
        }
        None
    }

    /// Takes the oldest path out of the client that has an address.
    pub fn pop_of(&self, client: IpAddr) -> Option<Arc<Path>> {
        let mut table = self.table();
        while let Some(number) = table.by_client.get(&one_client(client)).and_then(|numbers| numbers.first().copied()) {
            let path = table.paths.get(&number).and_then(Weak::upgrade);
            table.remove(number, client);
            if path.is_some() {
                return path;
            }
        }
        None
    }
}

impl Table {
    fn remove(&mut self, number: u64, client: IpAddr) {
        self.paths.remove(&number);
        let client = one_client(client);
        if let Some(numbers) = self.by_client.get_mut(&client) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_client.remove(&client);
            }
        }
    }
}
