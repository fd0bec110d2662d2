//! A connection that is passed on: octets both ways until either side ends, falls silent, the name is blocked meanwhile, or
//! the gate goes.

use std::future::{pending, poll_fn};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::counters::EndedBy;
use super::ways::Ways;
use crate::http::entry::Arrival;
use crate::http::gate::Gate;
use crate::http::host::HostName;

/// Looks for silence in the time that a silence may last: it is noticed a quarter late at most.
const LOOKS: u32 = 4;
/// How long a connection goes on while the gate drains: half of the time that a drain has.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// Passes octets between client and origin; `waiting` came from the client already.
pub async fn pass(gate: &Gate, host: &HostName, arrival: &mut Arrival, origin: &mut TcpStream, waiting: Vec<u8>) {
    let _open = gate.counters().tls.tunnels.enter();
    let moved = AtomicBool::new(false);
    let Arrival { stream, timer, draining, party, .. } = arrival;
    let mut ways = Ways::new(stream, origin, waiting, gate.pipes(), &moved);
    let both = poll_fn(|context| ways.poll(context));
    tokio::pin!(both);
    let mut changes = gate.changes().follow();
    let mut watch = Watch { gate, host, reached: party.reached(), blocked: None, drained: None };
    // What changed while the connection was set up.
    watch.judge();
    let look = gate.settings().stream_timeout / LOOKS;
    let (mut next_look, mut silent_looks) = (Instant::now() + look, 0);
    loop {
        let wake = watch.end().map_or(next_look, |(end, _)| end.min(next_look));
        tokio::select! {
            biased;
            // Over either way: both sides have ended, or one has failed.
            _ = &mut both => return,
            Ok(()) = changes.changed(), if gate.settings().blocked_tunnel_grace.is_some() => watch.judge(),
            () = draining.wait(), if watch.drained.is_none() => watch.drained = Some(Instant::now() + DRAIN_GRACE),
            _ = timer.until(|| wake, pending::<()>()) => {
                let now = Instant::now();
                if let Some((_, by)) = watch.end().filter(|(end, _)| *end <= now) {
                    return gate.counters().tls.ended(by);
                }
                if now < next_look {
                    continue;
                }
                next_look = now + look;
                silent_looks = if moved.swap(false, Ordering::Relaxed) { 0 } else { silent_looks + 1 };
                if silent_looks >= LOOKS {
                    return gate.counters().tls.ended(EndedBy::Silence);
                }
            }
        }
    }
}

/// Until when a connection may go on.
struct Watch<'a> {
    gate: &'a Gate,
    host: &'a HostName,
    reached: IpAddr,
    /// When the grace of a blocked name is over.
    blocked: Option<Instant>,
    /// When that of the drain is.
    drained: Option<Instant>,
}

impl Watch<'_> {
    /// Judges the name again: a block begins the grace, a verdict that passes takes it back.
    fn judge(&mut self) {
        let Some(grace) = self.gate.settings().blocked_tunnel_grace else { return };
        match self.gate.still_passes(self.host, self.reached) {
            true => self.blocked = None,
            false => {
                self.blocked.get_or_insert_with(|| Instant::now() + grace);
            }
        }
    }

    /// The sooner end, and why.
    fn end(&self) -> Option<(Instant, EndedBy)> {
        let blocked = self.blocked.map(|end| (end, EndedBy::Verdict));
        let drained = self.drained.map(|end| (end, EndedBy::Drain));
        blocked.into_iter().chain(drained).min_by_key(|(end, _)| *end)
    }
}
