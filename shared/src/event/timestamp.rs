//! Points in time: UTC with milliseconds, in RFC 3339.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, Datelike, DurationRound, SecondsFormat, TimeDelta, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

/// Years 0001 to 9999, in milliseconds since 1970: the times that RFC 3339 can write and every store hold.
pub const STORABLE_MILLIS: RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

/// UTC, cut to milliseconds, so that what was sent equals what is read back from any store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.000Z")]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The present moment.
    #[must_use]
    pub fn now() -> Self {
        Self::new(Utc::now())
    }

    /// `time` cut to milliseconds.
    #[must_use]
    pub fn new(time: DateTime<Utc>) -> Self {
        Self(time.duration_trunc(TimeDelta::milliseconds(1)).unwrap_or(time))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, as Kafka counts; nothing when no store could hold it, as with microseconds
    /// taken for milliseconds.
    #[must_use]
    pub fn from_millis(millis: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(millis).filter(|_| STORABLE_MILLIS.contains(&millis)).map(Self)
    }

    /// Parses RFC 3339 with any offset; years 0001 to 9999, which every store can hold.
    ///
    /// # Errors
    /// When the text is no such time.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| InvalidTimestamp)?;
        Self::from_millis(time.timestamp_millis()).ok_or(InvalidTimestamp)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// So long before it.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.millis().saturating_sub(millis)).unwrap_or(self)
    }

    /// So long after it.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.millis().saturating_add(millis)).unwrap_or(self)
    }

    /// How long it is after `earlier`; nothing, when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.millis() - earlier.millis()).unwrap_or(0))
    }

    /// The time for SQL.
    #[must_use]
    pub fn datetime(self) -> DateTime<Utc> {
        self.0
    }
}

/// Not an RFC 3339 time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time such as 2026-01-31T12:00:00.000Z")]
pub struct InvalidTimestamp;

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand, because each purchase is stamped three times and chrono's general formatter takes several times as long.
        let (date, time) = (self.0.date_naive(), self.0.time());
        let millis = time.nanosecond() / 1_000_000;
        let Some(year) = u32::try_from(date.year()).ok().filter(|year| *year <= 9999 && millis < 1000) else {
            return f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true));
        };
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put_digits(&mut text[0..4], year);
        put_digits(&mut text[5..7], date.month());
        put_digits(&mut text[8..10], date.day());
        put_digits(&mut text[11..13], time.hour());
        put_digits(&mut text[14..16], time.minute());
        put_digits(&mut text[17..19], time.second());
        put_digits(&mut text[20..23], millis);
        f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// Fills `text` with the last decimal digits of `number`.
fn put_digits(text: &mut [u8], mut number: u32) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_offset_becomes_utc_with_milliseconds() {
        let time = Timestamp::parse("2026-01-31T13:00:00.1239+01:00").unwrap();
        assert_eq!(time.to_string(), "2026-01-31T12:00:00.123Z");
        assert_eq!(Timestamp::from_millis(time.millis()), Some(time));
    }

    #[test]
    fn the_text_is_that_of_chrono() {
        for millis in [-62_135_596_800_000, -1, 0, 951_782_400_007, 1_769_860_800_123, 253_402_300_799_999] {
            let time = Timestamp::from_millis(millis).unwrap();
            assert_eq!(time.to_string(), time.datetime().to_rfc3339_opts(SecondsFormat::Millis, true));
        }
    }

    #[test]
    fn what_a_store_cannot_hold_is_refused() {
        for text in ["", "2026-01-31", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:00", "yesterday"] {
            assert_eq!(Timestamp::parse(text), Err(InvalidTimestamp), "{text}");
        }
        assert_eq!(Timestamp::from_millis(1_763_000_000_000_000), None, "microseconds taken for milliseconds");
    }
}
