//! `GET /`: the console, one page with its style and script inside, compiled in.
//!
//! The page itself says nothing of the gate: it asks the API, with the token where one is needed. Its policy lets run and
//! style what has the hash of what is compiled in, and nothing else; names from the network enter it as text nodes only.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::response::Response;

use super::answer::text;
use crate::http::negotiate::Language;

const PAGE: &str = include_str!("console/console.html");
const SCRIPT: &str = include_str!("console/console.js");
const STYLE: &str = include_str!("console/console.css");

/// The page by language, in the order of [`Language::ALL`], and its policy.
static READY: LazyLock<([String; 2], HeaderValue)> = LazyLock::new(|| {
    let page = |language: Language| {
        PAGE.replace("{lang}", language.tag()).replace("{style}", STYLE).replace("{script}", SCRIPT)
    };
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        source_hash(SCRIPT),
        source_hash(STYLE)
    );
    (Language::ALL.map(page), HeaderValue::from_str(&policy).expect("the policy is visible ASCII"))
});

/// The page in the language the browser asks for.
pub async fn page(headers: HeaderMap) -> Response {
    let language = Language::choose(headers.get_all(header::ACCEPT_LANGUAGE).iter().map(HeaderValue::as_bytes));
    let (pages, policy) = &*READY;
    let mut res = text("text/html; charset=utf-8", pages[language as usize].clone());
    res.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    res.headers_mut().insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    res
}

/// A source of a content security policy that allows exactly this text inline (CSP level 3 section 2.3.1).
pub fn source_hash(text: &str) -> String {
    format!("'sha256-{}'", base64(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()))
}

/// Base 64 with padding (RFC 4648 section 4).
fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut res = String::with_capacity(octets.len().div_ceil(3) * 4);
    for part in octets.chunks(3) {
        let word = part.iter().fold(0, |word, &octet| word << 8 | u32::from(octet)) << (8 * (3 - part.len()));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i)) as usize & 63];
            res.push(if i > part.len() { '=' } else { char::from(digit) });
        }
    }
    res
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (octets, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(octets.as_bytes()), expected);
        }
    }

    #[test]
    fn nothing_in_the_page_makes_markup_of_text() {
        let forbidden =
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "localStorage"];
        for word in forbidden {
            assert!(!SCRIPT.contains(word), "{word}");
        }
        // The policy would not let them work: attributes that run or style, and what comes from elsewhere.
        for word in [" onclick", " onload", " style=", "src=", "@import", "url(", "https://"] {
            assert!(!PAGE.contains(word) && !STYLE.contains(word), "{word}");
        }
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
        assert!(!SCRIPT.contains("{lang}") && !SCRIPT.contains("{style}"));
    }

    #[test]
    fn both_languages_have_the_same_texts() {
        let texts = |begin: &str, end: &str| {
            let text = SCRIPT.split(begin).nth(1).and_then(|rest| rest.split(end).next()).expect("a table of texts");
            // Keys stand at the start of a line or behind a comma, before a colon and a quotation mark.
            let keys = text.split(": \"").filter_map(|part| part.rsplit([' ', '\n', ',']).next());
            let mut res: Vec<String> = keys.map(|key| key.trim_matches('"').to_owned()).collect();
            res.pop();
            res
        };
        let (zh, en) = (texts("zh: {", "\n  },"), texts("en: {", "\n  }\n};"));
        assert!(zh.len() > 100);
        assert_eq!(zh, en);
        let keys = PAGE.split("data-t=\"").skip(1).filter_map(|rest| rest.split('"').next());
        for key in keys {
            assert!(zh.iter().any(|known| known == key), "{key} has no text");
        }
    }
}
