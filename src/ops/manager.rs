//! Talking to the manager that started the process, systemd or one that does as it does: ready, reloading, stopping, what
//! is served, and proof of life (sd_notify(3), sd_watchdog_enabled(3)).
//!
//! Nothing here can fail the gate: a word that is not heard is none of a client's business. A gate that was started
//! otherwise has nobody to talk to, and says nothing.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::drain::{DrainWatch, Phase};
use crate::policy::SharedView;

/// How often the manager's line about the gate is looked at without a watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// The shortest time between two signs of life; a watchdog that asks for more is none.
const ALIVE_EVERY_MIN: Duration = Duration::from_millis(10);

/// The way to the manager.
#[derive(Debug, Default)]
pub struct Manager {
    /// `None` where nobody listens.
    socket: Option<UnixDatagram>,
    /// How often it wants a sign of life.
    alive_every: Option<Duration>,
}

/// What the environment says of a manager.
#[derive(Clone, Copy, Debug, Default)]
pub struct Environment<'a> {
    /// `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub socket: Option<&'a OsStr>,
    /// `WATCHDOG_USEC`: microseconds within which a sign of life is wanted.
    pub watchdog_micros: Option<&'a str>,
    /// `WATCHDOG_PID`: whose; everybody's without it.
    pub watchdog_pid: Option<&'a str>,
}

impl Manager {
    /// The manager that the environment names, if any.
    pub fn of_process() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET");
        let (micros, pid) = (std::env::var("WATCHDOG_USEC").ok(), std::env::var("WATCHDOG_PID").ok());
        Self::of(Environment {
            socket: socket.as_deref(),
            watchdog_micros: micros.as_deref(),
            watchdog_pid: pid.as_deref(),
        })
    }

    /// The manager that this environment names. One that cannot be reached is said in the log, once.
    pub fn of(environment: Environment<'_>) -> Self {
        let Some(name) = environment.socket.filter(|name| !name.is_empty()) else { return Self::default() };
        let connected = || {
            let addr = match name.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(name)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&addr)?;
            // A manager that does not read must not hold up who serves.
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(socket)
        };
        let socket = connected().inspect_err(
            |error| tracing::warn!(%error, socket = %name.display(), "the service manager cannot be told"),
        );
        let is_ours = environment.watchdog_pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let micros = environment.watchdog_micros.filter(|_| is_ours).and_then(|micros| micros.parse().ok());
        // Half of the time it waits (sd_watchdog_enabled(3)).
        let alive_every = micros.map(|micros| Duration::from_micros(micros) / 2);
        Self { socket: socket.ok(), alive_every: alive_every.filter(|every| *every >= ALIVE_EVERY_MIN) }
    }

    /// Says that all is served. A gate that took over from another one is the service's main process from now on.
    pub fn ready(&self, view: &SharedView, has_taken_over: bool) {
        let main = if has_taken_over { format!("MAINPID={}\n", std::process::id()) } else { String::new() };
        self.say(&format!("{main}READY=1\nSTATUS={}", line_of(view)));
    }

    /// Says that a reload begins.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        // Both parts are never negative on this clock.
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Runs until the drain: keeps the line about the gate current, and gives signs of life where they are wanted.
    ///
    /// A sign is given by what a new task on the runtime has done, so that a runtime which takes no work gives none. A gate
    /// whose sockets another one serves says nothing at its end: the service goes on.
    pub async fn run(self: std::sync::Arc<Self>, view: SharedView, mut drain: DrainWatch) {
        if self.socket.is_none() {
            return drain.reached(Phase::Draining).await;
        }
        let every = self.alive_every.unwrap_or(STATUS_EVERY);
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = line_of(&view);
        loop {
            tokio::select! {
                () = drain.reached(Phase::Draining) => break,
                _ = ticks.tick() => {}
            }
            if self.alive_every.is_some() && tokio::spawn(tokio::task::yield_now()).await.is_ok() {
                self.say("WATCHDOG=1");
            }
            let line = line_of(&view);
            if line != said {
                self.say(&format!("STATUS={line}"));
                said = line;
            }
        }
        if !drain.is_handed_over() {
            self.say("STOPPING=1\nSTATUS=draining");
        }
    }

    fn say(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(text.as_bytes()) {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// What `systemctl status` shows of a gate.
fn line_of(view: &SharedView) -> String {
    let view = view.load();
    let (stance, registry, ranges) = (view.stance().label(), view.registry.generation(), view.ranges.generation());
    format!("stance {stance}, registry generation {registry}, ranges generation {ranges}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchdog_is_ours_and_half_as_long() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let _listener = UnixDatagram::bind(&path).expect("a socket");
        let own = std::process::id().to_string();
        let table = [
            (Some("30000000"), Some(own.as_str()), Some(Duration::from_secs(15))),
            (Some("30000000"), None, Some(Duration::from_secs(15))),
            (Some("30000000"), Some("1"), None),
            (Some("30000000"), Some("nobody"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, None, None),
        ];
        for (watchdog_micros, watchdog_pid, expected) in table {
            let environment = Environment { socket: Some(path.as_os_str()), watchdog_micros, watchdog_pid };
            let manager = Manager::of(environment);
            assert_eq!(manager.alive_every, expected, "{environment:?}");
            assert!(manager.socket.is_some());
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_listens() {
        for socket in [None, Some(""), Some("/nonexistent/notify"), Some("@icpgate-test-nobody")] {
            let manager = Manager::of(Environment { socket: socket.map(OsStr::new), ..Default::default() });
            assert!(manager.socket.is_none(), "{socket:?}");
            manager.reloading();
        }
    }
}
