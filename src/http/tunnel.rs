//! An upgraded connection: octets of another protocol, both ways, until either side ends, falls silent, or the name is
//! blocked meanwhile.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{MissedTickBehavior, interval};

use super::buffer::Buffer;
use super::changes::Turning;
use super::gate::Gate;
use super::host::HostName;
use super::origin::OriginConnection;
use super::stream::{ClientStream, send_all};
use crate::drain::{DrainWatch, Phase};

/// How often an open stream is looked at: for silence, and for the drain.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many looks a stream goes on while the gate drains: half of the time that a drain has.
const DRAIN_LOOKS_MAX: u32 = 5;

/// Whose stream it is.
pub struct Stream<'a> {
    /// The host it was upgraded for.
    pub host: &'a HostName,
    /// The address the client reached.
    pub reached: IpAddr,
    /// The gate's way out.
    pub drain: &'a DrainWatch,
    /// What becomes of its verdict, since it was reached.
    pub turning: &'a mut Turning,
}

/// Passes octets between client and origin; what either side has sent early is in the buffers.
pub async fn pass(
    gate: &Gate,
    stream: &mut Stream<'_>,
    client: &mut impl ClientStream,
    input: &mut Buffer,
    origin: &mut OriginConnection,
) {
    gate.counters().upgrades.increment();
    // Looks since octets last came from either side.
    let silent = AtomicU32::new(0);
    let (mut client_reader, mut client_writer) = client.halves();
    let (mut origin_reader, mut origin_writer) = origin.stream.split();
    let there = pump(&mut client_reader, input, &mut origin_writer, &silent);
    let back = pump(&mut origin_reader, &mut origin.input, &mut client_writer, &silent);
    let both = async { tokio::try_join!(there, back) };
    let Stream { host, reached, drain, turning } = stream;
    tokio::select! {
        // Either way the connection is over: both sides have ended, or one has failed.
        _ = both => {}
        () = watch(gate, drain, &silent) => {}
        () = turning.blocked(gate, host, *reached) => gate.counters().upgrades_ended.increment(),
    }
}

/// Returns when the stream has to end.
async fn watch(gate: &Gate, drain: &DrainWatch, silent: &AtomicU32) {
    let looks_max = gate.settings().stream_timeout.as_secs().max(1);
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut draining = 0;
    loop {
        looks.tick().await;
        if u64::from(silent.fetch_add(1, Ordering::Relaxed)) > looks_max {
            return;
        }
        draining += u32::from(drain.phase() > Phase::Running);
        if draining > DRAIN_LOOKS_MAX {
            return;
        }
    }
}

/// One direction; the end of the reader becomes the end of the writer (half-close).
async fn pump(
    reader: &mut (impl AsyncRead + Unpin),
    input: &mut Buffer,
    writer: &mut (impl AsyncWrite + Unpin),
    silent: &AtomicU32,
) -> io::Result<()> {
    loop {
        if !input.is_empty() {
            send_all(writer, input.filled()).await?;
            input.consume(input.filled().len());
        }
        let count = input.fill(reader).await?;
        silent.store(0, Ordering::Relaxed);
        if count == 0 {
            return writer.shutdown().await;
        }
    }
}
