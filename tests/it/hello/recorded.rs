//! Recorded and crafted streams are read as they are labelled.

use icpgate::http::hello::{Hello, Reader, Reading};

use crate::harness::tls::{Row, named, rows, summary_of};

#[test]
fn every_stream_is_read_as_labelled() {
    let mut count = 0;
    for file in ["own-tcp", "captured-tcp", "crafted"] {
        for row in rows(file) {
            let Some(stream) = row.stream() else { continue };
            let found = summary_of(&stream);
            assert!(row.allows(&found), "{}: {found}, expected {:?}", row.id, row.expect);
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn protocols_versions_and_sizes_are_those_of_the_client() {
    for file in ["own-tcp", "captured-tcp"] {
        for row in rows(file) {
            let stream = row.stream().expect("a stream");
            let mut reader = Reader::default();
            let Reading::Hello(hello) = reader.read(&stream) else { continue };
            compare(&row, &hello);
        }
    }
}

fn compare(row: &Row, hello: &Hello<'_>) {
    let protocols: Vec<String> =
        hello.protocols().map(|protocol| String::from_utf8_lossy(protocol).into_owned()).collect();
    assert_eq!(Some(&protocols), row.alpn.as_ref(), "{}", row.id);
    assert_eq!(Some(hello.has_ech), row.ech, "{}", row.id);
    assert_eq!(Some(hello.octets), row.hello_len, "{}", row.id);
    if let Some(versions) = row.versions.as_ref().filter(|versions| !versions.is_empty()) {
        assert_eq!(&hello.versions().collect::<Vec<u16>>(), versions, "{}", row.id);
    }
}

#[test]
fn grease_is_passed_over() {
    let greased = rows("own-tcp").into_iter().filter(|row| {
        row.versions.as_ref().is_some_and(|versions| versions.iter().any(|version| version & 0x0f0f == 0x0a0a))
    });
    let mut count = 0;
    for row in greased {
        let stream = row.stream().expect("a stream");
        let mut reader = Reader::default();
        let Reading::Hello(hello) = reader.read(&stream) else { panic!("{}: no hello", row.id) };
        assert_eq!(hello.version_max(), Some(0x0304), "{}", row.id);
        assert!(row.allows(&named(&hello)), "{}", row.id);
        count += 1;
    }
    assert!(count > 2, "{count}");
}
