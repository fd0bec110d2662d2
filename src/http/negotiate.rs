//! Which language and format a client would rather have (RFC 9110 sections 12.4.2, 12.5.1, 12.5.4).

use super::head::list;

/// Members of an `Accept` or `Accept-Language` that are looked at; browsers send fewer than ten.
const MEMBERS_MAX: usize = 32;

/// A language pages are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// English.
    En,
    /// Simplified Chinese; the default.
    #[default]
    ZhCn,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 2] = [Self::En, Self::ZhCn];

    /// The tag in `Content-Language`, and the name of the catalogue file.
    pub fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::ZhCn => "zh-CN",
        }
    }

    /// Chooses by the values of `Accept-Language`; any Chinese range stands for zh-CN, the first of equals wins.
    pub fn choose<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut best = (0, Self::default());
        for (range, quality) in members(values) {
            let language = match primary(range) {
                p if p.eq_ignore_ascii_case(b"zh") => Self::ZhCn,
                p if p.eq_ignore_ascii_case(b"en") => Self::En,
                _ => continue,
            };
            if quality > best.0 {
                best = (quality, language);
            }
        }
        best.1
    }
}

/// The first part of a language range.
fn primary(range: &[u8]) -> &[u8] {
    range.split(|&octet| octet == b'-').next().unwrap_or(range)
}

/// A format pages are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `text/html`; the default.
    #[default]
    Html,
    /// `application/problem+json`, RFC 9457.
    Problem,
    /// `text/plain`.
    Text,
}

impl Format {
    /// Every format, the one preferred among equals first.
    pub const ALL: [Self; 3] = [Self::Html, Self::Problem, Self::Text];

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Problem => "application/problem+json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    /// Chooses by the values of `Accept`: the greatest quality, then the range that names the format most closely.
    ///
    /// A client that takes none of them gets plain text, which harms least.
    pub fn choose<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        // Per format: how closely the closest range names it, and that range's quality.
        let mut found = [(0, 0); Self::ALL.len()];
        let mut has_any = false;
        for (range, quality) in members(values) {
            has_any = true;
            for (format, found) in Self::ALL.iter().zip(&mut found) {
                let closeness = format.closeness(range);
                if closeness > found.0 || (closeness == found.0 && closeness > 0 && quality > found.1) {
                    *found = (closeness, quality);
                }
            }
        }
        if !has_any {
            return Self::default();
        }
        let mut best = (0, 0, Self::Text);
        for (&format, &(closeness, quality)) in Self::ALL.iter().zip(&found) {
            if (quality, closeness) > (best.0, best.1) {
                best = (quality, closeness, format);
            }
        }
        best.2
    }

    /// 0: not meant; 1: by `*/*`; 2: by its type; 3: by name.
    fn closeness(self, range: &[u8]) -> u8 {
        let (names, family): (&[&[u8]], &[u8]) = match self {
            Self::Html => (&[b"text/html", b"application/xhtml+xml"], b"text/*"),
            Self::Problem => (&[b"application/problem+json", b"application/json"], b"application/*"),
            Self::Text => (&[b"text/plain"], b"text/*"),
        };
        if names.iter().any(|name| range.eq_ignore_ascii_case(name)) {
            3
        } else if range.eq_ignore_ascii_case(family) {
            2
        } else {
            u8::from(range == b"*/*")
        }
    }
}

/// The members of a list with their qualities in thousandths.
fn members<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = (&'a [u8], u16)> {
    values.flat_map(list).take(MEMBERS_MAX).map(|member| {
        let mut parts = member.split(|&octet| octet == b';').map(<[u8]>::trim_ascii);
        let range = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        (range, quality.map_or(1000, thousandths))
    })
}

/// Reads a `qvalue`: 0 to 1 with up to three decimals; what is none counts as 0.
fn thousandths(text: &[u8]) -> u16 {
    let (whole, decimals) = match text {
        [whole] | [whole, b'.'] => (*whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (*whole, decimals),
        _ => return 0,
    };
    let mut res = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return 0,
    };
    for (i, digit) in decimals.iter().enumerate() {
        if !digit.is_ascii_digit() {
            return 0;
        }
        res += u16::from(digit - b'0') * [100, 10, 1][i];
    }
    if res > 1000 { 0 } else { res }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(value: &str) -> Language {
        Language::choose(std::iter::once(value.as_bytes()))
    }

    fn format(value: &str) -> Format {
        Format::choose(std::iter::once(value.as_bytes()))
    }

    #[test]
    fn language_follows_quality() {
        for (value, expected) in [
            ("", Language::ZhCn),
            ("en", Language::En),
            ("en-US,en;q=0.9", Language::En),
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::ZhCn),
            ("en;q=0.5, zh-TW;q=0.6", Language::ZhCn),
            ("EN-gb", Language::En),
            ("en;q=0", Language::ZhCn),
            ("fr, de;q=0.9, en;q=0.3", Language::En),
            ("fr", Language::ZhCn),
            ("*", Language::ZhCn),
            ("en;q=1.5", Language::ZhCn),
            ("english", Language::ZhCn),
        ] {
            assert_eq!(language(value), expected, "{value}");
        }
        assert_eq!(Language::choose(std::iter::empty()), Language::ZhCn);
    }

    #[test]
    fn format_follows_quality_then_closeness() {
        for (value, expected) in [
            ("*/*", Format::Html),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format::Html),
            ("application/json", Format::Problem),
            ("application/json, text/plain, */*", Format::Problem),
            ("application/problem+json;q=0.4, text/plain;q=0.5", Format::Text),
            ("text/html;q=0, */*", Format::Problem),
            ("text/plain", Format::Text),
            ("image/png", Format::Text),
            ("text/*", Format::Html),
            ("application/*", Format::Problem),
            ("text/html;level=1", Format::Html),
        ] {
            assert_eq!(format(value), expected, "{value}");
        }
        assert_eq!(Format::choose(std::iter::empty()), Format::Html);
    }
}
