//! What the client knows: every purchase it sent, every attempt and answer. Independent of the code under test.

mod report;
#[cfg(test)]
mod tests;
mod verify;

use std::time::Duration;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

pub use report::{Difference, Report};
pub use verify::verify_totals;

/// One purchase, as its sender sees it. Its user name is its own, so that its row can be found without its id.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Unique in the ledger.
    pub username: String,
    /// Who buys.
    pub userid: String,
    /// For how much.
    pub price: Decimal,
    /// The `Idempotency-Key` of all attempts.
    pub key: Option<String>,
    /// In the order they were made.
    pub attempts: Vec<Attempt>,
}

/// One request for a purchase.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Which of the load's targets it went to.
    pub target: usize,
    /// When, counted from the load's start.
    pub begun: Duration,
    /// How long until its outcome.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// No connection: nothing was sent.
    NotSent(String),
    /// A complete answer.
    Answered {
        /// Its status.
        status: u16,
        /// The id in its body.
        purchase_id: Option<Uuid>,
        /// The purchase's timestamp in its body.
        timestamp: Option<DateTime<Utc>>,
    },
    /// Sent, at least in part, without a complete answer.
    Lost(String),
}

impl Outcome {
    /// A 2xx: the purchase must be recorded.
    pub fn is_acknowledged(&self) -> bool {
        matches!(self, Self::Answered { status: 200..=299, .. })
    }

    /// Whether the purchase may be recorded without our knowing. A 503 and a 4xx say that nothing was sent to Kafka.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::NotSent(_) => false,
            Self::Answered { status, .. } => *status >= 500 && *status != 503,
        }
    }

    /// Whether a client should try again: no answer, a 5xx or a 429.
    pub fn is_worth_repeating(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Lost(_) => true,
            Self::Answered { status, .. } => *status >= 500 || *status == 429,
        }
    }
}

/// What must, may and must not be recorded, after all attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Exactly one row.
    Acknowledged,
    /// A row or none.
    Unknown,
    /// No row.
    Refused,
}

impl Entry {
    /// See [`Fate`].
    pub fn fate(&self) -> Fate {
        let mut outcomes = self.attempts.iter().map(|attempt| &attempt.outcome);
        if outcomes.clone().any(Outcome::is_acknowledged) {
            Fate::Acknowledged
        } else if outcomes.any(Outcome::is_unknown) {
            Fate::Unknown
        } else {
            Fate::Refused
        }
    }

    /// How many rows there may be at most. With a key all attempts are one purchase; without, each is its own.
    fn rows_max(&self) -> usize {
        let stored = |attempt: &&Attempt| attempt.outcome.is_acknowledged() || attempt.outcome.is_unknown();
        let possible = self.attempts.iter().filter(stored).count();
        if self.key.is_some() { possible.min(1) } else { possible }
    }

    /// Every id that an answer gave.
    fn purchase_ids(&self) -> impl Iterator<Item = Uuid> {
        self.attempts.iter().filter_map(|attempt| match attempt.outcome {
            Outcome::Answered { purchase_id, .. } => purchase_id,
            _ => None,
        })
    }
}

/// All purchases of one or more loads.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
}

impl Ledger {
    /// Writes a purchase down.
    pub fn add(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Takes over all purchases of another ledger.
    pub fn merge(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// All purchases.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many purchases have this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.entries.iter().filter(|entry| entry.fate() == fate).count()
    }
}
