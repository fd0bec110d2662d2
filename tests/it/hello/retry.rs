//! The second hello after a HelloRetryRequest (D-T11).

use icpgate::http::hello::{HelloFault, Reader, Reading};

use crate::harness::tls::{Sketch, octets, record, records, rows, summary};

/// Reads the first hello of a stream, then what stands for the second.
fn second(stream: &[u8]) -> String {
    let mut reader = Reader::default();
    assert!(matches!(reader.read(stream), Reading::Hello(_)));
    reader.expect_second();
    summary(&reader.read(stream))
}

#[test]
fn recorded_second_hellos_name_the_same_site() {
    let mut count = 0;
    for row in rows("hello-retry") {
        let first = octets(row.first_flight.as_deref().expect("a first flight"));
        let stream = [first.clone(), octets(row.second_flight.as_deref().expect("a second flight"))].concat();
        let mut reader = Reader::default();
        let Reading::Hello(hello) = reader.read(&first) else { panic!("{}: no hello", row.id) };
        let (name, random) = (hello.host().cloned(), *hello.random);
        reader.expect_second();
        for end in first.len()..stream.len() {
            if end % 7 == 0 && summary(&reader.read(&stream[..end])) != "need_more" {
                assert!(end > stream.len() - 200, "{}: found in {end} octets", row.id);
            }
        }
        let Reading::Hello(again) = reader.read(&stream) else { panic!("{}: no second hello", row.id) };
        assert_eq!((again.host(), again.random), (name.as_ref(), &random), "{}", row.id);
        assert_eq!(again.server_name.map(|name| name.text.to_owned()), row.second_sni, "{}", row.id);
        count += 1;
    }
    assert!(count > 1, "{count}");
}

#[test]
fn another_name_in_the_second_hello_is_seen() {
    let first = Sketch::new("here.cn").message();
    let other = Sketch::new("nofile.cn").message();
    let change = record(20, &[1]);
    for cut in [1, 3, 4, 60] {
        let stream = [records(&first, &[]), change.clone(), records(&other, &[cut])].concat();
        assert_eq!(second(&stream), "sni:nofile.cn");
        let stream = [records(&first, &[cut]), records(&other, &[])].concat();
        assert_eq!(second(&stream), "sni:nofile.cn");
        // In one record with the first, or begun in it.
        let both = [first.clone(), other.clone()].concat();
        assert_eq!(second(&records(&both, &[first.len() + cut])), "sni:nofile.cn");
        assert_eq!(second(&records(&both, &[cut, first.len() + cut])), "sni:nofile.cn");
        assert_eq!(second(&records(&both, &[])), "sni:nofile.cn");
    }
}

#[test]
fn early_data_between_the_hellos_are_passed_over_and_bounded() {
    let hello = Sketch::new("here.cn").stream();
    let early = record(23, &vec![9; 16 << 10]);
    let stream = [hello.clone(), record(20, &[1]), early.clone(), early.clone(), hello.clone()].concat();
    assert_eq!(second(&stream), "sni:here.cn");
    assert_eq!(second(&stream[..stream.len() - 1]), "need_more");
    let stream = [hello.clone(), early.repeat(5), hello.clone()].concat();
    assert_eq!(second(&stream), "reject");
    let stream = [hello.clone(), record(22, b"\x01\0"), early, hello].concat();
    assert_eq!(second(&stream), "reject");
}

#[test]
fn a_client_that_goes_on_without_a_retry_shows_no_second_hello() {
    let hello = Sketch::new("here.cn").stream();
    for (after, expected) in [
        (record(22, &[16, 0, 0, 0]), HelloFault::NotClientHello),
        (record(21, &[2, 40]), HelloFault::UnexpectedRecord),
        (vec![22, 3, 3, 0, 0], HelloFault::EmptyRecord),
    ] {
        let stream = [hello.clone(), after].concat();
        let mut reader = Reader::default();
        reader.expect_second();
        assert!(matches!(reader.read(&stream), Reading::Hello(_)), "nothing changes before a first hello");
        reader.expect_second();
        let Reading::Malformed(error) = reader.read(&stream) else { panic!("expected a fault") };
        assert_eq!(error.fault, expected);
        assert_eq!(error.alert(), expected.alert());
    }
}
