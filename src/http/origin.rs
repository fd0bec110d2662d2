//! The connection to the origin: opened when first needed, kept for the client connection's next requests.

use std::io;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::buffer::Buffer;
use super::counters::OriginFailure;
use super::gate::Gate;
use super::head::{HeadLimits, ResponseParser};
use super::settings::{Origin, Settings};

/// One connection to the origin with what was read from it.
#[derive(Debug)]
pub struct OriginConnection {
    /// The connection.
    pub stream: TcpStream,
    /// Octets read and not used.
    pub input: Buffer,
    /// Reads its answers.
    pub parser: ResponseParser,
}

impl OriginConnection {
    /// Connects.
    pub async fn open(gate: &Gate) -> Result<Self, OriginFailure> {
        let settings = gate.settings();
        let Origin::Fixed(addr) = settings.origin else { return Err(OriginFailure::Connect) };
        let connected = timeout(settings.connect_timeout, TcpStream::connect(addr)).await;
        let stream = match connected {
            Err(_) => return Err(OriginFailure::Slow),
            Ok(Err(_)) => return Err(OriginFailure::Connect),
            Ok(Ok(stream)) => stream,
        };
        // Heads and small bodies leave at once; a failure costs time only.
        let _ = stream.set_nodelay(true);
        gate.counters().origin_connections.increment();
        let limits = head_limits(settings);
        Ok(Self { stream, input: Buffer::new(limits.octets_max), parser: ResponseParser::new(limits) })
    }

    /// True while the origin keeps the connection and has said nothing unasked.
    ///
    /// Costs no system call unless something arrived: the runtime knows.
    pub fn is_idle(&self) -> bool {
        let is_open =
            || matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.input.is_empty() && is_open()
    }
}

/// The limits of heads on either side.
pub fn head_limits(settings: &Settings) -> HeadLimits {
    HeadLimits { octets_max: settings.head_bytes_max, lines_max: settings.head_lines_max }
}
