//! Queries over UDP: one thread a socket, which waits for datagrams, answers in batches what needs no waiting, and hands the
//! rest to the runtime.
//!
//! A thread of its own waits in the system call that receives: no turn of a runtime's loop between a query and its answer,
//! and nothing that spins while nothing comes. Sockets of one address share the queries by client (`SO_REUSEPORT`).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::handler::{Client, Gate, Taken};
use super::mmsg::{Answers, Batch, Way, tell_destination};
use super::proxied::{self, Front};
use super::question::Query;
use super::send::Transport;
use crate::drain::{DrainWatch, Phase};

/// How long a thread waits for datagrams before it looks whether the gate drains. No official reference: ten looks a second
/// cost nothing, and a drain has ten seconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Pause after a failed receive, so that a lack of memory is no busy loop. Errors of single datagrams do not come this way.
const ERROR_PAUSE: Duration = Duration::from_millis(5);
/// Queries that wait for a turn of the runtime; more are not taken on, which answers of other queries do not wait for.
const WAITING_MAX: usize = 1024;

/// What is known of all that comes to a socket.
#[derive(Clone, Copy)]
struct Place {
    front: Front,
    /// Where it is bound.
    reached: Option<SocketAddr>,
}

/// A query that has to wait for its answer.
struct Waiting {
    query: Box<Query>,
    client: Client,
    way: Way,
}

/// Makes a socket that does not wait into one that waits for datagrams, for a while, and knows where they were sent to.
pub fn prepare(socket: UdpSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(LOOK_EVERY))?;
    let addr = socket.local_addr()?;
    if addr.ip().is_unspecified() {
        tell_destination(&socket, addr.is_ipv4())?;
    }
    Ok(socket)
}

/// Serves a socket until the drain, then until the answers in work are sent.
///
/// Panics if its thread did: a plane that has lost one of its sockets must not look alive.
pub async fn serve(gate: Arc<Gate>, socket: UdpSocket, front: Front, drain: DrainWatch) {
    let socket = Arc::new(socket);
    let (sender, mut waiting) = mpsc::channel(WAITING_MAX);
    let thread = start(gate.clone(), socket.clone(), front, sender, drain);
    let mut working = JoinSet::new();
    // Ends with the thread, which holds the sender.
    while let Some(Waiting { query, client, way }) = waiting.recv().await {
        while working.try_join_next().is_some() {}
        let (gate, socket) = (gate.clone(), socket.clone());
        working.spawn(async move {
            if let Some(message) = gate.resolve(&query, client).await {
                let mut answers = Answers::new();
                answers.push(message, &way);
                send(&gate, &socket, &mut answers);
            }
        });
    }
    match thread.map(JoinHandle::join) {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => panic!("no thread for a socket: {error}"),
    }
    while working.join_next().await.is_some() {}
}

fn start(
    gate: Arc<Gate>,
    socket: Arc<UdpSocket>,
    front: Front,
    waiting: mpsc::Sender<Waiting>,
    drain: DrainWatch,
) -> io::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name("dns-udp".to_owned());
    let place = Place { front, reached: socket.local_addr().ok() };
    builder.spawn(move || {
        let (mut batch, mut answers) = (Batch::new(), Answers::new());
        while drain.phase() == Phase::Running {
            match batch.receive(&socket) {
                Ok(count) => {
                    for i in 0..count {
                        let (octets, way) = batch.get(i);
                        take(&gate, place, octets, way, &mut answers, &waiting);
                    }
                    send(&gate, &socket, &mut answers);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => {
                    gate.counters().socket_errors.increment();
                    // A lack of memory is no reason to spin.
                    std::thread::sleep(ERROR_PAUSE);
                }
            }
        }
    })
}

/// Answers a query, or hands it on.
fn take(gate: &Gate, place: Place, octets: &[u8], way: &Way, answers: &mut Answers, waiting: &mpsc::Sender<Waiting>) {
    let Some(peer) = way.peer() else { return };
    let asked = match place.front {
        Front::Clients => Some((Client::new(peer, place.reached, Transport::Udp), octets)),
        Front::Proxies => proxied::open(gate, octets, peer),
    };
    let Some((client, query)) = asked else { return };
    match gate.take(query, client) {
        Taken::Answered(message) => answers.push(message, way),
        Taken::Dropped => {}
        Taken::Waiting(query) => {
            let asked = Waiting { query, client, way: *way };
            if let Err(mpsc::error::TrySendError::Full(asked)) = waiting.try_send(asked)
                && let Some(message) = gate.overloaded(&asked.query, client)
            {
                answers.push(message, way);
            }
        }
    }
}

fn send(gate: &Gate, socket: &UdpSocket, answers: &mut Answers) {
    for _ in 0..answers.send(socket) {
        gate.counters().socket_errors.increment();
    }
}
