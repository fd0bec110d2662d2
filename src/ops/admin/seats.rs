//! Places for connections: who has one, what it does, and who gives it up when the house is full.
//!
//! A connection that asks for nothing ends after [`IDLE_MAX`]. When every place is taken, the newcomer gets that of the
//! connection which has asked for nothing for longest, so that idle ones cannot keep a scraper or an operator out. Requests
//! in work and streams are left alone.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Longest time without a request in work, and without an octet sent.
pub const IDLE_MAX: Duration = Duration::from_secs(15);
/// How often a request in work that takes long is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest time without an octet sent in a stream: its keep-alive comments have been waiting for the reader since then.
const STREAM_SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Work {
    /// It waits for a request, or for the client to take an answer.
    Idle,
    /// A request is in work.
    Answering,
    /// Events are sent as they happen, until the end of the connection.
    Streaming,
}

/// All places.
pub struct Seats {
    max: usize,
    taken: Mutex<(u64, HashMap<u64, Arc<State>>)>,
    since: Instant,
}

impl Seats {
    /// `max` free places.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default(), since: Instant::now() })
    }

    /// A place, if need be that of the connection that is idle for longest; `None` when all are at work.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut guard = self.lock();
        let (last, taken) = &mut *guard;
        if taken.len() >= self.max {
            let idle = taken.iter().filter(|(_, state)| state.work() == Work::Idle);
            let longest =
                idle.min_by_key(|(id, state)| (state.active_ms.load(Ordering::Relaxed), **id)).map(|(&id, _)| id)?;
            taken.remove(&longest)?.given_up.notify_one();
        }
        *last += 1;
        let state = Arc::new(State::default());
        taken.insert(*last, state.clone());
        let res = Seat { id: *last, state, seats: self.clone() };
        drop(guard);
        res.touch();
        Some(res)
    }

    /// A thread that panicked while holding the lock left a whole map behind.
    fn lock(&self) -> MutexGuard<'_, (u64, HashMap<u64, Arc<State>>)> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of one connection.
#[derive(Default)]
struct State {
    work: AtomicU8,
    /// Milliseconds after the house opened, of the last octet sent or change of work.
    active_ms: AtomicU64,
    given_up: Notify,
}

impl State {
    fn work(&self) -> Work {
        match self.work.load(Ordering::Relaxed) {
            0 => Work::Idle,
            1 => Work::Answering,
            _ => Work::Streaming,
        }
    }
}

/// One connection's place, free again when dropped.
pub struct Seat {
    id: u64,
    state: Arc<State>,
    seats: Arc<Seats>,
}

impl Seat {
    /// Says what the connection does from now on.
    pub fn set(&self, work: Work) {
        self.state.work.store(work as u8, Ordering::Relaxed);
        self.touch();
    }

    /// Returns when the connection must end: it was silent for too long, or another one gets its place.
    pub async fn over(&self) {
        loop {
            let limit = if self.state.work() == Work::Streaming { STREAM_SILENCE_MAX } else { IDLE_MAX };
            let active = self.seats.since + Duration::from_millis(self.state.active_ms.load(Ordering::Relaxed));
            if active + limit <= Instant::now() && self.state.work() != Work::Answering {
                return;
            }
            // A request in work is looked at again and again.
            let look = (active + limit).max(Instant::now() + LOOK_EVERY);
            tokio::select! {
                () = sleep_until(look) => {}
                () = self.state.given_up.notified() => return,
            }
        }
    }

    fn touch(&self) {
        let now_ms = u64::try_from(self.seats.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state.active_ms.store(now_ms, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().1.remove(&self.id);
    }
}

//--- Watched ---------------------------------------------------------------------------------------------------------

/// A socket that notices what it sends.
pub struct Watched<S> {
    /// The socket.
    pub stream: S,
    /// Whose place it has.
    pub seat: Arc<Seat>,
}

impl<S> Watched<S> {
    fn noticed(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(_))) {
            self.seat.touch();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // What a client sends makes it no less idle before its request is whole: octets in drops would keep a place for ever.
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buf);
        self.noticed(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bufs);
        self.noticed(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(seats: &Seats) -> Vec<u64> {
        let mut res: Vec<u64> = seats.lock().1.keys().copied().collect();
        res.sort_unstable();
        res
    }

    #[tokio::test]
    async fn the_longest_idle_gives_way_and_no_other() {
        let seats = Seats::new(3);
        let [first, second, third] = [(); 3].map(|()| seats.take().expect("a place"));
        first.set(Work::Answering);
        third.set(Work::Streaming);
        let fourth = seats.take().expect("the second one's place");
        second.over().await;
        drop(second);
        assert_eq!(ids(&seats), [1, 3, 4]);
        fourth.set(Work::Answering);
        assert!(seats.take().is_none(), "all are at work");
        drop(first);
        assert!(seats.take().is_some());
    }
}
