//! A rendered page, and what is put into it for one request.

use std::fmt::{self, Write};

use serde_json::json;

use super::Notice;
use crate::http::negotiate::{Format, Language};
use crate::model::NameRef;

/// Octets of what fills a page with a name of usual length.
const FILL_OCTETS: usize = 160;

/// A part of a page that is left open while it is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The time, see [`registry_time`](crate::http::dates::registry_time).
    Time,
    /// The client's address.
    Client,
    /// The name that was asked for.
    Name,
    /// Its registrable domain.
    Domain,
    /// The decision id.
    Id,
}

impl Slot {
    /// All, in the order in which they are filled.
    pub const ALL: [Self; 5] = [Self::Time, Self::Client, Self::Name, Self::Domain, Self::Id];

    /// What stands for it while a template runs: a private-use character that no escaping touches.
    pub fn mark(self) -> char {
        ['\u{f8f0}', '\u{f8f1}', '\u{f8f2}', '\u{f8f3}', '\u{f8f4}'][self as usize]
    }
}

/// What fills the slots of a page.
#[derive(Clone, Debug, Default)]
pub struct Fill {
    text: String,
    /// From where to where in it each is.
    spans: [(usize, usize); Slot::ALL.len()],
}

impl Fill {
    /// Texts for all slots, in their order.
    pub fn new(parts: [&dyn fmt::Display; Slot::ALL.len()]) -> Self {
        let mut res = Self { text: String::with_capacity(FILL_OCTETS), ..Self::default() };
        for (slot, part) in Slot::ALL.into_iter().zip(parts) {
            res.put(slot, part);
        }
        res
    }

    /// Texts for all slots, of a name and its `domain`, a part of it that is written only once where it can be.
    pub fn of_name(
        time: &dyn fmt::Display,
        client: &dyn fmt::Display,
        name: NameRef<'_>,
        domain: NameRef<'_>,
        id: &dyn fmt::Display,
    ) -> Self {
        let mut res = Self::new([time, client, &name, &"", id]);
        let (from, end) = res.spans[Slot::Name as usize];
        // Without escapes a name is as long as its octets but for the first length and the root.
        let is_plain = end - from == octets_between(name);
        match end.checked_sub(octets_between(domain)).filter(|at| is_plain && *at >= from) {
            Some(at) => res.spans[Slot::Domain as usize] = (at, end),
            None => res.put(Slot::Domain, &domain),
        }
        res
    }

    fn put(&mut self, slot: Slot, part: &dyn fmt::Display) {
        let from = self.text.len();
        // Writing to a text does not fail.
        let _ = write!(self.text, "{part}");
        self.spans[slot as usize] = (from, self.text.len());
    }

    /// What fills a slot.
    pub fn of(&self, slot: Slot) -> &str {
        let (from, end) = self.spans[slot as usize];
        &self.text[from..end]
    }
}

/// Octets of a name without its first length and its last, the root's.
fn octets_between(name: NameRef<'_>) -> usize {
    name.wire().len().saturating_sub(2)
}

/// A rendered page with its slots still open.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The format.
    pub format: Format,
    /// The language.
    pub language: Language,
    text: String,
    /// Where slots are, in order.
    slots: Vec<(usize, Slot)>,
}

impl Rendered {
    pub(super) fn new(format: Format, language: Language, template: &str) -> Self {
        let mut res = Self { format, language, text: String::with_capacity(template.len()), slots: Vec::new() };
        for c in template.chars() {
            match Slot::ALL.into_iter().find(|slot| slot.mark() == c) {
                Some(slot) => res.slots.push((res.text.len(), slot)),
                None => res.text.push(c),
            }
        }
        res
    }

    /// What is left to say when a template fails on its input: host and reason.
    pub fn plain(notice: &Notice, language: Language, format: Format) -> Self {
        let text = match format {
            Format::Problem => format!("{}\n", json!({ "reason": notice.reason.label(), "name": notice.name })),
            Format::Html | Format::Text => format!("{} {}\n", notice.name.replace(['<', '&'], ""), notice.reason),
        };
        Self::new(format, language, &text)
    }

    /// Octets it takes in memory.
    pub fn kept_octets(&self) -> usize {
        self.text.len() + self.slots.len() * size_of::<(usize, Slot)>()
    }

    /// The length of the page in octets.
    pub fn len(&self, fill: &Fill) -> usize {
        self.text.len() + self.slots.iter().map(|&(_, slot)| fill.of(slot).len()).sum::<usize>()
    }

    /// True for a page without a character.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.slots.is_empty()
    }

    /// Writes the page.
    pub fn write(&self, fill: &Fill, out: &mut Vec<u8>) {
        let mut from = 0;
        for &(at, slot) in &self.slots {
            out.extend_from_slice(&self.text.as_bytes()[from..at]);
            out.extend_from_slice(fill.of(slot).as_bytes());
            from = at;
        }
        out.extend_from_slice(&self.text.as_bytes()[from..]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cause, Pages};
    use super::*;
    use crate::http::settings::ProviderText;
    use crate::policy::{Reason, Rule};

    /// A notice of a name in the open, closed or with marks for what may be left open.
    fn notice(cause: Cause, name: &str, domain: Option<&str>, id: &str) -> Notice {
        Notice {
            cause,
            reason: Reason::NotFiled,
            rule: Rule::B1,
            name: name.to_owned(),
            name_ascii: None,
            domain: domain.map(str::to_owned),
            domain_ascii: domain.map(str::to_owned),
            id: Some(id.to_owned()),
            site_no: None,
            holders: Vec::new(),
        }
    }

    #[test]
    fn one_page_serves_all_names_of_a_kind() {
        let pages = Pages::load(None).expect("the compiled-in pages");
        let provider = ProviderText::default();
        let marks = Slot::ALL.map(|slot| slot.mark().to_string());
        let [_, _, name, domain, id] = &marks;
        let (below, at) = ("www.shop-1.example.com.cn", "example.com.cn");
        for (closed, open) in [
            ((below, Some(at)), (name, Some(domain))),
            ((at, Some(at)), (name, Some(name))),
            (("com.cn", None), (name, None)),
        ] {
            let fill = Fill::new([&"12:00", &"192.0.2.1", &closed.0, &closed.1.unwrap_or(closed.0), &"0123456789ABC"]);
            for (cause, _) in Cause::ALL {
                for (language, format) in Language::ALL.into_iter().flat_map(|one| Format::ALL.map(|two| (one, two))) {
                    assert!(pages.leave_names_open(format));
                    let written = |notice: &Notice| {
                        let page = pages.render(notice, &provider, 451, language, format).expect("renders");
                        let mut res = Vec::new();
                        page.write(&fill, &mut res);
                        assert_eq!(res.len(), page.len(&fill));
                        String::from_utf8(res).expect("text")
                    };
                    let closed = notice(cause, closed.0, closed.1, "0123456789ABC");
                    let open = notice(cause, open.0, open.1.map(String::as_str), id);
                    assert_eq!(written(&open), written(&closed), "{cause:?} {language:?} {format:?}");
                }
            }
        }
    }
}
