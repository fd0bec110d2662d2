//! Observations on disk: a JSON line each, appended as they come, read when a run begins.
//!
//! A run that was killed has lost what it had not yet written, a second's worth; the next run asks for that again. A last
//! line that was cut is dropped, any other line that cannot be read is an error: it is somebody else's file.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Octets of a state file: ten million hosts of some hundred octets, a few runs long.
pub const STATE_OCTETS_MAX: u64 = 8 << 30;
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
}

impl State {
    /// Observations of this run only.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Those in the file at `path`, which is made where there is none, and goes on being written.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Io { path: path.to_owned(), source };
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
        Ok(Self { known, file: Some((path.to_owned(), BufWriter::new(file))), written: None })
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

    #[test]
    fn what_was_kept_is_read_and_a_cut_line_is_asked_for_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state.jsonl");
        let mut state = State::open(&path).expect("a new file");
        for (name, outcome) in [("a.cn", Outcome::Found), ("b.cn", Outcome::NoName), ("c.cn", Outcome::Failed)] {
            state.keep(seen(name, 1000, outcome)).expect("kept");
        }
        state.flush().expect("written");
        drop(state);
        let whole = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(whole.lines().count(), 3);
        for cut in 1..whole.lines().last().map_or(0, str::len) {
            std::fs::write(&path, &whole[..whole.len() - cut]).expect("writes");
            let mut state = State::open(&path).expect("reads");
            assert_eq!((state.len(), state.get("c.cn")), (2, None), "{cut}");
            state.keep(seen("c.cn", 1001, Outcome::NoAddress)).expect("kept");
            drop(state);
            let state = State::open(&path).expect("reads");
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
    fn another_file_is_not_written_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notes.txt");
        // A file of one line without its end, as of a token, is no line of ours that was cut.
        for text in ["dear diary\n", "dear diary", "0123456789abcdef", "{\"token\":1}"] {
            std::fs::write(&path, text).expect("writes");
            let error = State::open(&path).expect_err("no state file").to_string();
            assert!(error.contains("notes.txt: line 1: ") && error.contains("expected a state file"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).expect("a file"), text);
        }
    }
}
