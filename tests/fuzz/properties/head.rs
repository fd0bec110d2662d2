//! Heads and chunks of HTTP/1: read alike however they arrive, as httparse reads them, and again after they were written.
//!
//! The first octet says what the others are, the second in which steps they arrive.

mod chunks;
mod request;
mod response;

use icpgate::http::head::{HeadLimits, Hop};

/// As the gate holds heads to by default.
const LIMITS: HeadLimits = HeadLimits { octets_max: 2048, lines_max: 40 };
/// Lines that httparse is given room for.
const HEADERS: usize = 64;
const HOP: Hop<'static> = Hop { client: "192.0.2.1", via: "gate", is_listed: false, is_secure: false };

/// Reads octets as the first says: a request, an answer, or a chunked body.
pub fn check(octets: &[u8]) {
    let Some((&[kind, step], rest)) = octets.split_first_chunk() else { return };
    let step = usize::from(step).max(1);
    match kind % 4 {
        0 | 1 => request::check(rest, step),
        2 => response::check(rest, step),
        _ => chunks::check(rest, step),
    }
}

/// The ends of what has arrived after each step, the last with everything.
fn ends(length: usize, step: usize) -> impl Iterator<Item = usize> {
    (1..=length.div_ceil(step).max(1)).map(move |count| (count * step).min(length))
}

/// Name and value of a line.
type Pair = (Vec<u8>, Vec<u8>);

fn pairs(headers: &[httparse::Header<'_>]) -> Vec<Pair> {
    headers.iter().map(|header| (header.name.as_bytes().to_vec(), header.value.to_vec())).collect()
}

/// The values of one field, by any spelling of its name.
fn values<'a>(pairs: &'a [Pair], name: &str) -> Vec<&'a [u8]> {
    let is_it = |pair: &&Pair| pair.0.eq_ignore_ascii_case(name.as_bytes());
    pairs.iter().filter(is_it).map(|pair| &pair.1[..]).collect()
}

/// The fields that end at a hop: those of RFC 9110 section 7.6.1 and those its `Connection` lines name.
fn hop_by_hop(pairs: &[Pair]) -> Vec<Vec<u8>> {
    let known = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];
    let mut res: Vec<Vec<u8>> = known.iter().map(|name| name.as_bytes().to_vec()).collect();
    let named = values(pairs, "connection").into_iter().flat_map(|value| value.split(|octet| *octet == b','));
    res.extend(named.map(|name| name.trim_ascii().to_ascii_lowercase()));
    res
}
