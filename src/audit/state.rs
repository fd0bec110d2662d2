//! Observations on disk: a JSON line each, appended as they come, read when a run begins.
//!
//! A run that was killed has lost what it had not yet written, a second's worth; the next run asks for that again. A last
//! line that was cut is dropped, any other line that cannot be read is an error: it is somebody else's file. A file that
//! holds many times what is of use is written anew when it is opened; a second run on the same file is refused meanwhile.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::lock::{Held, Lock};
use crate::whole::write_whole;

/// Octets of a state file: ten million hosts of some hundred octets, a few runs long.
pub const STATE_OCTETS_MAX: u64 = 8 << 30;
/// A file with more than this many lines for each host is written anew: nightly runs add a line a host.
const LINES_A_HOST_MAX: usize = 3;
/// Below as many lines nothing is gained by it.
const LINES_KEPT_MIN: usize = 1000;
/// What was seen longer ago is left out then, where `--max-age` asks for no more: hosts that nobody asks for any longer.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(90 * 86_400);
/// What every line begins with.
const BEGIN: &str = "{\"name\":\"";
/// How long an observation may wait to be written.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// What was answered for a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// The host as asked for, in ASCII.
    pub name: String,
    /// Seconds since 1970 (UTC).
    pub at: u64,
    /// What came of it.
    pub outcome: Outcome,
    /// A and AAAA records, in ascending order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// True where nobody could say for one family of addresses: what is there is so, what is not may be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_partial: bool,
    /// CNAME and DNAME targets on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There are addresses.
    Found,
    /// The name does not exist (NXDOMAIN).
    NoName,
    /// The name has no address (NODATA).
    NoAddress,
    /// Nobody could say: SERVFAIL, REFUSED, no answer. Asked again at every run.
    Failed,
}

/// Why a state file cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another run writes to it.
    #[error(
        "{}: in use by {holder} ({}.lock); wait for it to end, or give this run a --state of its own",
        .path.display(),
        .path.display()
    )]
    Held {
        /// The file.
        path: PathBuf,
        /// Who.
        holder: String,
    },
    /// It cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line is no observation.
    #[error("{}: line {line}: {what}; expected a state file of `icpgate audit`, or no file", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// It is too large.
    #[error("{}: larger than {STATE_OCTETS_MAX} octets; begin a new one", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Observations by host, and the file they are kept in.
#[derive(Debug, Default)]
pub struct State {
    known: HashMap<Box<str>, Observation>,
    file: Option<(PathBuf, BufWriter<File>)>,
    written: Option<Instant>,
    /// Held for as long as the file is written to.
    _lock: Option<Lock>,
}

impl State {
    /// Observations of this run only.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Those in the file at `path`, which is made where there is none, and goes on being written.
    ///
    /// `max_age` is how old an observation may be to be of use at `now`.
    pub fn open(path: &Path, now: SystemTime, max_age: Duration) -> Result<Self, StateError> {
        let failed = |source| StateError::Io { path: path.to_owned(), source };
        let lock = Lock::take(path).map_err(|held| match held {
            Held::By(holder) => StateError::Held { path: path.to_owned(), holder },
            Held::Io(source) => failed(source),
        })?;
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        let octets_there = file.metadata().map_err(failed)?.len();
        if octets_there > STATE_OCTETS_MAX {
            return Err(StateError::TooLarge { path: path.to_owned() });
        }
        let mut known = HashMap::new();
        let mut reader = BufReader::new(&mut file);
        let (mut text, mut line, mut whole_octets) = (String::new(), 0, 0);
        loop {
            text.clear();
            line += 1;
            let octets = reader.read_line(&mut text).map_err(failed)?;
            // A line without its end was being written when the run was killed, if it begins as ours do.
            if octets == 0 || (!text.ends_with('\n') && (text.starts_with(BEGIN) || BEGIN.starts_with(&text))) {
                break;
            }
            let observation: Observation = serde_json::from_str(&text).map_err(|error| StateError::Line {
                path: path.to_owned(),
                line,
                what: error.to_string(),
            })?;
            whole_octets += octets as u64;
            known.insert(observation.name.as_str().into(), observation);
        }
        drop(reader);
        if whole_octets < octets_there {
            file.set_len(whole_octets).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        }
        let since = seconds_of(now).saturating_sub(max_age.max(FORGOTTEN_AFTER).as_secs());
        let of_use = known.values().filter(|seen| seen.at >= since).count();
        if line > LINES_KEPT_MIN && line / LINES_A_HOST_MAX > of_use {
            known.retain(|_, seen| seen.at >= since);
            write_anew(path, &file, known.values()).map_err(failed)?;
            file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        }
        let file = Some((path.to_owned(), BufWriter::new(file)));
        Ok(Self { known, file, written: None, _lock: Some(lock) })
    }

    /// What was observed of a host.
    pub fn get(&self, host: &str) -> Option<&Observation> {
        self.known.get(host)
    }

    /// True where a host was observed less than `age` before `now`, and the answer told something.
    pub fn knows(&self, host: &str, now: SystemTime, age: Duration) -> bool {
        let since = seconds_of(now).saturating_sub(age.as_secs());
        self.get(host).is_some_and(|seen| seen.outcome != Outcome::Failed && !seen.is_partial && seen.at >= since)
    }

    /// Every observation, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Observation> {
        self.known.values()
    }

    /// How many hosts were observed.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Keeps an observation; in the file within a second.
    pub fn keep(&mut self, observation: Observation) -> Result<(), StateError> {
        if let Some((path, file)) = &mut self.file {
            let failed = |source| StateError::Io { path: path.clone(), source };
            let mut line = serde_json::to_string(&observation).map_err(|error| failed(error.into()))?;
            line.push('\n');
            file.write_all(line.as_bytes()).map_err(failed)?;
            if self.written.is_none_or(|at| at.elapsed() >= WRITE_EVERY) {
                file.flush().map_err(failed)?;
                self.written = Some(Instant::now());
            }
        }
        self.known.insert(observation.name.as_str().into(), observation);
        Ok(())
    }

    /// Writes what waits.
    pub fn flush(&mut self) -> Result<(), StateError> {
        match &mut self.file {
            Some((path, file)) => file.flush().map_err(|source| StateError::Io { path: path.clone(), source }),
            None => Ok(()),
        }
    }
}

/// Puts a file of these observations in the place of the one before, whole or not at all, with the same rights.
fn write_anew<'a>(path: &Path, old: &File, observations: impl Iterator<Item = &'a Observation>) -> io::Result<()> {
    let rights = old.metadata()?.permissions();
    write_whole(path, |out| {
        for observation in observations {
            serde_json::to_writer(&mut *out, observation)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })?;
    std::fs::set_permissions(path, rights)
}

/// Seconds since 1970; 0 before.
pub fn seconds_of(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, at: u64, outcome: Outcome) -> Observation {
        let addresses = if outcome == Outcome::Found { vec![IpAddr::from([192, 0, 2, 1])] } else { Vec::new() };
        Observation { name: name.to_owned(), at, outcome, addresses, is_partial: false, chain: Vec::new() }
    }

    /// The file as a run of a thousand seconds after 1970 reads it.
    fn open(path: &Path) -> Result<State, StateError> {
        State::open(path, UNIX_EPOCH + Duration::from_secs(1000), Duration::from_secs(60))
    }

    #[test]
    fn what_was_kept_is_read_and_a_cut_line_is_asked_for_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state.jsonl");
        let mut state = open(&path).expect("a new file");
        for (name, outcome) in [("a.cn", Outcome::Found), ("b.cn", Outcome::NoName), ("c.cn", Outcome::Failed)] {
            state.keep(seen(name, 1000, outcome)).expect("kept");
        }
        state.flush().expect("written");
        drop(state);
        let whole = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(whole.lines().count(), 3);
        for cut in 1..whole.lines().last().map_or(0, str::len) {
            std::fs::write(&path, &whole[..whole.len() - cut]).expect("writes");
            let mut state = open(&path).expect("reads");
            assert_eq!((state.len(), state.get("c.cn")), (2, None), "{cut}");
            state.keep(seen("c.cn", 1001, Outcome::NoAddress)).expect("kept");
            drop(state);
            let state = open(&path).expect("reads");
            assert_eq!((state.len(), state.get("c.cn").map(|seen| seen.at)), (3, Some(1001)), "{cut}");
        }
    }

    #[test]
    fn observations_age_and_failures_tell_nothing() {
        let mut state = State::in_memory();
        state.keep(seen("a.cn", 1000, Outcome::Found)).expect("kept");
        state.keep(seen("b.cn", 1000, Outcome::Failed)).expect("kept");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let knows = |name, seconds| state.knows(name, at(seconds), Duration::from_secs(60));
        assert!(knows("a.cn", 1060) && !knows("a.cn", 1061) && !knows("b.cn", 1000) && !knows("c.cn", 1000));
    }

    #[test]
    fn a_file_that_is_mostly_out_of_date_is_written_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state.jsonl");
        let lines = || std::fs::read_to_string(&path).expect("a file").lines().count();
        let day = |n: u64| UNIX_EPOCH + Duration::from_secs(n * 86_400);
        let night = |n: u64, hosts: &[String]| {
            let mut state = State::open(&path, day(n), Duration::from_secs(86_400)).expect("opens");
            hosts.iter().for_each(|host| state.keep(seen(host, n * 86_400, Outcome::Found)).expect("kept"));
            state.flush().expect("written");
            state.len()
        };
        let all: Vec<String> = (0..500).map(|n| format!("host{n}.cn")).collect();
        let most = (1000..1010).map(|n| (night(n, &all), lines())).max().expect("nights");
        assert_eq!(most, (500, 2000), "never more than three lines a host and a night's");
        // Hosts that nobody asks for any longer are forgotten in the end, and none that is asked for.
        for n in 1010..1110 {
            night(n, &all[..100]);
        }
        let state = State::open(&path, day(1110), Duration::from_secs(86_400)).expect("opens");
        assert_eq!((state.len(), state.get("host99.cn").map(|seen| seen.at)), (100, Some(1109 * 86_400)));
        // With an age that is asked for they are of use.
        drop(state);
        std::fs::write(&path, "").expect("writes");
        for n in 1000..1003 {
            night(n, &all);
        }
        for (age, hosts) in [(500, 500), (1, 0)] {
            let state = State::open(&path, day(1400), Duration::from_secs(age * 86_400)).expect("opens");
            assert_eq!(state.len(), hosts, "{age}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_written_anew_keeps_its_rights_and_a_second_run_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state.jsonl");
        let text: String = (0..2000)
            .map(|at| serde_json::to_string(&seen("a.cn", at, Outcome::Found)).expect("JSON") + "\n")
            .collect();
        std::fs::write(&path, text).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("rights");
        let state = open(&path).expect("opens");
        let metadata = std::fs::metadata(&path).expect("a file");
        assert_eq!((state.len(), metadata.permissions().mode() & 0o777), (1, 0o600));
        assert!(metadata.len() < 200, "{} octets", metadata.len());
        let error = open(&path).expect_err("it is in use").to_string();
        let holder = format!("in use by process {} (", std::process::id());
        assert!(error.contains(&holder) && error.contains("state.jsonl.lock); wait for it to end"), "{error}");
        drop(state);
        assert!(open(&path).is_ok());
    }

    #[test]
    fn another_file_is_not_written_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notes.txt");
        // A file of one line without its end, as of a token, is no line of ours that was cut.
        for text in ["dear diary\n", "dear diary", "0123456789abcdef", "{\"token\":1}"] {
            std::fs::write(&path, text).expect("writes");
            let error = open(&path).expect_err("no state file").to_string();
            assert!(error.contains("notes.txt: line 1: ") && error.contains("expected a state file"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).expect("a file"), text);
        }
    }
}
