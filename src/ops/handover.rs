//! The change from one gate process to the next, such as a newer program, without a refused connection or a lost query.
//!
//! ```text
//! old                                  new
//!  │                                    │ loads its data
//!  │ ◀──────── "icpgate handover 1" ─── │
//!  │ ──── one message a socket ───────▶ │ binds what is left, serves
//!  │ ◀──────── "serving" ────────────── │
//!  │ drains, ends                       │ puts its own socket at the path, for the next one
//! ```
//!
//! Both read the same sockets for a moment: what waits in them is answered by either. A new gate that does not come to serve
//! changes nothing. The path is a Unix socket that only its owner may use; who asks must run as the same user, or as root.
//! What is kept of a client in memory does not change hands: tunnels and requests in work end with the old gate's drain, and
//! QUIC connections through the gate are made anew.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::cache_file::CacheFile;
use super::socket_path::{SocketPath, stranger};
use crate::drain::{DrainSignal, DrainWatch, Phase};
use crate::sockets::Sockets;

/// How a new gate begins; the number changes when old and new would misunderstand each other.
const GREETING: &[u8] = b"icpgate handover 1\n";
/// What it says once it serves.
const SERVING: &[u8] = b"serving\n";
/// What follows the last socket.
const END: &[u8] = b"end\n";
/// Longest id with its line end: a plane, a transport, an IPv6 address with port and zone.
const MESSAGE_OCTETS_MAX: usize = 256;
/// Sockets of one gate: eight for each of a few hundred addresses.
const SOCKETS_MAX: usize = 4096;
/// Time for the other side's next step. Both are on one machine and have nothing else to wait for.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Pause after a failed `accept`, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time a new gate may take from its sockets to its first answer; binding and spawning are quick.
const SERVING_MAX: Duration = Duration::from_secs(60);

/// Why sockets did not change hands.
#[derive(Debug, Error)]
#[error("handover {}: {what}", path.display())]
pub struct HandoverError {
    /// The path of the socket.
    pub path: PathBuf,
    /// What went wrong.
    pub what: String,
}

impl HandoverError {
    fn new(path: &Path, what: impl ToString) -> Self {
        Self { path: path.to_owned(), what: what.to_string() }
    }
}

//--- The new gate ----------------------------------------------------------------------------------------------------

/// The sockets of the gate that runs, and the way to tell it to go.
#[derive(Debug)]
pub struct Taken {
    stream: UnixStream,
    path: PathBuf,
}

/// Asks the gate that runs for its sockets; none where none runs.
pub async fn take(path: &Path) -> Result<(Vec<(String, OwnedFd)>, Option<Taken>), HandoverError> {
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        // None, or one that ended without a word.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok((Vec::new(), None));
        }
        Err(error) => return Err(HandoverError::new(path, error)),
    };
    let taking = async {
        if let Some(giver) = stranger(&stream)? {
            return Err(io::Error::other(format!("user {giver} serves there, which is neither ours nor root")));
        }
        stream.write_all(GREETING).await?;
        let mut sockets = Vec::new();
        while let Some(socket) = receive(&stream).await? {
            if sockets.len() == SOCKETS_MAX {
                return Err(io::Error::other(format!("over {SOCKETS_MAX} sockets")));
            }
            sockets.push(socket);
        }
        Ok(sockets)
    };
    let taken = timeout(STEP_MAX, taking).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    let sockets = taken.map_err(|error| {
        HandoverError::new(
            path,
            format!("the gate that runs gave no sockets: {error}; stop it first, then start this one"),
        )
    })?;
    tracing::info!(sockets = sockets.len(), "took over the sockets of the gate that runs");
    Ok((sockets, Some(Taken { stream, path: path.to_owned() })))
}

impl Taken {
    /// Says that the new gate serves: the old one drains.
    pub async fn serving(mut self) -> Result<(), HandoverError> {
        let told = timeout(STEP_MAX, self.stream.write_all(SERVING)).await;
        let told = told.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        told.map_err(|error| HandoverError::new(&self.path, format!("the old gate cannot be told to end: {error}")))
    }
}

/// One socket with its id; `None` after the last.
async fn receive(stream: &UnixStream) -> io::Result<Option<(String, OwnedFd)>> {
    let mut octets = [0; MESSAGE_OCTETS_MAX];
    let (count, fd) = stream
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(stream, &mut [IoSliceMut::new(&mut octets)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let fds = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            });
            Ok((received.bytes, fds.flatten().next()))
        })
        .await?;
    let said = &octets[..count];
    match (fd, said.strip_suffix(b"\n").and_then(|id| std::str::from_utf8(id).ok())) {
        (Some(fd), Some(id)) => Ok(Some((id.to_owned(), fd))),
        (None, _) if said == END => Ok(None),
        (None, _) if said.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
        _ => Err(io::Error::other("what it says is not understood")),
    }
}

//--- The old gate ----------------------------------------------------------------------------------------------------

/// The path where the next gate asks.
#[derive(Debug)]
pub struct Giver {
    listener: UnixListener,
    place: SocketPath,
}

impl Giver {
    /// Binds beside the path, which stays that of the gate before until this one runs.
    pub fn bind(path: &Path) -> Result<Self, HandoverError> {
        let (listener, place) = SocketPath::bind(path).map_err(|error| HandoverError::new(path, error))?;
        Ok(Self { listener, place })
    }

    /// Puts the socket in the place of the one before; this gate serves now.
    pub fn take_place(&mut self) {
        if let Err(error) = self.place.take_place() {
            tracing::error!(%error, path = %self.place.path().display(), "the next gate cannot ask for the sockets there");
        }
    }

    /// Gives the sockets to who asks, until one of them serves; then begins the drain.
    pub async fn run(
        mut self,
        sockets: Arc<Sockets>,
        cache: Option<CacheFile>,
        drain: Arc<DrainSignal>,
        mut drained: DrainWatch,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = drained.reached(Phase::Draining) => break,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let given = tokio::select! {
                given = give(stream, &sockets, cache.as_ref()) => given,
                () = drained.reached(Phase::Draining) => break,
            };
            match given {
                Ok(()) => {
                    tracing::info!("a new gate serves on these sockets, this one ends");
                    // The path is the new one's.
                    self.place.leave();
                    drain.hand_over();
                    break;
                }
                Err(error) => tracing::warn!(%error, "a new gate did not come to serve, going on"),
            }
        }
        // What is still open closes with who uses it.
        sockets.close();
    }
}

/// Gives the sockets away and waits until they are served.
async fn give(mut stream: UnixStream, sockets: &Sockets, cache: Option<&CacheFile>) -> io::Result<()> {
    if let Some(asker) = stranger(&stream)? {
        return Err(io::Error::other(format!("user {asker} may not have them")));
    }
    let mut said = [0; GREETING.len()];
    let greeting = timeout(STEP_MAX, stream.read_exact(&mut said)).await;
    greeting.map_err(|_| ErrorKind::TimedOut)??;
    if said != GREETING {
        let said = String::from_utf8_lossy(&said).trim_end().to_owned();
        return Err(io::Error::other(format!("it says {said:?}; expected the same version of the handover")));
    }
    // The next gate reads it when it has the sockets.
    if let Some(cache) = cache {
        cache.save_for_next().await;
    }
    let sending = async {
        for (id, fd) in sockets.offered()? {
            send(&stream, &format!("{id}\n"), &fd).await?;
        }
        stream.write_all(END).await
    };
    timeout(STEP_MAX, sending).await.map_err(|_| ErrorKind::TimedOut)??;
    let mut said = [0; SERVING.len()];
    timeout(SERVING_MAX, stream.read_exact(&mut said)).await.map_err(|_| ErrorKind::TimedOut)??;
    if said == SERVING { Ok(()) } else { Err(io::Error::other("what it says is not understood")) }
}

async fn send(stream: &UnixStream, id: &str, fd: &OwnedFd) -> io::Result<()> {
    let fds = [fd.as_fd()];
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&fds));
            Ok(sendmsg(stream, &[IoSlice::new(id.as_bytes())], &mut control, SendFlags::NOSIGNAL)?)
        })
        .await?;
    if sent == id.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
}
