//! The next gate, started by this one on SIGUSR2: the program that now stands where this one was started from, with the
//! same arguments. It takes the sockets over by `admin.handover` and has this gate drain once it serves; one that does not
//! come to serve changes nothing.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What a manager tells one process alone: these are not for the next one.
const NOT_INHERITED: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID"];

/// How this process was started.
#[derive(Clone, Debug)]
pub struct Successor {
    program: PathBuf,
    arguments: Vec<std::ffi::OsString>,
}

impl Successor {
    /// Looks at the process; early, for a program that is replaced has no path any more.
    pub fn of_process() -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, arguments: std::env::args_os().skip(1).collect() })
    }

    /// Starts it, and says in the log how it ended should it end before this process.
    pub fn start(&self) -> io::Result<u32> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let pid = child.id();
        // Its end is waited for, so that no dead process is left; the thread ends with this process.
        std::thread::Builder::new().name("successor".to_owned()).spawn(move || match child.wait() {
            Ok(status) => tracing::error!(pid, %status, "the next gate ended, this one goes on"),
            Err(error) => tracing::error!(pid, %error, "the next gate cannot be waited for"),
        })?;
        Ok(pid)
    }
}
