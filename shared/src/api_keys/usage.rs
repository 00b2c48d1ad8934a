//! How much keys are used, by day.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::event::Timestamp;

/// A day of UTC, `2026-01-31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, format = Date, example = "2026-01-31")]
pub struct Day(NaiveDate);

/// Not a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a day such as 2026-01-31")]
pub struct InvalidDay;

impl Day {
    /// The day of a moment.
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        Self(time.datetime().date_naive())
    }

    /// So many days before.
    #[must_use]
    pub fn before(self, days: u32) -> Self {
        Self(self.0 - chrono::Days::new(days.into()))
    }

    /// How many days it is after another.
    #[must_use]
    pub fn since(self, other: Self) -> i64 {
        (self.0 - other.0).num_days()
    }

    /// The day for SQL.
    #[must_use]
    pub fn date(self) -> NaiveDate {
        self.0
    }
}

impl From<NaiveDate> for Day {
    fn from(date: NaiveDate) -> Self {
        Self(date)
    }
}

impl FromStr for Day {
    type Err = InvalidDay;

    fn from_str(text: &str) -> Result<Self, InvalidDay> {
        // As a time of that day, which has one way to be written.
        let midnight = DateTime::parse_from_rfc3339(&format!("{text}T00:00:00Z")).map_err(|_| InvalidDay)?;
        Ok(Self(midnight.date_naive()))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%d"))
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RequestClass {
    /// One purchase.
    Buy,
    /// A batch of purchases.
    Batch,
    /// A read.
    Read,
}

impl RequestClass {
    /// Every class.
    pub const ALL: [Self; 3] = [Self::Buy, Self::Batch, Self::Read];

    /// Its name.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Batch => "batch",
            Self::Read => "read",
        }
    }
}

/// Requests of one key, day and class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct RequestCount {
    /// Whose.
    pub key_id: Uuid,
    /// When they came.
    pub day: Day,
    /// What they were for.
    pub class: RequestClass,
    /// How many came since the flush before.
    pub requests: u32,
    /// When the last one of them came.
    pub last_at: Timestamp,
}

/// What web-server has counted. The same id again adds nothing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct UsageFlush {
    /// Names it.
    pub flush_id: Uuid,
    /// Each key, day and class once.
    #[schema(max_items = 1000)]
    pub counts: Vec<RequestCount>,
}

impl UsageFlush {
    /// The most counts of one.
    pub const COUNTS_MAX: usize = 1000;
}

/// The use of a key on a day.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct KeyUsage {
    /// The key.
    pub key_id: Uuid,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub account_id: Uuid,
    /// The day, by UTC: of purchases that of their timestamps.
    pub day: Day,
    /// Purchases that are recorded, each once.
    pub purchases: u64,
    /// Requests within their rate, also those that were refused for another reason; counted within some seconds.
    pub requests: RequestCounts,
}

/// Requests by what they were for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct RequestCounts {
    /// Single purchases.
    pub buy: u64,
    /// Batches of purchases.
    pub batch: u64,
    /// Reads.
    pub read: u64,
}

/// The use of keys, newest days first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct UsageAnswer {
    /// A row for each key and day on which it was used.
    pub usage: Vec<KeyUsage>,
    /// Whether that is all; if not, ask for fewer days.
    pub is_complete: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_one_way_to_be_written() {
        let day: Day = "2026-01-31".parse().unwrap();
        assert_eq!(day.to_string(), "2026-01-31");
        assert_eq!(Day::of(Timestamp::parse("2026-01-31T23:59:59.999Z").unwrap()), day);
        assert_eq!((day.before(31).to_string(), day.since(day.before(31))), ("2025-12-31".to_owned(), 31));
        for bad in ["", "2026-1-31", "2026-02-30", "20260131", "+2026-01-31", "2026-01-31T"] {
            assert!(bad.parse::<Day>().is_err(), "{bad}");
        }
    }
}
