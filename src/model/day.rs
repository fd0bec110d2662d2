//! Calendar days as filings write them, `YYYY-MM-DD`, in the registry's own time zone.
//!
//! Dates in filings are days of the authority's calendar (UTC+8, no summer time). The gate turns "now" into such a day
//! once per decision, so that a filing expires at midnight in Beijing whatever the server's zone is.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use time::{Date, Month};

/// Offset of the filing authority's civil time from UTC: eight hours.
const AUTHORITY_OFFSET: Duration = Duration::from_secs(8 * 3600);
/// Julian day number of 1970-01-01.
const UNIX_EPOCH_JULIAN: i32 = 2_440_588;

/// A text that is no calendar day.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a calendar day; expected YYYY-MM-DD, for example 2026-11-24")]
pub struct DayError;

/// A calendar day, kept as days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

impl Day {
    /// Reads `YYYY-MM-DD`, exactly ten characters, a day that exists.
    pub fn parse(text: &str) -> Result<Self, DayError> {
        let octets = text.as_bytes();
        let well_formed = octets.len() == 10
            && octets.iter().enumerate().all(|(i, o)| if i == 4 || i == 7 { *o == b'-' } else { o.is_ascii_digit() });
        if !well_formed {
            return Err(DayError);
        }
        let number = |part: &str| part.parse::<u16>().map_err(|_| DayError);
        let (year, month, day) = (number(&text[..4])?, number(&text[5..7])?, number(&text[8..])?);
        let month = u8::try_from(month).ok().and_then(|m| Month::try_from(m).ok()).ok_or(DayError)?;
        let day = u8::try_from(day).map_err(|_| DayError)?;
        let date = Date::from_calendar_date(i32::from(year), month, day).map_err(|_| DayError)?;
        Ok(Self(date.to_julian_day() - UNIX_EPOCH_JULIAN))
    }

    /// The day it is in the authority's time zone at `now`; times before 1970 count as the first day.
    pub fn at(now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default() + AUTHORITY_OFFSET;
        Self(i32::try_from(since.as_secs() / 86_400).unwrap_or(i32::MAX))
    }

    /// The calendar year.
    pub fn year(self) -> i32 {
        Date::from_julian_day(self.0.saturating_add(UNIX_EPOCH_JULIAN)).map_or(i32::from(u16::MAX), Date::year)
    }

    /// Days since 1970-01-01.
    pub fn number(self) -> i32 {
        self.0
    }

    /// From days since 1970-01-01.
    pub fn from_number(days: i32) -> Self {
        Self(days)
    }

    /// The moment the day begins in the authority's time zone.
    pub fn begins_at(self) -> SystemTime {
        let seconds = u64::try_from(i64::from(self.0) * 86_400).unwrap_or(0);
        UNIX_EPOCH + Duration::from_secs(seconds.saturating_sub(AUTHORITY_OFFSET.as_secs()))
    }

    /// The following day.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Date::from_julian_day(self.0.saturating_add(UNIX_EPOCH_JULIAN)) {
            Ok(date) => write!(f, "{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day()),
            Err(_) => write!(f, "day {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_round_trip_and_bad_ones_are_refused() {
        for text in ["1970-01-01", "2000-02-29", "2026-11-24", "1999-12-31"] {
            assert_eq!(Day::parse(text).expect(text).to_string(), text);
        }
        for text in ["2026-02-29", "2026-13-01", "2026-1-1", "20261124", "", "2026-11-24T", "２０２６-11-24"] {
            assert_eq!(Day::parse(text), Err(DayError), "{text}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_in_beijing() {
        let day = Day::parse("2026-11-24").expect("day");
        let begin = day.begins_at();
        assert_eq!(Day::at(begin), day);
        assert_eq!(Day::at(begin - Duration::from_secs(1)).next(), day);
    }
}
