//! `kdig`, `dnsperf`, `curl` and `h2load` as clients of DNS over TLS, HTTPS and QUIC.

use std::net::SocketAddr;

use super::super::dns_secure::{base64url, gate_with};
use super::super::harness::binary::run;
use super::super::harness::dns::{Answer, Ask, DnsGate};
use super::super::harness::h2::certificate;
use icpgate::dns::counters::Handshake;
use icpgate::dns::send::Transport;
use icpgate::meter::Flood;

/// Runs a program beside the gate.
async fn beside(program: &str, arguments: Vec<String>) -> String {
    let program = program.to_owned();
    let running = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&program, &arguments)
    });
    running.await.expect("no panic inside")
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

async fn gate() -> (DnsGate, [SocketAddr; 3]) {
    let gate = gate_with(|settings| settings.nsid = "gate-1".to_owned()).await;
    gate.upstream.addresses("www.here.cn", &["203.0.113.2"]).addresses("www.nofile.cn", &["203.0.113.1"]);
    let secure = gate.secure.map(|addr| addr.expect("it listens"));
    (gate, secure)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kdig_asks_by_every_transport() {
    if !super::are_asked_for() {
        return;
    }
    let (_gate, [tls, https, _]) = gate().await;
    let ca = certificate("here").chain.display().to_string();
    let trust = format!("+tls-ca={ca} +tls-hostname=here.cn");
    let ways = [
        (tls, format!("+tls {trust}"), "TLS session"),
        (https, format!("+https {trust}"), "HTTP session (HTTP/2-POST)"),
        (https, format!("+https +https-get {trust}"), "HTTP session (HTTP/2-GET)"),
    ];
    for (addr, way, session) in ways {
        let ask = |name: &str| words(&format!("@{} -p {} {way} +edns +nsid +padding {name} A", addr.ip(), addr.port()));
        let said = beside("kdig", ask("www.nofile.cn")).await;
        for expected in [session, "192.0.2.200", "EDE: 16 (Censored)", "gate-1", "PADDING"] {
            assert!(said.contains(expected), "{way}: {expected} is not in\n{said}");
        }
        let said = beside("kdig", ask("www.here.cn")).await;
        assert!(said.contains("203.0.113.2"), "{way}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aioquic_asks_over_quic() {
    if !super::quic::is_there() {
        return;
    }
    let (gate, [_, _, quic]) = gate().await;
    let query = |name: &str| {
        let mut octets = Ask::new(name, "A").octets();
        octets[..2].fill(0);
        octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>()
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/quic/doq.py");
    let ca = certificate("here").chain.display().to_string();
    let arguments = [script, &quic.port().to_string(), &ca, "here.cn", &query("www.nofile.cn"), &query("www.here.cn")];
    let arguments = arguments.map(str::to_owned).to_vec();
    let said = beside(&super::quic::python().display().to_string(), arguments).await;
    let answers: Vec<String> = serde_json::from_str(said.trim()).expect("answers");
    let answers: Vec<Answer> = answers.iter().map(|text| Answer(super::super::harness::tls::octets(text))).collect();
    assert!(answers[0].is_blocked());
    assert_eq!(answers[1].addresses(), ["203.0.113.2"]);
    assert_eq!(gate.counters.handshakes(Transport::Quic, Handshake::Done), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dnsperf_loses_nothing() {
    if !super::are_asked_for() {
        return;
    }
    let (gate, [tls, https, _]) = gate().await;
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = dir.path().join("queries");
    std::fs::write(&file, "www.here.cn A\nwww.nofile.cn A\nwww.nofile.cn AAAA\n").expect("writes");
    // Debian 12's dnsperf 2.10 loses answers of HTTP/2 that one read brings together, which it counts as statuses: one
    // is asked for at a time there. h2load asks for many.
    // It looks for answers ten times a second.
    for (mode, addr, waiting, rounds) in [("dot", tls, 100, 700), ("doh", https, 1, 10)] {
        let (ip, port) = (addr.ip(), addr.port());
        let mut arguments = words(&format!("-m {mode} -s {ip} -p {port} -c 4 -q {waiting} -n {rounds} -e -t 5"));
        arguments.extend(["-d".to_owned(), file.display().to_string()]);
        if mode == "doh" {
            arguments.extend(words(&format!("-O doh-uri=https://{addr}/dns-query")));
        }
        let said = beside("dnsperf", arguments).await;
        let all = 3 * rounds;
        assert!(said.contains(&format!("Queries completed:    {all} (100.00%)")), "{mode}: {said}");
        assert!(said.contains(&format!("NOERROR {all} (100.00%)")), "{mode}: {said}");
    }
    assert_eq!(gate.counters.connections_refused.value(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_and_curl_are_served() {
    if !super::are_asked_for() {
        return;
    }
    let (gate, [_, https, _]) = gate().await;
    let query = base64url(&Ask::new("www.nofile.cn", "A").octets());
    let url = format!("https://{https}/dns-query?dns={query}");
    let said = beside("h2load", words(&format!("-n 3000 -c 4 -m 20 {url}"))).await;
    assert!(said.contains("3000 succeeded, 0 failed, 0 errored"), "{said}");
    assert_eq!(gate.counters.floods(Flood::Control), 0);
    let ca = certificate("here").chain.display().to_string();
    for version in ["--http1.1", "--http2"] {
        let to = format!("here.cn:{}:127.0.0.1", https.port());
        let url = format!("https://here.cn:{}/dns-query?dns={query}", https.port());
        let said =
            beside("curl", words(&format!("-s {version} --cacert {ca} --resolve {to} -o /dev/null -D - {url}"))).await;
        assert!(said.contains(" 200") && said.contains("application/dns-message"), "{version}: {said}");
    }
}
