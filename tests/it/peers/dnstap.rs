//! Other people's readers of dnstap: `fstrm_capture` takes the stream, `dnstap-ldns` and `dnstap` read what it took.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use icpgate::dns::settings::DnstapTarget;
use icpgate::drain::Phase;
use icpgate::policy::Rules;
use tempfile::TempDir;

use super::super::dns_dnstap::gate;
use super::super::harness::binary::run;
use super::super::harness::dns::{Ask, PATIENCE};

/// A reader, ended with the value.
struct Reader(Child);

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fstrm_capture_takes_what_two_readers_understand() {
    if !super::are_asked_for() {
        return;
    }
    let dir = TempDir::new().expect("a directory");
    let (socket, file) = (dir.path().join("tap"), dir.path().join("taken.fstrm"));
    let path = |path: &std::path::Path| path.display().to_string();
    let mut command = Command::new("fstrm_capture");
    command.args(["-t", "protobuf:dnstap.Dnstap", "-u", &path(&socket), "-w", &path(&file)]);
    let capture = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("fstrm_capture starts");
    let mut capture = Reader(capture);
    let deadline = Instant::now() + PATIENCE;
    while !socket.exists() {
        assert!(Instant::now() < deadline, "it does not listen");
        tokio::task::yield_now().await;
    }
    let gate = gate(DnstapTarget::Unix(socket), Rules::default(), |_| {}).await;
    assert!(gate.ask("www.nofile.cn", "A").await.is_blocked());
    let far = gate.ask_as(&Ask { tcp: true, ..Ask::new("www.far.net", "A") }).await;
    assert_eq!(far.addresses(), ["192.0.2.1"]);
    while gate.counters.dnstap_written.value() < 4 {
        assert!(Instant::now() < deadline, "nothing is written");
        tokio::task::yield_now().await;
    }
    // Between its bind and its listen nobody is taken.
    let errors = gate.counters.dnstap_errors.value();
    gate.advance(Phase::Draining);
    while gate.counters.dnstap_up.value() > 0 {
        assert!(Instant::now() < deadline, "it does not end");
        tokio::task::yield_now().await;
    }
    // Its own end writes what it holds.
    run("kill", &["-TERM", &capture.0.id().to_string()]);
    assert!(capture.0.wait().expect("its end").success());
    assert_eq!((gate.counters.dnstap_dropped.value(), gate.counters.dnstap_errors.value()), (0, errors), "FINISH came");
    let said = run("dnstap-ldns", &["-r", &path(&file), "-q"]);
    for expected in [
        "CQ 127.0.0.1 UDP 42b \"www.nofile.cn.\" IN A",
        "CR 127.0.0.1 UDP 109b",
        "CQ 127.0.0.1 TCP",
        "CR 127.0.0.1 TCP",
        "\"www.far.net.\" IN A",
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    assert_eq!(said.lines().count(), 4, "{said}");
    let said = run("dnstap", &["-r", &path(&file), "-y"]);
    for expected in ["type: CLIENT_RESPONSE", "identity: \"gate-1\"", "192.0.2.200", "socket_protocol: TCP"] {
        assert!(said.to_lowercase().contains(&expected.to_lowercase()), "{expected} is not in\n{said}");
    }
}
