//! The answer cache as octets, so that a restart does not begin with nothing: what sources said, not how it was judged.
//!
//! ```text
//! "icpgate cache 1\n"  SHA-256 of the upstreams  seconds since 1970 (u64)
//! 1  key length (u16)  key  age and lifetime in milliseconds (u64 each)  message length (u16)  message      for each entry
//! 0  SHA-256 of everything before
//! ```
//!
//! Numbers are little endian. Other upstreams may say otherwise: their answers are not restored. Answers go on ageing while
//! nobody runs; each is judged on the data of the day it is asked for again. Whoever can write the file can say what names
//! resolve to, as with a zone file; the sum finds accidents alone.

use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};
use bytes::Bytes;
use thiserror::Error;

use super::answer::Answer;
use super::cache::{AnswerCache, KEY_OCTETS_MAX};
use super::settings::Settings;
use super::wire::{self, HEADER_OCTETS};

const GREETING: &[u8; 16] = b"icpgate cache 1\n";
const ENTRY: u8 = 1;
const END: u8 = 0;

/// Why saved octets are not restored.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RestoreError {
    /// They break off, or are not as they were written.
    #[error("is damaged; it is written anew when the gate ends")]
    Damaged,
    /// Of other upstreams.
    #[error("is of other upstreams than those configured now")]
    OtherSource,
    /// Nothing this program wrote.
    #[error("is no saved cache of this version; expected a file that begins with \"icpgate cache 1\"")]
    Foreign,
    /// Written later than now.
    #[error("was written in the future; the clock was set back")]
    Future,
}

/// Passes octets on and sums them.
struct Summing<W> {
    out: W,
    sum: Context,
}

impl<W: Write> Summing<W> {
    fn put(&mut self, octets: &[u8]) -> io::Result<()> {
        self.sum.update(octets);
        self.out.write_all(octets)
    }
}

fn millis(time: Duration) -> [u8; 8] {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).to_le_bytes()
}

/// What tells the upstreams of one configuration from those of another.
pub(super) fn source(settings: &Settings) -> [u8; SHA256_OUTPUT_LEN] {
    let mut sum = Context::new(&SHA256);
    for group in &settings.upstreams {
        sum.update(group.suffix.wire());
        for server in &group.servers {
            sum.update(format!("{:?} {}\n", server.transport, server.addr).as_bytes());
        }
    }
    let mut res = [0; SHA256_OUTPUT_LEN];
    res.copy_from_slice(sum.finish().as_ref());
    res
}

impl AnswerCache {
    /// Writes every entry as of `now`; how many.
    ///
    /// Cost: one pass over the cache, without a copy of it; answers go on meanwhile.
    pub fn save(&self, out: impl Write, now: SystemTime) -> io::Result<usize> {
        let mut out = Summing { out, sum: Context::new(&SHA256) };
        out.put(GREETING)?;
        out.put(&self.source)?;
        out.put(&now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_le_bytes())?;
        let mut count = 0;
        for (key, entry) in self.entries() {
            let message = &entry.answer.message;
            let (Ok(key_length), Ok(length)) = (u16::try_from(key.len()), u16::try_from(message.len())) else {
                continue;
            };
            out.put(&[ENTRY])?;
            out.put(&key_length.to_le_bytes())?;
            out.put(&key)?;
            out.put(&millis(entry.stored_at.elapsed()))?;
            out.put(&millis(entry.lifetime))?;
            out.put(&length.to_le_bytes())?;
            out.put(message)?;
            count += 1;
        }
        out.put(&[END])?;
        let Summing { mut out, sum } = out;
        out.write_all(sum.finish().as_ref())?;
        Ok(count)
    }

    /// Takes in what was saved, aged by the time since; what is of no use any more is left out. How many were taken.
    ///
    /// # Errors
    /// Damaged or foreign octets change nothing.
    pub fn restore(&self, octets: &[u8], now: SystemTime) -> Result<usize, RestoreError> {
        if octets.get(..GREETING.len()) != Some(&GREETING[..]) {
            return Err(RestoreError::Foreign);
        }
        let body = octets.len().checked_sub(SHA256_OUTPUT_LEN).ok_or(RestoreError::Damaged)?;
        let (body, sum) = octets.split_at(body);
        if digest(&SHA256, body).as_ref() != sum {
            return Err(RestoreError::Damaged);
        }
        let mut rest = Rest(body.get(GREETING.len()..).unwrap_or_default());
        if rest.octets(SHA256_OUTPUT_LEN)? != self.source {
            return Err(RestoreError::OtherSource);
        }
        let saved_at = UNIX_EPOCH.checked_add(Duration::from_secs(rest.number()?)).ok_or(RestoreError::Damaged)?;
        let since = now.duration_since(saved_at).map_err(|_| RestoreError::Future)?;
        let mut count = 0;
        while rest.octet()? == ENTRY {
            let length = usize::from(rest.short()?);
            let key = rest.octets(length)?;
            let (age, lifetime) = (Duration::from_millis(rest.number()?), Duration::from_millis(rest.number()?));
            let length = usize::from(rest.short()?);
            let message = rest.octets(length)?;
            let stored_at = Instant::now().checked_sub(age.saturating_add(since));
            if let (Some(stored_at), true) = (stored_at, is_key_of(key, message))
                && let Ok(answer) = Answer::read(Bytes::copy_from_slice(message))
                && self.put_back(key, answer, lifetime, stored_at)
            {
                count += 1;
            }
        }
        Ok(count)
    }
}

/// True where the message's question is the key's: its name, type and class.
fn is_key_of(key: &[u8], message: &[u8]) -> bool {
    let asked = || {
        let (name, after) = wire::read_name(message, HEADER_OCTETS).ok()?;
        let mut octets = name.wire().to_vec();
        octets.extend_from_slice(message.get(after..after + 4)?);
        Some(octets)
    };
    key.len() <= KEY_OCTETS_MAX && asked().is_some_and(|asked| key.split_last().is_some_and(|(_, key)| key == asked))
}

/// What is still to read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn octets(&mut self, count: usize) -> Result<&'a [u8], RestoreError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(RestoreError::Damaged)?;
        self.0 = tail;
        Ok(head)
    }

    fn octet(&mut self) -> Result<u8, RestoreError> {
        self.octets(1).map(|octets| octets[0])
    }

    fn short(&mut self) -> Result<u16, RestoreError> {
        Ok(u16::from_le_bytes(self.octets(2)?.try_into().map_err(|_| RestoreError::Damaged)?))
    }

    fn number(&mut self) -> Result<u64, RestoreError> {
        Ok(u64::from_le_bytes(self.octets(8)?.try_into().map_err(|_| RestoreError::Damaged)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::question::{Question, decode, encode};
    use crate::dns::settings::{UpstreamGroup, UpstreamPolicy, UpstreamServer, UpstreamTransport};
    use crate::model::DomainName;

    const NOON: Duration = Duration::from_secs(1_700_000_000);

    fn question(name: &str) -> Question {
        let name = DomainName::from_text(name).expect("a name");
        Question {
            name,
            qtype: 1,
            qclass: 1,
            recursion_desired: true,
            authentic_data: false,
            checking_disabled: false,
            dnssec_ok: false,
        }
    }

    /// An answer with one address and this TTL.
    fn answer(question: &Question, ttl: u32) -> Answer {
        let mut octets = encode(question, 0, 1232);
        let after = decode(&octets).expect("a query").question_octets.len() + HEADER_OCTETS;
        octets.truncate(after);
        (octets[2], octets[3], octets[7], octets[11]) = (0x81, 0x80, 1, 0);
        octets.extend([0xc0, 12, 0, 1, 0, 1]);
        octets.extend(ttl.to_be_bytes());
        octets.extend([0, 4, 192, 0, 2, 1]);
        Answer::read(octets.into()).expect("an answer")
    }

    fn cache() -> AnswerCache {
        AnswerCache::new(&Settings::new())
    }

    fn saved() -> Vec<u8> {
        let cache = cache();
        for (name, ttl) in [("a.example", 3600), ("b.example", 60)] {
            cache.store(&question(name), answer(&question(name), ttl));
        }
        let mut octets = Vec::new();
        assert_eq!(cache.save(&mut octets, UNIX_EPOCH + NOON).expect("writes"), 2);
        octets
    }

    #[test]
    fn answers_come_back_and_have_aged() {
        let (saved, cache) = (saved(), cache());
        let later = UNIX_EPOCH + NOON + Duration::from_secs(600);
        assert_eq!(cache.restore(&saved, later), Ok(2));
        let fresh = cache.fresh(&question("a.example")).expect("an hour is not over");
        assert!((600..660).contains(&fresh.entry.age_seconds()));
        assert!(fresh.entry.judged.load().is_none(), "a verdict is not kept");
        assert!(cache.fresh(&question("b.example")).is_none(), "a minute is");
        assert!(cache.stale(&question("b.example")).is_some());
    }

    #[test]
    fn what_is_too_old_to_be_stale_stays_away() {
        let cache = cache();
        assert_eq!(cache.restore(&saved(), UNIX_EPOCH + NOON + Duration::from_secs(86_400 + 120)), Ok(1));
        assert_eq!(cache.restore(&saved(), UNIX_EPOCH), Err(RestoreError::Future));
    }

    #[test]
    fn no_damage_goes_unseen() {
        let saved = saved();
        for at in 0..saved.len() {
            let mut damaged = saved.clone();
            damaged[at] ^= 0x10;
            let cut = &saved[..at];
            for octets in [&damaged[..], cut] {
                let cache = cache();
                assert!(cache.restore(octets, UNIX_EPOCH + NOON).is_err(), "at {at}");
                assert!(cache.fresh(&question("a.example")).is_none());
            }
        }
    }

    #[test]
    fn answers_of_other_upstreams_stay_away() {
        let server = UpstreamServer {
            text: String::new(),
            addr: ([192, 0, 2, 53], 53).into(),
            transport: UpstreamTransport::Udp,
        };
        let mut settings = Settings::new();
        settings.upstreams.push(UpstreamGroup {
            suffix: DomainName::root(),
            servers: vec![server],
            policy: UpstreamPolicy::Ordered,
            hedges: false,
        });
        let restored = AnswerCache::new(&settings).restore(&saved(), UNIX_EPOCH + NOON);
        assert_eq!(restored, Err(RestoreError::OtherSource));
    }

    #[test]
    fn an_answer_under_another_question_is_not_taken() {
        let cache = cache();
        let other = answer(&question("b.example"), 60);
        cache.store(&question("a.example"), other);
        let mut octets = Vec::new();
        cache.save(&mut octets, UNIX_EPOCH + NOON).expect("writes");
        assert_eq!(super::super::cache::AnswerCache::new(&Settings::new()).restore(&octets, UNIX_EPOCH + NOON), Ok(0));
    }
}
