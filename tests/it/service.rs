//! The gate as a service: what it tells its manager, the sockets it is given, and how it has the next gate follow it.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use icpgate::app::{Surroundings, start_in};
use icpgate::drain::Phase;
use icpgate::ops::manager::{Environment, Manager};
use icpgate::policy::Clock;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::harness::app::{App, config, request};
use super::harness::binary::lay_out;
use super::harness::dns::{Answer, Ask, exchange};

/// Longest time for anything of a debug build on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service manager: what it is told, and by when.
struct Listener(UnixDatagram);

impl Listener {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(socket)
    }

    /// The next message that holds `text`.
    fn wait_for(&self, text: &str) -> String {
        let mut octets = [0; 1024];
        loop {
            let count = self.0.recv(&mut octets).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            let said = String::from_utf8_lossy(&octets[..count]).into_owned();
            if said.contains(text) {
                return said;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manager_is_told_of_ready_life_data_and_the_end() {
    let app = App::start().await;
    let path = app.path("notify");
    let listener = Listener::bind(&path);
    let environment =
        Environment { socket: Some(path.as_os_str()), watchdog_micros: Some("100000"), watchdog_pid: None };
    let manager = Arc::new(Manager::of(environment));
    let surroundings = Surroundings { clock: Clock::Manual(app.clock.clone()), manager, opened: Vec::new() };
    let running = start_in(config(&app.dir, app.upstream.addr), surroundings).await.expect("starts");
    let told = tokio::task::spawn_blocking(move || {
        let first = listener.wait_for("");
        assert_eq!(first, "READY=1\nSTATUS=stance enforce, registry generation 1, ranges generation 1");
        listener.wait_for("WATCHDOG=1");
        listener
    });
    let listener = told.await.expect("no panic inside");
    running.drain.advance(Phase::Draining);
    let told = tokio::task::spawn_blocking(move || listener.wait_for("STOPPING=1"));
    assert_eq!(told.await.expect("no panic inside"), "STOPPING=1\nSTATUS=draining");
    running.wait().await.expect("ends in good order");
}

/// A child that ends with the value.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
    }

    fn ends(&mut self) -> ExitStatus {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait().expect("a child") {
                return status;
            }
            std::thread::yield_now();
        }
        panic!("it does not end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that is nobody's child any more; ends with the value.
struct Orphan(Pid);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// The demo in a directory, with the sockets that it is given in place of its own for DNS and HTTP.
struct Given {
    dir: TempDir,
    udp: UdpSocket,
    twin: TcpListener,
    tcp: TcpListener,
}

impl Given {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        lay_out(dir.path());
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let (udp, twin) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            if let Ok(twin) = TcpListener::bind(udp.local_addr().expect("an address")) {
                break (udp, twin);
            }
        };
        let res = Self { dir, udp, twin, tcp };
        let file = res.dir.path().join("icpgate.toml");
        let text = fs::read_to_string(&file).expect("a file");
        let text = text
            .replace("[dns]\nlisten = [\"127.0.0.1:0\"]", &format!("[dns]\nlisten = [\"{}\"]", res.dns()))
            .replace("[http]\nlisten = [\"127.0.0.1:0\"]", &format!("[http]\nlisten = [\"{}\"]", res.http()))
            .replace("[admin]\n", "[admin]\nhandover = \"next\"\n");
        // Its port could be another test's by then.
        let lines = text.lines().filter(|line| !line.starts_with("demo-origin"));
        let text = lines.collect::<Vec<_>>().join("\n");
        assert!(text.contains(&res.dns().to_string()) && text.contains(&res.http().to_string()), "{text}");
        fs::write(file, text).expect("writes");
        res
    }

    fn dns(&self) -> SocketAddr {
        self.udp.local_addr().expect("an address")
    }

    fn http(&self) -> SocketAddr {
        self.tcp.local_addr().expect("an address")
    }

    /// Starts the program as a manager does: descriptors from 3 on, their number and names in the environment.
    fn start(&self, names: &str) -> Process {
        let given = "exec 3<&0 4<&1 5<&2 0</dev/null 1>/dev/null 2>log; export LISTEN_PID=$$; \
                     exec \"$0\" serve --config icpgate.toml";
        let mut command = Command::new("sh");
        command.args(["-c", given, env!("CARGO_BIN_EXE_icpgate")]).current_dir(self.dir.path());
        command
            .env("LISTEN_FDS", "3")
            .env("LISTEN_FDNAMES", names)
            .env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        command.env_remove("RUST_LOG").env("NO_COLOR", "1");
        let [tcp, twin] =
            [&self.tcp, &self.twin].map(|socket| OwnedFd::from(socket.try_clone().expect("a descriptor")));
        let udp: OwnedFd = self.udp.try_clone().expect("a descriptor").into();
        command.stdin(Stdio::from(tcp)).stdout(Stdio::from(udp)).stderr(Stdio::from(twin));
        Process(command.spawn().expect("sh runs"))
    }

    async fn serves(&self) {
        assert_eq!(
            request(self.http(), "GET / HTTP/1.1\r\nHost: www.unfiled.example\r\nConnection: close\r\n\r\n")
                .await
                .status,
            451
        );
        let answer = exchange(self.dns(), &Ask::new("www.overseas.example", "A")).await.map(Answer);
        assert!(answer.is_some_and(|answer| !answer.0.is_empty()), "an answer over UDP");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_sockets_are_served_and_the_next_gate_follows_on_a_signal() {
    let given = Given::new();
    let listener = Listener::bind(&given.dir.path().join("notify"));
    let mut first = given.start("http:dns:dns");
    let ready = listener.wait_for("READY=1");
    assert!(!ready.contains("MAINPID"), "{ready}");
    let log = fs::read_to_string(given.dir.path().join("log")).expect("a log");
    assert!(!log.contains("no listen key"), "{log}");
    given.serves().await;
    first.signal(Signal::USR2);
    let ready = listener.wait_for("MAINPID=");
    let pid = ready.lines().find_map(|line| line.strip_prefix("MAINPID=")?.parse().ok()).and_then(Pid::from_raw);
    let pid = pid.expect("a process");
    let _next = Orphan(pid);
    assert!(ready.contains("READY=1") && pid != Pid::from_child(&first.0), "{ready}");
    assert!(first.ends().success(), "the first one ends in good order");
    given.serves().await;
    kill_process(pid, Signal::TERM).expect("it runs");
    listener.wait_for("STOPPING=1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_gate_that_cannot_serve_changes_nothing() {
    let given = Given::new();
    let listener = Listener::bind(&given.dir.path().join("notify"));
    let mut first = given.start("http:dns:dns");
    listener.wait_for("READY=1");
    let file = given.dir.path().join("icpgate.toml");
    let good = fs::read_to_string(&file).expect("a file");
    fs::write(&file, "version = 1\n[dns]\nlisten = 53\n").expect("writes");
    first.signal(Signal::USR2);
    let begun = Instant::now();
    let log = || fs::read_to_string(given.dir.path().join("log")).expect("a log");
    while !log().contains("the next gate ended, this one goes on") {
        assert!(begun.elapsed() < PATIENCE && first.0.try_wait().expect("a child").is_none(), "{}", log());
        tokio::task::yield_now().await;
    }
    given.serves().await;
    // And from there on as ever.
    fs::write(&file, good).expect("writes");
    first.signal(Signal::USR2);
    let ready = listener.wait_for("MAINPID=");
    let pid = ready.lines().find_map(|line| line.strip_prefix("MAINPID=")?.parse().ok()).and_then(Pid::from_raw);
    let _next = Orphan(pid.expect("a process"));
    assert!(first.ends().success());
    given.serves().await;
}

#[test]
fn what_is_no_socket_is_refused_by_its_name() {
    let given = Given::new();
    let mut command = Command::new("sh");
    let script = "export LISTEN_PID=$$; exec \"$0\" serve --config icpgate.toml 3</dev/null";
    command.args(["-c", script, env!("CARGO_BIN_EXE_icpgate")]).current_dir(given.dir.path());
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "web").env("NO_COLOR", "1").stderr(Stdio::piped());
    let mut process = Process(command.spawn().expect("sh runs"));
    assert_eq!(process.ends().code(), Some(2));
    let mut said = String::new();
    process.0.stderr.take().expect("a pipe").read_to_string(&mut said).expect("reads");
    assert!(said.contains("socket \"web\" of the service manager") && said.contains("ListenStream="), "{said}");
}
