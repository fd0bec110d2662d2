//! A request of DNS over HTTPS to its message (RFC 8484 section 4.1), or to what is wrong with it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, StatusCode, Uri};
use tokio::time::timeout;

use super::base64url;
use crate::dns::wire::MESSAGE_OCTETS_MAX;

/// The media type of messages (RFC 8484 section 6).
pub const MEDIA_TYPE: &str = "application/dns-message";

/// Why a request is not answered with a message. The client is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The body does not end as it should.
    Body,
    /// What it carries is no query.
    Message,
    /// Neither GET nor POST.
    Method,
    /// `dns` is missing, there twice, or no base 64.
    Parameter,
    /// Another path.
    Path,
    /// The body does not come.
    Slow,
    /// More octets than a message has.
    TooLarge,
    /// Another media type.
    Type,
}

impl Refusal {
    /// The status and what is told.
    pub fn told(self) -> (StatusCode, &'static str) {
        match self {
            Self::Body => (StatusCode::BAD_REQUEST, "the body cannot be read"),
            Self::Message => (StatusCode::BAD_REQUEST, "no DNS query"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "expected GET or POST"),
            Self::Parameter => (StatusCode::BAD_REQUEST, "expected ?dns= with one query in base64url without padding"),
            Self::Path => (StatusCode::NOT_FOUND, "nothing is here"),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "a DNS message has at most 65535 octets"),
            Self::Type => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/dns-message"),
        }
    }

    /// The status as a number.
    pub fn status(self) -> u16 {
        self.told().0.as_u16()
    }
}

/// Reads the message of a request; its body may take `patience` to come.
pub async fn read(request: Request<Incoming>, path: &str, patience: Duration) -> Result<Bytes, Refusal> {
    let (head, body) = request.into_parts();
    if head.uri.path() != path {
        return Err(Refusal::Path);
    }
    match head.method {
        Method::GET => parameter(&head.uri),
        Method::POST => {
            check_type(&head.headers)?;
            // Told before anything comes, where the client says so.
            if body.size_hint().lower() > MESSAGE_OCTETS_MAX as u64 {
                return Err(Refusal::TooLarge);
            }
            let body = timeout(patience, Limited::new(body, MESSAGE_OCTETS_MAX).collect());
            match body.await.map_err(|_| Refusal::Slow)? {
                Ok(body) => Ok(body.to_bytes()),
                Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
                Err(_) => Err(Refusal::Body),
            }
        }
        _ => Err(Refusal::Method),
    }
}

/// The message in `?dns=`; other parameters are somebody else's.
fn parameter(uri: &Uri) -> Result<Bytes, Refusal> {
    let query = uri.query().unwrap_or_default();
    let mut values = query.split('&').filter_map(|pair| pair.strip_prefix("dns="));
    let (Some(text), None) = (values.next(), values.next()) else { return Err(Refusal::Parameter) };
    let res = base64url::decode(text.as_bytes()).filter(|octets| !octets.is_empty()).ok_or(Refusal::Parameter)?;
    if res.len() > MESSAGE_OCTETS_MAX { Err(Refusal::TooLarge) } else { Ok(res.into()) }
}

fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(Refusal::Type) };
    let text = value.to_str().map_err(|_| Refusal::Type)?;
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(MEDIA_TYPE) { Ok(()) } else { Err(Refusal::Type) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_is_one_message() {
        for (text, expected) in [
            ("/dns-query?dns=Zm9v", Ok(&b"foo"[..])),
            ("/dns-query?a=b&dns=Zm9v&c", Ok(b"foo")),
            ("/dns-query", Err(Refusal::Parameter)),
            ("/dns-query?dns=", Err(Refusal::Parameter)),
            ("/dns-query?dns=Zm9v&dns=Zm9v", Err(Refusal::Parameter)),
            ("/dns-query?dns=Zg==", Err(Refusal::Parameter)),
            ("/dns-query?xdns=Zm9v", Err(Refusal::Parameter)),
        ] {
            let uri: Uri = text.parse().expect(text);
            assert_eq!(parameter(&uri).as_deref().map_err(|refusal| *refusal), expected, "{text}");
        }
    }

    #[test]
    fn the_type_is_the_one_registered() {
        for (values, is_good) in [
            (&["application/dns-message"][..], true),
            (&["Application/DNS-Message; charset=x"], true),
            (&["application/dns-json"], false),
            (&[], false),
            (&["application/dns-message", "text/plain"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_TYPE, value.parse().expect("a value"));
            }
            assert_eq!(check_type(&headers).is_ok(), is_good, "{values:?}");
        }
    }
}
