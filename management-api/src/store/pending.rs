//! The rows of a batch on their way into the database, the same for every database.

use std::collections::{BTreeMap, HashMap};

use shared::api_keys::Day;
use shared::event::{Purchase, STORABLE_MILLIS, Timestamp};
use uuid::Uuid;

use super::callbacks::BATCH_MAX;
use super::{Batch, CallbackBatch, RecordError};
use crate::planted::{self, Bug};

/// The rows still to be inserted, each with its index in the batch. By ascending id: replicas that insert the same ids
/// then wait for each other in one order, and never in a circle.
pub struct PendingRows<'a>(Vec<(usize, &'a Purchase)>);

impl<'a> PendingRows<'a> {
    /// All rows of a batch.
    ///
    /// # Errors
    /// `Rejected` when some row is none that can be stored and read back, or the batch is malformed.
    pub fn new(batch: &'a Batch) -> Result<Self, RecordError> {
        if batch.moves.is_empty() {
            return Err(RecordError::Rejected("the batch moves no offset".to_owned()));
        }
        // One key too few or too many, and others would be counted for it than have bought.
        if !batch.key_ids.is_empty() && batch.key_ids.len() != batch.rows.len() {
            let (keys, rows) = (batch.key_ids.len(), batch.rows.len());
            return Err(RecordError::Rejected(format!("the batch has {keys} keys for {rows} rows")));
        }
        let mut rows: Vec<(usize, &Purchase)> = batch.rows.iter().enumerate().collect();
        rows.sort_unstable_by_key(|(_, row)| row.purchase_id);
        if rows.windows(2).any(|pair| pair[0].1.purchase_id == pair[1].1.purchase_id) {
            return Err(RecordError::Rejected("an id stands twice in the batch".to_owned()));
        }
        rows.iter().try_for_each(|(_, row)| check(row))?;
        Ok(Self(rows))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a Purchase> {
        self.0.iter().map(|(_, row)| *row)
    }

    pub(super) fn ids(&self) -> Vec<Uuid> {
        self.iter().map(|row| row.purchase_id).collect()
    }

    /// How many of them each API key has bought on each day, in order.
    #[must_use]
    pub fn bought_by_keys(&self, batch: &Batch) -> BTreeMap<(Uuid, Day), i64> {
        let mut bought = BTreeMap::new();
        let count = |(index, row): (usize, &Purchase)| {
            if let Some(key_id) = batch.key_ids.get(index).copied().flatten() {
                *bought.entry((key_id, Day::of(row.timestamp))).or_default() += 1;
            }
        };
        if planted::is(Bug::RepeatCounted) {
            batch.rows.iter().enumerate().for_each(count);
        } else {
            self.0.iter().copied().for_each(count);
        }
        bought
    }

    /// The outbox's rows for those whose buyers are to be called back.
    #[must_use]
    pub fn callback_batches(&self) -> Vec<CallbackBatch> {
        let called_back: Vec<&Purchase> = self.iter().filter(|row| row.callback_url.is_some()).collect();
        let batch = |rows: &[&Purchase]| CallbackBatch {
            batch_id: Uuid::now_v7(),
            purchases: rows.iter().map(|row| (*row).clone()).collect(),
        };
        called_back.chunks(BATCH_MAX).map(batch).collect()
    }

    /// Drops what is among `stored` with the same content, and decides nothing about the others.
    pub(super) fn remove_same(&mut self, stored: &[Purchase]) {
        let stored = by_id(stored);
        self.0.retain(|(_, row)| !stored.get(&row.purchase_id).is_some_and(|first| first.same_content(row)));
    }

    /// Drops what is among `stored`: those rows are duplicates. The first recorded stays as it is.
    ///
    /// # Errors
    /// `Conflict` when an id is stored with other content.
    pub fn remove_stored(&mut self, stored: &[Purchase]) -> Result<(), RecordError> {
        let stored = by_id(stored);
        let mut conflicts = Vec::new();
        self.0.retain(|(index, row)| match stored.get(&row.purchase_id) {
            None => true,
            Some(first) => {
                if !first.same_content(row) {
                    conflicts.push(*index);
                }
                false
            }
        });
        conflicts.sort_unstable();
        if conflicts.is_empty() { Ok(()) } else { Err(RecordError::Conflict(conflicts)) }
    }
}

/// The same rows of the outbox, of what is recorded by now.
#[must_use]
pub fn at(mut callbacks: Vec<CallbackBatch>, recorded_at: Timestamp) -> Vec<CallbackBatch> {
    for purchase in callbacks.iter_mut().flat_map(|batch| &mut batch.purchases) {
        purchase.recorded_at = Some(recorded_at);
    }
    callbacks
}

fn by_id(purchases: &[Purchase]) -> HashMap<Uuid, &Purchase> {
    purchases.iter().map(|purchase| (purchase.purchase_id, purchase)).collect()
}

/// The decoder of records refuses most of this before; the store does not take its word for it.
fn check(purchase: &Purchase) -> Result<(), RecordError> {
    if purchase.userid.contains('\0') || purchase.username.contains('\0') {
        return Err(RecordError::Rejected("a name has a NUL character".to_owned()));
    }
    if !STORABLE_MILLIS.contains(&purchase.timestamp.millis()) {
        return Err(RecordError::Rejected("the timestamp is not within the years 0001 to 9999".to_owned()));
    }
    Ok(())
}
