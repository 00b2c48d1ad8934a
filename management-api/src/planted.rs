//! Bugs for the simulation to find: each a rule of the record path left out, on purpose and on one thread.

use shared::event::Purchase;

/// Which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A batch that was fenced off counts as committed.
    FenceIgnored,
    /// A batch that was fenced off is dropped, and its records are not read again.
    ReloadForgotten,
    /// The offset moves before the dead letter is confirmed.
    OffsetBeforeDeadLetter,
    /// A dead letter that its topic refuses is forgotten.
    RefusedDeadLetterDropped,
    /// A partition's records go to several lanes.
    LaneMixedUp,
    /// A record that was read before is taken for the next one.
    EchoNotDropped,
    /// What was dropped in a rebalance is not read again.
    SeekForgotten,
    /// A lane's partitions stay paused.
    ResumeForgotten,
    /// Who waits is told before the commit.
    WakeBeforeCommit,
    /// A batch that is cut in two moves the offsets past both with the first.
    SplitMovesTooFar,
    /// No answer of the database counts as a refusal.
    SilenceTakenForRefusal,
    /// What is stored does not decide which of several purchases of one id in a batch is the right one.
    RivalsNotAsked,
    /// An id may stand twice in a batch.
    RepeatKept,
    /// Kafka is told what was handed over, not what is recorded.
    CommittedTooEarly,
    /// The topic is not asked for its life before ids made of places are stored.
    LifeNotAsked,
    /// Where the histories of a log part is not heeded.
    CutIgnored,
    /// A round of the group that brings nothing is not answered.
    EmptyRoundUnanswered,
    /// What was dropped in a rebalance is read again from what the database holds, also where the log was cut before that.
    ReadAgainFromStored,
    /// What Kafka did not take of a commit is not told again.
    FailedCommitForgotten,
    /// Behind marks of transactions no leader's epoch is stored.
    MarkHidesEpoch,
    /// Whoever says that it is a dead letter that comes back is believed.
    ClaimBelieved,
    /// Where a record is taken out of a batch, the key that bought it stays, for the next one.
    KeyLeftBehind,
    /// Two purchases of a batch are recorded with each other's price.
    PricesSwapped,
    /// A record of a purchase that is recorded already counts for its key once more.
    RepeatCounted,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::FenceIgnored,
        Self::ReloadForgotten,
        Self::OffsetBeforeDeadLetter,
        Self::RefusedDeadLetterDropped,
        Self::LaneMixedUp,
        Self::EchoNotDropped,
        Self::SeekForgotten,
        Self::ResumeForgotten,
        Self::WakeBeforeCommit,
        Self::SplitMovesTooFar,
        Self::SilenceTakenForRefusal,
        Self::RivalsNotAsked,
        Self::RepeatKept,
        Self::CommittedTooEarly,
        Self::LifeNotAsked,
        Self::CutIgnored,
        Self::EmptyRoundUnanswered,
        Self::ReadAgainFromStored,
        Self::FailedCommitForgotten,
        Self::MarkHidesEpoch,
        Self::ClaimBelieved,
        Self::KeyLeftBehind,
        Self::PricesSwapped,
        Self::RepeatCounted,
    ];
}

/// The lane that a mixed-up reader takes.
pub(crate) fn lane(offset: i64, lanes: usize) -> usize {
    usize::try_from(offset).unwrap_or(0) % lanes
}

/// Gives the last two rows each other's price.
pub(crate) fn swap_prices(rows: &mut [Purchase]) {
    if let [.., one, other] = rows {
        std::mem::swap(&mut one.price, &mut other.price);
    }
}

#[cfg(debug_assertions)]
mod plant {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug on this thread, or takes it away.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(debug_assertions)]
pub(crate) use self::plant::is;
#[cfg(debug_assertions)]
pub use self::plant::plant;

/// Nothing is planted in a release.
#[cfg(not(debug_assertions))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
