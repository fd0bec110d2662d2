//! Pipes, through which the system moves octets from socket to socket without a copy.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::net::TcpStream;

/// Pipes kept for the next bulk transfer; making one costs more than moving a few hundred kilobytes.
const KEPT_MAX: usize = 64;
/// Octets a pipe may hold: a transfer then takes a quarter of the turns that the system's 64 KiB ask for.
const PIPE_OCTETS: usize = 256 << 10;

/// Pipes that nobody uses.
#[derive(Debug, Default)]
pub struct Pipes(Mutex<Vec<Pipe>>);

impl Pipes {
    /// A pipe, kept or new.
    pub fn take(&self) -> io::Result<Pipe> {
        let kept = self.0.lock().map(|mut kept| kept.pop()).unwrap_or_default();
        kept.map_or_else(Pipe::new, Ok)
    }

    /// Keeps an empty pipe.
    pub fn give_back(&self, pipe: Pipe) {
        debug_assert!(pipe.held == 0, "octets of one connection must not reach another");
        if pipe.held == 0
            && let Ok(mut kept) = self.0.lock()
            && kept.len() < KEPT_MAX
        {
            kept.push(pipe);
        }
    }
}

/// A pipe and how much is in it.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    held: usize,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Users have an allowance; a smaller pipe takes more turns.
        let _ = fcntl_setpipe_size(&writer, PIPE_OCTETS);
        Ok(Self { reader, writer, held: 0 })
    }

    /// True with octets in it.
    pub fn is_filled(&self) -> bool {
        self.held > 0
    }

    /// Takes what a socket has; the pipe must be empty, so that `WouldBlock` means the socket and not the pipe.
    pub fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        debug_assert!(self.held == 0, "a pipe is filled when it is empty");
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let count = splice(from, None, &self.writer, None, PIPE_OCTETS, flags)?;
        self.held = count;
        Ok(count)
    }

    /// Gives a socket what it takes.
    pub fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let count = splice(&self.reader, None, to, None, self.held, flags)?;
        self.held -= count.min(self.held);
        Ok(count)
    }
}
