//! The program itself, as a user starts it: the demo's data in a scratch directory, ports chosen by the system.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest time from start to serving, of a debug build on a loaded machine.
const START_MAX: Duration = Duration::from_secs(60);

/// A running program; ends with the value.
pub struct Binary {
    pub dns: SocketAddr,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    pub dir: TempDir,
    _process: Process,
}

/// A child that ends with the value, whether it started well or not.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Binary {
    /// The demo.
    pub fn demo() -> Self {
        Self::start(Command::new(env!("CARGO_BIN_EXE_icpgate")))
    }

    /// The demo as the system's limit on open files leaves it.
    pub fn with_open_files(most: u32) -> Self {
        let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_icpgate")]);
        Self::start(command)
    }

    /// The demo by the program that `ICPGATE_TEST_PROGRAM` names, where that is set: one that was built to be fast.
    pub fn fast_demo() -> Option<Self> {
        std::env::var_os("ICPGATE_TEST_PROGRAM").map(|program| Self::start(Command::new(program)))
    }

    fn start(mut command: Command) -> Self {
        let dir = TempDir::new().expect("a directory");
        lay_out(dir.path());
        command.args(["serve", "--config", "icpgate.toml"]).current_dir(dir.path());
        command.env_remove("RUST_LOG").env("NO_COLOR", "1").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process(command.spawn().expect("the program starts"));
        let lines = read_lines(process.0.stderr.take().expect("a pipe"));
        let deadline = Instant::now() + START_MAX;
        let (mut dns, mut http) = (None, None);
        let mut said = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = lines.recv_timeout(left) else { panic!("the program did not start:\n{}", said.join("\n")) };
            dns = dns.or(address_after(&line, "dns listens on "));
            http = http.or(address_after(&line, "http listens on "));
            if let Some(admin) = address_after(&line, "admin listens on ") {
                let (dns, http) = (dns.expect("a DNS address"), http.expect("an HTTP address"));
                return Self { dns, http, admin, dir, _process: process };
            }
            said.push(line);
        }
    }

    /// A path below its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Appends a line to its changes file.
    pub fn append_change(&self, line: &str) {
        use std::io::Write;
        let file = fs::OpenOptions::new().append(true).open(self.path("conf/registry/test.changes.jsonl"));
        writeln!(file.expect("the changes file"), "{line}").expect("appends");
    }

    /// What `curl` gets from a path of the admin listener.
    pub fn admin_text(&self, path: &str) -> String {
        run("curl", &["-s", &format!("http://{}{path}", self.admin)])
    }
}

/// Runs a program to its end and gives what it wrote; panics with its errors when it fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// An address whose port is free for UDP and TCP now, for what cannot tell which one the system chose.
pub fn free_addr() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let addr = udp.local_addr().expect("an address");
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// An address that refuses connections, for as long as the socket is held: bound, so that nobody else is given it, and never
/// listening.
pub fn nobody() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a port");
    let addr = socket.local_addr().expect("an address").as_socket().expect("of the internet");
    (socket, addr)
}

/// Puts the demo's data and its configuration, with ports for the system to choose, into a directory.
pub fn lay_out(dir: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in ["registry", "zones", "ranges", "pages"] {
        let target = dir.join("conf").join(part);
        fs::create_dir_all(&target).expect("a directory");
        for entry in fs::read_dir(root.join("conf").join(part)).expect("the demo's data") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                fs::copy(&path, target.join(path.file_name().expect("a name"))).expect("copies");
            }
        }
    }
    fs::write(dir.join("conf/registry/test.changes.jsonl"), "").expect("writes");
    let demo = fs::read_to_string(root.join("conf/icpgate.toml")).expect("the demo's configuration");
    // The gate connects to its origin, so that port is chosen before; the others the system chooses.
    let demo = demo.replace("127.0.0.1:8081", &free_addr().to_string());
    let ports = [":5300", ":8080", ":9153"];
    let config = ports.iter().fold(demo, |text, port| text.replace(&format!("127.0.0.1{port}"), "127.0.0.1:0"));
    fs::write(dir.join("icpgate.toml"), config).expect("writes");
}

/// Lines of the log as they come; read to the end, so that the program never waits for its reader.
fn read_lines(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Nobody listens once it has started.
            let _ = sender.send(line);
        }
    });
    receiver
}

fn address_after(line: &str, words: &str) -> Option<SocketAddr> {
    let rest = &line[line.find(words)? + words.len()..];
    let end = rest.find([',', ' ']).unwrap_or(rest.len());
    rest[..end].trim_end_matches(':').parse().ok()
}
