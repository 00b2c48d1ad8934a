//! The protocol with a rule left out.

use crate::protocol::{Faults, Scope};

/// Which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The database does not compare the offset with the expected one.
    FenceDropped,
    /// A batch that was fenced off counts as committed, and offsets are not loaded again.
    FenceIgnored,
    /// The offset moves before the dead letter is confirmed.
    OffsetBeforeDeadLetter,
    /// The offset moves first, the rows follow in another transaction.
    OffsetOutsideTransaction,
    /// A transaction without an answer counts as committed.
    SilenceTakenForCommitted,
    /// A transaction without an answer counts as refused.
    SilenceTakenForRefused,
    /// A dead letter that its topic refuses is forgotten.
    RefusedDeadLetterDropped,
    /// A batch that is cut in two moves the offset past both with the first.
    SplitMovesTooFar,
    /// Offsets are stored without the life of the topic that they belong to.
    IncarnationIgnored,
    /// The topic is not asked for its life before ids made of places are stored.
    LifeNotAsked,
    /// Offsets are obeyed whatever became of the log since.
    EpochIgnored,
    /// The database compares the offset with the expected one, but not its epoch.
    EpochNotCompared,
    /// Ids made of places do not tell one history of the log from another.
    IdWithoutEpoch,
    /// The database must hold where reading goes on, not what it was seen to hold.
    ExpectedWhereReadFrom,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::FenceDropped,
        Self::FenceIgnored,
        Self::OffsetBeforeDeadLetter,
        Self::OffsetOutsideTransaction,
        Self::SilenceTakenForCommitted,
        Self::SilenceTakenForRefused,
        Self::RefusedDeadLetterDropped,
        Self::SplitMovesTooFar,
        Self::IncarnationIgnored,
        Self::LifeNotAsked,
        Self::EpochIgnored,
        Self::EpochNotCompared,
        Self::IdWithoutEpoch,
        Self::ExpectedWhereReadFrom,
    ];

    /// Where it shows.
    pub fn scope(self) -> Scope {
        match self {
            Self::FenceDropped
            | Self::FenceIgnored
            | Self::OffsetOutsideTransaction
            | Self::SilenceTakenForCommitted
            | Self::SilenceTakenForRefused => Scope::GOOD,
            Self::OffsetBeforeDeadLetter | Self::RefusedDeadLetterDropped => Scope::POISON,
            Self::SplitMovesTooFar => Scope::REJECTED,
            Self::IncarnationIgnored | Self::LifeNotAsked => Scope { faults: Faults::MadeAnew, ..Scope::GOOD },
            Self::EpochIgnored | Self::EpochNotCompared | Self::IdWithoutEpoch | Self::ExpectedWhereReadFrom => {
                Scope { faults: Faults::Cut, ..Scope::GOOD }
            }
        }
    }
}
