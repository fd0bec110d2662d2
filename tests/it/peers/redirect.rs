//! Connections that the system sends here: REDIRECT and TPROXY, IPv4 and IPv6, each in a network namespace of its own.

use std::net::SocketAddr;
use std::process::Command;

use icpgate::http::Settings;
use icpgate::http::counters::OriginFailure;
use icpgate::http::settings::Origin;
use icpgate::policy::Rules;
use tokio::net::{TcpListener, TcpSocket};

use super::super::harness::binary::run;
use super::super::harness::fixture;
use super::super::harness::http::{Client, HttpGate, get};
use super::super::harness::tls::Sketch;
use super::super::harness::tls_origin::{TlsOrigin, answer};

/// Set inside the namespace.
const INSIDE: &str = "ICPGATE_TEST_NAMESPACE";
/// Where the clients are, and whom they call; both on the namespace's loopback.
const CLIENTS: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];
const SERVERS: [&str; 2] = ["203.0.113.9:4443", "[2001:db8:9::9]:4443"];

/// Runs a test of this name in a namespace where it has every right; true inside, where the test goes on.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        for addr in ["198.51.100.7/32", "203.0.113.9/32", "2001:db8:7::7/128", "2001:db8:9::9/128"] {
            let more: &[&str] = if addr.contains(':') { &["nodad"] } else { &[] };
            run("ip", &[&["addr", "add", addr, "dev", "lo"], more].concat());
        }
        return true;
    }
    if super::are_asked_for() {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new("unshare");
        command.args(["--net", "--map-root-user", "--"]).arg(program).args(["--exact", "--nocapture"]);
        command.arg(format!("peers::redirect::{test}")).env(INSIDE, "1").env("PATH", path);
        let output = command.output().expect("unshare runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
    false
}

/// A gate on loopback that asks where connections were meant to go.
async fn gate(change: impl FnOnce(&mut Settings)) -> (HttpGate, [SocketAddr; 2]) {
    let gate = HttpGate::with(fixture::view(Rules::default()), |settings| {
        settings.tls_listen = ["127.0.0.1:0", "[::1]:0"].map(|addr| addr.parse().expect("an address")).to_vec();
        settings.origin = Origin::OriginalDst;
        change(settings);
    })
    .await;
    let addrs = gate.gate.settings().tls_listen.clone().try_into().expect("two listeners");
    (gate, addrs)
}

/// Sets rules that are written in one line here; `nft` wants each statement on its own.
fn nft(rules: &str) {
    run("nft", &[&rules.replace("{ ", "{\n").replace("; ", ";\n").replace("} ", "}\n")]);
}

/// A connection from a client's address to a server's.
async fn call(i: usize) -> Client {
    let to: SocketAddr = SERVERS[i].parse().expect("an address");
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.expect("a socket");
    socket.bind(SocketAddr::new(CLIENTS[i].parse().expect("an address"), 0)).expect("binds");
    let stream = socket.connect(to).await.expect("connects");
    Client::connect_as(stream)
}

/// Sends hellos and requests through the system's rules to both servers.
async fn calls_arrive(gate: &mut HttpGate) {
    let mut origins = Vec::new();
    for server in SERVERS {
        origins.push(TlsOrigin::at(server.parse().expect("an address")).await);
    }
    for (i, origin) in origins.iter().enumerate() {
        let mut client = call(i).await;
        client.send(&Sketch::new("here.cn").stream()).await;
        assert_eq!(client.octets(answer().len()).await, answer(), "{}", SERVERS[i]);
        assert_eq!(origin.connections(), 1);
        let _ = gate.records.recv().await.expect("a record");
        // Without a name, the address that was meant is judged.
        let mut client = call(i).await;
        client.send(&Sketch::with(Vec::new()).stream()).await;
        assert_eq!(client.rest().await, [21, 3, 3, 0, 2, 2, 112]);
        let record = gate.records.recv().await.expect("a record");
        let meant: SocketAddr = SERVERS[i].parse().expect("an address");
        assert_eq!((record.verdict.address, record.client.to_string()), (Some(meant.ip()), CLIENTS[i].to_owned()));
        let mut client = call(i).await;
        client.send(get("nofile.cn", "/").as_bytes()).await;
        assert_eq!(client.response().await.status, 451, "requests are judged on every port");
        let _ = gate.records.recv().await.expect("a record");
        assert_eq!(origin.connections(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirected_connections_go_where_they_were_meant_to() {
    if !is_inside("redirected_connections_go_where_they_were_meant_to") {
        return;
    }
    let (mut gate, [v4, v6]) = gate(|_| {}).await;
    nft(&format!(
        "table inet gate {{ chain out {{ type nat hook output priority -100; \
         ip saddr {} tcp dport 4443 redirect to :{}; ip6 saddr {} tcp dport 4443 redirect to :{}; }} }}",
        CLIENTS[0],
        v4.port(),
        CLIENTS[1],
        v6.port(),
    ));
    calls_arrive(&mut gate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transparent_sockets_have_the_address_that_was_meant() {
    if !is_inside("transparent_sockets_have_the_address_that_was_meant") {
        return;
    }
    let (mut gate, [v4, v6]) = gate(|settings| settings.transparent = true).await;
    nft(&format!(
        "table inet gate {{ \
         chain out {{ type route hook output priority -150; \
         ip saddr {} tcp dport 4443 meta mark set 1; ip6 saddr {} tcp dport 4443 meta mark set 1; }} \
         chain in {{ type filter hook prerouting priority -150; \
         meta mark 1 ip protocol tcp tproxy ip to 127.0.0.1:{}; meta mark 1 ip6 nexthdr tcp tproxy ip6 to [::1]:{}; }} }}",
        CLIENTS[0],
        CLIENTS[1],
        v4.port(),
        v6.port(),
    ));
    for (family, all) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
        run("ip", &[family, "rule", "add", "fwmark", "1", "lookup", "100"]);
        run("ip", &[family, "route", "add", "local", all, "dev", "lo", "table", "100"]);
    }
    calls_arrive(&mut gate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_redirects_the_gate_itself_makes_no_circle() {
    if !is_inside("a_rule_that_redirects_the_gate_itself_makes_no_circle") {
        return;
    }
    let (gate, [v4, _]) = gate(|_| {}).await;
    nft(&format!(
        "table inet gate {{ chain out {{ type nat hook output priority -100; tcp dport 4443 redirect to :{}; }} }}",
        v4.port(),
    ));
    let _origin = TcpListener::bind(SERVERS[0]).await.expect("a socket");
    let mut client = call(0).await;
    client.send(&Sketch::new("here.cn").stream()).await;
    assert_eq!(client.rest().await, [21, 3, 3, 0, 2, 2, 80]);
    assert_eq!(gate.counters.loops.value(), 1, "known at the first turn");
    assert_eq!(gate.counters.tls.origin_failures(OriginFailure::Silent), 1);
}

#[tokio::test]
async fn without_rights_transparent_sockets_are_a_clear_error() {
    if !super::are_asked_for() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let config = "version = 1\n[http]\ntls-listen = [\"127.0.0.1:0\"]\norigin = \"original-dst\"\ntransparent = true\n\
                  [policy]\non-missing-registry = \"observe\"\non-missing-ranges = \"observe\"\n";
    std::fs::write(dir.path().join("icpgate.toml"), config).expect("writes");
    // In a user namespace of its own, the program has no right over this network.
    let output = Command::new("unshare")
        .args(["--user", "--", env!("CARGO_BIN_EXE_icpgate"), "serve", "--config", "icpgate.toml"])
        .current_dir(dir.path())
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("http.transparent needs CAP_NET_ADMIN"), "{said}");
}
