//! What is checked: which records there are, which faults happen, which rule is left out.

use crate::database::Held;
use crate::log::{Id, Kind, RECORDS, Record};
use crate::mutant::Mutant;

/// Faults in one behaviour at most.
pub const FAULTS_MAX: u8 = 2;

/// Which part of the world is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// What the first life's records are.
    pub kinds: [Kind; 3],
    /// What may fail beside the consumers, the group and the database.
    pub faults: Faults,
}

/// Faults beside those of consumers, group and database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// None.
    Processes,
    /// The topic is made anew.
    MadeAnew,
    /// The log is cut and grows again.
    Cut,
}

impl Scope {
    /// Three purchases.
    pub const GOOD: Self = Self::of([Kind::ByPlace; 3]);
    /// A record that the database refuses, among good ones.
    pub const REJECTED: Self = Self::of([Kind::Own, Kind::Own, Kind::Rejected]);
    /// Records that become dead letters, and repeats.
    pub const POISON: Self = Self::of([Kind::Own, Kind::Poison, Kind::Own]);
    /// A repeat, and other content under the same id.
    pub const CONFLICT: Self = Self::of([Kind::Own, Kind::Repeat, Kind::Conflict]);

    const fn of(kinds: [Kind; 3]) -> Self {
        Self { kinds, faults: Faults::Processes }
    }
}

/// The model.
pub struct Protocol {
    /// What is looked at.
    pub scope: Scope,
    /// The rule that is left out.
    pub mutant: Option<Mutant>,
}

impl Protocol {
    /// The protocol, or a mutant of it.
    pub fn new(scope: Scope, mutant: Option<Mutant>) -> Self {
        Self { scope, mutant }
    }

    /// Whether this rule is left out.
    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// What a record is; those of later lives and histories are purchases without ids of their own.
    pub fn kind(&self, record: Record) -> Kind {
        self.scope.kinds.get(usize::from(record)).copied().unwrap_or(Kind::ByPlace)
    }

    /// Which purchase a record is: its first record.
    pub fn purchase(&self, record: Record) -> Record {
        if self.kind(record) == Kind::Repeat { 0 } else { record }
    }

    /// A purchase's id, as a reader of this life of the topic makes it.
    pub fn id(&self, incarnation: u8, held: Held) -> Id {
        match self.kind(held.record) {
            Kind::ByPlace if self.is(Mutant::IdWithoutEpoch) => Id::Place(incarnation, 0, held.place.offset),
            Kind::ByPlace => Id::Place(incarnation, held.place.epoch, held.place.offset),
            Kind::Repeat | Kind::Conflict => Id::Given(0),
            Kind::Own | Kind::Poison | Kind::Rejected => Id::Given(held.record),
        }
    }

    /// Under which number the offsets of a life are stored.
    pub fn life(&self, incarnation: u8) -> usize {
        if self.is(Mutant::IncarnationIgnored) { 0 } else { usize::from(incarnation) }
    }

    /// Whether a record can be a row.
    pub fn is_good(&self, record: Record) -> bool {
        matches!(self.kind(record), Kind::ByPlace | Kind::Own | Kind::Repeat)
    }
}

const _: () = assert!(RECORDS <= 8, "records are numbered by the bits of a byte");
