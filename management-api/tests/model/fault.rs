//! What fails, and what each fault does.

use crate::consumer::Consumer;
use crate::database::Fate;
use crate::mutant::Mutant;
use crate::protocol::{Faults, Protocol};
use crate::step::{Step, World};

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed, and starts anew.
    Crash(usize),
    /// The group takes the partition from a member that answers.
    Rebalance(usize),
    /// The group takes the partition from a frozen member, which goes on later.
    Evict,
    /// A transaction gets no answer: it may be executed now, later or never.
    Silence(usize),
    /// The dead-letter topic refuses a dead letter.
    Refuse(usize),
    /// The topic is deleted and made again.
    MakeAnew,
    /// The log loses its last records, and grows again by others.
    Cut,
}

impl World {
    /// The faults that can happen.
    pub fn faults(&self, protocol: &Protocol, steps: &mut Vec<Step>) {
        let mut add = |fault| steps.push(Step::Fault(fault));
        for (number, consumer) in self.consumers.iter().enumerate() {
            if *consumer != Consumer::default() {
                add(Fault::Crash(number));
            }
            if self.owner == Some(number) && consumer.assigned {
                add(Fault::Rebalance(number));
            }
            match self.lane_step(number, protocol) {
                Some(Step::Record(_)) => add(Fault::Silence(number)),
                Some(Step::Publish(_)) => add(Fault::Refuse(number)),
                _ => {}
            }
        }
        if self.owner.is_some() {
            add(Fault::Evict);
        }
        match protocol.scope.faults {
            Faults::MadeAnew if self.log.incarnation == 0 => add(Fault::MakeAnew),
            Faults::Cut if self.log.records.iter().all(|(_, epoch)| *epoch == 0) => add(Fault::Cut),
            _ => {}
        }
    }

    /// A fault happens.
    pub fn fail(&mut self, fault: Fault, protocol: &Protocol) {
        self.faults_left -= 1;
        match fault {
            Fault::Crash(number) => {
                let under_way = matches!(self.lane_step(number, protocol), Some(Step::Record(_)));
                let mut consumer = std::mem::take(&mut self.consumers[number]);
                self.owner = self.owner.filter(|owner| *owner != number);
                self.unheard.extend(consumer.part().filter(|_| under_way).cloned());
            }
            Fault::Rebalance(number) => {
                self.consumers[number].revoked();
                self.owner = None;
            }
            Fault::Evict => self.owner = None,
            Fault::Silence(number) => self.silence(number, protocol),
            Fault::Refuse(number) => {
                let forgotten = protocol.is(Mutant::RefusedDeadLetterDropped);
                self.publish(number, if forgotten { Fate::Dropped } else { Fate::Refused });
            }
            Fault::MakeAnew => self.log.make_anew(),
            Fault::Cut => self.log.cut(),
        }
        self.unheard.sort_unstable();
    }

    fn silence(&mut self, number: usize, protocol: &Protocol) {
        let batch = &mut self.consumers[number].lane[0];
        self.unheard.push(batch.parts[0].clone());
        if protocol.is(Mutant::SilenceTakenForCommitted) {
            self.recorded(number);
        } else if protocol.is(Mutant::SilenceTakenForRefused) {
            batch.parts[0].records.iter_mut().for_each(|held| held.fate = Fate::Condemned);
        }
    }
}
