//! One run at a time on one state file: a lock on a file beside it, which the system lets go with the process that holds it.
//!
//! The file is left where it is: removing it would let two runs hold two locks of one name. It says who holds it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Octets read of who holds a lock: a number.
const HOLDER_OCTETS_MAX: u64 = 32;

/// A held lock; let go when it is dropped, or its process ends.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] File);

/// Why it cannot be had.
#[derive(Debug)]
pub enum Held {
    /// By another process, as it says of itself.
    By(String),
    /// The system says otherwise.
    Io(io::Error),
}

impl Lock {
    /// Takes the lock of the file at `path`, or says who has it; does not wait.
    pub fn take(path: &Path) -> Result<Self, Held> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(beside(path))
            .map_err(Held::Io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => return Err(Held::By(holder(&file))),
            Err(error) => return Err(Held::Io(error.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(Held::Io)?;
        writeln!(file, "{}", std::process::id()).map_err(Held::Io)?;
        Ok(Self(file))
    }
}

/// The lock's file for the file at `path`.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// The process that holds a lock; it may be about to write its number.
fn holder(file: &File) -> String {
    let mut text = String::new();
    match file.take(HOLDER_OCTETS_MAX).read_to_string(&mut text) {
        Ok(_) if text.trim().parse::<u32>().is_ok() => format!("process {}", text.trim()),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_let_go_with_its_holder() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state.jsonl");
        let first = Lock::take(&path).expect("nobody has it");
        match Lock::take(&path) {
            Err(Held::By(holder)) => assert_eq!(holder, format!("process {}", std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        assert!(Lock::take(&path).is_ok());
    }
}
