//! Mistakes other servers have paid for, each as a test that this one does not repeat.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use icpgate::count::{Labels, Observe, Sample};
use icpgate::dns::answer::Answer as ReadAnswer;
use icpgate::dns::question::{DecodeError, decode};
use icpgate::dns::wire;
use icpgate::dns::zones::{ZONE_OCTETS_MAX, Zones};
use icpgate::http::page::Pages;
use icpgate::policy::{MixedAnswer, Rules};
use icpgate::registry::Shrink;
use icpgate::registry::source::{FILE_OCTETS_MAX, SourceError, read_file};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::binary::Binary;
use super::harness::dns::{Answer, Ask, DnsGate, PATIENCE, exchange, over_tcp, over_udp, packet};
use super::harness::fixture;
use super::harness::http::{Client, HttpGate, get};
use super::harness::upstream::{Reply, records};

const OURS: &str = "203.0.113.1";

/// A file that is this long and takes no place.
fn hollow_file(dir: &TempDir, name: &str, octets: u64) -> std::path::PathBuf {
    let path = dir.path().join(name);
    std::fs::File::create(&path).expect("creates").set_len(octets).expect("a sparse file");
    path
}

fn range_settings() -> icpgate::ranges::Settings {
    icpgate::ranges::Settings {
        provider: fixture::PROVIDER.to_owned(),
        mainland: Vec::new(),
        tags: Vec::new(),
        cnames: Vec::new(),
        nat64: Vec::new(),
        poll: Duration::from_secs(60),
        max_shrink_percent: 10,
    }
}

#[tokio::test]
async fn listener_survives_accept_error() {
    /// Open files of the program: a few dozen beside what it needs itself.
    const OPEN_FILES_MAX: u32 = 64;
    let gate = Binary::with_open_files(OPEN_FILES_MAX);
    let ask = Ask { tcp: true, ..Ask::new("www.filed.example", "A") };
    let faces = [gate.dns, gate.http, gate.admin];
    let mut held = Vec::new();
    for _ in 0..OPEN_FILES_MAX {
        for addr in faces {
            // The system completes connections that nobody accepts, up to its backlog.
            held.push(TcpStream::connect(addr).await.expect("connects"));
        }
    }
    // UDP needs no new descriptor: it is served while every accept fails.
    let udp = exchange(gate.dns, &Ask { tcp: false, ..ask.clone() }).await;
    assert_eq!(udp.map(Answer).expect("an answer over UDP").addresses(), ["203.0.113.10"]);
    drop(held);
    let answer = exchange(gate.dns, &ask).await.map(Answer).expect("an answer over TCP");
    assert_eq!(answer.addresses(), ["203.0.113.10"]);
    for (addr, host, path) in [(gate.http, "www.filed.example", "/"), (gate.admin, "localhost", "/healthz")] {
        // Until the program has noticed every hang-up, it may lack the descriptor for a connection to the origin.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut client = Client::connect(addr).await;
            client.send(get(host, path).as_bytes()).await;
            let status = client.response().await.status;
            if status == 200 {
                break;
            }
            assert!(status == 502 && Instant::now() < deadline, "{host}{path}: {status}");
        }
    }
}

#[tokio::test]
async fn every_reader_has_a_limit() {
    let dir = TempDir::new().expect("a directory");
    let file = hollow_file(&dir, "a.csv", FILE_OCTETS_MAX + 1);
    assert!(matches!(read_file(&file), Err(SourceError::TooLarge(FILE_OCTETS_MAX))));
    let file = hollow_file(&dir, "here.cn.zone", ZONE_OCTETS_MAX + 1);
    let zone = icpgate::dns::settings::ZoneFile { origin: fixture::name("here.cn"), file };
    let refused = Zones::load(&[zone]).await.err().expect("a refusal").to_string();
    assert!(refused.contains("larger than"), "{refused}");
    let pages = dir.path().join("pages");
    std::fs::create_dir(&pages).expect("a directory");
    for name in ["page.html", "page.txt", "zh-CN.toml", "en.toml"] {
        std::fs::copy(format!("conf/pages/{name}"), pages.join(name)).expect("copies");
    }
    assert!(Pages::load(Some(&pages)).is_ok());
    std::fs::File::options().write(true).open(pages.join("page.html")).expect("opens").set_len(1 << 30).expect("grows");
    let says_so = |refused: String| {
        assert!(["larger than", "at most"].iter().any(|words| refused.contains(words)), "{refused}");
    };
    says_so(Pages::load(Some(&pages)).expect_err("a refusal").to_string());
    let file = hollow_file(&dir, "mainland.txt", 1 << 34);
    let settings = icpgate::ranges::Settings { mainland: vec![file], ..range_settings() };
    let outcome = icpgate::ranges::Store::new(settings).reload(fixture::noon(fixture::TODAY), Shrink::Refuse);
    let icpgate::ranges::ReloadOutcome::Refused(refused) = outcome else { panic!("a hollow list was taken") };
    says_so(refused.to_string());
    let file = hollow_file(&dir, "icpgate.toml", 1 << 28);
    says_so(icpgate::config::load(Some(&file)).expect_err("a refusal").to_string());
    // A datagram over our limit is cut by the socket and answered as what is left of it: malformed.
    let gate = DnsGate::start().await;
    let mut long = packet(&[b"here", b"cn"], 1);
    long.resize(8000, 0);
    let answer = over_udp(gate.addr, &long, PATIENCE).await.expect("an answer");
    assert_eq!(answer[3] & 0xf, 1);
}

#[test]
fn declared_size_does_not_allocate() {
    // 65,535 records in every section, none of them there; then one record that says it is 64 KiB long.
    let mut query = packet(&[b"here", b"cn"], 1);
    query[6..12].fill(0xff);
    assert_eq!(decode(&query), Err(DecodeError::Malformed));
    let mut answer = query.clone();
    answer[2] |= 0x80;
    assert!(ReadAnswer::read(Bytes::from(answer.clone())).is_err());
    answer[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    answer.truncate(12 + 9 + 4);
    answer.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\xff\xff");
    assert!(ReadAnswer::read(Bytes::from(answer)).is_err());
    // A compressed table whose frame declares an exabyte.
    let frame = b"\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\0\0\x10\x01\0\0".to_vec();
    let refused = icpgate::registry::source::unpack_within("a.csv.zst", frame, FILE_OCTETS_MAX);
    assert!(refused.is_err() || refused.is_ok_and(|text| text.is_empty()));
}

#[tokio::test]
async fn a_declared_length_over_tcp_holds_nobody_up() {
    let gate = DnsGate::start().await;
    gate.upstream.addresses("here.cn", &[OURS]);
    let mut slow = TcpStream::connect(gate.addr).await.expect("connects");
    slow.write_all(&[0xff, 0xff, 0]).await.expect("writes");
    let ask = Ask { tcp: true, ..Ask::new("here.cn", "A") };
    assert_eq!(gate.ask_as(&ask).await.addresses(), [OURS]);
}

#[tokio::test]
async fn inherited_socket_is_nonblocking() {
    // No socket is inherited; ours must not block their thread either. The runtime of this test has one: a client that
    // says nothing and one that reads nothing would stop every other.
    let gate = DnsGate::start().await;
    gate.upstream.addresses("here.cn", &[OURS]);
    let mut silent = TcpStream::connect(gate.addr).await.expect("connects");
    for tcp in [false, true] {
        assert_eq!(gate.ask_as(&Ask { tcp, ..Ask::new("here.cn", "A") }).await.addresses(), [OURS]);
    }
    let query = Ask::new("here.cn", "A").octets();
    let framed = [&u16::try_from(query.len()).expect("short").to_be_bytes()[..], &query].concat();
    silent.write_all(&framed).await.expect("writes");
    let mut length = [0; 2];
    silent.read_exact(&mut length).await.expect("the silent client is still served");
}

#[tokio::test]
async fn mixed_case_name_gets_same_verdict() {
    let gate = DnsGate::start().await;
    gate.upstream.addresses("nofile.cn", &[OURS]).addresses("here.cn", &[OURS]);
    for name in ["nofile.cn", "NOFILE.CN", "nOfIlE.cN."] {
        assert!(gate.ask(name, "A").await.is_blocked(), "{name}");
    }
    for name in ["here.cn", "HERE.CN", "hErE.Cn."] {
        assert_eq!(gate.ask(name, "A").await.addresses(), [OURS], "{name}");
    }
    assert_eq!(gate.upstream.count("here.cn", "A"), 1, "one name, one entry in the cache");
    let gate = HttpGate::start().await;
    for (host, status) in [("nofile.cn", 451), ("NOFILE.CN", 451), ("hErE.Cn.", 200), ("WWW.here.CN:80", 200)] {
        assert_eq!(gate.status(host).await, status, "{host}");
    }
}

#[test]
fn zero_durations_in_the_configuration_are_refused_with_their_place() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("icpgate.toml");
    for (section, key) in [
        ("registry", "poll-seconds"),
        ("ranges", "poll-seconds"),
        ("dns", "tcp-idle-seconds"),
        ("dns", "resolve-timeout-milliseconds"),
        ("dns", "upstream-timeout-milliseconds"),
        ("http", "connect-timeout-seconds"),
        ("http", "head-timeout-seconds"),
        ("http", "idle-timeout-seconds"),
    ] {
        std::fs::write(&file, format!("version = 1\n[{section}]\n{key} = 0\n")).expect("writes");
        let refused = icpgate::config::load(Some(&file)).err().map(|error| error.to_string());
        let refused = refused.unwrap_or_else(|| panic!("{section}.{key} = 0 was taken"));
        let is_the_value = refused.contains(":3:") && refused.contains(key) && !refused.contains("unknown key");
        assert!(is_the_value, "{refused}");
    }
}

#[tokio::test]
async fn zero_durations_are_refused_or_floored() {
    let gate = DnsGate::with(fixture::view(Rules::default()), |settings| {
        settings.upstream_timeout = Duration::ZERO;
        settings.resolve_timeout = Duration::ZERO;
        settings.tcp_idle = Duration::ZERO;
        settings.cache_ttl_max = Duration::ZERO;
        settings.negative_ttl_max = Duration::ZERO;
        settings.stale_max = Duration::ZERO;
        settings.mainland_ttl_max = Duration::ZERO;
    })
    .await;
    gate.upstream.addresses("here.cn", &[OURS]);
    assert_eq!(gate.ask("here.cn", "A").await.message().metadata.id, 4711, "some answer, and no panic");
    assert!(over_tcp_or_closed(&gate).await);
    assert_eq!(gate.ask("here.cn", "A").await.message().metadata.id, 4711);
    // A TTL of zero from an upstream is no interval either.
    let gate = DnsGate::start().await;
    gate.upstream.on("here.cn", "A", records(&["here.cn. 0 IN A 203.0.113.1"]));
    assert_eq!(gate.ask("here.cn", "A").await.ttls(), [0]);
    assert_eq!(gate.ask("here.cn", "A").await.ttls(), [0]);
    assert_eq!(gate.upstream.count("here.cn", "A"), 2, "and is not kept");
}

/// Asks over TCP where the server may close at once.
async fn over_tcp_or_closed(gate: &DnsGate) -> bool {
    let begun = Instant::now();
    let Ok(mut stream) = TcpStream::connect(gate.addr).await else { return true };
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    closed.is_ok() && begun.elapsed() < PATIENCE
}

#[tokio::test]
async fn plain_udp_answer_is_at_most_512_bytes() {
    let gate = DnsGate::start().await;
    let many: Vec<String> = (1..60).map(|n| format!("203.0.113.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    gate.upstream.addresses("here.cn", &many);
    let plain = Ask { edns: false, ..Ask::new("here.cn", "A") };
    for _cold_then_cached in 0..2 {
        let answer = gate.ask_as(&plain).await;
        assert!(answer.0.len() <= 512 && answer.message().metadata.truncation, "{} octets", answer.0.len());
    }
    assert_eq!(gate.ask_as(&Ask { tcp: true, ..plain }).await.addresses().len(), 59);
}

#[tokio::test]
async fn do_bit_is_echoed() {
    let gate = DnsGate::start().await;
    gate.upstream.addresses("here.cn", &[OURS]).addresses("nofile.cn", &[OURS]);
    for name in ["here.cn", "nofile.cn", "nothere.cn", "localhost"] {
        for dnssec_ok in [true, false] {
            let answer = gate.ask_as(&Ask { dnssec_ok, ..Ask::new(name, "A") }).await.message();
            assert_eq!(answer.edns.expect("an OPT").flags().dnssec_ok, dnssec_ok, "{name}");
        }
    }
}

/// The data of a signature over A records, as far as a server looks at it.
fn signature() -> Vec<u8> {
    let fixed = [0, 1, 13, 2, 0, 0, 0, 60, 0x70, 0, 0, 0, 0x6f, 0, 0, 0, 0x12, 0x34];
    [&fixed[..], b"\x04here\x02cn\0", &[7; 64]].concat()
}

#[tokio::test]
async fn forwarded_answer_honours_do_bit() {
    let gate = DnsGate::start().await;
    // An upstream that sends signatures to everyone.
    let signed = Reply { data: vec![(46, signature())], ..records(&["here.cn. 60 IN A 203.0.113.1"]) };
    let only_signatures = Reply { data: vec![(46, signature())], ..Reply::default() };
    gate.upstream.on("here.cn", "A", signed).on("here.cn", "RRSIG", only_signatures);
    let types = async |ask: Ask| {
        let octets = gate.ask_as(&ask).await.0;
        wire::records(&octets).expect("well formed").iter().map(|record| record.rtype).collect::<Vec<_>>()
    };
    assert_eq!(types(Ask::new("here.cn", "A")).await, [1, 41]);
    assert_eq!(types(Ask { dnssec_ok: true, ..Ask::new("here.cn", "A") }).await, [1, 46, 41]);
    assert_eq!(types(Ask::new("here.cn", "RRSIG")).await, [46, 41], "whoever asks for the type gets it");
}

#[tokio::test]
async fn cached_ttls_count_down_in_every_section() {
    let gate = DnsGate::start().await;
    let reply = Reply {
        authority: vec!["here.cn. 3000 IN NS ns.here.cn.".to_owned()],
        additional: vec!["ns.here.cn. 2000 IN A 203.0.113.9".to_owned()],
        ..records(&["here.cn. 200 IN A 203.0.113.1"])
    };
    gate.upstream.on("here.cn", "A", reply);
    let ttls = |answer: &Answer| {
        let message = answer.message();
        [message.answers[0].ttl, message.authorities[0].ttl, message.additionals[0].ttl]
    };
    assert_eq!(ttls(&gate.ask("here.cn", "A").await), [200, 300, 300]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let [answer, authority, additional] = ttls(&gate.ask("here.cn", "A").await);
        if answer < 200 {
            // The longer ones are under the cap still.
            assert_eq!([authority, additional], [300, 300]);
            break;
        }
        assert!(Instant::now() < deadline, "the TTL stays {answer}");
        tokio::task::yield_now().await;
    }
    assert_eq!(gate.upstream.count("here.cn", "A"), 1);
}

#[tokio::test]
async fn long_answer_is_compressed() {
    // Written anew, for some of it is stripped: each further address costs 16 octets, not a whole name.
    let strip = Rules { mixed_answer: MixedAnswer::Strip, ..Rules::default() };
    let gate = DnsGate::with(fixture::view(strip), |settings| {
        settings.judge_families = icpgate::dns::settings::JudgeFamilies::Asked;
    })
    .await;
    let name = "a-rather-long-label-in-front.of-another-long-label.nofile.cn";
    let mut many: Vec<String> = (1..31).map(|n| format!("192.0.2.{n}")).collect();
    many.push(OURS.to_owned());
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    gate.upstream.addresses(name, &many);
    let answer = gate.ask(name, "A").await;
    assert_eq!(answer.addresses().len(), 30);
    assert!(answer.0.len() < 12 + name.len() + 6 + 30 * 16 + 200, "{} octets", answer.0.len());
    assert!(!answer.message().metadata.truncation);
}

/// Every series shown, without its reading.
fn series(shown: &dyn Observe) -> BTreeSet<String> {
    let mut res = BTreeSet::new();
    shown.observe(&mut |family: &'static str, labels: Labels<'_>, _: Sample<'_>| {
        res.insert(format!("{family}{labels:?}"));
    });
    res
}

#[tokio::test]
async fn metric_labels_are_a_closed_set() {
    let gate = DnsGate::start().await;
    let before = (series(&*gate.counters), series(gate.gate.upstreams()));
    for (i, qtype) in ["A", "AAAA", "TXT", "TYPE65400", "TYPE1234", "HTTPS", "ANY"].iter().enumerate() {
        let name = format!("n{i}.\u{4f8b}\u{5b50}.cn");
        let name = fixture::name(&name).to_string();
        gate.upstream.addresses(&name, &[OURS]);
        gate.ask(&name, qtype).await;
    }
    for octets in [&b"\0\x01\0\0\0\x07\0\0\0\0\0\0junk"[..], &packet(&[b"x"], 252), &packet(&[b"x"], 41)] {
        over_udp(gate.addr, octets, PATIENCE).await.expect("an answer");
    }
    let after = (series(&*gate.counters), series(gate.gate.upstreams()));
    assert_eq!(before, after, "no name, type or error text becomes a label");
    assert!(over_tcp(gate.addr, &packet(&[b"x"], 1)).await.is_some());
}
