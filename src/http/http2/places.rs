//! Connections to the origin behind streams: how many there may be, and the idle ones of a client connection.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clients::{ClientPlace, Clients};
use crate::http::host::HostName;
use crate::http::origin::OriginConnection;
use crate::http::settings::Settings;

/// Idle connections to the origin that a client connection keeps; a page of a browser uses about as many at once.
const IDLE_MAX: usize = 8;

/// Places for streams on their way to the origin: as many as connections may be, of all clients and of each.
///
/// A connection of HTTP/1 takes one connection to the origin with it; without this one of HTTP/2 would take a hundred.
pub struct StreamPlaces {
    free: Arc<Semaphore>,
    clients: Arc<Clients>,
}

/// A place that is held.
pub struct StreamPlace {
    _permit: OwnedSemaphorePermit,
    _place: Option<ClientPlace>,
}

impl StreamPlaces {
    /// All free.
    pub fn new(settings: &Settings) -> Self {
        let most = settings.connections_max.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(most)), clients: Clients::new(settings.connections_per_client_max) }
    }

    /// A place for one more stream, unless there are too many; a proxy that stands for all its clients has no limit of its
    /// own, as it has none on connections.
    pub fn enter(&self, client: IpAddr, is_listed: bool) -> Option<StreamPlace> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        let place = self.clients.enter(client);
        (is_listed || place.is_some()).then_some(StreamPlace { _permit: permit, _place: place })
    }
}

/// The idle connections of one client connection, which no other shares.
#[derive(Debug, Default)]
pub struct Idle(Mutex<Vec<OriginConnection>>);

impl Idle {
    /// The one that was used last, still stands and leads where requests for `host` go.
    pub fn take(&self, host: &HostName) -> Option<OriginConnection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(at) = idle.iter().rposition(|connection| connection.serves(host)) {
            let connection = idle.remove(at);
            if connection.is_idle() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps one for later, the one longest unused making room.
    pub fn put(&self, mut connection: OriginConnection) {
        connection.input.settle();
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() == IDLE_MAX {
            idle.remove(0);
        }
        idle.push(connection);
    }
}
