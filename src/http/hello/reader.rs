//! Records: finds the hello in the first octets of a connection, however they are cut.
//!
//! The caller keeps what the client sent and hands in all of it each time; the reader remembers how far it came, so that
//! a hello that arrives octet by octet costs no more than one that arrives whole. A hello inside one record is read where
//! it lies; only one of several records is copied together.

use super::message::{self, Hello};
use super::{Foreign, HelloFault, Reading, Stop};

/// Octets before a record's content: type, version, length.
const HEADER_OCTETS: usize = 5;
/// Longest record in the open (RFC 8446 section 5.1).
const RECORD_OCTETS_MAX: usize = 1 << 14;
/// Longest encrypted record (RFC 8446 section 5.2); older versions allow more, and no client sends it.
const ENCRYPTED_OCTETS_MAX: usize = RECORD_OCTETS_MAX + 256;
/// Early data that may stand between the first hello and the second: servers allow 16 kB and less, and must skip no more.
const SKIPPED_OCTETS_MAX: usize = 64 << 10;

/// Record types of TLS.
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Reads the hello of one connection, and after a retry the second.
#[derive(Debug)]
pub struct Reader {
    octets_max: usize,
    turn: Turn,
    /// Stream octets used: up to here nothing is looked at again.
    at: usize,
    /// Content octets of the current handshake record after `at`; 0 between records.
    left: usize,
    /// The hello as far as it stands in records that are used up.
    gathered: Vec<u8>,
    /// Octets of the whole hello, once it was found.
    found: Option<usize>,
    /// Octets of records between the hellos.
    skipped: usize,
}

/// Which hello is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    First,
    Second,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(super::HELLO_OCTETS_MAX)
    }
}

impl Reader {
    /// A reader at the start of a connection; a hello over `octets_max`, header included, is refused.
    pub fn new(octets_max: usize) -> Self {
        Self { octets_max, turn: Turn::First, at: 0, left: 0, gathered: Vec::new(), found: None, skipped: 0 }
    }

    /// Looks for the hello in `received`: everything the client has sent on this connection, more each time.
    ///
    /// Once a hello is found it is found again, until [`Reader::expect_second`]. A refusal stays one: do not call again
    /// after it. Cost: as [`super::read_message`], and a copy where the hello has several records.
    pub fn read<'a>(&'a mut self, received: &'a [u8]) -> Reading<'a> {
        if self.found.is_none() {
            match self.find(received) {
                Ok(length) => self.found = Some(length),
                Err(stop) => return Err(stop).into(),
            }
        }
        self.found_hello(received).into()
    }

    /// Turns to the hello that must follow a HelloRetryRequest (D-T11): the caller saw one with [`super::retry::answer`].
    ///
    /// `received` goes on from where it was: the octets of the first hello stay in front. Between the hellos a change of
    /// cipher and early data are skipped. The caller compares [`Hello::host`] of both. Without a first hello nothing changes.
    pub fn expect_second(&mut self) {
        let Some(length) = self.found.take() else { return };
        if self.gathered.is_empty() {
            self.at += length;
            self.left -= length;
        }
        self.gathered = Vec::new();
        self.turn = Turn::Second;
    }

    /// Where the hello that was found ends in the octets received: what may go on, and no more (D-T11). 0 before.
    ///
    /// In the middle of a record where another message begins in it.
    pub fn end(&self) -> usize {
        match self.found {
            None => 0,
            Some(length) if self.gathered.is_empty() => self.at + length,
            Some(_) => self.at,
        }
    }

    /// Takes note that the caller has dropped the first `octets` of what it received; at most [`Reader::end`], after
    /// [`Reader::expect_second`].
    pub fn forget(&mut self, octets: usize) {
        self.at = self.at.saturating_sub(octets);
    }

    /// The hello that was found.
    fn found_hello<'a>(&'a self, received: &'a [u8]) -> Result<Hello<'a>, Stop> {
        let octets = if self.gathered.is_empty() { received.get(self.at..) } else { Some(&self.gathered[..]) };
        message::read(octets.ok_or(Stop::NeedMore)?, self.octets_max)
    }

    /// Goes on until the hello is whole; says how long it is.
    fn find(&mut self, received: &[u8]) -> Result<usize, Stop> {
        // Each pass uses up a record, a message header or what is left of the hello, or ends.
        loop {
            while self.left == 0 {
                self.open_record(received)?;
            }
            let here = received.get(self.at..).unwrap_or_default();
            let here = &here[..here.len().min(self.left)];
            if self.gathered.is_empty() {
                let length = message::length(here, self.octets_max)?;
                match length {
                    Some(length) if length <= here.len() => return Ok(length),
                    Some(length) if length <= self.left => return Err(Stop::NeedMore),
                    _ if here.len() < self.left => return Err(Stop::NeedMore),
                    _ => {}
                }
            }
            self.gather(here)?;
            if let Some(length) = message::length(&self.gathered, self.octets_max)?
                && self.gathered.len() == length
            {
                return Ok(length);
            }
        }
    }

    /// Copies what belongs to the hello of the record's octets that are here.
    fn gather(&mut self, here: &[u8]) -> Result<(), Stop> {
        if here.is_empty() {
            return Err(Stop::NeedMore);
        }
        let length = message::length(&self.gathered, self.octets_max)?;
        // The header first: it says how much belongs to the message.
        let wanted = length.unwrap_or(4).saturating_sub(self.gathered.len());
        let taken = &here[..here.len().min(wanted)];
        self.gathered.extend_from_slice(taken);
        self.at += taken.len();
        self.left -= taken.len();
        Ok(())
    }

    /// Reads a record's header, or skips the whole record where the second hello is looked for.
    fn open_record(&mut self, received: &[u8]) -> Result<(), Stop> {
        let at = self.at;
        let record = received.get(at..).unwrap_or_default();
        let &kind = record.first().ok_or(Stop::NeedMore)?;
        let is_between = self.turn == Turn::Second
            && self.gathered.is_empty()
            && matches!(kind, CHANGE_CIPHER_SPEC | APPLICATION_DATA);
        if kind != HANDSHAKE && !is_between {
            return Err(if at == 0 && self.turn == Turn::First {
                foreign(record)
            } else {
                HelloFault::UnexpectedRecord.at(at).into()
            });
        }
        if record.get(1).is_some_and(|major| *major != 3) {
            return Err(HelloFault::BadRecordVersion.at(at).into());
        }
        let &[_, _, _, high, low] = record.first_chunk::<HEADER_OCTETS>().ok_or(Stop::NeedMore)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let length_max = if is_between { ENCRYPTED_OCTETS_MAX } else { RECORD_OCTETS_MAX };
        match length {
            0 => return Err(HelloFault::EmptyRecord.at(at).into()),
            length if length > length_max => return Err(HelloFault::RecordTooLong.at(at).into()),
            _ => {}
        }
        if is_between {
            return self.skip(HEADER_OCTETS + length, record.len());
        }
        self.at += HEADER_OCTETS;
        self.left = length;
        Ok(())
    }

    /// Passes over a record between the hellos, once it is there.
    fn skip(&mut self, octets: usize, here: usize) -> Result<(), Stop> {
        if self.skipped + octets > SKIPPED_OCTETS_MAX {
            return Err(Stop::TooLong);
        }
        if here < octets {
            return Err(Stop::NeedMore);
        }
        self.skipped += octets;
        self.at += octets;
        Ok(())
    }
}

/// What a connection is that does not begin with a handshake record.
fn foreign(start: &[u8]) -> Stop {
    const SSL2_CLIENT_HELLO: u8 = 1;
    match *start {
        [first, ..] if first.is_ascii_alphabetic() => Stop::NotTls(Foreign::Text),
        // The length with its high bit, the message type, and a version: of SSL 2, or of what the client wants after it.
        [first, ..] if first & 0x80 == 0 => Stop::NotTls(Foreign::Other),
        [_, _, SSL2_CLIENT_HELLO, 0 | 3, ..] => Stop::NotTls(Foreign::Ssl2),
        [_, _, kind, ..] if kind != SSL2_CLIENT_HELLO => Stop::NotTls(Foreign::Other),
        [_, _, _, _, ..] => Stop::NotTls(Foreign::Other),
        _ => Stop::NeedMore,
    }
}
