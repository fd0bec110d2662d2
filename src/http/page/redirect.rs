//! Where a redirect leads: the operator's text with what is known of the decision in it.

use super::Notice;

/// Fills a redirect's placeholders, percent-encoded; octets that cannot stand in a header are encoded as well.
pub fn fill(template: &str, notice: &Notice) -> String {
    let mut out = String::with_capacity(2 * template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        push_encoded(before, |octet| octet.is_ascii_graphic(), &mut out);
        let (key, behind) = after.split_once('}').unwrap_or((after, ""));
        let value = match key {
            "name" => notice.name_ascii.as_deref().unwrap_or(&notice.name),
            "domain" => notice.domain_ascii.as_deref().unwrap_or_default(),
            "reason" => notice.reason.label(),
            "id" => notice.id.as_deref().unwrap_or_default(),
            _ => "",
        };
        // RFC 3986 section 2.3: unreserved characters.
        let is_unreserved = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~');
        push_encoded(value, is_unreserved, &mut out);
        rest = behind;
    }
    push_encoded(rest, |octet| octet.is_ascii_graphic(), &mut out);
    out
}

fn push_encoded(text: &str, is_plain: impl Fn(u8) -> bool, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for octet in text.bytes() {
        if is_plain(octet) {
            out.push(char::from(octet));
        } else {
            let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
            out.extend(['%', digit(octet >> 4), digit(octet & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cause;
    use super::*;
    use crate::policy::{Reason, Rule};

    #[test]
    fn redirects_are_filled_percent_encoded() {
        let notice = Notice {
            cause: Cause::NotFiled,
            reason: Reason::NotFiled,
            rule: Rule::B1,
            name: "例子.中国".to_owned(),
            name_ascii: Some("xn--fsqu00a.xn--fiqs8s".to_owned()),
            domain: None,
            domain_ascii: Some("a b&c".to_owned()),
            id: Some("0ABC".to_owned()),
            site_no: None,
            holders: Vec::new(),
        };
        let out = fill("https://p.example/备?n={name}&d={domain}&r={reason}&i={id}&x={y}\r\n", &notice);
        let expected = "https://p.example/%E5%A4%87?n=xn--fsqu00a.xn--fiqs8s&d=a%20b%26c&r=not_filed&i=0ABC&x=%0D%0A";
        assert_eq!(out, expected);
    }
}
