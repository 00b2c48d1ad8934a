//! The result of comparing a ledger with what is stored.

use std::fmt;

use rust_decimal::Decimal;
use uuid::Uuid;

/// How many differences are printed; the count is always complete.
const SHOWN_MAX: usize = 20;

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A 2xx without a row.
    Missing {
        /// The purchase's user name.
        username: String,
    },
    /// More rows than purchases.
    RecordedTwice {
        /// The purchase's user name.
        username: String,
        /// All its rows.
        purchase_ids: Vec<Uuid>,
    },
    /// A row for a purchase whose every answer said that it was refused.
    RefusedButRecorded {
        /// The purchase's user name.
        username: String,
    },
    /// The row holds something else than what was sent or answered.
    OtherContent {
        /// The purchase's user name.
        username: String,
        /// Which field, what was expected, what is stored.
        what: String,
    },
    /// The same key was answered with different ids.
    TwoIdsForOneKey {
        /// The purchase's user name.
        username: String,
        /// The ids.
        purchase_ids: Vec<Uuid>,
    },
    /// A row for a purchase that is not in the ledger.
    NobodySent {
        /// The row's id.
        purchase_id: Uuid,
        /// The row's user name.
        username: String,
    },
    /// The read API's count or sum of a user is not that of the rows.
    OtherTotals {
        /// The user.
        userid: String,
        /// Count and sum of the rows.
        rows: (u64, Decimal),
        /// What the read API says.
        api: String,
    },
}

/// Counts, and every difference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Purchases in the ledger.
    pub purchases: usize,
    /// Of these, acknowledged.
    pub acknowledged: usize,
    /// Of these, neither acknowledged nor refused.
    pub unknown: usize,
    /// Of the unknown, recorded.
    pub unknown_recorded: usize,
    /// Rows in the table.
    pub rows: usize,
    /// Users whose totals were compared.
    pub users_compared: usize,
    /// Everything that is not as it must be.
    pub differences: Vec<Difference>,
}

impl Report {
    /// Whether acknowledged purchases are missing and nothing else is wrong: they may still be on their way.
    pub fn is_only_incomplete(&self) -> bool {
        self.differences.iter().all(|difference| matches!(difference, Difference::Missing { .. }))
    }

    /// Panics with the whole report if there is any difference.
    ///
    /// # Panics
    /// See above.
    pub fn assert_clean(&self) {
        assert!(self.differences.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{} purchases: {} acknowledged, {} unknown ({} of them recorded); {} rows; totals of {} users; {} differences",
            self.purchases,
            self.acknowledged,
            self.unknown,
            self.unknown_recorded,
            self.rows,
            self.users_compared,
            self.differences.len()
        )?;
        for difference in self.differences.iter().take(SHOWN_MAX) {
            writeln!(formatter, "  {difference:?}")?;
        }
        if self.differences.len() > SHOWN_MAX {
            writeln!(formatter, "  … and {} more", self.differences.len() - SHOWN_MAX)?;
        }
        Ok(())
    }
}
