//! rustls as the second opinion: what it writes is read, and where both read a hello they read the same.

use std::sync::{Arc, LazyLock};

use icpgate::http::hello::{Reader, Reading};
use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::harness::tls::{Sketch, named, rows, server_name, summary_of};
use crate::wire_properties::hello::accepted;

/// Recorded streams.
static STREAMS: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| rows("own-tcp").iter().map(|row| row.stream().expect("a stream")).collect());

/// The octets a rustls client begins with.
fn client_stream(name: &str, fragment: Option<usize>, protocols: &[&[u8]]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.max_fragment_size = fragment;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut res = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut res).expect("memory takes all");
    }
    res
}

/// Holds both readings of a stream against each other.
fn compare(stream: &[u8]) -> Result<bool, TestCaseError> {
    let mut reader = Reader::default();
    let (Some((name, protocols)), Reading::Hello(hello)) = (accepted(stream), reader.read(stream)) else {
        return Ok(false);
    };
    let ours = named(&hello);
    match name {
        Some(name) => {
            let name = name.to_ascii_lowercase();
            prop_assert_eq!(ours, format!("sni:{}", name.strip_suffix('.').unwrap_or(&name)));
        }
        // rustls takes addresses, and names it finds odd, for none.
        None => prop_assert!(!ours.starts_with("sni:") || ours.contains(['-', '_', '.']), "{}", ours),
    }
    prop_assert_eq!(hello.protocols().map(<[u8]>::to_vec).collect::<Vec<_>>(), protocols);
    Ok(true)
}

#[test]
fn hellos_of_rustls_are_read_at_any_fragment_size() {
    for fragment in [None, Some(32), Some(33), Some(64), Some(517), Some(1024)] {
        let stream = client_stream("www.example.cn", fragment, &[b"h2", b"http/1.1"]);
        let mut reader = Reader::default();
        let Reading::Hello(hello) = reader.read(&stream) else { panic!("{fragment:?}: no hello") };
        assert_eq!(named(&hello), "sni:www.example.cn", "{fragment:?}");
        assert_eq!(hello.protocols().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
        assert_eq!(hello.version_max(), Some(0x0304));
    }
    assert_eq!(summary_of(&client_stream("203.0.113.9", None, &[])), "no_sni");
}

#[test]
fn recorded_streams_are_read_as_rustls_reads_them() {
    let mut both = 0;
    for row in ["own-tcp", "captured-tcp", "crafted"].into_iter().flat_map(rows) {
        let Some(stream) = row.stream() else { continue };
        match compare(&stream) {
            Ok(true) => both += 1,
            Ok(false) => {}
            Err(error) => panic!("{}: {error}", row.id),
        }
    }
    assert!(both > 20, "{both}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn changed_streams_are_read_as_rustls_reads_them(
        which in 0usize..10,
        changes in prop::collection::vec((0usize..2000, any::<u8>()), 1..3),
    ) {
        let mut stream = STREAMS[which % STREAMS.len()].clone();
        for (at, value) in changes {
            let at = at % stream.len();
            stream[at] = value;
        }
        compare(&stream)?;
    }

    #[test]
    fn odd_names_are_read_as_rustls_reads_them(name in "[a-zA-Z0-9._:\\-]{1,40}") {
        let required = Sketch::with(vec![
            server_name(&[(0, name.as_bytes())]),
            (10, vec![0, 2, 0, 0x1d]),
            (13, vec![0, 2, 4, 3]),
            (51, vec![0, 0]),
        ]);
        compare(&required.stream())?;
    }
}
