//! What is judged: a host as the client named it, and the hop it leads to.

use std::net::IpAddr;

use super::{DomainName, NameRef};

/// The host of a question or request, already read from its spelling.
#[derive(Clone, Copy, Debug)]
pub enum Host<'a> {
    /// An IP literal in any spelling, or no name at all where the address stands for it (rule N4).
    Address(IpAddr),
    /// Text that is no host name.
    Invalid,
    /// A name.
    Name(NameRef<'a>),
}

/// Where the name leads.
#[derive(Clone, Copy, Debug)]
pub enum Hop<'a> {
    /// We stand in line before this provider's mainland servers; the address itself is not known or not telling.
    InLine,
    /// The same, with the address the client reached, which a filing may be bound to (D-H23); it says nothing else.
    InLineAt(IpAddr),
    /// The final addresses of an answer with the CNAME chain that led there, or the address a client connected to.
    Resolved {
        /// Final addresses, hints included; at least one.
        addresses: &'a [IpAddr],
        /// CNAME and alias targets on the way, in order; used only for the CNAME-suffix product table (rule AMB-8).
        chain: &'a [DomainName],
    },
}

/// The plane that asks; a name marked as no web service is exempt in DNS only (rule AMB-15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A DNS answer.
    Dns,
    /// An HTTP request.
    Http,
    /// A TLS ClientHello.
    Tls,
    /// A QUIC flight.
    Quic,
}

impl Via {
    /// The label in metrics and the journal.
    pub fn label(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Quic => "quic",
        }
    }
}

/// One thing to judge.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What the client asked for. The verdict belongs to this name alone, never to a CNAME target (D-D1, D-D2).
    pub host: Host<'a>,
    /// Where it leads.
    pub hop: Hop<'a>,
    /// Which plane asks.
    pub via: Via,
}
