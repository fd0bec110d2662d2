//! The tasks of the QUIC gate: listeners, one task a path for what the origin sends, and the keeper of times and verdicts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::Pair;
use super::counters::PathEnd;
use super::gate::FlowGate;
use super::path::Path;
use super::udp::{Buffers, Udp};
use crate::drain::{DrainWatch, Phase};
use crate::http::counters::OriginFailure;
use crate::sockets::{SocketId, Sockets};

/// Sockets of one address at most, one for each processor; more only cost memory.
const SOCKETS_MAX: usize = 8;
/// Runs that a listener receives at once.
const LISTENER_RUNS: usize = 32;
/// Runs that a path receives at once: four windows of a fast client.
const PATH_RUNS: usize = 4;
/// Receives in a row before others have their turn.
const ROUNDS_MAX: usize = 8;
/// How often flights are looked at for their time.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Paths judged again before others have their turn.
const CHECKS_IN_A_ROW: usize = 256;
/// How long a path waits for a client that has not proven its address: more than a handshake takes.
const OPENING_IDLE: Duration = Duration::from_secs(10);
/// How long open flows go on while the gate drains: half of the time that a drain has.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How often a draining gate looks whether all flows have ended.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(100);

thread_local! {
    /// What a path receives into; nothing waits while it is borrowed, so all paths of a thread share it.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::new(PATH_RUNS));
}

/// The listeners of one address, as many as there are processors; the first chooses the port where that is open.
pub fn bind(addr: SocketAddr, sockets: &Sockets) -> std::io::Result<Vec<Arc<Udp>>> {
    let count = std::thread::available_parallelism().map_or(1, |count| count.get().min(SOCKETS_MAX));
    let id = SocketId { plane: "quic", transport: "udp", addr };
    let mut res: Vec<Arc<Udp>> = Vec::with_capacity(count);
    while res.len() < count {
        let bound = res.first().map_or(addr, |first| first.addr());
        let listener = sockets.inherit(id).map_or_else(|| Udp::bind(bound), Udp::new)?;
        sockets.offer(id, &listener);
        res.push(Arc::new(listener));
    }
    Ok(res)
}

/// Serves until the drain is over: no new flight after `Draining`; open ones go on for a while, everything ends at
/// `Stopped`.
pub async fn run(flows: Arc<FlowGate>, listeners: Vec<Arc<Udp>>, mut drain: DrainWatch) {
    // Also when this future is dropped.
    let _last = EndAll(flows.clone());
    let (mut tasks, mut listening) = (JoinSet::new(), JoinSet::new());
    for listener in listeners {
        listening.spawn(listen(flows.clone(), listener));
    }
    tasks.spawn(keep(flows.clone()));
    drain.reached(Phase::Draining).await;
    flows.drain();
    if drain.is_handed_over() {
        // What came to us now would be missed, or refused, where it is served.
        listening.shutdown().await;
    }
    let all_ended = async {
        let mut looks = interval(DRAIN_LOOK_EVERY);
        while flows.paths().count() > 0 {
            looks.tick().await;
        }
    };
    tokio::select! {
        _ = timeout(DRAIN_MAX, all_ended) => {}
        () = drain.reached(Phase::Stopped) => {}
    }
}

/// Ends every path when it goes.
struct EndAll(Arc<FlowGate>);

impl Drop for EndAll {
    fn drop(&mut self) {
        for path in self.0.paths().all() {
            self.0.end(&path, PathEnd::Drained);
        }
    }
}

//--- Clients ---------------------------------------------------------------------------------------------------------

async fn listen(flows: Arc<FlowGate>, listener: Arc<Udp>) {
    let mut buffers = Buffers::new(LISTENER_RUNS);
    while listener.readable().await.is_ok() {
        for _ in 0..ROUNDS_MAX {
            match listener.receive(&mut buffers) {
                Ok(count) => {
                    for (run, client, to) in buffers.runs(count) {
                        flows.take(&listener, &run, client, to);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Of an answer that did not arrive: the socket stays.
                Err(_) => flows.counters().socket_errors.increment(),
            }
        }
        yield_now().await;
    }
}

//--- Origins ---------------------------------------------------------------------------------------------------------

/// Takes what the origin sends on a path, until the path ends.
pub async fn carry(flows: Arc<FlowGate>, path: Arc<Path>) {
    let idle = flows.gate().settings().quic_idle;
    let deadline = || path.last() + if path.is_opening() { OPENING_IDLE.min(idle) } else { idle };
    let sleep = sleep_until(deadline());
    tokio::pin!(sleep);
    while !path.has_ended() {
        tokio::select! {
            () = path.stop.notified() => return,
            () = sleep.as_mut() => {
                if deadline() <= Instant::now() {
                    return flows.end(&path, PathEnd::Idle);
                }
                sleep.as_mut().reset(deadline());
            }
            readable = path.origin().readable() => match readable {
                Ok(()) => receive(&flows, &path),
                // The runtime ends.
                Err(_) => return flows.end(&path, PathEnd::Drained),
            }
        }
    }
}

fn receive(flows: &FlowGate, path: &Arc<Path>) {
    BUFFERS.with_borrow_mut(|buffers| {
        for _ in 0..ROUNDS_MAX {
            match path.origin().receive(buffers) {
                Ok(count) => buffers.runs(count).for_each(|(run, ..)| flows.give_back(path, &run)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Nobody is there, says its system: it may come back.
                Err(_) => flows.gate().counters().origin_failure(OriginFailure::Connect),
            }
        }
    });
}

//--- Times and verdicts ----------------------------------------------------------------------------------------------

/// Forgets what is over its time, and ends flows whose name is blocked meanwhile.
async fn keep(flows: Arc<FlowGate>) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut verdicts = Verdicts::default();
    let mut changes = flows.gate().changes().follow();
    loop {
        looks.tick().await;
        flows.expire();
        let Some(grace) = flows.gate().settings().blocked_tunnel_grace else { continue };
        if changes.has_changed().unwrap_or_default() {
            changes.mark_unchanged();
            verdicts.check(&flows, Instant::now() + grace).await;
        }
        verdicts.carry_out(&flows, Instant::now());
    }
}

/// Paths that end soon, each with when.
#[derive(Default)]
struct Verdicts {
    condemned: HashMap<Pair, (Instant, Weak<Path>)>,
}

impl Verdicts {
    /// Asks for every path's verdict; who fails goes on until `deadline`.
    async fn check(&mut self, flows: &FlowGate, deadline: Instant) {
        for (i, path) in flows.paths().all().iter().enumerate() {
            if i % CHECKS_IN_A_ROW == 0 {
                yield_now().await;
            }
            if still_passes(flows, path) {
                self.condemned.remove(&path.pair);
                continue;
            }
            let condemned = self.condemned.entry(path.pair).or_insert((deadline, Weak::new()));
            if !std::ptr::eq(condemned.1.as_ptr(), Arc::as_ptr(path)) {
                *condemned = (deadline, Arc::downgrade(path));
            }
        }
    }

    /// Ends those whose time has come, unless their name passes again.
    fn carry_out(&mut self, flows: &FlowGate, now: Instant) {
        self.condemned.retain(|_, (deadline, path)| {
            let Some(path) = path.upgrade() else { return false };
            if *deadline <= now && !still_passes(flows, &path) {
                flows.end(&path, PathEnd::Verdict);
            }
            *deadline > now
        });
    }
}

/// True while all names on a path pass.
fn still_passes(flows: &FlowGate, path: &Path) -> bool {
    let reached = path.pair.reached_ip();
    path.family.all(|host| flows.gate().still_passes(host, reached))
}
