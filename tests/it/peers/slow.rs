//! slowhttptest against the gate: what is sent or read too slowly ends by the limits, and others are served meanwhile.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use icpgate::policy::Rules;

use super::super::harness::fixture;
use super::super::harness::http::{HttpGate, Reply};

/// Connections of an attack; well below what one client address may have.
const CONNECTIONS: u64 = 300;
/// Those of an attack whose answers are long: the origin keeps each in memory.
const READERS: u64 = 60;
/// More than the kernel buffers for one client, so that one who does not read is one to wait for.
const LONG_OCTETS: usize = 6 << 20;
/// The limits under test: for a whole head, and for silence in a body or an answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Time until the attack is there: of its program, on a loaded machine, and not of the gate.
const RISE_MAX: Duration = Duration::from_secs(60);
/// Time from the attack's last connection to the end of all, on a loaded machine.
const END_MAX: Duration = Duration::from_secs(30);
/// Seconds the attack goes on if the gate does not end it.
const ATTACK_SECONDS: &str = "120";
/// Two ordinary answers take no longer, on a loaded machine where origin, gate and attack share it.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A running attack, ended with the value.
struct Attack(Child);

impl Drop for Attack {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Attack {
    /// Begins an attack on `here.cn` behind the gate, to which it speaks as to a proxy.
    fn begin(gate: &HttpGate, count: u64, path: &str, options: &[&str]) -> Self {
        let (count, url, to) = (count.to_string(), format!("http://here.cn{path}"), gate.addr.to_string());
        let mut command = Command::new("slowhttptest");
        command
            .args(["-c", &count, "-r", &count, "-l", ATTACK_SECONDS, "-p", "2", "-u", &url, "-d", &to])
            .args(options);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("slowhttptest"))
    }
}

async fn gate() -> HttpGate {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.head_timeout = LIMIT;
        settings.stream_timeout = LIMIT;
        settings.idle_timeout = LIMIT;
    })
    .await;
    let body = "x".repeat(LONG_OCTETS);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    gate.origin.on("/long", Reply::Octets(answer.into_bytes()));
    gate
}

/// Waits until `is_met` holds, asking for a page all the while; each answer must come in time.
async fn serving_until(gate: &HttpGate, what: &str, time: Duration, is_met: impl Fn(u64) -> bool) {
    /// Pause between two looks: the measurement must not be the load.
    const LOOK_AGAIN: Duration = Duration::from_millis(20);
    let begun = Instant::now();
    loop {
        let open = gate.counters.connections.value();
        if is_met(open) {
            return;
        }
        assert!(begun.elapsed() < time, "{what}: {open} connections after {:?}", begun.elapsed());
        let asked = Instant::now();
        assert_eq!(gate.status("here.cn").await, 200);
        assert_eq!(gate.status("nofile.cn").await, 451);
        assert!(asked.elapsed() < ANSWER_MAX, "{what}: an answer took {:?}", asked.elapsed());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// An attack reaches its height, and is over by the gate's limits, while others are served.
async fn withstood(most: u64, path: &str, options: &[&str]) {
    let gate = gate().await;
    let _attack = Attack::begin(&gate, most, path, options);
    // The first of its connections may have ended before the last is there.
    serving_until(&gate, "the attack rises", RISE_MAX, |open| open >= most / 2).await;
    // A connection of a probe, or of the client here, may be open at any look.
    serving_until(&gate, "the attack falls", LIMIT + END_MAX, |open| open < most / 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_end_by_the_limit_of_heads() {
    if super::are_asked_for() {
        withstood(CONNECTIONS, "/", &["-H", "-i", "1"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_end_by_the_limit_of_silence() {
    if super::are_asked_for() {
        withstood(CONNECTIONS, "/", &["-B", "-i", "10", "-s", "8192"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_end_by_the_limit_of_silence() {
    if super::are_asked_for() {
        withstood(READERS, "/long", &["-X", "-w", "10", "-y", "20", "-n", "10", "-z", "5"]).await;
    }
}
