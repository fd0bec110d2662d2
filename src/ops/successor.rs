//! The next gate, started by this one on SIGUSR2: the program that now stands where this one was started from, with the
//! same arguments. It takes the sockets over by `admin.handover` and has this gate drain once it serves; one that does not
//! come to serve changes nothing.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a manager tells one process alone: these are not for the next one.
const NOT_INHERITED: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID"];

/// How this process was started.
#[derive(Clone, Debug)]
pub struct Successor {
    program: PathBuf,
    arguments: Vec<std::ffi::OsString>,
    /// True while one runs.
    is_started: Arc<AtomicBool>,
}

impl Successor {
    /// Looks at the process; early, for a program that is replaced has no path any more.
    pub fn of_process() -> io::Result<Self> {
        let arguments = std::env::args_os().skip(1).collect();
        Ok(Self { program: std::env::current_exe()?, arguments, is_started: Arc::default() })
    }

    /// Starts it, and says in the log how it ended should it end before this process. One at a time.
    pub fn start(&self) -> io::Result<u32> {
        if std::process::id() == 1 {
            return Err(io::Error::other("this is the first process of its container, which ends when it ends"));
        }
        if self.is_started.swap(true, Ordering::AcqRel) {
            return Err(io::Error::other("one is being started already"));
        }
        self.spawn().inspect_err(|_| self.is_started.store(false, Ordering::Release))
    }

    fn spawn(&self) -> io::Result<u32> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let pid = child.id();
        // Its end is waited for, so that no dead process is left; the thread ends with this process.
        let is_started = self.is_started.clone();
        std::thread::Builder::new().name("successor".to_owned()).spawn(move || {
            match child.wait() {
                Ok(status) => tracing::error!(pid, %status, "the next gate ended, this one goes on"),
                Err(error) => tracing::error!(pid, %error, "the next gate cannot be waited for"),
            }
            is_started.store(false, Ordering::Release);
        })?;
        Ok(pid)
    }
}
