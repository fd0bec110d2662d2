//! Commands about a running gate: start, status, reload, drain, and what keeps it from starting.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::harness::program::{DNS, Site, icpgate};

/// Answers one request with `answer` and gives back what was asked.
fn admin(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address").to_string();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut octets = Vec::new();
        let mut buf = [0; 1024];
        while !octets.windows(4).any(|window| window == b"\r\n\r\n") {
            let length = stream.read(&mut buf).expect("reads");
            assert!(length > 0, "the request ends early");
            octets.extend_from_slice(&buf[..length]);
        }
        stream.write_all(answer.as_bytes()).expect("writes");
        String::from_utf8(octets).expect("UTF-8")
    });
    (addr, asked)
}

#[test]
fn reload_tells_what_was_done_and_refused() {
    let body = r#"{"ok":false,"done":["ranges: unchanged"],"refused":["registry: refused: too small"]}"#;
    let answer: &'static str = format!("HTTP/1.1 409 Conflict\r\nContent-Length: {}\r\n\r\n{body}", body.len()).leak();
    let (addr, asked) = admin(answer);
    icpgate(&["reload", "--accept-shrink", "--admin", &addr]).expect(1, &["ranges: unchanged", "registry: refused"]);
    assert!(asked.join().expect("asked").starts_with("POST /v1/reload?accept-shrink=true HTTP/1.1\r\n"));
}

#[test]
fn status_without_a_gate_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address").to_string();
    drop(listener);
    icpgate(&["status", "--admin", &addr]).expect(2, &["no gate answers on", "is it running?"]);
    let (addr, asked) = admin("HTTP/1.1 401 Unauthorized\r\n\r\n{\"error\":\"no token\"}");
    icpgate(&["status", "--admin", &addr]).expect(2, &["refuses the token", "admin.token-file"]);
    drop(asked.join());
}

/// Long enough for any start or stop on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running gate with the lines of its log.
struct Gate {
    child: Child,
    lines: Receiver<String>,
}

impl Gate {
    fn start(site: &Site) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icpgate"));
        command.args(["serve", "--config", "icpgate.toml"]).current_dir(site.directory.path()).env_remove("RUST_LOG");
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let log = BufReader::new(child.stderr.take().expect("its log"));
        let (sender, lines) = channel();
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The address in the log line that holds `text`.
    fn addr(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|error| panic!("no line with {text:?}: {error}"));
            if let Some((_, rest)) = line.split_once(text) {
                return rest.split([',', ':']).take(2).collect::<Vec<_>>().join(":").trim().to_owned();
            }
        }
    }

    /// The exit status, once it ends by itself.
    fn end(mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        // The log ends when the process does.
        while self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
        self.child.wait().expect("it ends").code().expect("an exit status")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Already ended in good order, or the test failed: either way there is nothing more to tell.
        let _ = self.child.kill();
    }
}

const GOOD: &str = "domain,site_no,access\na.cn,京ICP备2021000001号-1,self\n";

#[test]
fn a_gate_is_started_asked_reloaded_and_drained_by_commands() {
    let site = Site::new("rows.csv", GOOD, &format!("{DNS}[admin]\nlisten = \"127.0.0.1:0\"\n"));
    let gate = Gate::start(&site);
    let admin = gate.addr("admin listens on ");
    site.run(&["status", "--admin", &admin])
        .expect(0, &["ready, mode enforce", "generation 1, 1 row of 1 file, 0 findings, loaded ", "127.0.0.1:"]);
    assert_eq!(site.run(&["status", "--json", "--admin", &admin]).json()["ready"], true);
    let more = "domain,site_no,access\na.cn,京ICP备2021000001号-1,self\nb.cn,京ICP备2021000002号-1,self\n";
    std::fs::write(site.directory.path().join("rows.csv"), more).expect("writes");
    site.run(&["reload", "--admin", &admin]).expect(0, &["registry: "]);
    site.run(&["status", "--admin", &admin]).expect(0, &["generation 2, 2 rows"]);
    std::fs::write(site.directory.path().join("rows.csv"), GOOD).expect("writes");
    let dry = site.run(&["reload", "--dry-run", "--admin", &admin]);
    dry.expect(1, &["registry: would have 1 row, 0 added, 0 changed, 1 removed; 1 name would be blocked, 0 released"]);
    dry.expect(1, &["registry: would be refused: 1 of 2 filed names", "max-shrink-percent"]);
    site.run(&["status", "--admin", &admin]).expect(0, &["generation 2, 2 rows"]);
    site.run(&["reload", "--admin", &admin]).expect(1, &["registry: refused", "max-shrink-percent"]);
    site.run(&["reload", "--accept-shrink", "--admin", &admin]).expect(0, &["registry: generation 3"]);
    site.run(&["reload", "--dry-run", "--admin", &admin]).expect(0, &["0 removed; 0 names would be blocked"]);
    site.run(&["reload", "--dry-run", "--accept-shrink"]).expect(2, &["cannot be used with"]);
    site.run(&["drain", "--admin", &admin]).expect(0, &["draining"]);
    assert_eq!(gate.end(), 0);
}

#[test]
fn a_taken_port_ends_with_status_3_and_its_holder() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let site = Site::new("rows.csv", GOOD, &format!("[dns]\nlisten = [\"127.0.0.1:{port}\"]\n"));
    let pid = format!("pid {}", std::process::id());
    site.run(&["serve"]).expect(3, &[&format!("127.0.0.1:{port}"), &pid]);
}

#[test]
fn a_missing_registry_ends_with_status_2_and_advice() {
    let site = Site::new("rows.csv", GOOD, DNS);
    std::fs::remove_file(site.directory.path().join("rows.csv")).expect("removes");
    site.run(&["serve"]).expect(2, &["registry", "rows.csv", "policy.on-missing-registry"]);
}

impl Gate {
    /// Sends a signal by name.
    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs").success());
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }
}

#[test]
fn sighup_reloads_and_sigterm_drains() {
    let site = Site::new("rows.csv", GOOD, &format!("{DNS}[admin]\nlisten = \"127.0.0.1:0\"\n"));
    let gate = Gate::start(&site);
    gate.addr("admin listens on ");
    gate.signal("HUP");
    gate.addr("reloaded on SIGHUP");
    gate.signal("TERM");
    assert_eq!(gate.end(), 0);
}

#[test]
fn sigterm_and_sigint_end_a_start_that_still_loads() {
    /// A start that is ended does not wait for its load; the rest is room for a loaded machine.
    const PROMPT: Duration = Duration::from_secs(5);
    for name in ["TERM", "INT"] {
        let site = Site::new("rows.csv", GOOD, DNS);
        // Ranges that never end: a pipe nobody writes to.
        let pipe = site.directory.path().join("tags.csv");
        std::fs::remove_file(&pipe).expect("removes");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        let mut gate = Gate::start(&site);
        let (sender, opened) = channel();
        std::thread::spawn(move || sender.send(std::fs::OpenOptions::new().write(true).open(pipe)));
        // It can be opened once the gate reads it.
        let _writer = opened.recv_timeout(PATIENCE).expect("the gate reads the pipe").expect("opens");
        gate.signal(name);
        let deadline = Instant::now() + PROMPT;
        while gate.is_running() {
            assert!(Instant::now() < deadline, "SIG{name} is not obeyed while data are loaded");
            std::thread::yield_now();
        }
        assert_eq!(gate.end(), 0);
    }
}

#[test]
fn each_refusal_is_logged_once_and_another_one_too() {
    let site = Site::new("rows.csv", GOOD, &format!("{DNS}[admin]\nlisten = \"127.0.0.1:0\"\n"));
    let gate = Gate::start(&site);
    let admin = gate.addr("admin listens on ");
    let path = |name: &str| site.directory.path().join(name);
    // Whole at once: a file that is seen half-written is refused for another reason.
    let write = |rows: &str| {
        std::fs::write(path("rows.new"), rows).expect("writes");
        std::fs::rename(path("rows.new"), path("rows.csv")).expect("renames");
    };
    let mut said = Vec::new();
    let columns = ["first_odd", "second_odd"].map(|column| format!("domain,site_no,access,{column}\n"));
    for rows in columns {
        write(&rows);
        for _ in 0..2 {
            site.run(&["reload", "--admin", &admin]).expect(1, &["registry: refused"]);
        }
    }
    write(GOOD);
    site.run(&["reload", "--admin", &admin]).expect(0, &["registry: "]);
    gate.signal("TERM");
    while let Ok(line) = gate.lines.recv_timeout(PATIENCE) {
        said.extend(line.contains("registry reload refused").then_some(line));
    }
    let [first, second] = &said[..] else { panic!("{said:?}") };
    assert!(first.contains("first_odd") && second.contains("second_odd"), "{said:?}");
}

#[test]
fn a_second_sigterm_does_not_wait_for_requests_in_work() {
    // An origin that takes the request and never answers.
    let origin = TcpListener::bind("127.0.0.1:0").expect("a port");
    let fixed = origin.local_addr().expect("an address");
    let more = format!("[http]\nlisten = [\"127.0.0.1:0\"]\nfixed = \"{fixed}\"\n");
    let site = Site::new("rows.csv", GOOD, &more);
    let mut gate = Gate::start(&site);
    let addr = gate.addr("http listens on ");
    let mut client = std::net::TcpStream::connect(addr).expect("connects");
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.cn\r\n\r\n").expect("writes");
    let (mut asked, _) = origin.accept().expect("the request arrives");
    asked.read_exact(&mut [0; 4]).expect("reads");
    gate.signal("TERM");
    // New connections end once it drains; the request in work goes on.
    let listener = client.peer_addr().expect("an address");
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(listener).is_ok() {
        assert!(Instant::now() < deadline, "it still takes connections");
    }
    assert!(gate.is_running(), "it waits for the request in work");
    gate.signal("TERM");
    assert_eq!(gate.end(), 0);
}

#[test]
fn data_without_content_are_missing_data() {
    let site = Site::new("rows.csv", "domain,site_no,access\n", DNS);
    site.run(&["serve"]).expect(2, &["registry", "no filing in any file", "policy.on-missing-registry"]);
    let site = Site::new("rows.csv", GOOD, DNS);
    let abroad = "prefix,region,provider,product,origin\n192.0.2.0/24,overseas,,,\n";
    std::fs::write(site.directory.path().join("tags.csv"), abroad).expect("writes");
    site.run(&["serve"]).expect(2, &["ranges", "no mainland address", "policy.on-missing-ranges"]);
}
