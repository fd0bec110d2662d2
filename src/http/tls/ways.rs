//! Octets both ways between two connections, in one task.
//!
//! Small flights are read and written through one buffer a thread: an open connection without traffic holds no memory for
//! it. A way whose reads fill that buffer again and again turns to a pipe ([`Pipes`]) until it trickles.
//! The end of one side is passed on as the end of that way alone (half-close).

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::pipes::{Pipe, Pipes};

/// Octets of one read: a flight of a handshake and most pages.
const READ_OCTETS: usize = 32 << 10;
/// Full reads in a row after which a way counts as bulk.
const FULL_READS: u8 = 2;
/// Below this many octets since the socket last ran dry, a way in bulk trickles.
const TRICKLE_OCTETS: usize = READ_OCTETS;

thread_local! {
    /// Where octets stand between a read and the write that follows at once.
    static DESK: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_OCTETS].into_boxed_slice());
}

/// Both ways.
pub struct Ways<'a> {
    client: (ReadHalf<'a>, WriteHalf<'a>),
    origin: (ReadHalf<'a>, WriteHalf<'a>),
    there: Way,
    back: Way,
    pipes: &'a Pipes,
    moved: &'a AtomicBool,
}

impl<'a> Ways<'a> {
    /// Between a client and its origin; `waiting` came from the client and goes first. `moved` is set with every octet.
    pub fn new(
        client: &'a mut TcpStream,
        origin: &'a mut TcpStream,
        waiting: Vec<u8>,
        pipes: &'a Pipes,
        moved: &'a AtomicBool,
    ) -> Self {
        let there = Way { kept: waiting, ..Way::default() };
        Self { client: client.split(), origin: origin.split(), there, back: Way::default(), pipes, moved }
    }

    /// Goes on until both ways have ended, or one failed.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turn = Turn { pipes: self.pipes, moved: self.moved, is_last: false, context };
        turn.is_last = self.back.stage == Stage::Over;
        let there = self.there.poll(&mut turn, &mut self.client.0, &mut self.origin.1)?;
        turn.is_last = self.there.stage == Stage::Over;
        let back = self.back.poll(&mut turn, &mut self.origin.0, &mut self.client.1)?;
        if there.is_ready() && back.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Drop for Ways<'_> {
    fn drop(&mut self) {
        for way in [&mut self.there, &mut self.back] {
            // One with octets in it is closed.
            if let Some(pipe) = way.pipe.take().filter(|pipe| !pipe.is_filled()) {
                self.pipes.give_back(pipe);
            }
        }
    }
}

/// What one turn of a way needs.
struct Turn<'a, 'b> {
    pipes: &'a Pipes,
    moved: &'a AtomicBool,
    /// True when the other way is over: what follows is the end of both connections, which tells the writer as well.
    is_last: bool,
    context: &'a mut Context<'b>,
}

/// One way.
#[derive(Default)]
struct Way {
    /// Octets read and not yet taken, from `kept_at`.
    kept: Vec<u8>,
    kept_at: usize,
    pipe: Option<Pipe>,
    /// Octets through the pipe since the socket last ran dry.
    run: usize,
    full_reads: u8,
    stage: Stage,
}

/// How far a way has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Octets may come.
    #[default]
    Open,
    /// The reader has ended.
    Ended,
    /// The writer was told.
    Over,
}

impl Way {
    fn poll(
        &mut self,
        turn: &mut Turn<'_, '_>,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
    ) -> Poll<io::Result<()>> {
        // Ends: the runtime makes a task that is always ready wait for its next turn.
        loop {
            if self.stage == Stage::Over {
                return Poll::Ready(Ok(()));
            }
            if self.kept_at < self.kept.len() {
                ready!(self.write_kept(turn, to))?;
            } else if self.pipe.as_ref().is_some_and(Pipe::is_filled) {
                ready!(self.drain(turn, to))?;
            } else if self.stage == Stage::Ended {
                if !turn.is_last {
                    ready!(Pin::new(&mut *to).poll_shutdown(turn.context))?;
                }
                self.stage = Stage::Over;
                self.leave_pipe(turn);
            } else if self.pipe.is_some() {
                ready!(self.fill(turn, from))?;
            } else {
                ready!(self.copy(turn, from, to))?;
            }
        }
    }

    /// Reads once and writes what was read at once, as far as it is taken.
    fn copy(
        &mut self,
        turn: &mut Turn<'_, '_>,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
    ) -> Poll<io::Result<()>> {
        DESK.with_borrow_mut(|desk| {
            let mut room = ReadBuf::new(desk);
            ready!(Pin::new(from).poll_read(turn.context, &mut room))?;
            let octets = room.filled();
            if octets.is_empty() {
                self.stage = Stage::Ended;
                return Poll::Ready(Ok(()));
            }
            turn.moved.store(true, Ordering::Relaxed);
            self.full_reads = if octets.len() == READ_OCTETS { self.full_reads + 1 } else { 0 };
            let taken = match Pin::new(to).poll_write(turn.context, octets)? {
                Poll::Ready(count) => count,
                Poll::Pending => 0,
            };
            if taken < octets.len() {
                self.kept = octets[taken..].to_vec();
                self.kept_at = 0;
            }
            if self.full_reads >= FULL_READS {
                self.full_reads = 0;
                // Without one it goes on as it did.
                self.pipe = turn.pipes.take().ok();
            }
            Poll::Ready(Ok(()))
        })
    }

    fn write_kept(&mut self, turn: &mut Turn<'_, '_>, to: &mut WriteHalf<'_>) -> Poll<io::Result<()>> {
        let count = ready!(Pin::new(to).poll_write(turn.context, &self.kept[self.kept_at..]))?;
        turn.moved.store(true, Ordering::Relaxed);
        self.kept_at += count;
        if self.kept_at == self.kept.len() {
            (self.kept, self.kept_at) = (Vec::new(), 0);
        }
        if count == 0 { Poll::Ready(Err(io::ErrorKind::WriteZero.into())) } else { Poll::Ready(Ok(())) }
    }

    /// Takes what the reader has into the pipe.
    fn fill(&mut self, turn: &mut Turn<'_, '_>, from: &mut ReadHalf<'_>) -> Poll<io::Result<()>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(())) };
        let socket: &TcpStream = from.as_ref();
        loop {
            ready!(socket.poll_read_ready(turn.context))?;
            match socket.try_io(Interest::READABLE, || pipe.fill(socket)) {
                Ok(0) => self.stage = Stage::Ended,
                Ok(count) => {
                    self.run += count;
                    turn.moved.store(true, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if std::mem::take(&mut self.run) < TRICKLE_OCTETS {
                        self.leave_pipe(turn);
                        return Poll::Ready(Ok(()));
                    }
                    continue;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            return Poll::Ready(Ok(()));
        }
    }

    /// Gives the writer what it takes of the pipe.
    fn drain(&mut self, turn: &mut Turn<'_, '_>, to: &mut WriteHalf<'_>) -> Poll<io::Result<()>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(())) };
        let socket: &TcpStream = to.as_ref();
        loop {
            ready!(socket.poll_write_ready(turn.context))?;
            match socket.try_io(Interest::WRITABLE, || pipe.drain(socket)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {
                    turn.moved.store(true, Ordering::Relaxed);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn leave_pipe(&mut self, turn: &Turn<'_, '_>) {
        if let Some(pipe) = self.pipe.take() {
            turn.pipes.give_back(pipe);
        }
    }
}
