//! However a stream is cut, into segments or records, it is read as in one piece (D-T1, D-T2).

use std::sync::LazyLock;

use icpgate::http::hello::{Reader, Reading};
use proptest::prelude::*;

use crate::allocations;
use crate::harness::tls::{Sketch, record, records, rows, summary, summary_of};

/// Streams up to this length are cut at every octet; in longer ones the cuts keep a distance that grows with them.
const EVERY_CUT_OCTETS: usize = 2600;

/// Recorded streams with the name in them.
static NAMED: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let named = rows("own-tcp").into_iter().map(|row| {
        let stream = row.stream().expect("a stream");
        (row.expect.sni.expect("a name"), stream)
    });
    named.collect()
});

/// The streams of all files, each once.
fn streams() -> Vec<(String, Vec<u8>)> {
    let all = ["own-tcp", "captured-tcp", "crafted"].into_iter().flat_map(rows);
    all.filter_map(|row| row.stream().map(|stream| (row.id, stream))).collect()
}

fn step(stream: &[u8]) -> usize {
    stream.len() / EVERY_CUT_OCTETS + 1
}

#[test]
fn every_cut_into_two_segments_reads_the_same() {
    for (id, stream) in streams() {
        let whole = summary_of(&stream);
        for cut in (0..stream.len()).step_by(step(&stream)) {
            let mut reader = Reader::default();
            let first = summary(&reader.read(&stream[..cut]));
            assert!(first == "need_more" || first == whole, "{id} cut at {cut}: {first}, whole {whole}");
            if first == "need_more" {
                assert_eq!(summary(&reader.read(&stream)), whole, "{id} cut at {cut}");
            }
        }
    }
}

#[test]
fn octet_by_octet_reads_the_same() {
    for (id, stream) in streams() {
        let whole = summary_of(&stream);
        let mut reader = Reader::default();
        let last =
            (0..=stream.len()).map(|end| summary(&reader.read(&stream[..end]))).find(|found| found != "need_more");
        assert_eq!(last.unwrap_or("need_more".to_owned()), whole, "{id}");
    }
}

/// The message of a stream that holds it in its first record.
fn only_message(stream: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes([*stream.get(3)?, *stream.get(4)?]));
    let content = stream.get(5..5 + length)?;
    (stream[0] == 22 && !content.is_empty()).then_some(content)
}

#[test]
fn every_cut_into_two_records_reads_the_same() {
    for (id, stream) in streams() {
        let whole = summary_of(&stream);
        let Some(message) = only_message(&stream).filter(|_| whole.contains("sni")) else { continue };
        for cut in (1..message.len()).step_by(step(&stream)) {
            assert_eq!(summary_of(&records(message, &[cut])), whole, "{id} cut at {cut}");
        }
    }
}

#[test]
fn records_of_one_octet_in_segments_of_one_octet_read_the_same() {
    for (id, stream) in streams() {
        let whole = summary_of(&stream);
        let Some(message) = only_message(&stream).filter(|_| whole.contains("sni")) else { continue };
        let cuts: Vec<usize> = (1..message.len()).collect();
        let torn = records(message, &cuts);
        let mut reader = Reader::default();
        let found = (0..=torn.len()).map(|end| summary(&reader.read(&torn[..end]))).find(|found| found != "need_more");
        assert_eq!(found.as_ref(), Some(&whole), "{id}");
    }
}

#[test]
fn a_hello_in_one_segment_and_record_is_read_without_allocation() {
    let stream = Sketch::new("www.Example.cn").and(16, b"\0\x0c\x02h2\x08http/1.1").stream();
    let mut reader = Reader::default();
    let count = allocations::count(|| assert!(matches!(reader.read(&stream), Reading::Hello(_))));
    assert_eq!(count, 0);
}

#[test]
fn what_follows_the_hello_is_not_looked_at() {
    let hello = Sketch::new("here.cn").stream();
    for after in [record(20, &[1]), record(23, &[9; 400]), Sketch::new("nofile.cn").stream(), vec![0xff; 10]] {
        assert_eq!(summary_of(&[hello.clone(), after].concat()), "sni:here.cn");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_cuts_into_records_and_segments_read_the_same(
        name in "[a-z]{1,12}(\\.[a-z]{2,9}){1,4}",
        padding in 0usize..3000,
        cuts in prop::collection::btree_set(1usize..180, 0..9),
        ends in prop::collection::btree_set(0usize..400, 0..9),
    ) {
        let message = Sketch::new(&name).and(21, &vec![0; padding]).message();
        let cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < message.len()).collect();
        let stream = records(&message, &cuts);
        let mut reader = Reader::default();
        for end in ends.into_iter().filter(|end| *end < stream.len()) {
            prop_assert_eq!(summary(&reader.read(&stream[..end])), "need_more");
        }
        prop_assert_eq!(summary(&reader.read(&stream)), format!("sni:{name}"));
    }

    #[test]
    fn no_octets_make_the_reader_panic(octets in prop::collection::vec(any::<u8>(), 0..600), cut in 0usize..600) {
        let mut reader = Reader::default();
        let first = summary(&reader.read(&octets[..cut.min(octets.len())]));
        if first == "need_more" {
            reader.read(&octets);
        }
        reader.expect_second();
        reader.read(&octets);
    }

    #[test]
    fn no_message_behind_a_sound_header_makes_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let message = crate::harness::tls::message(1, &body);
        Reader::default().read(&records(&message, &[]));
    }

    #[test]
    fn a_changed_octet_gives_a_name_only_where_the_name_is(at in 0usize..4000, value in any::<u8>(), which in 0usize..10) {
        let (name, stream) = &NAMED[which % NAMED.len()];
        let mut stream = stream.clone();
        let at = at % stream.len();
        let name_at = stream.windows(name.len()).position(|octets| octets == name.as_bytes()).expect("the name");
        stream[at] = value;
        let found = summary_of(&stream);
        let is_in_name = (name_at..name_at + name.len()).contains(&at);
        // Turned into another extension the name is gone; it is never another one.
        prop_assert!(is_in_name || found == format!("sni:{name}") || !found.starts_with("sni:"), "{}: {}", name, found);
    }
}
