//! Costs of the hot path: decode, judge, rewrite, cached answer; at 1 k, 100 k and 1 M filings. And of a connection's first
//! octets: a browser's ClientHello, the sample Initial packet of RFC 9001.
//!
//! `cargo bench` times them with criterion. `benches/instructions` counts instructions instead, through
//! `hot_path count CASE FILINGS TIMES`: repeatable on any machine, whatever else it does.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use icpgate::dns::answer::Answer;
use icpgate::dns::gate::conclude;
use icpgate::dns::handler::{Client, Gate, Taken};
use icpgate::dns::question::{Query, Question, decode, encode};
use icpgate::dns::secure::Servers;
use icpgate::dns::send::Transport;
use icpgate::dns::settings::{UpstreamGroup, UpstreamPolicy, UpstreamServer, UpstreamTransport};
use icpgate::dns::upstream::Upstreams;
use icpgate::dns::zones::Zones;
use icpgate::dns::{Counters, Settings};
use icpgate::http::hello::{HELLO_OCTETS_MAX, Reader, Reading};
use icpgate::http::quic::{self, Arrival};
use icpgate::model::{DomainName, Hop, Host, OriginSide, Product, Region, Subject, SuffixTable, Via};
use icpgate::policy::{Rules, SharedView, Sink, View};
use icpgate::ranges::{RangeRow, Ranges};
use icpgate::registry::{Filing, Snapshot};

/// Sizes of the registry.
const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
/// Mainland prefixes, as many as a real list has.
const PREFIXES: u32 = 8_000;
/// Names asked in turn, so that a large table does not answer from the processor's cache alone.
const NAMES: usize = 4096;
const CASES: [&str; 5] = ["decode", "judge_filed", "judge_unfiled", "rewrite_blocked", "cached_answer"];

/// Cases that no registry is asked in.
const WIRE_CASES: [&str; 2] = ["open_initial", "read_hello"];

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, case, filings, times] = words.as_slice()
        && word == "count"
    {
        let number = |text: &str| text.parse::<usize>().expect("a number");
        if WIRE_CASES.contains(&case.as_str()) {
            Wire::new().count(case, number(times));
        } else {
            Bench::new(number(filings)).count(case, number(times));
        }
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut wire = Wire::new();
    for case in WIRE_CASES {
        criterion.bench_function(case, |b| b.iter(|| wire.once(case)));
    }
    for filings in SIZES {
        let bench = Bench::new(filings);
        for case in CASES {
            let mut group = criterion.benchmark_group(case);
            group.bench_with_input(BenchmarkId::from_parameter(filings), &bench, |b, bench| {
                let mut i = 0;
                b.iter(|| {
                    i += 1;
                    bench.once(case, i);
                });
            });
        }
    }
    criterion.final_summary();
}

/// Everything the cases run on.
struct Bench {
    view: SharedView,
    settings: Settings,
    filed: Vec<DomainName>,
    unfiled: Vec<DomainName>,
    packets: Vec<Vec<u8>>,
    answers: Vec<(Question, Answer)>,
    /// Warmed up when first needed: it asks over sockets, whose cost differs from run to run.
    gate: OnceLock<Gate>,
    client: Client,
}

impl Bench {
    fn new(filings: usize) -> Self {
        let name =
            |i: usize, ending: &str| DomainName::from_text(&format!("site{i}-of-many.{ending}")).expect("a name");
        let step = (filings / NAMES).max(1);
        let filed: Vec<DomainName> = (0..filings).step_by(step).map(|i| name(i, "com.cn")).collect();
        let unfiled: Vec<DomainName> = (0..NAMES).map(|i| name(i, "net.cn")).collect();
        let rows = (0..filings).map(|i| Filing { access: vec!["self".to_owned()], ..Filing::new(name(i, "com.cn")) });
        let registry = Snapshot::build(1, Arc::new(SuffixTable::built_in()), "self", false, rows.collect());
        let view = View {
            rules: Arc::new(Rules::default()),
            registry: Arc::new(registry),
            ranges: Arc::new(ranges()),
            faults: Vec::new(),
            shadow: None,
        };
        let view = SharedView::new(view);
        let packets: Vec<Vec<u8>> = filed.iter().map(|name| encode(&question(name), 7, 1232)).collect();
        let answers = unfiled.iter().map(|name| (question(name), answer(name))).collect();
        let settings = settings();
        let client = Client::new((Ipv4Addr::LOCALHOST, 40_000).into(), None, Transport::Udp);
        Self { view, settings, filed, unfiled, packets, answers, gate: OnceLock::new(), client }
    }

    fn once(&self, case: &str, i: usize) {
        match case {
            "decode" => drop(black_box(decode(&self.packets[i % self.packets.len()]))),
            "judge_filed" => drop(black_box(self.judge(&self.filed[i % self.filed.len()]))),
            "judge_unfiled" => drop(black_box(self.judge(&self.unfiled[i % self.unfiled.len()]))),
            "rewrite_blocked" => {
                let (question, answer) = &self.answers[i % self.answers.len()];
                let now = SystemTime::UNIX_EPOCH;
                let view = self.view.load();
                let judged = conclude(&self.settings, &view, now, question, answer, None);
                assert!(black_box(judged).is_ok_and(|judged| judged.enforced));
            }
            "cached_answer" => {
                let gate = self.gate.get_or_init(|| warm_gate(&self.settings, &self.view, &self.packets));
                let taken = gate.take(&self.packets[i % self.packets.len()], self.client);
                assert!(matches!(black_box(taken), Taken::Answered(_)));
            }
            _ => panic!("unknown case {case}; expected one of {CASES:?}"),
        }
    }

    fn judge(&self, name: &DomainName) -> icpgate::policy::Verdict {
        let addresses = [address()];
        let hop = Hop::Resolved { addresses: &addresses, chain: &[] };
        let subject = Subject { host: Host::Name(name.as_ref()), hop, via: Via::Dns };
        self.view.load().judge(&subject, SystemTime::UNIX_EPOCH)
    }

    fn count(&self, case: &str, times: usize) {
        for i in 0..times {
            self.once(case, i);
        }
    }
}

/// What the wire cases run on.
struct Wire {
    hello: Vec<u8>,
    initial: Vec<u8>,
    scratch: Vec<u8>,
}

impl Wire {
    fn new() -> Self {
        let row = include_str!("../tests/data/tls/own-tcp.jsonl").lines().next().expect("a row");
        let row: serde_json::Value = serde_json::from_str(row).expect("JSON");
        let vectors: toml::Value = toml::from_str(include_str!("../tests/data/tls/quic-vectors.toml")).expect("TOML");
        let hello = octets(row["stream"].as_str().expect("hexadecimal"));
        let initial = octets(vectors["v1"]["client_packet"].as_str().expect("hexadecimal"));
        Self { hello, initial, scratch: Vec::new() }
    }

    fn once(&mut self, case: &str) {
        match case {
            "open_initial" => {
                let Arrival::Initial(initial) = quic::arrival(&self.initial) else { panic!("no Initial") };
                let mut flight = quic::Flight::begin(&initial, HELLO_OCTETS_MAX).expect("a flight");
                let reading = flight.read(&self.initial, &mut self.scratch);
                assert!(matches!(black_box(reading), quic::Reading::Hello(_)));
            }
            "read_hello" => {
                let mut reader = Reader::default();
                assert!(matches!(black_box(reader.read(&self.hello)), Reading::Hello(_)));
            }
            _ => panic!("unknown case {case}; expected one of {WIRE_CASES:?}"),
        }
    }

    fn count(&mut self, case: &str, times: usize) {
        for _ in 0..times {
            self.once(case);
        }
    }
}

/// Octets from hexadecimal digits; white space means nothing.
fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|digit| !digit.is_whitespace()).collect();
    let value = |digit: char| u8::try_from(digit.to_digit(16).expect("a digit")).expect("below 16");
    digits.chunks(2).map(|pair| value(pair[0]) * 16 + value(pair[1])).collect()
}

/// An address inside one of the prefixes.
fn address() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(36, 1, 2, 3))
}

fn ranges() -> Ranges {
    let row = |i: u32| RangeRow {
        // 36.0.0.0/8 onwards, every other /20: 8,000 prefixes that do not join.
        prefix: format!("{}/20", Ipv4Addr::from((36 << 24) + i * 8192)).parse().expect("a prefix"),
        region: Region::Mainland,
        provider: Some("self".to_owned()),
        product: Product::Ecs,
        origin: OriginSide::Unknown,
    };
    Ranges::build(1, "self", (0..PREFIXES).map(row).collect(), Vec::new(), Vec::new())
}

fn question(name: &DomainName) -> Question {
    Question {
        name: name.clone(),
        qtype: 1,
        qclass: 1,
        recursion_desired: true,
        authentic_data: false,
        checking_disabled: false,
        dnssec_ok: false,
    }
}

/// A response to `query` with one A record.
fn response(query: &[u8]) -> Vec<u8> {
    let question: Query = decode(query).expect("the gate's own query");
    let mut res = query[..12 + question.question_octets.len()].to_vec();
    res[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    let IpAddr::V4(addr) = address() else { return res };
    res.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 1, 0x51, 0x80, 0, 4]);
    res.extend_from_slice(&addr.octets());
    res
}

fn answer(name: &DomainName) -> Answer {
    let message = response(&encode(&question(name), 0, 1232));
    Answer::read(Bytes::from(message)).expect("a well-formed answer")
}

fn settings() -> Settings {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let addr = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut buf = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buf) {
            // The asker may be gone; the next question says so.
            let _ = socket.send_to(&response(&buf[..length]), peer);
        }
    });
    let server = UpstreamServer { text: format!("udp://{addr}"), addr, transport: UpstreamTransport::Udp };
    let group = UpstreamGroup {
        suffix: DomainName::root(),
        servers: vec![server],
        policy: UpstreamPolicy::Ordered,
        hedges: false,
    };
    Settings { upstreams: vec![group], ..Settings::new() }
}

/// A gate that has every packet's answer in its cache.
fn warm_gate(settings: &Settings, view: &SharedView, packets: &[Vec<u8>]) -> Gate {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = Client::new((Ipv4Addr::LOCALHOST, 40_000).into(), None, Transport::Udp);
    runtime.block_on(async {
        let zones = Zones::load(&[]).await.expect("no zones");
        let upstreams = Upstreams::new(settings).expect("one upstream");
        let gate = Gate::new(
            settings.clone(),
            view.clone(),
            Sink::closed(),
            Arc::new(Counters::default()),
            zones,
            upstreams,
            Servers::default(),
        );
        for packet in packets {
            if let Taken::Waiting(query) = gate.take(packet, client) {
                gate.resolve(&query, client).await.expect("an answer");
            }
        }
        gate
    })
}
