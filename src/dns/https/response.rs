//! Responses of DNS over HTTPS (RFC 8484 section 4.2, section 5.1).

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::request::{MEDIA_TYPE, Refusal};
use crate::dns::wire::{self, Section, flag, rcode, rtype};

/// The response with a message; it may be kept for as long as its records.
pub fn answer(message: Vec<u8>) -> Response<Full<Bytes>> {
    let age = HeaderValue::try_from(format!("max-age={}", lifetime_seconds(&message)));
    let mut res = Response::new(Full::from(message));
    res.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    res.headers_mut().insert(CACHE_CONTROL, age.unwrap_or(HeaderValue::from_static("max-age=0")));
    res
}

/// The response to a request without a message, in short words; to HEAD without a body (RFC 9110 section 9.3.2).
pub fn refusal(refusal: Refusal, is_head: bool) -> Response<Full<Bytes>> {
    let (status, text) = refusal.told();
    let mut res = Response::new(Full::from(if is_head { String::new() } else { format!("{text}\n") }));
    *res.status_mut() = status;
    res.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    res.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        res.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    res
}

/// The smallest TTL in the answer section; of an answer without records what its SOA says (RFC 2308 section 5); of an error
/// none.
fn lifetime_seconds(message: &[u8]) -> u32 {
    let code = wire::u16_at(message, 2).map_or(rcode::SERVFAIL, |flags| flags & flag::RCODE);
    let Ok(records) = wire::records(message) else { return 0 };
    let is_extended = records.iter().any(|record| record.rtype == rtype::OPT && record.ttl >> 24 != 0);
    if is_extended || !matches!(code, rcode::NOERROR | rcode::NXDOMAIN) {
        return 0;
    }
    let answers = records.iter().filter(|record| record.section == Section::Answer);
    let smallest = answers.map(|record| record.ttl).min();
    let soa = records.iter().find(|record| record.section == Section::Authority && record.rtype == rtype::SOA);
    let negative = soa.and_then(|soa| Some(soa.ttl.min(wire::u32_at(message, soa.data_end.checked_sub(4)?).ok()?)));
    // A chain that leads to nothing has both.
    smallest.into_iter().chain(negative).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::wire::Writer;

    #[test]
    fn an_answer_is_kept_as_long_as_its_shortest_record() {
        let question = [&b"\x01a\x00"[..], &[0, 1, 0, 1]].concat();
        let message = |code, records: &[(Section, u16, u32)]| {
            let mut writer = Writer::new(0, flag::QR | code, &question);
            for &(section, rtype, ttl) in records {
                // Long enough for the MINIMUM of a SOA, which is 60.
                writer.record(section, b"\x01a\x00", rtype, 1, ttl, &[0, 0, 0, 60]);
            }
            writer.finish()
        };
        let (answer, authority, additional) = (Section::Answer, Section::Authority, Section::Additional);
        for (code, records, expected) in [
            (0, &[(answer, 1, 300), (answer, 1, 20), (additional, 1, 5)][..], 20),
            (0, &[(authority, 6, 900)], 60),
            (3, &[(authority, 6, 30)], 30),
            (3, &[(answer, 5, 10), (authority, 6, 900)], 10),
            (0, &[], 0),
            (0, &[(authority, 2, 900)], 0),
            (2, &[(answer, 1, 300)], 0),
            (5, &[], 0),
            // BADVERS has its upper bits in the OPT.
            (0, &[(answer, 1, 300), (additional, 41, 1 << 24)], 0),
        ] {
            assert_eq!(lifetime_seconds(&message(code, records)), expected, "{code} {records:?}");
        }
        assert_eq!(lifetime_seconds(&[]), 0);
    }
}
