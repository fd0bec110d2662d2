//! Octets of answers that were handed to the library and that the client has not taken yet.
//!
//! The library limits them for each stream and not for a connection, and says nothing when they leave. So each piece carries
//! what it holds with it: its share of the connection's room, and the place of its stream. Both come free as the piece is
//! written, or forgotten with its stream.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::places::StreamPlace;

/// Octets of one connection that wait: enough for what is written between two turns of its task. What is under way to the
/// client waits with the system.
pub const QUEUE_OCTETS_MAX: usize = 256 << 10;

/// The room for octets of one connection.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Semaphore>);

impl Queue {
    /// With all of its room.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(QUEUE_OCTETS_MAX)))
    }

    /// True while no octet waits.
    pub fn is_empty(&self) -> bool {
        self.0.available_permits() == QUEUE_OCTETS_MAX
    }

    /// Waits for room for a piece of at most [`QUEUE_OCTETS_MAX`]; `place` is held until it has left.
    pub async fn enter(&self, octets: Bytes, place: Option<Arc<StreamPlace>>) -> Bytes {
        let count = u32::try_from(octets.len()).unwrap_or(u32::MAX);
        // Nobody closes it: there is always room sooner or later.
        let permit = self.0.clone().acquire_many_owned(count).await.ok();
        Bytes::from_owner(Queued { octets, _permit: permit, _place: place })
    }
}

/// A piece with what it holds.
struct Queued {
    octets: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
    _place: Option<Arc<StreamPlace>>,
}

impl AsRef<[u8]> for Queued {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, timeout};

    use super::*;

    #[tokio::test]
    async fn room_comes_back_with_the_last_of_a_piece() {
        let queue = Queue::new();
        let mut first = queue.enter(Bytes::from(vec![7; QUEUE_OCTETS_MAX]), None).await;
        assert!(!queue.is_empty());
        let rest = first.split_off(10);
        drop(rest);
        let second = || queue.enter(Bytes::from_static(b"x"), None);
        assert!(timeout(Duration::from_millis(5), second()).await.is_err());
        assert_eq!(first[..], [7; 10]);
        drop(first);
        assert!(queue.is_empty());
        assert_eq!(second().await, b"x"[..]);
    }
}
