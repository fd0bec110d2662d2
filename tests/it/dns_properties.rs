//! The DNS plane against octets of any kind: no panic, and no mainland address for a name that is blocked.

use std::net::IpAddr;
use std::ops::Range;

use bytes::Bytes;
use icpgate::dns::answer::Answer;
use icpgate::dns::edns::{Asks, Cookie, ExtendedError, PADDING_BLOCK_OCTETS};
use icpgate::dns::gate::{companions_needed, conclude};
use icpgate::dns::question::{ClientEdns, DecodeError, Query, Question, decode};
use icpgate::dns::rewrite::Finished;
use icpgate::dns::send::{Delivery, Transport, deliver, refuse};
use icpgate::dns::wire::{self, Section};
use icpgate::dns::{Settings, svcb};
use icpgate::model::{Hop, Host, Subject, Via};
use icpgate::policy::judge::needs_filing;
use icpgate::policy::{MixedAnswer, Rules, View};
use proptest::prelude::*;
use proptest::sample::select;

use super::harness::fixture::{self, TODAY, name};

const NAMES: [&str; 8] = [
    "nofile.cn",
    "www.nofile.cn",
    "here.cn",
    "www.here.cn",
    "else.com",
    "x.cdn-global.self.example",
    "x.cdn-overseas.self.example",
    "far.net",
];
/// Names asked for: filed here, or unfiled. What a filing elsewhere opens depends on the product.
const ASKED: [&str; 6] =
    ["nofile.cn", "www.nofile.cn", "here.cn", "www.here.cn", "x.cdn-overseas.self.example", "far.net"];
const ADDRESSES: [&str; 9] = [
    "203.0.113.1",
    "203.0.113.200",
    "198.51.100.1",
    "192.0.2.1",
    "192.0.2.129",
    "2001:db8:1::1",
    "2001:db8:2::1",
    "::ffff:203.0.113.1",
    "64:ff9b::cb00:7101",
];
const TYPES: [u16; 16] = [1, 28, 5, 39, 65, 64, 255, 2, 15, 6, 16, 33, 46, 41, 47, 65_400];

//--- Messages --------------------------------------------------------------------------------------------------------

/// How a name is written.
#[derive(Clone, Debug)]
enum Spelling {
    Plain(&'static str),
    Pointer(u16),
}

#[derive(Clone, Debug)]
enum Data {
    Address(IpAddr),
    Name(Spelling),
    Octets(Vec<u8>),
    Service { priority: u16, target: Spelling, params: Vec<(u16, Vec<u8>)> },
}

#[derive(Clone, Debug)]
struct Line {
    owner: Spelling,
    rtype: u16,
    class: u16,
    ttl: u32,
    data: Data,
}

/// A message as an upstream could send it, then damaged.
#[derive(Clone, Debug)]
struct Sketch {
    flags: u16,
    sections: [Vec<Line>; 3],
    damage: Vec<(usize, u8)>,
    cut: Option<usize>,
}

fn spelling() -> impl Strategy<Value = Spelling> {
    prop_oneof![
        4 => Just(Spelling::Pointer(12)),
        4 => select(NAMES.to_vec()).prop_map(Spelling::Plain),
        1 => (12u16..120).prop_map(Spelling::Pointer),
    ]
}

fn octets_of(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    select(ADDRESSES.to_vec()).prop_map(|text| text.parse().expect("an address"))
}

fn service() -> impl Strategy<Value = Data> {
    let hint = address().prop_map(|addr| (if addr.is_ipv4() { 4 } else { 6 }, octets_of(addr)));
    let other = (0u16..8, proptest::collection::vec(any::<u8>(), 0..6));
    let param = prop_oneof![3 => hint, 1 => other];
    (0u16..2, spelling(), proptest::collection::vec(param, 0..3)).prop_map(|(priority, target, params)| Data::Service {
        priority,
        target,
        params,
    })
}

fn line() -> impl Strategy<Value = Line> {
    let class = prop_oneof![8 => Just(1u16), 1 => select(vec![3, 255, 0x8001, 0])];
    let data = prop_oneof![
        6 => address().prop_map(|addr| (if addr.is_ipv4() { 1 } else { 28 }, Data::Address(addr))),
        3 => (select(vec![5u16, 39, 2]), spelling()).prop_map(|(rtype, name)| (rtype, Data::Name(name))),
        2 => (select(vec![64u16, 65]), service()),
        2 => (select(TYPES.to_vec()), proptest::collection::vec(any::<u8>(), 0..20).prop_map(Data::Octets)),
        1 => (select(vec![1u16, 28]), address().prop_map(Data::Address)),
    ];
    (spelling(), class, any::<u32>(), data).prop_map(|(owner, class, ttl, (rtype, data))| Line {
        owner,
        rtype,
        class,
        ttl,
        data,
    })
}

fn lines(count: Range<usize>) -> impl Strategy<Value = Vec<Line>> {
    proptest::collection::vec(line(), count)
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let flags = (any::<u16>(), prop_oneof![6 => Just(0u16), 1 => 0u16..16])
        .prop_map(|(bits, code)| 0x8180 | (bits & 0x0430) | code);
    let damage =
        prop_oneof![3 => Just(Vec::new()), 2 => proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4)];
    let cut = proptest::option::weighted(0.05, any::<usize>());
    (flags, lines(0..6), lines(0..3), lines(0..4), damage, cut).prop_map(|(flags, a, b, c, damage, cut)| Sketch {
        flags,
        sections: [a, b, c],
        damage,
        cut,
    })
}

fn push_name(out: &mut Vec<u8>, spelling: &Spelling) {
    match spelling {
        Spelling::Plain(text) => out.extend_from_slice(name(text).wire()),
        Spelling::Pointer(to) => out.extend_from_slice(&(0xc000 | to).to_be_bytes()),
    }
}

fn data_octets(data: &Data) -> Vec<u8> {
    let mut res = Vec::new();
    match data {
        Data::Address(addr) => res = octets_of(*addr),
        Data::Name(spelling) => push_name(&mut res, spelling),
        Data::Octets(octets) => res.clone_from(octets),
        Data::Service { priority, target, params } => {
            res.extend_from_slice(&priority.to_be_bytes());
            push_name(&mut res, target);
            for (key, value) in params {
                res.extend_from_slice(&key.to_be_bytes());
                res.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
                res.extend_from_slice(value);
            }
        }
    }
    res
}

impl Sketch {
    fn octets(&self, question: &Question) -> Bytes {
        let mut res = vec![0, 0];
        res.extend_from_slice(&self.flags.to_be_bytes());
        res.extend_from_slice(&[0, 1]);
        for section in &self.sections {
            res.extend_from_slice(&u16::try_from(section.len()).expect("few").to_be_bytes());
        }
        res.extend_from_slice(&wire::question_octets(question.name.as_ref(), question.qtype, 1));
        for line in self.sections.iter().flatten() {
            push_name(&mut res, &line.owner);
            res.extend_from_slice(&line.rtype.to_be_bytes());
            res.extend_from_slice(&line.class.to_be_bytes());
            res.extend_from_slice(&line.ttl.to_be_bytes());
            let data = data_octets(&line.data);
            res.extend_from_slice(&u16::try_from(data.len()).expect("short").to_be_bytes());
            res.extend_from_slice(&data);
        }
        // The question stays: what answers another one never comes this far.
        let first = wire::HEADER_OCTETS + question.name.wire().len() + 4;
        for &(at, octet) in &self.damage {
            let end = res.len();
            if end > first {
                res[first + at % (end - first)] = octet;
            }
        }
        if let Some(cut) = self.cut {
            res.truncate(12 + cut % (res.len() - 11));
        }
        Bytes::from(res)
    }
}

fn question(name: &str, qtype: u16) -> Question {
    Question {
        name: fixture::name(name),
        qtype,
        qclass: 1,
        recursion_desired: true,
        authentic_data: false,
        checking_disabled: false,
        dnssec_ok: false,
    }
}

//--- The check -------------------------------------------------------------------------------------------------------

/// True when `owner` may lead to `addr`, by a verdict of its own.
fn may_lead(view: &View, owner: &icpgate::model::DomainName, addr: IpAddr) -> bool {
    let hop = Hop::Resolved { addresses: &[addr], chain: &[] };
    let subject = Subject { host: Host::Name(owner.as_ref()), hop, via: Via::Dns };
    !view.judge(&subject, fixture::noon(TODAY)).blocks()
}

/// Mainland addresses that a client would take from the message for a name that may not lead there.
fn leaks(view: &View, question: &Question, octets: &[u8]) -> Vec<String> {
    let mut res = Vec::new();
    let asks_for_addresses = icpgate::dns::gate::leads_to_addresses(question.qtype);
    for record in wire::records(octets).expect("a finished message is well formed") {
        let data = record.data(octets);
        let addresses = match record.rtype {
            1 | 28 => icpgate::dns::answer::address(octets, &record).into_iter().collect(),
            64 | 65 => svcb::read(octets, &record).map(|service| service.hints).unwrap_or_default(),
            _ => Vec::new(),
        };
        let (owner, _) = wire::read_name(octets, record.owner_at).expect("a finished message is well formed");
        // In an answer to a question for addresses every owner stands for the query name, which is at the chain's head.
        let is_answer = record.section == Section::Answer && asks_for_addresses;
        let judged = if is_answer { &question.name } else { &owner };
        for addr in addresses.into_iter().filter(|addr| needs_filing(&view.ranges, *addr)) {
            if !may_lead(view, judged, addr) {
                res.push(format!("{owner} {} {addr} in {:?} ({data:?})", record.rtype, record.section));
            }
        }
    }
    res
}

fn views() -> [View; 2] {
    [MixedAnswer::Block, MixedAnswer::Strip]
        .map(|mixed_answer| fixture::view(Rules { mixed_answer, ..Rules::default() }))
}

thread_local! {
    static VIEWS: [View; 2] = views();
}

fn check_one(view: &View, question: &Question, octets: Bytes) -> Result<(), TestCaseError> {
    let mut settings = Settings::new();
    settings.block.ipv4 = vec!["192.0.2.200".parse().expect("an address")];
    let now = fixture::noon(TODAY);
    let Ok(answer) = Answer::read(octets) else { return Ok(()) };
    let _ = companions_needed(&settings, view, now, question, &answer);
    let Ok(judged) = conclude(&settings, view, now, question, &answer, None) else { return Ok(()) };
    let Some(finished) = &judged.finished else { return Ok(()) };
    let own: Vec<String> = leaks(view, question, &finished.octets);
    let own: Vec<&String> = own.iter().filter(|leak| !leak.contains("192.0.2.200")).collect();
    prop_assert!(own.is_empty(), "{own:?}, judged {:?}", judged.verdict);
    for (transport, edns) in deliveries() {
        let query = Query {
            id: 7,
            question: question.clone(),
            question_octets: wire::question_octets(question.name.as_ref(), question.qtype, 1).to_ascii_uppercase(),
            edns,
            arrived: None,
        };
        check_delivery(finished, &query, transport, &judged.errors)?;
    }
    Ok(())
}

fn deliveries() -> [(Transport, Option<ClientEdns>); 6] {
    let edns = |udp_octets, asks| Some(ClientEdns { udp_octets, dnssec_ok: false, asks });
    let cookie = Cookie::There([7; 8], None);
    let (nothing, all) =
        (Asks::default(), Asks { cookie, keepalive: true, nsid: true, padding: true, structured: true });
    [
        (Transport::Udp, None),
        (Transport::Udp, edns(512, all)),
        (Transport::Udp, edns(4096, nothing)),
        (Transport::Tcp, None),
        (Transport::Tls, edns(512, all)),
        (Transport::Https, edns(4096, all)),
    ]
}

fn check_delivery(
    finished: &Finished,
    query: &Query,
    transport: Transport,
    errors: &[ExtendedError],
) -> Result<(), TestCaseError> {
    let (cookie, keepalive, nsid) = (query.edns.map(|_| [7; 24]), 100, &b"one"[..]);
    let delivery = Delivery { query, transport, udp_octets_max: 1232, age_seconds: 5, errors, keepalive, cookie, nsid };
    let message = deliver(finished, &delivery);
    prop_assert!(wire::records(&message).is_ok(), "a message that cannot be walked");
    let limit = match (transport, query.edns) {
        (Transport::Udp, None) => 512,
        (Transport::Udp, Some(edns)) => usize::from(edns.udp_octets.clamp(512, 1232)),
        _ => wire::MESSAGE_OCTETS_MAX,
    };
    prop_assert!(message.len() <= limit, "{} octets, at most {limit}", message.len());
    let is_padded = query.edns.is_some_and(|edns| edns.asks.padding) && transport.is_encrypted();
    prop_assert!(!is_padded || message.len().is_multiple_of(PADDING_BLOCK_OCTETS), "{} octets", message.len());
    Ok(())
}

#[test]
fn a_message_that_ends_inside_its_question_is_no_answer() {
    let mut whole = super::harness::dns::packet(&[b"www", b"here", b"cn"], 1);
    // Without its OPT.
    whole[11] = 0;
    let end = wire::questions_end(&whole).expect("a question");
    assert!(Answer::read(Bytes::copy_from_slice(&whole[..end])).is_ok());
    for cut in 1..5 {
        assert!(Answer::read(Bytes::copy_from_slice(&whole[..end - cut])).is_err(), "{cut} octets missing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_leads_a_blocked_name_to_the_mainland(
        sketch in sketch(),
        asked in select(ASKED.to_vec()),
        qtype in select(vec![1u16, 1, 28, 65, 64, 255, 15, 2, 5, 16]),
        strict in 0usize..2,
    ) {
        let question = question(asked, qtype);
        let octets = sketch.octets(&question);
        VIEWS.with(|views| check_one(&views[strict], &question, octets))?;
    }

    #[test]
    fn any_octets_are_read_without_harm(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        match decode(&octets) {
            Ok(query) => prop_assert!(query.question_octets.len() >= 5),
            Err(error) => {
                let answer = refuse(&octets, error, 1232);
                prop_assert_eq!(answer.is_none(), error == DecodeError::NotQuery);
                prop_assert!(answer.is_none_or(|answer| wire::records(&answer).is_ok()));
            }
        }
        let _ = Answer::read(Bytes::from(octets));
    }

    #[test]
    fn damaged_queries_are_answered_or_refused(at in any::<usize>(), octet in any::<u8>(), length in 12usize..60) {
        let mut packet = super::harness::dns::packet(&[b"www", b"nofile", b"cn"], 1);
        let end = packet.len();
        packet[at % end] = octet;
        packet.truncate(length);
        if let Err(error) = decode(&packet) {
            prop_assert_eq!(refuse(&packet, error, 1232).is_none(), error == DecodeError::NotQuery);
        }
    }
}
