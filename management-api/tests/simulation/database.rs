//! The database by its rules: compare-and-set of offsets, rows, dead letters, all or nothing; and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};

use management_api::letter::DeadLetter;
use management_api::store::{Batch, OffsetMove, PendingRows, RecordError, Recorded};
use shared::api_keys::Day;
use shared::event::{Purchase, Timestamp};
use uuid::Uuid;

use crate::topic::{Fate, REFUSED_USER, Topic};

/// What is stored.
#[derive(Default)]
pub struct Database {
    /// The next offset of each partition, with its epoch, in each life of the topic.
    pub offsets: BTreeMap<(String, i32), (i64, Option<i32>)>,
    /// Rows by id.
    pub rows: BTreeMap<Uuid, Purchase>,
    /// How many rows each purchase has, by its number.
    copies: BTreeMap<u32, u32>,
    /// Records that the dead-letter topic has, by number.
    pub dead_letters: BTreeSet<u32>,
    /// Records that are kept as dead letters here.
    pub kept: BTreeSet<u32>,
    /// What keys have bought on each day, as it is counted with the batches.
    metered: BTreeMap<(Uuid, Day), i64>,
    /// The same, row by row.
    bought: BTreeMap<(Uuid, Day), i64>,
    /// The furthest that each partition was ever recorded.
    pub furthest: BTreeMap<i32, i64>,
    /// What should not have happened.
    pub violations: Vec<String>,
}

impl Database {
    /// The stored offset of a partition and its epoch.
    pub fn offset(&self, incarnation: &str, partition: i32) -> (i64, Option<i32>) {
        self.offsets.get(&(incarnation.to_owned(), partition)).copied().unwrap_or_default()
    }

    /// Executes one transaction.
    pub fn record(&mut self, batch: &Batch, topic: &Topic) -> Result<Recorded, RecordError> {
        let is_fenced = |step: &OffsetMove| {
            let (offset, epoch) = self.offset(&batch.incarnation, step.partition);
            offset != step.expected
                || epoch.zip(step.expected_epoch).is_some_and(|(stored, expected)| stored != expected)
        };
        if batch.moves.iter().any(is_fenced) {
            return Err(RecordError::Fenced);
        }
        if batch.rows.iter().any(|row| row.userid == REFUSED_USER) {
            return Err(RecordError::Rejected("a check of the table".to_owned()));
        }
        let ids: BTreeSet<_> = batch.rows.iter().map(|row| row.purchase_id).collect();
        if ids.len() < batch.rows.len() {
            self.violations.push("an id stands twice in a batch".to_owned());
        }
        // What the real databases do before they are asked.
        let mut rows = PendingRows::new(batch)?;
        let stored: Vec<_> = ids.iter().filter_map(|id| self.rows.get(id).cloned()).collect();
        rows.remove_stored(&stored)?;
        let before = self.rows.len();
        for (index, row) in batch.rows.iter().enumerate() {
            self.insert(row, batch.key_ids.get(index).copied().flatten(), topic);
        }
        self.meter(rows.bought_by_keys(batch));
        batch.dead_letters.iter().for_each(|letter| self.keep(letter, topic));
        batch.moves.iter().for_each(|step| self.advance(&batch.incarnation, step, topic));
        let inserted = self.rows.len() - before;
        Ok(Recorded {
            inserted,
            duplicates: batch.rows.len() - inserted,
            recorded_at: Timestamp::now(),
            callbacks: Vec::new(),
        })
    }

    fn insert(&mut self, row: &Purchase, key_id: Option<Uuid>, topic: &Topic) {
        if self.rows.contains_key(&row.purchase_id) {
            return;
        }
        self.rows.insert(row.purchase_id, row.clone());
        let number = row.username[1..].parse().unwrap_or(u32::MAX);
        let copies = self.copies.entry(number).or_default();
        *copies += 1;
        if *copies > 1 {
            self.violations.push(format!("purchase {number} is recorded twice"));
        }
        if topic.written.get(number as usize).map(|written| written.fate) != Some(Fate::Row(number)) {
            self.violations.push(format!("record {number} must not become a row"));
        } else if !topic.is_row_of(number, row) {
            self.violations.push(format!("record {number} is recorded as {row:?}"));
        } else if !topic.is_bought_by(number, key_id) {
            self.violations.push(format!("purchase {number} is counted for the key {key_id:?}"));
        }
        if let Some(key_id) = key_id {
            *self.bought.entry((key_id, Day::of(row.timestamp))).or_default() += 1;
        }
    }

    /// Counts what keys have bought of a batch. At every commit that comes to as much as the rows do.
    fn meter(&mut self, bought: BTreeMap<(Uuid, Day), i64>) {
        for (place, purchases) in bought {
            *self.metered.entry(place).or_default() += purchases;
        }
        if self.metered != self.bought {
            let (metered, bought) = (&self.metered, &self.bought);
            self.violations.push(format!("keys have bought {bought:?}, and {metered:?} is counted for them"));
        }
    }

    fn keep(&mut self, letter: &DeadLetter, topic: &Topic) {
        let number = self.check_letter(letter, topic);
        self.kept.insert(number);
    }

    /// The dead-letter topic confirms a dead letter.
    pub fn confirm(&mut self, letter: &DeadLetter, topic: &Topic) -> u32 {
        let number = self.check_letter(letter, topic);
        self.dead_letters.insert(number);
        number
    }

    /// Records that are dead letters, wherever they are kept.
    pub fn letters(&self) -> impl Iterator<Item = u32> {
        self.dead_letters.iter().chain(&self.kept).copied()
    }

    fn check_letter(&mut self, letter: &DeadLetter, topic: &Topic) -> u32 {
        let Some((number, is_true)) = topic.find_letter(letter) else {
            self.violations.push(format!("{letter:?} is of no record"));
            return u32::MAX;
        };
        if topic.written[number as usize].fate != Fate::DeadLetter {
            let reason = letter.reason.label();
            self.violations.push(format!("record {number} must not become a dead letter ({reason})"));
        } else if !is_true {
            self.violations.push(format!("record {number} is set aside as {letter:?}"));
        }
        number
    }

    fn advance(&mut self, incarnation: &str, step: &OffsetMove, topic: &Topic) {
        let key = (incarnation.to_owned(), step.partition);
        let (stored, epoch) = self.offsets.insert(key, (step.next, step.leader_epoch)).unwrap_or_default();
        let furthest = self.furthest.entry(step.partition).or_default();
        *furthest = step.next.max(*furthest);
        if incarnation != topic.name() {
            return;
        }
        let log = &topic.logs[usize::try_from(step.partition).unwrap_or(0)];
        if step.next < stored && log.reached(stored, epoch) == stored {
            self.violations
                .push(format!("partition {} goes back from {stored} to {}, without a cut", step.partition, step.next));
        }
        for offset in log.reached(stored, epoch)..log.reached(step.next, step.leader_epoch) {
            let number = log.entry(offset).and_then(|entry| entry.number);
            if let Some(number) =
                number.filter(|number| !self.is_settled(*number, topic) && !topic.is_repeated(*number))
            {
                let partition = step.partition;
                self.violations.push(format!("record {number} is skipped: partition {partition}, offset {offset}"));
            }
        }
    }

    /// Whether a record became what it must become.
    pub fn is_settled(&self, number: u32, topic: &Topic) -> bool {
        match topic.written[number as usize].fate {
            Fate::Row(purchase) => self.copies.contains_key(&purchase),
            Fate::DeadLetter => topic
                .stand_ins(number)
                .iter()
                .any(|other| self.dead_letters.contains(other) || self.kept.contains(other)),
        }
    }

    /// Whether everything that the topic holds is recorded.
    pub fn is_done(&self, topic: &Topic) -> bool {
        let name = topic.name();
        (0..).zip(&topic.logs).all(|(partition, log)| {
            let (offset, epoch) = self.offset(&name, partition);
            offset == log.end() && log.reached(offset, epoch) == log.end()
        })
    }

    /// Looks at everything once more: all records of the topic are settled.
    pub fn check(&mut self, topic: &Topic) {
        let numbers = topic.logs.iter().flat_map(|log| &log.entries).filter_map(|entry| entry.number);
        for number in numbers {
            if !self.is_settled(number, topic) {
                self.violations.push(format!("record {number} became nothing"));
            }
        }
        if let Some(number) =
            self.copies.keys().find(|number| self.dead_letters.contains(number) || self.kept.contains(number))
        {
            self.violations.push(format!("record {number} is a row and a dead letter"));
        }
    }
}
