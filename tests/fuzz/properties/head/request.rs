//! Requests.

use icpgate::http::body::Framing;
use icpgate::http::head::{Field, HeadError, Progress, RequestHead, RequestParser, Version};
use icpgate::http::host::HostName;

use super::{HEADERS, HOP, LIMITS, Pair, ends, hop_by_hop, pairs, values};

/// Reads a request head in steps and at once, by httparse, and again as it goes to the origin.
pub fn check(octets: &[u8], step: usize) {
    let mut parser = RequestParser::new(LIMITS);
    let whole = parser.advance(octets);
    in_steps(octets, step, whole, parser.head());
    if whole == Ok(Progress::Whole) {
        let head = parser.head();
        assert!(head.octets <= octets.len().min(LIMITS.octets_max) && head.lines().len() <= LIMITS.lines_max);
        let lines = as_httparse(&octets[..head.octets], head);
        host(head, octets);
        written(head, octets, &lines);
    }
}

fn in_steps(octets: &[u8], step: usize, whole: Result<Progress, HeadError>, head: &RequestHead) {
    let mut parser = RequestParser::new(LIMITS);
    for end in ends(octets.len(), step) {
        match parser.advance(&octets[..end]) {
            Ok(Progress::Partial) => {}
            found => {
                assert_eq!(found, whole, "after {end} octets");
                assert_eq!(format!("{:?}", parser.head()), format!("{head:?}"));
                return;
            }
        }
    }
    assert_eq!(whole, Ok(Progress::Partial));
}

/// httparse reads the same head: method, target, version, lines, and by them the same length of body and the same host.
fn as_httparse(octets: &[u8], head: &RequestHead) -> Vec<Pair> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut theirs = httparse::Request::new(&mut headers);
    let status = theirs.parse(octets);
    assert_eq!(status, Ok(httparse::Status::Complete(octets.len())), "{}", octets.escape_ascii());
    assert_eq!(theirs.method.map(str::as_bytes), Some(head.method_text.of(octets)));
    assert_eq!(theirs.version, Some(if head.version == Version::Http11 { 1 } else { 0 }));
    let lines = pairs(theirs.headers);
    let ours: Vec<Pair> =
        head.lines().iter().map(|line| (line.name.of(octets).to_vec(), line.value.of(octets).to_vec())).collect();
    assert_eq!(lines, ours);
    assert_eq!(head.framing, framing(&lines, head.version));

    let hosts = values(&lines, "host");
    assert!(hosts.len() <= 1, "one Host");
    let target = theirs.path.unwrap_or_default().split('#').next().unwrap_or_default().as_bytes();
    let (path, found) = (head.target.of(octets), head.host.map(|host| host.of(octets)));
    if target.first() == Some(&b'/') || target == b"*" {
        assert_eq!((target, hosts.first().copied()), (path, found));
    } else {
        // Absolute form: the authority is the host, and `Host` the same where it is there (RFC 9112 section 3.2.2).
        let scheme_end = target.windows(3).position(|part| part == b"://").expect("a scheme") + 3;
        assert_eq!(target[scheme_end..], [found.expect("an authority"), path].concat());
        assert!(hosts.iter().all(|host| host.eq_ignore_ascii_case(found.unwrap_or_default())));
    }
    lines
}

/// RFC 9112 section 6.3, from lines that another parser read.
fn framing(lines: &[Pair], version: Version) -> Framing {
    let (codings, lengths) = (values(lines, "transfer-encoding"), values(lines, "content-length"));
    match (&codings[..], &lengths[..]) {
        ([], []) => Framing::None,
        ([coding], []) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && version == Version::Http11);
            Framing::Chunked
        }
        ([], [length]) => {
            let length = std::str::from_utf8(length).expect("digits");
            assert!(length.bytes().all(|octet| octet.is_ascii_digit()), "{length}");
            Framing::Length(length.parse().expect("a length"))
        }
        _ => panic!("two framings"),
    }
}

/// A host that is read as a name or an address is none of the other kind to a browser's reader of URLs.
fn host(head: &RequestHead, octets: &[u8]) {
    let Some(text) = head.host.map(|host| head.host_text.of(host.of(octets))) else { return };
    let Ok(ours) = HostName::read(text) else { return };
    let Ok(theirs) = url::Url::parse(&format!("http://{text}/")) else { return };
    match (theirs.host(), &ours) {
        (Some(url::Host::Domain(theirs)), HostName::Name(ours)) => {
            let theirs = theirs.to_ascii_lowercase();
            assert_eq!(ours.to_string(), theirs.strip_suffix('.').unwrap_or(&theirs), "{text}");
        }
        (Some(url::Host::Ipv4(theirs)), HostName::Address(ours)) => assert_eq!(*ours, theirs, "{text}"),
        (Some(url::Host::Ipv6(theirs)), HostName::Address(ours)) => {
            assert_eq!(*ours, std::net::IpAddr::V6(theirs).to_canonical(), "{text}");
        }
        // A-labels are held to more here than in a URL: what cannot lead back from its decoded form is in no registry.
        (Some(url::Host::Domain(theirs)), HostName::Invalid) => assert!(theirs.contains("xn--"), "{text}"),
        (theirs, ours) => panic!("{text}: {ours:?} here, {theirs:?} in a URL"),
    }
}

/// What goes to the origin is the same request to both readers, with one host, and with nothing that ends at this hop.
fn written(head: &RequestHead, octets: &[u8], lines: &[Pair]) {
    let host = head.host.map_or(&b"203.0.113.1"[..], |host| host.of(octets));
    let mut out = Vec::new();
    head.write(octets, host, &HOP, &mut out);

    let mut limits = LIMITS;
    limits.octets_max *= 2;
    limits.lines_max += 4;
    let mut parser = RequestParser::new(limits);
    assert_eq!(parser.advance(&out), Ok(Progress::Whole), "{}", out.escape_ascii());
    let again = parser.head();
    assert_eq!(again.octets, out.len(), "nothing is left behind the head");
    assert_eq!((again.framing, again.version), (head.framing, Version::Http11));
    assert_eq!(again.method_text.of(&out), head.method_text.of(octets));
    let path = head.path(octets);
    let slash: &[u8] = if path.first() == Some(&b'?') { b"/" } else { b"" };
    assert_eq!(again.target.of(&out), [slash, path].concat());
    assert_eq!(again.host.map(|host| host.of(&out)), Some(host));
    assert!(again.lines().iter().all(|line| !matches!(line.field, Field::Twin | Field::ForwardedHost)));

    let sent = as_httparse(&out, again);
    assert_eq!(values(&sent, "host"), [host]);
    let ended = hop_by_hop(lines);
    let own = ["connection", "transfer-encoding", "upgrade", "via", "x-forwarded-for", "host", "content-length"];
    for (name, value) in &sent {
        let is_own = own.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
        let is_ended = ended.iter().any(|ended| name.eq_ignore_ascii_case(ended));
        assert!(is_own || !is_ended, "{} ended at this hop", name.escape_ascii());
        assert!(is_own || lines.contains(&(name.clone(), value.clone())), "{} came in", name.escape_ascii());
    }
    for protocol in again.upgrades(&out) {
        assert!(!protocol.to_ascii_lowercase().starts_with(b"h2"), "no HTTP/2 inside");
    }
}
