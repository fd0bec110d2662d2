//! `knotd` and `unbound` behind the gate: with policy off it is transparent before both, over every transport.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use icpgate::dns::settings::{UpstreamGroup, UpstreamPolicy, UpstreamServer, UpstreamTransport};
use icpgate::model::DomainName;
use icpgate::policy::{Mode, Rules};
use tempfile::TempDir;

use super::super::harness::binary::{free_addr, run};
use super::super::harness::dns::{Ask, DnsGate, PATIENCE, exchange, over_udp};
use super::super::harness::fixture;
use super::super::transparency::{differences, transparent_gate, ways};

/// How long one question of the start waits for its answer.
const FIRST_ANSWER_MAX: Duration = Duration::from_millis(200);

/// A server of somebody else's, ended with the value.
pub(super) struct Peer {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Starts a server and waits for its first answer.
    pub(super) async fn start(addr: SocketAddr, program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        command.args(arguments).env("PATH", path).stdout(Stdio::null()).stderr(Stdio::null());
        let res = Self { child: command.spawn().unwrap_or_else(|error| panic!("{program}: {error}")), addr };
        let ask = Ask::new("nofile.cn", "SOA").octets();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = over_udp(addr, &ask, FIRST_ANSWER_MAX).await;
            if answer.is_some_and(|octets| octets[3] & 0xf == 0) {
                return res;
            }
            assert!(Instant::now() < deadline, "{program} does not answer");
            tokio::task::yield_now().await;
        }
    }
}

const ZONE: &str = r#"$ORIGIN nofile.cn.
$TTL 600
@ IN SOA ns host 1 3600 600 86400 60
@ IN NS ns
@ IN A 203.0.113.1
@ IN AAAA 2001:db8:1::1
@ IN MX 5 mail
@ IN TXT "v=spf1 -all" "second"
@ IN CAA 0 issue "ca.example"
@ IN HTTPS 1 . alpn=h2,h3 ipv4hint=203.0.113.1
ns IN A 203.0.113.53
mail IN A 203.0.113.25
www IN CNAME a
a IN CNAME b
b IN A 203.0.113.2
out IN CNAME www.far.example.
_sip._tcp IN SRV 1 2 5060 mail
loc IN LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
naptr IN NAPTR 100 10 "S" "SIP+D2U" "" _sip._tcp
sshfp IN SSHFP 1 1 0123456789012345678901234567890123456789
tlsa IN TLSA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971
odd IN TYPE65400 \# 4 DEADBEEF
*.wild IN A 203.0.113.3
"#;

/// The questions: name and type, in every flavour of answer the zone has.
const QUESTIONS: [(&str, &str); 23] = [
    ("nofile.cn", "A"),
    ("NoFile.CN", "AAAA"),
    ("nofile.cn", "MX"),
    ("nofile.cn", "TXT"),
    ("nofile.cn", "CAA"),
    ("nofile.cn", "HTTPS"),
    ("nofile.cn", "NS"),
    ("nofile.cn", "SOA"),
    ("www.nofile.cn", "A"),
    ("www.nofile.cn", "CNAME"),
    ("out.nofile.cn", "CNAME"),
    ("_sip._tcp.nofile.cn", "SRV"),
    ("loc.nofile.cn", "TYPE29"),
    ("naptr.nofile.cn", "NAPTR"),
    ("sshfp.nofile.cn", "SSHFP"),
    ("tlsa.nofile.cn", "TLSA"),
    ("odd.nofile.cn", "TYPE65400"),
    ("x.wild.nofile.cn", "A"),
    ("many.nofile.cn", "A"),
    ("long.nofile.cn", "TXT"),
    ("nothere.nofile.cn", "A"),
    ("b.nofile.cn", "TXT"),
    ("_tcp.nofile.cn", "A"),
];

fn zone() -> String {
    let many = (1..60).map(|n| format!("many IN A 203.0.113.{n}\n"));
    let long = (0..8).map(|n| format!("long IN TXT \"{n}{}\"\n", "x".repeat(200)));
    ZONE.to_owned() + &many.chain(long).collect::<String>()
}

async fn knotd(dir: &TempDir) -> Peer {
    let addr = free_addr();
    let at = dir.path().display();
    fs::write(dir.path().join("nofile.cn.zone"), zone()).expect("writes");
    let config = format!(
        "server:\n  listen: {}@{}\n  rundir: {at}\n  udp-max-payload: 1232\n\
         database:\n  storage: {at}/db\nlog:\n  - target: stderr\n    any: error\n\
         template:\n  - id: default\n    storage: {at}\n    file: nofile.cn.zone\n    dnssec-signing: on\n    zonefile-sync: -1\n\
         zone:\n  - domain: nofile.cn\n",
        addr.ip(),
        addr.port()
    );
    fs::create_dir(dir.path().join("db")).expect("a directory");
    let file = dir.path().join("knot.conf");
    fs::write(&file, config).expect("writes");
    Peer::start(addr, "knotd", &["-c", &file.display().to_string()]).await
}

/// A resolver that knows one server's zone and nothing of the world, with encrypted ports beside the plain one.
async fn unbound(dir: &TempDir, behind: SocketAddr, tls: SocketAddr, https: SocketAddr) -> Peer {
    let addr = free_addr();
    let at = dir.path().display();
    let (key, cert) = (format!("{at}/key.pem"), format!("{at}/cert.pem"));
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &key, "-out", &cert];
    let kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    run("openssl", &[&kind[..], &subject, &leaf].concat());
    let config = format!(
        "server:\n  directory: \"{at}\"\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  use-syslog: no\n\
         \x20 do-daemonize: no\n  verbosity: 0\n  num-threads: 1\n  interface: {ip}@{port}\n  interface: {ip}@{tls}\n\
         \x20 interface: {ip}@{https}\n  tls-port: {tls}\n  https-port: {https}\n  tls-service-key: \"{key}\"\n\
         \x20 tls-service-pem: \"{cert}\"\n  access-control: 127.0.0.0/8 allow_snoop\n  do-not-query-localhost: no\n\
         \x20 module-config: \"iterator\"\n  rrset-roundrobin: no\n  edns-buffer-size: 1232\n  max-udp-size: 1232\n\
         \x20 minimal-responses: no\n  ede: yes\n  local-zone: \"far.example.\" static\n\
         remote-control:\n  control-enable: no\n\
         stub-zone:\n  name: \"nofile.cn\"\n  stub-addr: {behind_ip}@{behind_port}\n",
        ip = addr.ip(),
        port = addr.port(),
        tls = tls.port(),
        https = https.port(),
        behind_ip = behind.ip(),
        behind_port = behind.port(),
    );
    let file = dir.path().join("unbound.conf");
    fs::write(&file, config).expect("writes");
    Peer::start(addr, "unbound", &["-d", "-c", &file.display().to_string()]).await
}

#[tokio::test]
async fn policy_off_is_transparent_before_knotd() {
    if !super::are_asked_for() {
        return;
    }
    let dir = TempDir::new().expect("a directory");
    let server = knotd(&dir).await;
    let gate = transparent_gate(server.addr).await;
    // An authoritative server's AA holds for its own answer and not for one out of a cache: each question is asked once.
    let mut asks = Vec::new();
    for (name, qtype) in QUESTIONS {
        let base = Ask::new(name, qtype);
        asks.push(base.clone());
        asks.push(Ask { dnssec_ok: true, ..base.clone() });
        asks.push(Ask { recursion_desired: false, ..base.clone() });
        asks.push(Ask { recursion_desired: false, dnssec_ok: true, tcp: true, ..base });
    }
    let found = differences(server.addr, gate.addr, &asks).await;
    assert!(found.is_empty(), "{} of {} differ:\n{}", found.len(), asks.len(), found.join("\n"));
}

#[tokio::test]
async fn policy_off_is_transparent_before_unbound_over_every_transport() {
    if !super::are_asked_for() {
        return;
    }
    let (knot_dir, unbound_dir) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let authority = knotd(&knot_dir).await;
    let (tls, https) = (free_addr(), free_addr());
    let server = unbound(&unbound_dir, authority.addr, tls, https).await;
    let asks: Vec<Ask> = QUESTIONS.iter().flat_map(|&(name, qtype)| ways(name, qtype)).collect();
    assert!(asks.len() >= 200, "only {} questions", asks.len());
    let localhost = || "localhost".to_owned();
    let transports = [
        (UpstreamTransport::Udp, server.addr),
        (UpstreamTransport::Tcp, server.addr),
        (UpstreamTransport::Tls { server_name: localhost() }, tls),
        (UpstreamTransport::Https { path: "/dns-query".to_owned(), server_name: localhost() }, https),
    ];
    // Everything is asked once, so that the resolver answers both ways out of its cache.
    for ask in &asks {
        exchange(server.addr, ask).await;
    }
    for (transport, addr) in transports {
        let text = format!("{transport:?}");
        let group = UpstreamGroup {
            suffix: DomainName::root(),
            servers: vec![UpstreamServer { text: text.clone(), addr, transport }],
            policy: UpstreamPolicy::Fastest,
            hedges: false,
        };
        let view = fixture::view(Rules { mode: Mode::Off, ..Rules::default() });
        let gate = DnsGate::with(view, |settings| {
            settings.upstreams = vec![group];
            settings.upstream_ca = Some(unbound_dir.path().join("cert.pem"));
        })
        .await;
        let found = differences(server.addr, gate.addr, &asks).await;
        assert!(found.is_empty(), "{text}: {} of {} differ:\n{}", found.len(), asks.len(), found.join("\n"));
    }
}
