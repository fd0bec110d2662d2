//! Every form of hello that is refused, with the alert that says why (D-T5 to D-T10).

use icpgate::http::hello::message::EXTENSIONS_MAX;
use icpgate::http::hello::{Alert, Foreign, HELLO_OCTETS_MAX, HelloFault, Reader, Reading};

use crate::harness::tls::{Sketch, message, record, records, server_name, summary_of};

#[track_caller]
fn fault(stream: &[u8]) -> HelloFault {
    match Reader::default().read(stream) {
        Reading::Malformed(error) => error.fault,
        other => panic!("expected a fault, got {other:?}"),
    }
}

#[track_caller]
fn fault_of(sketch: &Sketch) -> HelloFault {
    fault(&sketch.stream())
}

#[test]
fn names_fold_or_are_refused() {
    for (name, expected) in [
        ("here.cn", "sni:here.cn"),
        ("HERE.cN.", "sni:here.cn"),
        ("a_b.here.cn", "sni:a_b.here.cn"),
        ("203.0.113.9", "ip_literal:203.0.113.9"),
        ("0xcb007109", "ip_literal:203.0.113.9"),
        ("2001:db8::1", "ip_literal:2001:db8::1"),
        ("::ffff:203.0.113.9", "ip_literal:203.0.113.9"),
        ("localhost", "sni:localhost"),
    ] {
        assert_eq!(summary_of(&Sketch::new(name).stream()), expected, "{name}");
    }
    let long = format!("{}cn", "a23456789.".repeat(30));
    for name in [
        "here.cn..",
        ".here.cn",
        "a..cn",
        ".",
        "here.cn:443",
        "[2001:db8::1]",
        "here.cn\0",
        "here.cn\0.nofile.cn",
        "例子.中国",
        "*.here.cn",
        "a b.cn",
        "a/b.cn",
        "u@here.cn",
        "here%2ecn",
        "1.2.3.4.5",
        "fe80::1%eth0",
        &long,
    ] {
        assert_eq!(fault_of(&Sketch::new(name)), HelloFault::BadName, "{name}");
    }
    assert_eq!(HelloFault::BadName.alert(), Alert::UnrecognizedName);
}

#[test]
fn a_name_list_holds_one_host_name() {
    let with = |names: &[(u8, &[u8])]| Sketch::with(vec![server_name(names)]);
    assert_eq!(fault_of(&with(&[(0, b"here.cn"), (0, b"nofile.cn")])), HelloFault::MoreNames);
    assert_eq!(fault_of(&with(&[(1, b"x"), (0, b"here.cn")])), HelloFault::MoreNames);
    assert_eq!(fault_of(&with(&[(0, b"here.cn"), (1, b"x")])), HelloFault::MoreNames);
    assert_eq!(fault_of(&with(&[])), HelloFault::Empty);
    assert_eq!(fault_of(&with(&[(0, b"")])), HelloFault::Empty);
    let twice = Sketch::new("here.cn").and(0, &server_name(&[(0, b"here.cn")]).1);
    assert_eq!(fault_of(&twice), HelloFault::DuplicateExtension);
    assert_eq!(HelloFault::MoreNames.alert(), Alert::IllegalParameter);
    assert_eq!(HelloFault::DuplicateExtension.alert(), Alert::IllegalParameter);
}

#[test]
fn lengths_that_lie_are_refused() {
    let name = |body: &[u8]| fault_of(&Sketch::with(vec![(0, body.to_vec())]));
    assert_eq!(name(b""), HelloFault::CutShort);
    assert_eq!(name(b"\0"), HelloFault::CutShort);
    assert_eq!(name(b"\0\x0b\0\0\x07here.cn"), HelloFault::CutShort);
    assert_eq!(name(b"\0\x0a\0\0\x08here.cn"), HelloFault::CutShort);
    assert_eq!(name(b"\0\x0a\0\0\x06here.cn"), HelloFault::MoreNames);
    assert_eq!(name(b"\0\x0a\0\0\x07here.cnx"), HelloFault::TrailingOctets);

    let other = |kind: u16, body: &[u8]| fault_of(&Sketch::new("here.cn").and(kind, body));
    assert_eq!(other(16, b"\0\0"), HelloFault::Empty);
    assert_eq!(other(16, b"\0\x01\0"), HelloFault::Empty);
    assert_eq!(other(16, b"\0\x03\x03h2"), HelloFault::CutShort);
    assert_eq!(other(16, b"\0\x03\x02h2x"), HelloFault::TrailingOctets);
    assert_eq!(other(16, b"\0\x04\x02h2"), HelloFault::CutShort);
    let versions = |body: &[u8]| {
        let extensions = Some(vec![(43, body.to_vec())]);
        fault_of(&Sketch { extensions, ..Sketch::new("here.cn") })
    };
    assert_eq!(versions(b"\0"), HelloFault::Empty);
    assert_eq!(versions(b"\x03\x03\x04\x03"), HelloFault::OddLength);
    assert_eq!(versions(b"\x02\x03\x04\x03"), HelloFault::TrailingOctets);
    assert_eq!(HelloFault::CutShort.alert(), Alert::DecodeError);
}

#[test]
fn fields_before_the_extensions_are_bounded() {
    let plain = || Sketch::new("here.cn");
    assert_eq!(fault_of(&Sketch { session_id: vec![1; 33], ..plain() }), HelloFault::SessionIdTooLong);
    assert_eq!(fault_of(&Sketch { ciphers: vec![0x13, 1, 0], ..plain() }), HelloFault::OddLength);
    assert_eq!(fault_of(&Sketch { ciphers: vec![], ..plain() }), HelloFault::Empty);
    assert_eq!(fault_of(&Sketch { compressions: vec![], ..plain() }), HelloFault::Empty);
    assert_eq!(fault_of(&Sketch { legacy_version: 0x0002, ..plain() }), HelloFault::BadVersion);
    for legacy_version in [0x0300, 0x0301, 0x0303, 0x0304, 0x0403] {
        assert_eq!(summary_of(&Sketch { legacy_version, ..plain() }.stream()), "sni:here.cn");
    }
    assert_eq!(summary_of(&Sketch { extensions: None, ..plain() }.stream()), "no_sni");
    assert_eq!(summary_of(&Sketch { extensions: Some(vec![]), ..plain() }.stream()), "no_sni");
    let mut trailing = plain().message();
    trailing.extend_from_slice(b"xyz");
    assert_eq!(fault(&records(&message(1, &trailing[4..]), &[])), HelloFault::TrailingOctets);
}

#[test]
fn every_truncation_with_a_true_length_is_refused_or_names_nothing() {
    let whole = Sketch::new("here.cn").and(16, b"\0\x03\x02h2").message();
    for end in 4..whole.len() {
        let found = summary_of(&records(&message(1, &whole[4..end]), &[]));
        assert!(matches!(found.as_str(), "reject" | "no_sni"), "cut at {end}: {found}");
    }
}

#[test]
fn extensions_are_bounded_in_number() {
    let with = |count: usize| {
        let extensions = (0..count).map(|i| (0x1000 + u16::try_from(i).expect("few"), vec![])).collect();
        Sketch { extensions: Some(extensions), ..Sketch::new("here.cn") }
    };
    assert_eq!(summary_of(&with(EXTENSIONS_MAX).stream()), "no_sni");
    assert_eq!(fault_of(&with(EXTENSIONS_MAX + 1)), HelloFault::TooManyExtensions);
    let unknown = Sketch::new("here.cn").and(0x0a0a, b"").and(0x5a5a, b"\0").and(0xfafa, b"");
    assert_eq!(summary_of(&unknown.stream()), "sni:here.cn");
    assert_eq!(fault_of(&unknown.and(0x0a0a, b"")), HelloFault::DuplicateExtension);
}

#[test]
fn hellos_are_bounded_in_length() {
    let longest = Sketch::new("here.cn").padded_to(HELLO_OCTETS_MAX).message();
    assert_eq!(longest.len(), HELLO_OCTETS_MAX);
    assert_eq!(summary_of(&records(&longest, &[])), "sni:here.cn");
    let every: Vec<usize> = (1..longest.len()).collect();
    assert_eq!(summary_of(&records(&longest, &every)), "sni:here.cn");
    let longer = Sketch::new("here.cn").padded_to(HELLO_OCTETS_MAX + 1).message();
    for cuts in [&[1, 2, 3][..], &[100], &[4]] {
        // The length in the header is enough.
        let start = &records(&longer, cuts)[..40];
        assert_eq!(Reader::default().read(start), Reading::TooLong, "{cuts:?}");
    }
    let mut small = Reader::new(100);
    assert_eq!(small.read(&Sketch::new("here.cn").stream()[..9]), Reading::TooLong);
}

#[test]
fn records_are_held_to_their_form() {
    let message = Sketch::new("here.cn").message();
    assert_eq!(fault(&[22, 2]), HelloFault::BadRecordVersion);
    assert_eq!(fault(&[22, 3, 1, 0, 0]), HelloFault::EmptyRecord);
    assert_eq!(fault(&[22, 3, 1, 0x40, 1]), HelloFault::RecordTooLong);
    assert_eq!(fault(&[22, 3, 1, 0, 9, 2]), HelloFault::NotClientHello);
    assert_eq!(fault(&[22, 3, 1, 0, 4, 0, 0, 0, 0]), HelloFault::NotClientHello);
    for kind in [20, 21, 23, 24, 80] {
        let torn = [record(22, &message[..50]), record(kind, &[1])].concat();
        assert_eq!(fault(&torn), HelloFault::UnexpectedRecord, "{kind}");
    }
    let late = [record(22, &message[..50]), vec![22, 3, 3, 0, 0]].concat();
    assert_eq!(fault(&late), HelloFault::EmptyRecord);
    for minor in 0..=255 {
        let mut stream = Sketch::new("here.cn").stream();
        stream[2] = minor;
        assert_eq!(summary_of(&stream), "sni:here.cn");
    }
    assert_eq!(HelloFault::RecordTooLong.alert().record(), [21, 3, 3, 0, 2, 2, 22]);
    assert_eq!(Alert::UnrecognizedName.record(), [21, 3, 3, 0, 2, 2, 112]);
}

#[test]
fn other_protocols_are_told_apart() {
    let read = |octets: &[u8]| match Reader::default().read(octets) {
        Reading::NotTls(foreign) => Some(foreign),
        Reading::NeedMore => None,
        other => panic!("{octets:?}: {other:?}"),
    };
    assert_eq!(read(b"GET / HTTP/1.1\r\n"), Some(Foreign::Text));
    assert_eq!(read(b"PRI * HTTP/2.0\r\n"), Some(Foreign::Text));
    assert_eq!(read(b"\x05\x01\0"), Some(Foreign::Other));
    assert_eq!(read(b"\x15\x03\x03\0\x02\x02\x28"), Some(Foreign::Other));
    assert_eq!(read(b"\x80\x2e\x01\x03\x01\0\x15"), Some(Foreign::Ssl2));
    assert_eq!(read(b"\x80\x2e\x01\0\x02\0\x15"), Some(Foreign::Ssl2));
    assert_eq!(read(b"\x80\x2e\x02"), Some(Foreign::Other));
    assert_eq!(read(b"\x80\x2e\x01\x07"), Some(Foreign::Other));
    assert_eq!(read(b"\x80\x2e\x01"), None);
    assert_eq!(read(b""), None);
}

#[test]
fn what_a_client_wants_to_resume_is_told() {
    let flags = |sketch: &Sketch| match Reader::default().read(&sketch.stream()) {
        Reading::Hello(hello) => [
            hello.has_session_ticket,
            hello.has_pre_shared_key,
            hello.has_early_data,
            hello.has_ech,
            hello.may_resume(),
        ],
        other => panic!("{other:?}"),
    };
    let plain = Sketch::new("here.cn");
    assert_eq!(flags(&plain), [false; 5]);
    assert_eq!(flags(&plain.clone().and(35, b"")), [false; 5]);
    assert_eq!(flags(&plain.clone().and(35, b"ticket")), [true, false, false, false, true]);
    assert_eq!(flags(&plain.clone().and(41, b"\0\0")), [false, true, false, false, true]);
    assert_eq!(flags(&plain.clone().and(42, b"")), [false, false, true, false, false]);
    assert_eq!(flags(&plain.clone().and(0xfe0d, b"\0\0\x01")), [false, false, false, true, false]);
    assert_eq!(flags(&plain.and(0xfe0d, b"\x01")), [false; 5]);
    let old = Sketch { extensions: Some(vec![server_name(&[(0, b"here.cn")])]), ..Sketch::new("") };
    assert_eq!(flags(&old), [false, false, false, false, true]);
    assert_eq!(flags(&Sketch { session_id: vec![], ..old }), [false; 5]);
}
