//! Domain names as the gate compares them: wire labels, lower case, A-labels.
//!
//! Every name that enters a plane, a file or the command line becomes a [`DomainName`] first. From then on names are
//! compared octet by octet, label by label; text is only a way to show them. A label may hold any octet, dots included
//! (RFC 2181 section 11), so nothing after this module ever splits a name on a dot.

use std::borrow::Borrow;
use std::fmt;

use thiserror::Error;

/// Longest name on the wire, root octet included (RFC 1035 section 2.3.4).
pub const NAME_OCTETS_MAX: usize = 255;
/// Longest label (RFC 1035 section 2.3.4).
pub const LABEL_OCTETS_MAX: usize = 63;
/// Longest text that can spell a name: every octet of it escaped as `\DDD`, or percent-free UTF-8 of U-labels.
pub const NAME_TEXT_OCTETS_MAX: usize = 4 * NAME_OCTETS_MAX;

/// Why octets or text are not a domain name. The peer or the operator who wrote it is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// A text label that UTS-46 refuses or that cannot be an A-label.
    #[error("label is not valid under IDNA (UTS-46, non-transitional)")]
    BadIdna,
    /// A text label with an octet that host names do not hold.
    #[error("name holds a space, a control character or another character no host name can hold")]
    ForbiddenCharacter,
    /// Two dots in a row, or a leading dot.
    #[error("name has an empty label")]
    EmptyLabel,
    /// A label over 63 octets.
    #[error("label is longer than 63 octets")]
    LabelTooLong,
    /// A name over 255 octets.
    #[error("name is longer than 255 octets")]
    NameTooLong,
    /// A compression pointer or an extended label type where a plain name must stand.
    #[error("name holds a compression pointer or an unknown label type")]
    PointerOrExtendedLabel,
    /// The octets end inside the name.
    #[error("octets end inside the name")]
    Truncated,
}

//--- NameRef ---------------------------------------------------------------------------------------------------------

/// A checked name borrowed from somewhere: wire form, lower case, ending in the root octet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameRef<'a> {
    wire: &'a [u8],
}

impl<'a> NameRef<'a> {
    /// Takes octets that an own [`DomainName`] or index produced.
    ///
    /// The caller answers for the form; debug builds check it. Cost: none in release builds.
    pub fn from_canonical_wire(wire: &'a [u8]) -> Self {
        debug_assert!(is_canonical_wire(wire), "not a canonical wire name");
        Self { wire }
    }

    /// The octets: length-prefixed labels and the root octet.
    pub fn wire(self) -> &'a [u8] {
        self.wire
    }

    /// True for the root alone.
    pub fn is_root(self) -> bool {
        self.wire.len() <= 1
    }

    /// The labels from left to right, without the root.
    pub fn labels(self) -> Labels<'a> {
        Labels { rest: self.wire }
    }

    /// How many labels the name has, the root not counted.
    pub fn label_count(self) -> usize {
        self.labels().count()
    }

    /// The name without its first label; `None` at the root.
    pub fn parent(self) -> Option<NameRef<'a>> {
        if self.is_root() {
            return None;
        }
        let skip = usize::from(self.wire[0]) + 1;
        self.wire.get(skip..).map(|wire| Self { wire })
    }

    /// True when `self` is `ancestor` or lies below it; compares labels, never text.
    pub fn is_at_or_below(self, ancestor: NameRef<'_>) -> bool {
        let mut at = Some(self);
        while let Some(name) = at {
            if name.wire.len() < ancestor.wire.len() {
                return false;
            }
            if name.wire == ancestor.wire {
                return true;
            }
            at = name.parent();
        }
        false
    }

    /// Copies into an owned name.
    pub fn to_name(self) -> DomainName {
        DomainName::copy_of(self.wire)
    }

    /// The U-label spelling for people: A-labels are turned back where IDNA allows it.
    pub fn to_unicode(self) -> String {
        let ascii = self.to_string();
        if !ascii.contains("xn--") {
            return ascii;
        }
        let (text, result) = idna::domain_to_unicode(&ascii);
        if result.is_ok() { text } else { ascii }
    }

    /// The presentation form in `buffer`, where no octet must be escaped: the name with dots for its lengths.
    fn plain_text(self, buffer: &mut [u8; NAME_OCTETS_MAX]) -> Option<&str> {
        // Between the length of the first label and the root.
        let inner = self.wire.get(1..self.wire.len().checked_sub(1)?)?;
        let text = buffer.get_mut(..inner.len())?;
        text.copy_from_slice(inner);
        let mut at = 0;
        for label in self.labels() {
            if !label.iter().all(|octet| is_plain(*octet)) {
                return None;
            }
            if at > 0 {
                text[at - 1] = b'.';
            }
            at += label.len() + 1;
        }
        std::str::from_utf8(text).ok()
    }
}

/// True for octets that stand in the presentation form as they are.
fn is_plain(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$')
}

impl fmt::Display for NameRef<'_> {
    /// Presentation form without the final dot; odd octets escaped as RFC 4343 section 2.1 shows. The root is `.`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        let mut buffer = [0; NAME_OCTETS_MAX];
        if let Some(text) = self.plain_text(&mut buffer) {
            return f.write_str(text);
        }
        for (i, label) in self.labels().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            for run in label.chunk_by(|a, b| is_plain(*a) && is_plain(*b)) {
                match (run, std::str::from_utf8(run)) {
                    ([octet], Ok(text)) if octet.is_ascii_graphic() && !is_plain(*octet) => write!(f, "\\{text}")?,
                    ([octet], _) if !is_plain(*octet) => write!(f, "\\{octet:03}")?,
                    (_, Ok(text)) => f.write_str(text)?,
                    // Plain octets are ASCII.
                    (_, Err(_)) => return Err(fmt::Error),
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NameRef({self})")
    }
}

/// The labels of a name, left to right.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&length, rest) = self.rest.split_first()?;
        if length == 0 {
            return None;
        }
        let (label, rest) = rest.split_at_checked(usize::from(length))?;
        self.rest = rest;
        Some(label)
    }
}

//--- DomainName ------------------------------------------------------------------------------------------------------

/// An owned, checked name: at most 255 octets, kept inline so that decoding a question allocates nothing.
#[derive(Clone)]
pub struct DomainName {
    length: u8,
    octets: [u8; NAME_OCTETS_MAX],
}

impl DomainName {
    /// The root name.
    pub fn root() -> Self {
        Self::copy_of(&[0])
    }

    /// Reads an uncompressed name from the start of `octets` and folds it to canonical form.
    ///
    /// Returns the name and how many octets it took. ASCII letters are folded (RFC 4343); a label with octets above
    /// 0x7f that is valid UTF-8 becomes its A-label when UTS-46 non-transitional processing accepts it as one label,
    /// and stays as it is otherwise, so that it matches no filing (interception D-D18).
    /// Errors: [`NameError`], never a panic. Cost: one pass, no allocation for ASCII names.
    pub fn from_wire(octets: &[u8]) -> Result<(Self, usize), NameError> {
        let mut end = 0;
        let mut has_high = false;
        loop {
            let &length = octets.get(end).ok_or(NameError::Truncated)?;
            if length == 0 {
                end += 1;
                break;
            }
            if usize::from(length) > LABEL_OCTETS_MAX {
                return Err(NameError::PointerOrExtendedLabel);
            }
            let next = end + 1 + usize::from(length);
            if next + 1 > NAME_OCTETS_MAX {
                return Err(NameError::NameTooLong);
            }
            let label = octets.get(end + 1..next).ok_or(NameError::Truncated)?;
            has_high |= !label.is_ascii();
            end = next;
        }
        let mut res = Self::copy_of(&octets[..end]);
        res.octets[..end].make_ascii_lowercase();
        if has_high {
            res = res.with_high_labels_mapped();
        }
        Ok((res, end))
    }

    /// Builds a name from labels as they stand on the wire.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, NameError> {
        let mut res = Self::unfinished();
        for label in labels {
            res.push_label(label)?;
        }
        res.length += 1;
        Self::from_wire(res.wire()).map(|(name, _)| name)
    }

    /// Reads a host or registry spelling: U-labels or A-labels, any case, at most one final dot.
    ///
    /// UTS-46 non-transitional processing maps width, case and the ideographic full stops; `faß` never becomes `fass`.
    /// Labels may hold letters, digits, hyphen and underscore, and a label may be `*`. IP literals are not looked at here.
    /// Errors: [`NameError`]. Sources: UTS-46; RFC 5891; interception D-D20.
    pub fn from_text(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_TEXT_OCTETS_MAX {
            return Err(NameError::NameTooLong);
        }
        if text.bytes().any(|octet| octet <= b' ' || octet == 0x7f) {
            return Err(NameError::ForbiddenCharacter);
        }
        let mapped: String;
        let ascii = if text.is_ascii() && !has_a_label_prefix(text) {
            text
        } else {
            mapped = to_ascii(text)?;
            &mapped
        };
        Self::from_ascii(ascii)
    }

    /// Reads a host as a client sends it: as [`DomainName::from_text`], but below the last two labels an A-label that IDNA
    /// refuses is a label like any other, as it is on the wire of DNS: a filed domain may have such names below it. In the last
    /// two it makes a domain that no registry can hold.
    pub fn from_host(text: &str) -> Result<Self, NameError> {
        let res = Self::from_text(text);
        if res != Err(NameError::BadIdna) || !text.is_ascii() {
            return res;
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let last_two = name.rmatch_indices('.').nth(1).map_or(name, |(at, _)| &name[at + 1..]);
        Self::from_text(last_two).and_then(|_| Self::from_ascii(text))
    }

    fn from_ascii(ascii: &str) -> Result<Self, NameError> {
        let ascii = ascii.strip_suffix('.').unwrap_or(ascii);
        let mut res = Self::unfinished();
        for label in ascii.split('.') {
            if !label.bytes().all(|o| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'_' | b'*')) {
                return Err(NameError::ForbiddenCharacter);
            }
            res.push_label(label.as_bytes())?;
        }
        res.length += 1;
        res.octets.make_ascii_lowercase();
        Ok(res)
    }

    /// Borrows the name.
    pub fn as_ref(&self) -> NameRef<'_> {
        NameRef { wire: &self.octets[..usize::from(self.length)] }
    }

    /// The octets: length-prefixed labels and the root octet.
    pub fn wire(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }

    /// Copies canonical octets; longer input than a name can have is our own mistake.
    fn copy_of(wire: &[u8]) -> Self {
        let mut octets = [0; NAME_OCTETS_MAX];
        octets[..wire.len()].copy_from_slice(wire);
        Self { length: u8::try_from(wire.len()).expect("a name has at most 255 octets"), octets }
    }

    /// Replaces each UTF-8 label by its A-label where that is one valid label.
    fn with_high_labels_mapped(&self) -> Self {
        let mut res = Self::unfinished();
        for label in self.as_ref().labels() {
            let mapped = std::str::from_utf8(label).ok().filter(|text| !text.is_ascii()).and_then(|text| {
                let ascii = to_ascii(text).ok()?;
                let one_label = !ascii.is_empty() && !ascii.contains('.') && ascii.len() <= LABEL_OCTETS_MAX;
                one_label.then_some(ascii)
            });
            let label = mapped.as_deref().map_or(label, str::as_bytes);
            if res.push_label(label).is_err() {
                return self.clone();
            }
        }
        res.length += 1;
        res
    }

    /// No label yet, and no root either: every octet after the last label is 0, so counting one more ends the name.
    fn unfinished() -> Self {
        Self { length: 0, octets: [0; NAME_OCTETS_MAX] }
    }

    /// Appends one label with its length octet; leaves room for the root.
    fn push_label(&mut self, label: &[u8]) -> Result<(), NameError> {
        if label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if label.len() > LABEL_OCTETS_MAX {
            return Err(NameError::LabelTooLong);
        }
        let start = usize::from(self.length) + 1;
        let end = start + label.len();
        if end + 1 > NAME_OCTETS_MAX {
            return Err(NameError::NameTooLong);
        }
        self.octets[start - 1] = u8::try_from(label.len()).expect("checked above");
        self.octets[start..end].copy_from_slice(label);
        self.length = u8::try_from(end).expect("checked above");
        Ok(())
    }
}

impl Borrow<[u8]> for DomainName {
    fn borrow(&self) -> &[u8] {
        self.wire()
    }
}

impl PartialEq for DomainName {
    fn eq(&self, other: &Self) -> bool {
        self.wire() == other.wire()
    }
}

impl Eq for DomainName {}

impl PartialOrd for DomainName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DomainName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.wire().cmp(other.wire())
    }
}

impl std::hash::Hash for DomainName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.wire().hash(state);
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Debug for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DomainName({self})")
    }
}

impl std::str::FromStr for DomainName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::from_text(text)
    }
}

impl serde::Serialize for DomainName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// UTS-46 ToASCII, non-transitional, without the length and hyphen rules that live names break (RFC 5891 section 4.2.3.1).
fn to_ascii(text: &str) -> Result<String, NameError> {
    let ascii = map_to_ascii(text)?;
    if text.contains(is_unassigned) {
        return Err(NameError::BadIdna);
    }
    if !has_a_label_prefix(text) {
        return Ok(ascii);
    }
    // An A-label is taken only if its decoded form leads back to it: code points that mapping refuses can hide in
    // Punycode. UTS-46 section 4.1, criterion 4: a label must not begin with "xn--" once decoded; Punycode keeps ASCII
    // characters in front, so such a label shows the prefix twice.
    let (unicode, _) = idna::domain_to_unicode(&ascii);
    let is_twice_encoded = ascii.split('.').any(|label| label.starts_with("xn--xn--"));
    let leads_back = map_to_ascii(&unicode).is_ok_and(|again| again == ascii);
    if leads_back && !is_twice_encoded && !unicode.contains(is_unassigned) {
        Ok(ascii)
    } else {
        Err(NameError::BadIdna)
    }
}

/// True in the planes where Unicode 17 assigns nothing; the mapping tables of the library let one such point pass.
fn is_unassigned(c: char) -> bool {
    matches!(c, '\u{3347a}'..='\u{e00ff}')
}

fn map_to_ascii(text: &str) -> Result<String, NameError> {
    idna::uts46::Uts46::new()
        .to_ascii(
            text.as_bytes(),
            idna::AsciiDenyList::EMPTY,
            idna::uts46::Hyphens::Allow,
            idna::uts46::DnsLength::Ignore,
        )
        .map(|ascii| ascii.into_owned())
        .map_err(|_| NameError::BadIdna)
}

/// True when some label starts with the A-label prefix, in any case.
fn has_a_label_prefix(text: &str) -> bool {
    text.split('.').any(|label| label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--")))
}

/// The form every [`NameRef`] promises.
fn is_canonical_wire(wire: &[u8]) -> bool {
    if wire.is_empty() || wire.len() > NAME_OCTETS_MAX || wire.iter().any(u8::is_ascii_uppercase) {
        return false;
    }
    let mut at = 0;
    while let Some(&length) = wire.get(at) {
        if length == 0 {
            return at + 1 == wire.len();
        }
        at += usize::from(length) + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_fold_to_one_name() {
        for (input, expected) in [
            ("HERE.cN.", "here.cn"),
            ("here.cn", "here.cn"),
            ("例子.中国", "xn--fsqu00a.xn--fiqs8s"),
            ("XN--FSQU00A.xn--fiqs8s", "xn--fsqu00a.xn--fiqs8s"),
            ("例子。中国", "xn--fsqu00a.xn--fiqs8s"),
            ("ｅｘａｍｐｌｅ．ｃｎ", "example.cn"),
            ("faß.de", "xn--fa-hia.de"),
            ("_dmarc.example.cn", "_dmarc.example.cn"),
            ("*.example.cn", "*.example.cn"),
        ] {
            assert_eq!(DomainName::from_text(input).expect(input).to_string(), expected, "{input}");
        }
    }

    #[test]
    fn bad_text_is_refused_with_its_reason() {
        let long_label = format!("{}.cn", "a".repeat(64));
        let long_name = format!("{}cn", "a23456789.".repeat(26));
        for (input, expected) in [
            ("a..cn", NameError::EmptyLabel),
            (".cn", NameError::EmptyLabel),
            ("", NameError::EmptyLabel),
            ("a.cn..", NameError::EmptyLabel),
            ("a b.cn", NameError::ForbiddenCharacter),
            ("a\0b.cn", NameError::ForbiddenCharacter),
            ("a/b.cn", NameError::ForbiddenCharacter),
            ("a%2e.cn", NameError::ForbiddenCharacter),
            (&long_label, NameError::LabelTooLong),
            (&long_name, NameError::NameTooLong),
        ] {
            assert_eq!(DomainName::from_text(input).expect_err(input), expected, "{input}");
        }
    }

    #[test]
    fn wire_names_keep_labels_that_hold_dots() {
        let (name, used) = DomainName::from_wire(b"\x09evil.here\x02cn\0rest").expect("valid");
        assert_eq!(used, 14);
        assert_eq!(name.label_count_for_test(), 2);
        assert_eq!(name.to_string(), "evil\\.here.cn");
    }

    #[test]
    fn utf8_labels_on_the_wire_become_a_labels() {
        let mut wire = vec![6];
        wire.extend_from_slice("例子".as_bytes());
        wire.push(6);
        wire.extend_from_slice("中国".as_bytes());
        wire.push(0);
        assert_eq!(DomainName::from_wire(&wire).expect("valid").0.to_string(), "xn--fsqu00a.xn--fiqs8s");
        let latin1 = b"\x03fa\xdf\x02de\0";
        assert_eq!(DomainName::from_wire(latin1).expect("valid").0.to_string(), "fa\\223.de");
    }

    #[test]
    fn wire_limits_hold() {
        let mut long = Vec::new();
        for _ in 0..127 {
            long.extend_from_slice(b"\x01a");
        }
        long.push(0);
        assert_eq!(long.len(), 255);
        assert!(DomainName::from_wire(&long).is_ok());
        long.splice(0..0, *b"\x01a");
        assert_eq!(DomainName::from_wire(&long), Err(NameError::NameTooLong));
        assert_eq!(DomainName::from_wire(b"\xc0\x0c"), Err(NameError::PointerOrExtendedLabel));
        assert_eq!(DomainName::from_wire(b"\x05ab"), Err(NameError::Truncated));
        assert_eq!(DomainName::from_wire(b""), Err(NameError::Truncated));
    }

    #[test]
    fn ancestors_are_compared_by_label() {
        let name = |text: &str| DomainName::from_text(text).expect("valid");
        assert!(name("a.here.cn").as_ref().is_at_or_below(name("here.cn").as_ref()));
        assert!(name("here.cn").as_ref().is_at_or_below(name("here.cn").as_ref()));
        assert!(!name("evilhere.cn").as_ref().is_at_or_below(name("here.cn").as_ref()));
        assert!(!name("cn").as_ref().is_at_or_below(name("here.cn").as_ref()));
    }

    impl DomainName {
        fn label_count_for_test(&self) -> usize {
            self.as_ref().label_count()
        }
    }
}
