//! One line on a terminal that says how far a load is, written over itself until the load ends.
//!
//! The load only counts; a thread of its own looks at the counts some times a second. Nothing is shown where standard
//! error is no terminal, where NO_COLOR asks for plain output or TERM for a dumb terminal, where the log is JSON, and of
//! loads too short to wonder about.

use std::io::{self, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::log;
use crate::registry::Progress;
use crate::registry::progress::{Figures, Phase};
use crate::terminal::takes_live_lines;

/// Loads shorter than this show nothing.
const QUIET: Duration = Duration::from_millis(300);
/// Between two looks.
const EVERY: Duration = Duration::from_millis(100);
/// Goes to the beginning of the line and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Standard error, where the line stands and the log is written.
static STDERR: Place = Place { stands: Mutex::new(false) };

/// Shows a load while it lives; gone with all it showed when it is dropped.
pub struct LoadLine {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LoadLine {
    /// Shows `progress` on standard error, if that is a terminal that wants it.
    pub fn begin(progress: Arc<Progress>) -> Self {
        if !takes_live_lines() || log::is_json() {
            return Self { end: None, thread: None };
        }
        progress.watch();
        let (end, ended) = channel();
        let begun = Instant::now();
        let thread = std::thread::spawn(move || {
            let mut wait = QUIET;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                STDERR.draw(&mut io::stderr(), &text(&progress.figures(), begun.elapsed()));
                wait = EVERY;
            }
            STDERR.clear(&mut io::stderr());
        });
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for LoadLine {
    fn drop(&mut self) {
        self.end = None;
        // One that panicked leaves a line behind, nothing else.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Where a line stands or none. Locked while anything is written, so that nothing comes between clearing and writing.
struct Place {
    stands: Mutex<bool>,
}

impl Place {
    /// Writes `text` over what stands there. A terminal that cannot be written to is nobody's loss.
    fn draw(&self, out: &mut impl Write, text: &str) {
        let mut stands = self.stands.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = write!(out, "{CLEAR}{text}").and_then(|()| out.flush());
        *stands = true;
    }

    /// Removes the line, if there is one.
    fn clear(&self, out: &mut impl Write) {
        // A terminal that is gone shows no line either.
        let _ = self.pass(out, b"");
    }

    /// Writes something else in place of the line, which the next look draws again below.
    fn pass(&self, out: &mut impl Write, octets: &[u8]) -> io::Result<usize> {
        let mut stands = self.stands.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *stands) {
            out.write_all(CLEAR.as_bytes())?;
            out.flush()?;
        }
        if octets.is_empty() { Ok(0) } else { out.write(octets) }
    }
}

/// Standard error for the log.
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        STDERR.pass(&mut io::stderr(), octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What the line says: never wider than a usual terminal, which would break it.
fn text(figures: &Figures, elapsed: Duration) -> String {
    let &Figures { phase, octets, octets_in_all, rows, issues } = figures;
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { octets as f64 / seconds } else { 0.0 };
    let what = match phase {
        Phase::Events => "applying events",
        Phase::Files | Phase::Parse | Phase::Read => "loading",
        Phase::Index => "indexing",
        Phase::Restore => return format!("reading the snapshot file  {seconds:.1} s"),
    };
    let is_reading = what == "loading";
    let mut res = format!("{what}  {} rows", grouped(rows));
    if is_reading {
        res.push_str(&format!("  {:.1} MB/s", rate / 1e6));
    }
    res.push_str(&format!("  {} issues", grouped(issues)));
    if octets_in_all > 0 {
        // A file that grew meanwhile has more than all.
        let share = octets.min(octets_in_all) as f64 / octets_in_all as f64;
        res.push_str(&format!("  {:.0} %", (share * 100.0).floor()));
        if is_reading && rate > 0.0 {
            let left = (octets_in_all.saturating_sub(octets) as f64 / rate).ceil() as u64;
            res.push_str(&format!("  ETA {}:{:02}", left / 60, left % 60));
        }
    }
    res
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut res = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            res.push(',');
        }
        res.push(digit);
    }
    res
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(phase: Phase, octets: u64, octets_in_all: u64) -> Figures {
        Figures { phase, octets, octets_in_all, rows: 1_234_567, issues: 12 }
    }

    #[test]
    fn the_line_says_how_far_and_how_long() {
        let after = Duration::from_secs;
        for (figures, elapsed, expected) in [
            (
                figures(Phase::Parse, 250_000_000, 1_000_000_000),
                after(4),
                "loading  1,234,567 rows  62.5 MB/s  12 issues  25 %  ETA 0:12",
            ),
            (figures(Phase::Read, 0, 1_000), after(1), "loading  1,234,567 rows  0.0 MB/s  12 issues  0 %"),
            (
                figures(Phase::Files, 1_000_000, 100_000_000),
                after(1),
                "loading  1,234,567 rows  1.0 MB/s  12 issues  1 %  ETA 1:39",
            ),
            (figures(Phase::Read, 5_000_000, 0), after(2), "loading  1,234,567 rows  2.5 MB/s  12 issues"),
            (figures(Phase::Index, 2_000_000, 1_999_999), after(2), "indexing  1,234,567 rows  12 issues  100 %"),
            (figures(Phase::Restore, 0, 9), Duration::from_millis(1250), "reading the snapshot file  1.2 s"),
            (figures(Phase::Read, 5, 9), Duration::ZERO, "loading  1,234,567 rows  0.0 MB/s  12 issues  55 %"),
        ] {
            assert_eq!(text(&figures, elapsed), expected);
        }
        let most = Figures {
            phase: Phase::Files,
            octets: 2 << 40,
            octets_in_all: 4 << 40,
            rows: 100_000_000,
            issues: 10_000_000,
        };
        let line = text(&most, after(1000));
        assert!(line.len() < 80, "{line}");
    }

    #[test]
    fn the_line_is_written_over_itself_and_removed() {
        let (mut out, place) = (Vec::new(), Place { stands: Mutex::new(false) });
        place.clear(&mut out);
        assert_eq!(out, b"", "nothing stands there");
        place.draw(&mut out, "one");
        place.draw(&mut out, "two");
        place.pass(&mut out, b"log\n").expect("writes");
        place.pass(&mut out, b"more\n").expect("writes");
        place.draw(&mut out, "three");
        place.clear(&mut out);
        place.clear(&mut out);
        let expected = "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[Klog\nmore\n\r\x1b[Kthree\r\x1b[K";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn thousands_stand_apart() {
        let shown = [0, 999, 1000, 12_345_678].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "12,345,678"]);
    }
}
