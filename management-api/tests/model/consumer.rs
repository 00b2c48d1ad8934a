//! A consumer: the reader's position and kept batch, and one lane.

use crate::database::{Fate, Held, Part};
use crate::log::Place;

/// Batches in a lane: one being committed, one behind it.
pub const LANE_BATCHES: usize = 2;

/// A process; a crash makes it `Consumer::default()`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Consumer {
    /// Whether the group gave it the partition and did not take it, as far as it knows.
    pub assigned: bool,
    /// The life of the topic that it reads.
    pub incarnation: u8,
    /// How far it is; nothing while the offsets are being loaded.
    pub position: Option<Position>,
    /// What was read and not handed over.
    pub kept: Vec<Held>,
    /// What was handed over, the batch being committed first.
    pub lane: Vec<Batch>,
}

/// How far the partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// What the database will hold once everything handed over is committed.
    pub expected: Place,
    /// The next offset to read, and the epoch of what was read before it.
    pub next: Place,
}

/// A batch in a lane: at first in one part, in more after a row was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batch {
    /// Whether the topic was asked for its life, and repeats were dropped.
    pub begun: bool,
    /// What is left to be committed.
    pub parts: Vec<Part>,
}

impl Consumer {
    /// Forgets where it is and what it has read: the offsets are to be loaded again. The lane goes on.
    pub fn reload(&mut self) {
        self.position = None;
        self.kept.clear();
    }

    /// The group has taken the partition.
    pub fn revoked(&mut self) {
        self.reload();
        self.assigned = false;
    }

    /// The part that the lane commits.
    pub fn part(&mut self) -> Option<&mut Part> {
        self.lane.first_mut()?.parts.first_mut()
    }
}

impl Batch {
    /// Leaves each id once: a repeat with the same content is dropped, another is a conflict.
    pub fn deduplicate(&mut self, same_id: impl Fn(Held, Held) -> bool, same_content: impl Fn(Held, Held) -> bool) {
        for part in &mut self.parts {
            for index in 1..part.records.len() {
                let (before, now) = part.records.split_at_mut(index);
                let now = &mut now[0];
                if now.fate != Fate::Row {
                    continue;
                }
                if let Some(first) = before.iter().find(|held| held.fate == Fate::Row && same_id(**held, *now)) {
                    now.fate = if same_content(*first, *now) { Fate::Dropped } else { Fate::Condemned };
                }
            }
        }
    }

    /// Cuts the first part in two; the first moves the offset as far as its own rows go, or `too_far`.
    pub fn split(&mut self, too_far: bool) {
        let mut part = self.parts.remove(0);
        let rows: Vec<Held> = part.rows().copied().collect();
        let cut = rows[rows.len() / 2];
        // Everything up to the first row of the second half is done with the first half.
        let at = part.records.iter().position(|held| held.record == cut.record).unwrap_or(0);
        let records = part.records.split_off(at);
        let before = part.records.last().copied().map_or(part.expected, Held::after);
        let second = Part { expected: before, next: part.next, incarnation: part.incarnation, records };
        let first = Part { next: if too_far { part.next } else { before }, ..part };
        self.parts.splice(0..0, [first, second]);
    }
}
