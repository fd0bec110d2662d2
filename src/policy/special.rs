//! Special-use names that must not leave the machine as questions.
//!
//! Sources: RFC 6761 sections 6.3 and 6.4 (`localhost`, `invalid`), RFC 7686 section 2 (`onion`), RFC 6762 section 22 (`local`).
//! `example` and `test` are ordinary to a name server (RFC 6761 sections 6.2 and 6.5: no special treatment by us).

use crate::model::NameRef;

/// How a special-use name is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialUse {
    /// `localhost` and below: the loopback addresses.
    Loopback,
    /// NXDOMAIN without asking anyone.
    NoSuchName,
}

/// Finds the special use of `name`, by its last label. Cost: one compare.
pub fn special_use(name: NameRef<'_>) -> Option<SpecialUse> {
    match name.labels().last()? {
        b"localhost" => Some(SpecialUse::Loopback),
        b"invalid" | b"onion" | b"local" => Some(SpecialUse::NoSuchName),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DomainName;

    #[test]
    fn special_names_are_told_by_their_last_label() {
        for (name, expected) in [
            ("localhost", Some(SpecialUse::Loopback)),
            ("a.LOCALHOST", Some(SpecialUse::Loopback)),
            ("x.onion", Some(SpecialUse::NoSuchName)),
            ("invalid.cn", None),
            ("www.example", None),
        ] {
            assert_eq!(special_use(DomainName::from_text(name).expect(name).as_ref()), expected, "{name}");
        }
    }
}
