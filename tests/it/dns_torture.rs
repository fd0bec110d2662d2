//! Messages that are unusual, hostile or broken, over UDP and TCP: the right code for each, and service for the next client.

use std::fs;
use std::path::Path;

use hickory_proto::op::{Message, MessageType, ResponseCode};

use super::harness::dns::{DnsGate, PATIENCE, over_tcp, over_udp, packet};
use super::harness::upstream::{Reply, records};

/// Filed, and with an access provider that is ours: its answers pass as they are.
const NAME: &str = "here.cn";
const LABELS: [&[u8]; 2] = [b"here", b"cn"];

//--- EDNS compliance -------------------------------------------------------------------------------------------------

/// A query for NAME, A, with an OPT as given.
struct Edns {
    udp_octets: u16,
    version: u8,
    flags: u16,
    options: Vec<u8>,
}

impl Default for Edns {
    fn default() -> Self {
        Self { udp_octets: 1232, version: 0, flags: 0, options: Vec::new() }
    }
}

impl Edns {
    fn octets(&self) -> Vec<u8> {
        let mut res = packet(&LABELS, 1);
        res.truncate(res.len() - 10);
        res.extend(self.record());
        res
    }

    /// The record without its owner.
    fn record(&self) -> Vec<u8> {
        let mut res = vec![0, 41];
        res.extend(self.udp_octets.to_be_bytes());
        res.extend([0, self.version]);
        res.extend(self.flags.to_be_bytes());
        res.extend(u16::try_from(self.options.len()).expect("a length").to_be_bytes());
        res.extend(&self.options);
        res
    }
}

/// What comes back: the code, EDNS version, flags, the codes of options; no OPT at all is `None`.
type Shown = (ResponseCode, Option<(u8, u16, Vec<u16>)>);

fn shown(octets: &[u8]) -> Shown {
    let message = Message::from_vec(octets).expect("a message");
    let edns = message.edns.as_ref().map(|edns| {
        let codes = edns.options().as_ref().iter().map(|(code, _)| u16::from(*code)).collect();
        let flags = if edns.flags().dnssec_ok { 0x8000 } else { 0 } | edns.flags().z;
        (edns.version(), flags, codes)
    });
    (message.metadata.response_code, edns)
}

async fn both(gate: &DnsGate, octets: &[u8]) -> [Vec<u8>; 2] {
    let udp = over_udp(gate.addr, octets, PATIENCE).await.expect("an answer over UDP");
    let tcp = over_tcp(gate.addr, octets).await.expect("an answer over TCP");
    [udp, tcp]
}

#[tokio::test]
async fn servers_are_asked_in_every_way_of_edns() {
    let gate = DnsGate::start().await;
    gate.upstream.addresses(NAME, &["203.0.113.1"]);
    let option = |code: u16, data: &[u8]| {
        let length = u16::try_from(data.len()).expect("a length");
        [&code.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
    };
    let none = || Some((0, 0, Vec::new()));
    let (fine, version) = (ResponseCode::NoError, ResponseCode::BADSIG);
    // 16 is BADVERS in an OPT; the reader knows one name for it.
    let cases: Vec<(&str, Edns, Shown)> = vec![
        ("version 0", Edns::default(), (fine, none())),
        ("version 1", Edns { version: 1, ..Edns::default() }, (version, none())),
        ("version 255", Edns { version: 255, ..Edns::default() }, (version, none())),
        ("an unknown option", Edns { options: option(100, b"?"), ..Edns::default() }, (fine, none())),
        (
            "an unknown option of an unknown version",
            Edns { version: 1, options: option(100, b""), ..Edns::default() },
            (version, none()),
        ),
        ("an unknown flag", Edns { flags: 0x0040, ..Edns::default() }, (fine, none())),
        ("all flags", Edns { flags: 0xffff, ..Edns::default() }, (fine, Some((0, 0x8000, Vec::new())))),
        ("DO", Edns { flags: 0x8000, ..Edns::default() }, (fine, Some((0, 0x8000, Vec::new())))),
        ("a size of 0", Edns { udp_octets: 0, ..Edns::default() }, (fine, none())),
        ("the largest size", Edns { udp_octets: 65_535, ..Edns::default() }, (fine, none())),
        (
            "a network of a client",
            Edns { options: option(8, &[0, 1, 24, 0, 192, 0, 2]), ..Edns::default() },
            (fine, none()),
        ),
        ("a broken network", Edns { options: option(8, &[0, 9, 200]), ..Edns::default() }, (fine, none())),
        ("an empty identity", Edns { options: option(3, b""), ..Edns::default() }, (fine, none())),
        (
            "two unknown options and a known one",
            Edns { options: [option(100, b"a"), option(3, b""), option(101, b"b")].concat(), ..Edns::default() },
            (fine, none()),
        ),
    ];
    for (what, edns, expected) in cases {
        for octets in both(&gate, &edns.octets()).await {
            assert_eq!(shown(&octets), expected, "{what}");
        }
    }
    // Without an OPT there is none back.
    let mut plain = packet(&LABELS, 1);
    plain.truncate(plain.len() - 11);
    plain[11] = 0;
    for octets in both(&gate, &plain).await {
        assert_eq!(shown(&octets), (fine, None));
    }
}

//--- Broken ones -----------------------------------------------------------------------------------------------------

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Code(ResponseCode),
    Silence,
}

#[tokio::test]
async fn broken_messages_get_their_code_or_nothing() {
    use Fate::{Code, Silence};
    let gate = DnsGate::start().await;
    gate.upstream.addresses(NAME, &["203.0.113.1"]);
    let whole = packet(&LABELS, 1);
    over_udp(gate.addr, &whole, PATIENCE).await.expect("an answer, which is in the cache then");
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut res = whole.clone();
        change(&mut res);
        res
    };
    let formerr = Code(ResponseCode::FormErr);
    let second_opt = with(&|octets| {
        let opt = octets[octets.len() - 11..].to_vec();
        octets.extend(opt);
        octets[11] = 2;
    });
    let cases: Vec<(&str, Vec<u8>, Fate)> = vec![
        ("nothing", Vec::new(), Silence),
        ("half a header", whole[..6].to_vec(), Silence),
        ("a response", with(&|octets| octets[2] |= 0x80), Silence),
        ("a header alone", whole[..12].to_vec(), formerr),
        ("a name that breaks off", whole[..15].to_vec(), formerr),
        ("no type", whole[..21].to_vec(), formerr),
        ("a name of pointers to itself", with(&|octets| octets[12..14].copy_from_slice(&[0xc0, 12])), formerr),
        ("a pointer past the end", with(&|octets| octets[12..14].copy_from_slice(&[0xff, 0xff])), formerr),
        ("a label of a reserved kind", with(&|octets| octets[12] = 0x41), formerr),
        ("two OPTs", second_opt, formerr),
        (
            "an OPT of a name",
            with(&|octets| {
                let at = octets.len() - 11;
                octets.splice(at..=at, [1, b'a', 0]);
            }),
            formerr,
        ),
        (
            "an OPT that is longer than the message",
            with(&|octets| {
                let at = octets.len() - 1;
                octets[at] = 9;
            }),
            formerr,
        ),
        ("more records than there are", with(&|octets| octets[11] = 9), formerr),
        ("octets behind the end", with(&|octets| octets.extend([0; 7])), formerr),
        ("a status query", with(&|octets| octets[2] = 2 << 3), Code(ResponseCode::NotImp)),
        ("a notify", with(&|octets| octets[2] = 4 << 3), Code(ResponseCode::NotImp)),
        ("an update", with(&|octets| octets[2] = 5 << 3), Code(ResponseCode::NotImp)),
        ("an unassigned operation", with(&|octets| octets[2] = 15 << 3), Code(ResponseCode::NotImp)),
        ("a transfer", packet(&LABELS, 252), Code(ResponseCode::NotImp)),
        ("flags of answers", with(&|octets| octets[2] |= 0x06), Code(ResponseCode::NoError)),
        ("the reserved flag", with(&|octets| octets[3] |= 0x40), Code(ResponseCode::NoError)),
        ("a code in a query", with(&|octets| octets[3] |= 0x0f), Code(ResponseCode::NoError)),
    ];
    for (what, octets, expected) in cases {
        let fate = match fate_over_udp(&gate, &octets).await {
            None => Silence,
            Some(octets) => {
                let message = Message::from_vec(&octets).expect("a message");
                assert_eq!(message.metadata.message_type, MessageType::Response, "{what}");
                Code(message.metadata.response_code)
            }
        };
        assert_eq!(fate, expected, "{what}");
    }
}

/// What comes back before the answer to a good question that follows on the same socket: both go to one queue, and neither
/// needs an upstream.
async fn fate_over_udp(gate: &DnsGate, octets: &[u8]) -> Option<Vec<u8>> {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(gate.addr).await.expect("connects");
    let mut good = packet(&LABELS, 1);
    good[..2].copy_from_slice(&[0x99, 0x99]);
    socket.send(octets).await.expect("sends");
    socket.send(&good).await.expect("sends");
    let mut buf = vec![0; 65_535];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buf)).await.expect("in time").expect("an answer");
    (buf[..2] != [0x99, 0x99]).then(|| buf[..length].to_vec())
}

#[tokio::test]
async fn kept_inputs_of_the_fuzzer_harm_no_running_gate() {
    let gate = DnsGate::start().await;
    gate.upstream.addresses(NAME, &["203.0.113.1"]);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/dns");
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(gate.addr).await.expect("connects");
    let mut count = 0;
    for entry in fs::read_dir(&directory).expect("the kept corpus") {
        let input = fs::read(entry.expect("an entry").path()).expect("an input");
        // As a query as well: most inputs are read as answers.
        let mut query = input.clone();
        if let Some(flags) = query.get_mut(2) {
            *flags &= 0x7f;
        }
        for octets in [input, query] {
            if octets.len() <= 1500 {
                socket.send(&octets).await.expect("sends");
                count += 1;
            }
        }
        while let Ok(length) = socket.try_recv(&mut [0; 65_535]) {
            assert!(length >= 12, "a header at least");
        }
    }
    assert!(count > 200, "{count}");
    let answer = over_udp(gate.addr, &packet(&LABELS, 1), PATIENCE).await.expect("it still answers");
    assert_eq!(shown(&answer).0, ResponseCode::NoError);
}

//--- SVCB and HTTPS records ------------------------------------------------------------------------------------------

/// The wire forms of RFC 9460 appendix D, with `here.cn` for their owner.
fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    let target = b"\x03foo\x07example\x03com\x00";
    let of_org = b"\x03foo\x07example\x03org\x00";
    let data = |priority: u16, target: &[u8], params: &[&[u8]]| {
        [&priority.to_be_bytes()[..], target, &params.concat()].concat()
    };
    vec![
        ("D.1 figure 2: alias", data(0, target, &[])),
        ("D.2 figure 3: the owner itself", data(1, b"\x00", &[])),
        ("D.2 figure 4: a port", data(16, target, &[b"\x00\x03\x00\x02\x00\x35"])),
        ("D.2 figure 5: a generic key", data(1, target, &[b"\x02\x9b\x00\x05hello"])),
        ("D.2 figure 6: an escape", data(1, target, &[b"\x02\x9b\x00\x09hello\xd2qoo"])),
        (
            "D.2 figure 7: two hints",
            data(
                1,
                target,
                &[
                    b"\x00\x06\x00\x20\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
                    b"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x53\x00\x01",
                ],
            ),
        ),
        (
            "D.2 figure 8: a hint that embeds an IPv4 address",
            data(
                1,
                b"\x07example\x03com\x00",
                &[b"\x00\x06\x00\x10\x20\x01\x0d\xb8\x01\x22\x03\x44\x00\x00\x00\x00\xc0\x00\x02\x21"],
            ),
        ),
        (
            "D.2 figure 9: mandatory keys",
            data(
                16,
                of_org,
                &[
                    b"\x00\x00\x00\x04\x00\x01\x00\x04",
                    b"\x00\x01\x00\x09\x02h2\x05h3-19",
                    b"\x00\x04\x00\x04\xc0\x00\x02\x01",
                ],
            ),
        ),
        ("D.2 figure 10: commas in a protocol", data(16, of_org, &[b"\x00\x01\x00\x0c\x08f\\oo,bar\x02h2"])),
    ]
}

#[tokio::test]
async fn service_records_of_a_filed_name_pass_as_they_are() {
    for (what, data) in vectors() {
        let gate = DnsGate::start().await;
        gate.upstream.addresses(NAME, &["203.0.113.1"]);
        for name in ["foo.example.com", "foo.example.org", "example.com"] {
            gate.upstream.addresses(name, &["192.0.2.1"]);
            gate.upstream.on(name, "HTTPS", records(&[]));
        }
        gate.upstream.on(NAME, "HTTPS", Reply { data: vec![(65, data.clone())], ..Reply::default() });
        for octets in both(&gate, &packet(&LABELS, 65)).await {
            assert_eq!(shown(&octets).0, ResponseCode::NoError, "{what}");
            assert!(octets.windows(data.len()).any(|part| part == data), "{what}: {octets:02x?}");
        }
    }
}
