//! The dead-letter topic as a process sees it: slow, away, or refusing.

use async_trait::async_trait;
use management_api::ingest::DeadLetterSink;
use management_api::letter::DeadLetter;
use rand::RngExt;

use crate::world::{State, Weather, World};

/// The topic, from one process.
pub struct SimulatedDeadLetters {
    /// Where it is.
    pub world: World,
    /// Who sends.
    pub process: usize,
}

impl SimulatedDeadLetters {
    /// Sends one until it is confirmed or refused. Gives whether it was confirmed.
    async fn publish(&self, letter: &DeadLetter) -> bool {
        loop {
            self.world.delay(5).await;
            let confirmed = self.attempt(letter);
            self.world.delay(5).await;
            self.world.gate(self.process).await;
            match confirmed {
                Some(confirmed) => return confirmed,
                None => self.world.delay(200).await,
            }
        }
    }

    /// Nothing, when there is no answer: the topic may have it all the same.
    fn attempt(&self, letter: &DeadLetter) -> Option<bool> {
        let mut state = self.world.lock();
        let away = state.is(Weather::DeadLettersAway);
        if !away && state.is(Weather::DeadLettersRefused) && state.rng.random_ratio(1, 2) {
            state.fault(
                self.process,
                "a dead letter is refused",
                [letter.original.partition.into(), letter.original.offset, 0],
            );
            return Some(false);
        }
        if !away || state.rng.random_ratio(1, 4) {
            let State { database, topic, .. } = &mut *state;
            let number = database.confirm(letter, topic);
            state.note(self.process, "a dead letter is there", [number.into(), 0, 0]);
        }
        if away {
            state.fault(self.process, "no answer for a dead letter", [0; 3]);
        }
        (!away).then_some(true)
    }
}

#[async_trait]
impl DeadLetterSink for SimulatedDeadLetters {
    async fn publish_all(&self, letters: &[DeadLetter]) -> Vec<usize> {
        self.world.gate(self.process).await;
        let mut refused = Vec::new();
        for (index, letter) in letters.iter().enumerate() {
            // What comes back is in the topic from the first time; the database remembers that it came.
            if letter.redrive > 0 || !self.publish(letter).await {
                refused.push(index);
            }
        }
        refused
    }
}
