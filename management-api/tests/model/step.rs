//! The steps: what each changes, and when it can be taken.

use crate::consumer::{Batch, Consumer, LANE_BATCHES, Position};
use crate::database::{Answer, Database, Fate, Held, Part};
use crate::fault::Fault;
use crate::log::{Kind, Log, Place};
use crate::mutant::Mutant;
use crate::protocol::{FAULTS_MAX, Faults, Protocol};

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Kafka's log.
    pub log: Log,
    /// The database.
    pub database: Database,
    /// Records in the dead-letter topic, by number.
    pub dead_letters: u8,
    /// The processes.
    pub consumers: [Consumer; 2],
    /// Which of them the group means to own the partition.
    pub owner: Option<usize>,
    /// Transactions that nobody hears of any more, but that may still be executed.
    pub unheard: Vec<Part>,
    /// How much may still fail.
    pub faults_left: u8,
}

/// A step of one of the parties, or a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A transaction that nobody hears of never reaches the database.
    Vanish(usize),
    /// It reaches the database after all.
    Execute(usize),
    /// The mutant's rows follow their offset.
    InsertLate,
    /// The group gives the partition.
    Assigned(usize),
    /// A member that was frozen hears that the group has taken the partition.
    Revoked(usize),
    /// The lane's transaction is executed and answered. It may be under way as soon as nothing is left to publish.
    Record(usize),
    /// A dead letter is confirmed.
    Publish(usize),
    /// The lane begins a batch.
    Begin(usize),
    /// Something is amiss with what is read: the offsets are to be loaded again.
    Reload(usize),
    /// The loader finds where the partition goes on, and the reader goes on there. That the database may move on before
    /// the reader hears of it is the same as that it moves on afterwards.
    TakeOver(usize),
    /// The reader hands its batch to the lane.
    HandOver(usize),
    /// The reader reads a record.
    Add(usize),
    /// A fault.
    Fault(Fault),
}

impl World {
    /// Nothing has happened yet.
    pub fn new(faults: Faults) -> Self {
        Self {
            log: Log::new(if faults == Faults::Cut { 2 } else { 3 }),
            database: Database::default(),
            dead_letters: 0,
            consumers: Default::default(),
            owner: None,
            unheard: Vec::new(),
            faults_left: FAULTS_MAX,
        }
    }

    /// Whether nothing is under way to the database.
    pub fn is_quiet(&self) -> bool {
        let idle = self.consumers.iter().all(|consumer| consumer.lane.is_empty());
        idle && self.unheard.is_empty() && self.database.late.is_empty()
    }

    /// The steps that do not count as faults, those first that come closer to the end.
    pub fn steps(&self, protocol: &Protocol, steps: &mut Vec<Step>) {
        for index in 0..self.unheard.len() {
            steps.extend([Step::Vanish(index), Step::Execute(index)]);
        }
        if !self.database.late.is_empty() {
            steps.push(Step::InsertLate);
        }
        for (number, consumer) in self.consumers.iter().enumerate() {
            if consumer.assigned && self.owner != Some(number) {
                steps.push(Step::Revoked(number));
            }
            if self.owner.is_none() && !consumer.assigned {
                steps.push(Step::Assigned(number));
            }
            steps.extend(self.lane_step(number, protocol));
            self.reader_steps(number, protocol, steps);
        }
    }

    /// What the lane does next.
    pub fn lane_step(&self, number: usize, protocol: &Protocol) -> Option<Step> {
        let batch = self.consumers[number].lane.first()?;
        if !batch.begun {
            return Some(Step::Begin(number));
        }
        let unconfirmed = batch.parts[0].records.iter().any(|held| held.fate == Fate::Condemned);
        let publish = unconfirmed && !protocol.is(Mutant::OffsetBeforeDeadLetter);
        Some(if publish { Step::Publish(number) } else { Step::Record(number) })
    }

    fn reader_steps(&self, number: usize, protocol: &Protocol, steps: &mut Vec<Step>) {
        let consumer = &self.consumers[number];
        let Some(position) = consumer.position else {
            return steps.extend(consumer.assigned.then_some(Step::TakeOver(number)));
        };
        let amiss = self.is_amiss(consumer, position, protocol);
        if amiss {
            steps.push(Step::Reload(number));
        }
        if !consumer.kept.is_empty() && consumer.lane.len() < LANE_BATCHES {
            steps.push(Step::HandOver(number));
        }
        // A topic made anew is not noticed by reading it, as long as the offset is one that it has.
        let readable = position.next.offset < self.log.end();
        if readable && (!amiss || consumer.incarnation != self.log.incarnation) {
            steps.push(Step::Add(number));
        }
    }

    /// Whether another life of the topic is seen, or by the leader's epoch another history of its log.
    fn is_amiss(&self, consumer: &Consumer, position: Position, protocol: &Protocol) -> bool {
        let other_life = consumer.incarnation != self.log.incarnation && !protocol.is(Mutant::IncarnationIgnored);
        let other_history = self.validate(position.next, protocol) < position.next.offset;
        other_life || other_history
    }

    fn validate(&self, place: Place, protocol: &Protocol) -> u8 {
        if protocol.is(Mutant::EpochIgnored) && place.offset <= self.log.end() {
            return place.offset;
        }
        self.log.validate(place)
    }

    /// Takes a step.
    pub fn take(&mut self, step: Step, protocol: &Protocol) {
        match step {
            Step::Vanish(index) => drop(self.unheard.remove(index)),
            Step::Execute(index) => {
                let part = self.unheard.remove(index);
                self.database.record(&part, protocol);
            }
            Step::InsertLate => {
                let rows = std::mem::take(&mut self.database.late);
                self.database.insert(rows);
            }
            Step::Assigned(number) => {
                self.owner = Some(number);
                self.consumers[number].assigned = true;
            }
            Step::Revoked(number) => self.consumers[number].revoked(),
            Step::Record(number) => self.record(number, protocol),
            Step::Publish(number) => self.publish(number, Fate::Confirmed),
            Step::Begin(number) => self.begin(number, protocol),
            Step::Reload(number) => self.consumers[number].reload(),
            Step::TakeOver(number) => self.take_over(number, protocol),
            Step::HandOver(number) => self.hand_over(number),
            Step::Add(number) => self.add(number, protocol),
            Step::Fault(fault) => self.fail(fault, protocol),
        }
    }

    fn take_over(&mut self, number: usize, protocol: &Protocol) {
        let incarnation = self.log.incarnation;
        let stored = self.database.next_offset(incarnation, protocol);
        let next = Place { offset: self.validate(stored, protocol), epoch: stored.epoch };
        let expected = if protocol.is(Mutant::ExpectedWhereReadFrom) { next } else { stored };
        let consumer = &mut self.consumers[number];
        consumer.incarnation = incarnation;
        consumer.position = Some(Position { expected, next });
    }

    fn add(&mut self, number: usize, protocol: &Protocol) {
        let consumer = &mut self.consumers[number];
        let Some(position) = &mut consumer.position else { return };
        let offset = position.next.offset;
        let (record, epoch) = self.log.records[usize::from(offset)];
        let fate = if protocol.kind(record) == Kind::Poison { Fate::Condemned } else { Fate::Row };
        let held = Held { record, place: Place { offset, epoch }, fate };
        position.next = held.after();
        consumer.kept.push(held);
    }

    fn hand_over(&mut self, number: usize) {
        let consumer = &mut self.consumers[number];
        let Some(position) = &mut consumer.position else { return };
        let records = std::mem::take(&mut consumer.kept);
        let (expected, next) = (position.expected, position.next);
        position.expected = next;
        let parts = vec![Part { incarnation: consumer.incarnation, expected, next, records }];
        consumer.lane.push(Batch { begun: false, parts });
    }

    fn begin(&mut self, number: usize, protocol: &Protocol) {
        let incarnation = self.log.incarnation;
        let consumer = &mut self.consumers[number];
        let batch = &mut consumer.lane[0];
        let part = &batch.parts[0];
        let by_place = part.records.iter().any(|held| protocol.kind(held.record) == Kind::ByPlace);
        if by_place && part.incarnation != incarnation && !protocol.is(Mutant::LifeNotAsked) {
            consumer.lane.remove(0);
            return consumer.reload();
        }
        let id = |held: Held| protocol.id(incarnation, held);
        let purchase = |held: Held| protocol.purchase(held.record);
        batch.deduplicate(|one, other| id(one) == id(other), |one, other| purchase(one) == purchase(other));
        batch.begun = true;
    }

    /// A dead letter is settled.
    pub fn publish(&mut self, number: usize, fate: Fate) {
        let records = self.consumers[number].part().map(|part| &mut part.records);
        let Some(held) = records.and_then(|all| all.iter_mut().find(|held| held.fate == Fate::Condemned)) else {
            return;
        };
        held.fate = fate;
        if fate == Fate::Confirmed {
            self.dead_letters |= 1 << held.record;
        }
    }

    fn record(&mut self, number: usize, protocol: &Protocol) {
        let consumer = &mut self.consumers[number];
        let batch = &mut consumer.lane[0];
        let part = &mut batch.parts[0];
        match self.database.record(part, protocol) {
            Answer::Fenced if !protocol.is(Mutant::FenceIgnored) => {
                consumer.lane.remove(0);
                consumer.reload();
            }
            Answer::Recorded | Answer::Fenced => self.recorded(number),
            Answer::Conflict(records) => {
                let condemned = part.records.iter_mut().filter(|held| records.contains(&held.record));
                condemned.for_each(|held| held.fate = Fate::Condemned);
            }
            Answer::Rejected if part.rows().count() == 1 => {
                part.records
                    .iter_mut()
                    .filter(|held| held.fate == Fate::Row)
                    .for_each(|held| held.fate = Fate::Condemned);
            }
            Answer::Rejected => batch.split(protocol.is(Mutant::SplitMovesTooFar)),
        }
    }

    /// The first part is done with.
    pub fn recorded(&mut self, number: usize) {
        let lane = &mut self.consumers[number].lane;
        let part = lane[0].parts.remove(0);
        // Only the mutant has any left to confirm.
        for held in part.records.iter().filter(|held| held.fate == Fate::Condemned) {
            self.dead_letters |= 1 << held.record;
        }
        if lane[0].parts.is_empty() {
            lane.remove(0);
        }
    }

    /// Consumers have no names: a world and its mirror image are one state.
    pub fn sort(&mut self) {
        if self.consumers[0] > self.consumers[1] {
            self.consumers.swap(0, 1);
            self.owner = self.owner.map(|owner| 1 - owner);
        }
    }
}
