//! What the process tells of itself: version, start, memory, descriptors.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::count::{Labels, Observe, Sample};

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The process since its start.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// The time of day at the start.
    pub started_at: SystemTime,
    /// The same by the monotonic clock.
    pub started: Instant,
}

impl Process {
    /// A process that starts now.
    pub fn begin() -> Self {
        Self { started_at: SystemTime::now(), started: Instant::now() }
    }
}

impl Observe for Process {
    fn observe(&self, show: &mut dyn FnMut(&'static str, Labels<'_>, Sample<'_>)) {
        let since = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        show("build_info", &[("version", VERSION)], Sample::Count(1));
        show("start_timestamp_seconds", &[], Sample::Value(since.as_secs_f64()));
        show("uptime_seconds", &[], Sample::Value(self.started.elapsed().as_secs_f64()));
        show("resident_memory_bytes", &[], Sample::Count(resident_octets().unwrap_or(0)));
        show("open_descriptors", &[], Sample::Count(open_descriptors().unwrap_or(0)));
    }
}

/// Memory in use; `None` where the system has no `/proc`.
pub fn resident_octets() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Processor time of the process so far, all threads together, in hundredths of a second; `None` where the system has no
/// `/proc`.
pub fn processor_time() -> Option<Duration> {
    /// Of user and system time, counted from the state, which stands behind the name.
    const FIELDS: std::ops::RangeInclusive<usize> = 11..=12;
    /// What Linux counts in wherever it shows ticks to programs.
    const TICK_MILLIS: u64 = 10;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold anything, parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = fields.get(FIELDS)?.iter().map(|text| text.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(Duration::from_millis(ticks * TICK_MILLIS))
}

fn open_descriptors() -> Option<u64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}
