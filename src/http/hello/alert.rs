//! Alerts: how a TLS client is told that its hello goes nowhere.

/// An alert the gate sends, always fatal (RFC 8446 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// A length or a form that cannot be.
    DecodeError,
    /// A value that is read and not allowed.
    IllegalParameter,
    /// The gate cannot judge, or the origin cannot be reached: no fault of the client.
    InternalError,
    /// A version this gate does not read.
    ProtocolVersion,
    /// A record longer than any may be.
    RecordOverflow,
    /// A message or record out of turn.
    UnexpectedMessage,
    /// The name is not served: also the refusal of a name without a filing.
    UnrecognizedName,
}

impl Alert {
    /// The number of the registry; in QUIC 0x100 is added to it (RFC 9001 section 4.8).
    pub fn code(self) -> u8 {
        match self {
            Self::DecodeError => 50,
            Self::IllegalParameter => 47,
            Self::InternalError => 80,
            Self::ProtocolVersion => 70,
            Self::RecordOverflow => 22,
            Self::UnexpectedMessage => 10,
            Self::UnrecognizedName => 112,
        }
    }

    /// The alert as a record, to be sent before anything else of the server.
    ///
    /// Record version 3.3: RFC 8446 section 5.1 asks for it, and clients of TLS 1.0 read the alert all the same.
    pub fn record(self) -> [u8; 7] {
        const FATAL: u8 = 2;
        [21, 3, 3, 0, 2, FATAL, self.code()]
    }
}
