//! The ClientHello: what a TLS client says before anything is encrypted, read without ending TLS.
//!
//! ```text
//! octets of a connection ─ Reader (records) ─┐
//! CRYPTO octets of a QUIC flow ──────────────┴─▶ message ─▶ Hello ─▶ name, protocols, versions ─▶ judge
//! ```
//!
//! Everything here is a function of octets: no socket, no clock. A hello may come in any number of segments and records,
//! down to one octet each (D-T1, D-T2); whatever the cuts, the answer is the same, and before the hello is whole it is
//! [`Reading::NeedMore`] or a refusal, never a name. What follows the hello is not looked at. The octets themselves stay
//! with the caller, who passes them on unchanged after the verdict; only a hello of several records is put together in a
//! buffer here, bounded by [`HELLO_OCTETS_MAX`].
//!
//! The name is the one in the open. Under Encrypted ClientHello that is the outer name; whether the extension is real or
//! GREASE cannot be told by design (D-T15, D-T16), so its presence changes nothing.

pub mod alert;
pub mod message;
pub mod reader;
pub mod retry;

use thiserror::Error;

pub use alert::Alert;
pub use message::{Hello, ServerName};
pub use reader::Reader;

/// Longest hello, header included, as most servers take it.
///
/// Hellos with hybrid post-quantum shares are 1.7 to 2.5 kB today; two such shares, a resumption ticket with a client
/// certificate in it and a padded Encrypted ClientHello stay below half of this.
pub const HELLO_OCTETS_MAX: usize = 16 << 10;

/// What is known of a hello.
#[expect(
    clippy::large_enum_variant,
    reason = "one a connection; a name is inline so that reading it allocates nothing"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// A whole hello.
    Hello(Hello<'a>),
    /// Octets that no hello holds; refuse with [`HelloError::alert`].
    Malformed(HelloError),
    /// The beginning of a hello. Wait, within a time limit; no octet may go on yet.
    NeedMore,
    /// Another protocol.
    NotTls(Foreign),
    /// A hello over the limit; refuse with [`Alert::IllegalParameter`].
    TooLong,
}

/// What a connection begins with that is no TLS record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Anything else.
    Other,
    /// A hello in the form of SSL 2, refused whatever versions it offers (RFC 8446 appendix D.5; D-T10).
    Ssl2,
    /// A letter, as HTTP/1 and HTTP/2 begin: the head reader decides (D-H27).
    Text,
}

/// Why octets are no hello, and where. The client is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{fault}, at octet {at}")]
pub struct HelloError {
    /// What is wrong.
    pub fault: HelloFault,
    /// Position in the stream for records, in the message (header included) for all others.
    pub at: usize,
}

impl HelloError {
    /// The alert that says so.
    pub fn alert(self) -> Alert {
        self.fault.alert()
    }
}

/// What is wrong with a hello.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HelloFault {
    /// The host name holds octets or labels that no host name can.
    #[error("server name is no host name")]
    BadName,
    /// A record whose version does not begin with 3.
    #[error("record version is none of TLS")]
    BadRecordVersion,
    /// A client version below SSL 3.
    #[error("client version is none of TLS")]
    BadVersion,
    /// A length that reaches past what holds it.
    #[error("length reaches past the end of what holds it")]
    CutShort,
    /// An extension given twice (RFC 8446 section 4.2).
    #[error("extension stands twice")]
    DuplicateExtension,
    /// A list that must have an element, or an element that must have an octet.
    #[error("list or element is empty")]
    Empty,
    /// A handshake record without octets (RFC 8446 section 5.1).
    #[error("handshake record is empty")]
    EmptyRecord,
    /// A second host name, or a name of another type (RFC 6066 section 3: one per type, and only one type is defined).
    #[error("server name list holds more than one host name")]
    MoreNames,
    /// A handshake message of another type.
    #[error("handshake message is no client hello")]
    NotClientHello,
    /// A list of two-octet values with an odd length.
    #[error("list of two-octet values has an odd length")]
    OddLength,
    /// A record over 2^14 octets.
    #[error("record is longer than 2^14 octets")]
    RecordTooLong,
    /// A session identifier over 32 octets.
    #[error("session identifier is longer than 32 octets")]
    SessionIdTooLong,
    /// More extensions than any client has.
    #[error("hello has more extensions than {}", message::EXTENSIONS_MAX)]
    TooManyExtensions,
    /// Octets after the last field of something.
    #[error("octets follow the last field")]
    TrailingOctets,
    /// A record of another type where the hello must go on.
    #[error("record of another type stands inside the hello")]
    UnexpectedRecord,
}

impl HelloFault {
    /// Every fault with its label, in order: a position in it counts.
    pub const ALL: [(Self, &'static str); 15] = [
        (Self::BadName, "bad_name"),
        (Self::BadRecordVersion, "bad_record_version"),
        (Self::BadVersion, "bad_version"),
        (Self::CutShort, "cut_short"),
        (Self::DuplicateExtension, "duplicate_extension"),
        (Self::Empty, "empty"),
        (Self::EmptyRecord, "empty_record"),
        (Self::MoreNames, "more_names"),
        (Self::NotClientHello, "not_client_hello"),
        (Self::OddLength, "odd_length"),
        (Self::RecordTooLong, "record_too_long"),
        (Self::SessionIdTooLong, "session_id_too_long"),
        (Self::TooManyExtensions, "too_many_extensions"),
        (Self::TrailingOctets, "trailing_octets"),
        (Self::UnexpectedRecord, "unexpected_record"),
    ];

    /// The alert that says so.
    pub fn alert(self) -> Alert {
        match self {
            Self::BadName => Alert::UnrecognizedName,
            Self::BadRecordVersion | Self::BadVersion => Alert::ProtocolVersion,
            Self::CutShort | Self::Empty | Self::OddLength | Self::SessionIdTooLong | Self::TrailingOctets => {
                Alert::DecodeError
            }
            Self::DuplicateExtension | Self::MoreNames | Self::TooManyExtensions => Alert::IllegalParameter,
            Self::EmptyRecord | Self::NotClientHello | Self::UnexpectedRecord => Alert::UnexpectedMessage,
            Self::RecordTooLong => Alert::RecordOverflow,
        }
    }

    fn at(self, at: usize) -> HelloError {
        HelloError { fault: self, at }
    }
}

/// Why reading stops before a hello is there; small, unlike [`Reading`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Malformed(HelloError),
    NeedMore,
    NotTls(Foreign),
    TooLong,
}

impl From<HelloError> for Stop {
    fn from(error: HelloError) -> Self {
        Self::Malformed(error)
    }
}

impl<'a> From<Result<Hello<'a>, Stop>> for Reading<'a> {
    fn from(result: Result<Hello<'a>, Stop>) -> Self {
        match result {
            Ok(hello) => Self::Hello(hello),
            Err(Stop::Malformed(error)) => Self::Malformed(error),
            Err(Stop::NeedMore) => Self::NeedMore,
            Err(Stop::NotTls(foreign)) => Self::NotTls(foreign),
            Err(Stop::TooLong) => Self::TooLong,
        }
    }
}

/// Reads a hello from the start of handshake octets that have no records around them, as QUIC carries them.
///
/// `octets` are all that came so far, in order; what follows the hello is not looked at. Cost: one pass over the hello
/// once it is whole, no allocation for names without A-labels.
pub fn read_message(octets: &[u8], octets_max: usize) -> Reading<'_> {
    message::read(octets, octets_max).into()
}
