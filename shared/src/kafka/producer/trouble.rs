//! Why purchases cannot be published, for health and log; and how long to rest before the next try.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use crate::backoff::Backoff;

/// How long a refusal is told after the last record that was refused.
const REFUSAL_TOLD: Duration = Duration::from_secs(10);
/// The first and the longest pause between two producers when the one before has done nothing good.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// What is wrong with a producer, from memory.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    fatal: Option<String>,
    refusal: Option<(Instant, String)>,
}

impl Trouble {
    /// The producer has died of this.
    pub fn died(&self, reason: &str) {
        self.with(|state| state.fatal = Some(reason.to_owned()));
    }

    /// A broker has given the next producer its id: it may write again, as far as is known.
    pub fn revived(&self) {
        self.with(|state| {
            if state.fatal.take().is_some() {
                tracing::info!("kafka producer is well again");
            }
        });
    }

    /// The brokers have refused a record for a reason that trying again does not change.
    pub fn refused(&self, code: RDKafkaErrorCode) {
        let reason = code.to_string();
        self.with(|state| {
            let told = state.current_refusal() == Some(&reason);
            if !told {
                tracing::error!(reason, "kafka refuses records");
            }
            state.refusal = Some((Instant::now(), reason));
        });
    }

    /// A record was delivered.
    pub fn delivered(&self) {
        self.with(|state| state.refusal = None);
    }

    /// Nothing, or why records cannot be published.
    pub fn check(&self) -> Result<(), String> {
        self.with(|state| match (&state.fatal, state.current_refusal()) {
            (Some(reason), _) => Err(format!("the producer has failed: {reason}")),
            (None, Some(reason)) => Err(format!("kafka refuses records: {reason}")),
            (None, None) => Ok(()),
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn current_refusal(&self) -> Option<&String> {
        self.refusal.as_ref().filter(|(at, _)| at.elapsed() < REFUSAL_TOLD).map(|(_, reason)| reason)
    }
}

/// When the next producer may be built: at once after one that was of use, else ever later.
#[derive(Debug)]
pub(super) struct Rebirth {
    backoff: Backoff,
    due: Option<Instant>,
}

impl Default for Rebirth {
    fn default() -> Self {
        Self { backoff: Backoff::new(PAUSE.0, PAUSE.1), due: None }
    }
}

impl Rebirth {
    /// Whether it is time. `was_well`: the dead one has delivered something, or has lived long.
    pub fn is_due(&mut self, was_well: bool) -> bool {
        let now = Instant::now();
        let due = *self.due.get_or_insert_with(|| {
            if was_well {
                self.backoff.reset();
                now
            } else {
                now + self.backoff.pause()
            }
        });
        let is_due = now >= due;
        if is_due {
            self.due = None;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_death_is_mended_at_once_and_each_further_one_later() {
        let mut rebirth = Rebirth::default();
        assert!(rebirth.is_due(true));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert!(!rebirth.is_due(false), "one that has done nothing is not replaced at once");
            pauses.push(rebirth.due.take().unwrap().saturating_duration_since(Instant::now()).as_secs_f64());
        }
        assert!(pauses[0] < 0.4 && pauses.iter().all(|pause| *pause <= 30.0), "{pauses:?}");
        assert!(pauses[11] > 14.0, "{pauses:?}");
        assert!(rebirth.is_due(true), "one that was of use is replaced at once");
    }
}
