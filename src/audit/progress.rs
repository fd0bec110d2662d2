//! How far an audit is: one line on a terminal, written over itself.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::terminal::takes_live_lines;

/// Between two lines.
const EVERY: Duration = Duration::from_millis(200);

/// The line.
pub struct Line {
    begun: Instant,
    drawn: Option<Instant>,
    is_wanted: bool,
    /// Hosts to ask for.
    in_all: usize,
    done: usize,
    failed: usize,
}

impl Line {
    /// A line for `in_all` hosts; shown where standard error takes one.
    pub fn new(in_all: usize) -> Self {
        Self { begun: Instant::now(), drawn: None, is_wanted: takes_live_lines(), in_all, done: 0, failed: 0 }
    }

    /// Counts a host.
    pub fn done(&mut self, has_failed: bool) {
        self.done += 1;
        self.failed += usize::from(has_failed);
        if self.is_wanted && self.drawn.is_none_or(|at| at.elapsed() >= EVERY) {
            self.drawn = Some(Instant::now());
            // A terminal that cannot be written to is nobody's loss.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", self.text(self.begun.elapsed()));
        }
    }

    fn text(&self, elapsed: Duration) -> String {
        const WIDTH: usize = 24;
        let share = self.done as f64 / self.in_all.max(1) as f64;
        let filled = ((share * WIDTH as f64) as usize).min(WIDTH);
        let bar = "█".repeat(filled) + &"░".repeat(WIDTH - filled);
        let rate = self.done as f64 / elapsed.as_secs_f64().max(0.001);
        let left = self.in_all.saturating_sub(self.done) as f64 / rate.max(0.001);
        let (minutes, seconds) = (left as u64 / 60, left as u64 % 60);
        let failed = self.failed;
        format!("{bar} {}/{} {rate:.0}/s, failed {failed}, {minutes}:{seconds:02} left", self.done, self.in_all)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is() {
        let mut line = Line::new(1000);
        (0..250).for_each(|i| line.done(i == 0));
        let text = line.text(Duration::from_secs(1));
        assert_eq!(text, "██████░░░░░░░░░░░░░░░░░░ 250/1000 250/s, failed 1, 0:03 left");
        assert!(text.chars().count() < 80);
    }
}
