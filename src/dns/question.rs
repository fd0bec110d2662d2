//! The question of a query, as every answer source gets it.

use crate::model::DomainName;

/// A decoded question with the header bits that change the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Canonical query name (lower case).
    pub name: DomainName,
    /// QTYPE.
    pub qtype: u16,
    /// QCLASS.
    pub qclass: u16,
    /// RD of the query.
    pub recursion_desired: bool,
    /// AD of the query (RFC 6840 section 5.7).
    pub authentic_data: bool,
    /// CD of the query.
    pub checking_disabled: bool,
    /// DO of the query's OPT.
    pub dnssec_ok: bool,
}
