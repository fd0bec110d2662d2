//! What the frames of an HTTP/2 connection cost beside its requests: counted as they pass, whatever the library makes of them.
//!
//! Tokens are spent on frames that ask for no page and on resets, and come back with time; answers earn some, since a
//! client updates its windows as it reads them. Who has none left floods (CVE-2019-9512, -9513, -9515, CVE-2023-44487,
//! CVE-2025-8671). Two clocks run besides: of a field block that does not end, and of octets that the client does not take.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Octets before the first frame of a client.
const PREFACE_OCTETS: usize = 24;
/// Octets of a frame's head (RFC 9113 section 4.1).
const HEAD_OCTETS: usize = 9;
/// Octets read on once the connection is over, so that the last frame is not lost in a reset (RFC 9113 section 5.4.1).
const LINGER_OCTETS_MAX: usize = 1 << 20;
/// Control frames at once and each second; clients send a few at the start and some with each answer.
const CONTROL: (f64, f64) = (1000.0, 100.0);
/// What each DATA frame of an answer earns: updates of two windows, and as much again for small windows.
const EARNED_BY_DATA: f64 = 4.0;
/// Resets at once and each second: a browser that leaves a page ends all of its streams.
const RESETS: (f64, f64) = (400.0, 30.0);

/// Types of frames (RFC 9113 section 6).
mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const GOAWAY: u8 = 7;
    pub const CONTINUATION: u8 = 9;
}
/// Flag of the last frame of a field block.
const END_HEADERS: u8 = 4;
/// What is a stream in the last four octets of a frame's head; the first bit is reserved (RFC 9113 section 4.1).
const STREAM_MASK: u32 = 0x7fff_ffff;
/// Error codes (RFC 9113 section 7).
const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What ended a connection of HTTP/2 as a flood, in the order of `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Frames that ask for no page: SETTINGS, PING, PRIORITY, WINDOW_UPDATE and their kin.
    Control,
    /// Field blocks without an end, streams that are mistakes, empty DATA.
    Malformed,
    /// Streams that are reset, by either side (CVE-2023-44487, CVE-2025-8671).
    Reset,
}

impl Flood {
    /// Each with its label in metrics.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Control, "control"), (Self::Malformed, "malformed"), (Self::Reset, "reset")];
}

/// Who is told what passes.
pub trait Toll: Send + Sync {
    /// A connection was found to flood; once for each.
    fn flood(&self, kind: Flood);
    /// The client reset a stream.
    fn reset_by_client(&self);
    /// The gate reset a stream.
    fn reset_by_gate(&self);
}

/// What the driver of a connection reads off its meter.
#[derive(Debug, Default)]
pub struct Readings {
    is_flooded: AtomicBool,
    opened: AtomicU32,
    head_open_since: Mutex<Option<Instant>>,
    writes_stuck_since: Mutex<Option<Instant>>,
}

impl Readings {
    /// True once the client has sent too much that asks for nothing.
    pub fn is_flooded(&self) -> bool {
        self.is_flooded.load(Ordering::Relaxed)
    }

    /// Streams that the client has opened, whatever becomes of them.
    pub fn opened(&self) -> u32 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Since when a field block is unfinished.
    pub fn head_open_since(&self) -> Option<Instant> {
        *self.head_open_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the client takes no octet of those it is sent.
    pub fn writes_stuck_since(&self) -> Option<Instant> {
        *self.writes_stuck_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets or clears a clock; one that runs goes on.
fn set(clock: &Mutex<Option<Instant>>, runs: bool) {
    let mut since = clock.lock().unwrap_or_else(PoisonError::into_inner);
    if runs {
        since.get_or_insert_with(Instant::now);
    } else {
        *since = None;
    }
}

//--- Metered ---------------------------------------------------------------------------------------------------------

/// A stream of frames that are counted.
pub struct Metered<S> {
    stream: S,
    toll: Arc<dyn Toll>,
    readings: Arc<Readings>,
    received: Frames,
    /// The client's last stream; it opens them in ascending order (RFC 9113 section 5.1.1).
    last_stream: u32,
    sent: Frames,
    control: Tokens,
    resets: Tokens,
    end: End,
}

/// How far the end of the stream is.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Not begun.
    Open,
    /// Nothing is sent any more; so many octets are still read.
    Lingers(usize),
}

impl<S> Metered<S> {
    /// Counts what passes over `stream`, from the preface on.
    pub fn new(stream: S, toll: Arc<dyn Toll>, readings: Arc<Readings>) -> Self {
        Self {
            stream,
            toll,
            readings,
            received: Frames { preface_left: PREFACE_OCTETS, ..Frames::default() },
            last_stream: 0,
            sent: Frames::default(),
            control: Tokens::new(CONTROL),
            resets: Tokens::new(RESETS),
            end: End::Open,
        }
    }

    fn came(&mut self, octets: &[u8]) {
        let mut flood = None;
        let (control, resets, toll) = (&mut self.control, &mut self.resets, &self.toll);
        let (readings, last_stream) = (&self.readings, &mut self.last_stream);
        self.received.scan(octets, |frame| {
            if frame.ends_block && frame.stream > *last_stream {
                *last_stream = frame.stream;
                readings.opened.fetch_add(1, Ordering::Relaxed);
            }
            match frame.kind {
                kind::DATA | kind::HEADERS => {}
                kind::RST_STREAM => {
                    toll.reset_by_client();
                    flood = flood.or((!resets.spend()).then_some(Flood::Reset));
                }
                _ => flood = flood.or((!control.spend()).then_some(Flood::Control)),
            };
        });
        set(&self.readings.head_open_since, self.received.is_in_block);
        if let Some(kind) = flood {
            self.flooded(kind);
        }
    }

    fn went(&mut self, octets: &[u8]) {
        let mut flood = None;
        let (control, resets, toll) = (&mut self.control, &mut self.resets, &self.toll);
        self.sent.scan(octets, |frame| match (frame.kind, frame.code) {
            (kind::DATA, _) => control.earn(EARNED_BY_DATA),
            // A stream whose answer is whole, and the rest of whose body nobody needs.
            (kind::RST_STREAM, NO_ERROR) => {}
            (kind::RST_STREAM, _) => {
                toll.reset_by_gate();
                flood = flood.or((!resets.spend()).then_some(Flood::Reset));
            }
            // The library found the flood.
            (kind::GOAWAY, ENHANCE_YOUR_CALM) => flood = flood.or(Some(Flood::Malformed)),
            _ => {}
        });
        if let Some(kind) = flood {
            self.flooded(kind);
        }
    }

    /// Counts the first finding of a connection.
    fn flooded(&self, kind: Flood) {
        if !self.readings.is_flooded.swap(true, Ordering::Relaxed) {
            self.toll.flood(kind);
        }
    }

    /// Notes whether the client takes octets, and what it took.
    fn wrote(&mut self, polled: Poll<io::Result<usize>>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        set(&self.readings.writes_stuck_since, polled.is_pending());
        if let Poll::Ready(Ok(mut left)) = polled {
            for slice in slices {
                let count = left.min(slice.len());
                self.went(&slice[..count]);
                left -= count;
            }
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.readings.is_flooded() {
            // Nothing more is taken; whoever polls looks at the readings next.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buf))?;
        self.came(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, octets);
        self.wrote(polled, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(polled, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        set(&self.readings.writes_stuck_since, polled.is_pending());
        polled
    }

    /// Says that nothing more comes, and reads what is still on its way; its owner limits the time.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let End::Open = self.end {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            self.end = End::Lingers(LINGER_OCTETS_MAX);
        }
        let mut waste = [0; 4096];
        while let End::Lingers(left @ 1..) = self.end {
            let mut buf = ReadBuf::new(&mut waste);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buf));
            let is_over = read.is_err() || buf.filled().is_empty();
            self.end = End::Lingers(if is_over { 0 } else { left.saturating_sub(buf.filled().len()) });
        }
        Poll::Ready(Ok(()))
    }
}

//--- Tokens ----------------------------------------------------------------------------------------------------------

/// A store of tokens that fills up with time.
struct Tokens {
    left: f64,
    most: f64,
    each_second: f64,
    filled_at: Instant,
}

impl Tokens {
    fn new((most, each_second): (f64, f64)) -> Self {
        Self { left: most, most, each_second, filled_at: Instant::now() }
    }

    /// Takes one; false when there is none.
    fn spend(&mut self) -> bool {
        if self.left < 1.0 {
            // The clock is read only when it matters.
            let now = Instant::now();
            self.earn((now - self.filled_at).as_secs_f64() * self.each_second);
            self.filled_at = now;
        }
        let has_some = self.left >= 1.0;
        self.left -= if has_some { 1.0 } else { 0.0 };
        has_some
    }

    fn earn(&mut self, tokens: f64) {
        self.left = (self.left + tokens).min(self.most);
    }
}

//--- Frames ----------------------------------------------------------------------------------------------------------

/// A frame, as far as a meter cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    stream: u32,
    /// The last one of a field block.
    ends_block: bool,
    /// The error code of RST_STREAM and GOAWAY.
    code: u32,
}

/// Follows the frames in a stream of octets, however those are cut.
#[derive(Debug, Default)]
struct Frames {
    preface_left: usize,
    head: [u8; HEAD_OCTETS],
    head_have: usize,
    payload_at: u32,
    payload_octets: u32,
    code: u32,
    /// True from the first frame of a field block until its last one is whole.
    is_in_block: bool,
}

impl Frames {
    /// Goes on with `octets`, and calls `on` for each frame once enough of it was seen.
    fn scan(&mut self, mut octets: &[u8], mut on: impl FnMut(Frame)) {
        let skipped = self.preface_left.min(octets.len());
        self.preface_left -= skipped;
        octets = &octets[skipped..];
        while !octets.is_empty() {
            if self.head_have < HEAD_OCTETS {
                let count = octets.len().min(HEAD_OCTETS - self.head_have);
                self.head[self.head_have..self.head_have + count].copy_from_slice(&octets[..count]);
                self.head_have += count;
                octets = &octets[count..];
                if self.head_have == HEAD_OCTETS {
                    self.begin();
                }
            } else {
                let left = self.payload_octets - self.payload_at;
                let count = octets.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.read_code(&octets[..count]);
                self.payload_at += u32::try_from(count).unwrap_or(left);
                octets = &octets[count..];
            }
            if self.head_have == HEAD_OCTETS && self.payload_at == self.payload_octets {
                self.finish(&mut on);
            }
        }
    }

    fn begin(&mut self) {
        let [a, b, c, kind, ..] = self.head;
        self.payload_octets = u32::from_be_bytes([0, a, b, c]);
        (self.payload_at, self.code) = (0, 0);
        self.is_in_block |= matches!(kind, kind::HEADERS | kind::CONTINUATION);
    }

    /// The error code stands first in RST_STREAM, and behind a stream in GOAWAY.
    fn read_code(&mut self, octets: &[u8]) {
        let start = match self.head[3] {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return,
        };
        for (at, octet) in (self.payload_at..).zip(octets).take(8) {
            if (start..start + 4).contains(&at) {
                self.code = self.code << 8 | u32::from(*octet);
            }
        }
    }

    fn finish(&mut self, on: &mut impl FnMut(Frame)) {
        let [_, _, _, kind, flags, stream @ ..] = self.head;
        let ends_block = matches!(kind, kind::HEADERS | kind::CONTINUATION) && flags & END_HEADERS != 0;
        self.is_in_block &= !ends_block;
        self.head_have = 0;
        on(Frame { kind, stream: u32::from_be_bytes(stream) & STREAM_MASK, ends_block, code: self.code });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_are_told_at_any_split() {
        let octets = [
            vec![b'P'; PREFACE_OCTETS],
            frame(4, 0, &[]),
            frame(kind::HEADERS, 0, b"abc"),
            frame(kind::CONTINUATION, END_HEADERS, b"de"),
            frame(kind::RST_STREAM, 0, &8u32.to_be_bytes()),
            frame(kind::GOAWAY, 0, &[0, 0, 0, 0, 0, 0, 0, 11, b'w']),
        ]
        .concat();
        let expected = [(4, 0), (1, 0), (9, 0), (kind::RST_STREAM, 8), (kind::GOAWAY, 11)].map(|(kind, code)| Frame {
            kind,
            stream: 1,
            ends_block: kind == kind::CONTINUATION,
            code,
        });
        for step in 1..=octets.len() {
            let mut frames = Frames { preface_left: PREFACE_OCTETS, ..Frames::default() };
            let mut seen = Vec::new();
            for piece in octets.chunks(step) {
                frames.scan(piece, |frame| seen.push(frame));
                match seen.len() {
                    // Between the two frames of the field block.
                    2 => assert!(frames.is_in_block, "{step}"),
                    // Before the first of them it depends on how much of it was seen.
                    1 => {}
                    _ => assert!(!frames.is_in_block, "{step}"),
                }
            }
            assert_eq!(seen, expected, "{step}");
        }
    }

    #[test]
    fn tokens_run_out_and_come_back() {
        let mut tokens = Tokens::new((3.0, 0.0));
        assert_eq!([(); 5].map(|()| tokens.spend()), [true, true, true, false, false]);
        tokens.earn(1.0);
        assert_eq!([(); 2].map(|()| tokens.spend()), [true, false]);
    }
}
