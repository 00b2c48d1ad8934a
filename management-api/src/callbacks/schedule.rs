//! When a callback is tried again, and when it is given up.

use std::time::Duration;

use shared::backoff::jitter;
use shared::config::Settings;

use super::sending::AttemptOutcome;

/// How much longer each pause is than the one before.
const GROWTH: u32 = 4;
/// The longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_hours(1);

/// When callbacks are tried again.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// About how long after the first attempt.
    pub first_pause: Duration,
    /// For how long one is tried, and a host may fail.
    pub patience: Duration,
}

/// What becomes of a callback after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is delivered.
    Delivered,
    /// It is tried again, so much later.
    Retry(Duration),
    /// It is not tried any more.
    Dead,
}

impl Schedule {
    /// Reads the settings.
    pub fn read(settings: &mut Settings) -> Self {
        Self {
            first_pause: settings.millis(
                "CALLBACK_RETRY_FIRST_MS",
                5_000,
                10..=3_600_000,
                "pause after a callback's first attempt, ms; each is four times the one before, an hour at most",
            ),
            patience: settings.millis(
                "CALLBACK_GIVE_UP_MS",
                86_400_000,
                100..=604_800_000,
                "for how long a callback is tried, and for how long a host may fail until it is switched off, ms",
            ),
        }
    }

    /// What comes after the attempt with this number, counted from 1, of a callback that has been tried for so long.
    #[must_use]
    pub fn after(&self, outcome: AttemptOutcome, attempts: u32, tried_for: Duration) -> Next {
        match outcome {
            AttemptOutcome::Delivered => Next::Delivered,
            AttemptOutcome::Gone => Next::Dead,
            failed => self.retry(self.pause(attempts).max(failed.retry_after().unwrap_or_default()), tried_for),
        }
    }

    /// For how much longer one may wait for its host; nothing when its time is over.
    #[must_use]
    pub fn left(&self, tried_for: Duration) -> Option<Duration> {
        self.patience.checked_sub(tried_for).filter(|left| !left.is_zero())
    }

    /// What becomes of one that could not be tried now, but maybe after `pause`.
    #[must_use]
    pub fn retry(&self, pause: Duration, tried_for: Duration) -> Next {
        if tried_for.saturating_add(pause) > self.patience { Next::Dead } else { Next::Retry(pause) }
    }

    /// Between half and all of what this attempt's pause comes to.
    #[must_use]
    pub fn pause(&self, attempts: u32) -> Duration {
        let growth = GROWTH.saturating_pow(attempts.saturating_sub(1));
        jitter(self.first_pause.saturating_mul(growth).min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule { first_pause: Duration::from_secs(5), patience: Duration::from_hours(24) };

    #[test]
    fn pauses_grow_to_an_hour_and_a_day_has_some_thirty_attempts() {
        let (mut tried_for, mut attempts) = (Duration::ZERO, 1);
        while let Next::Retry(pause) = SCHEDULE.after(AttemptOutcome::Timeout, attempts, tried_for) {
            assert!(pause <= PAUSE_MAX, "{pause:?}");
            tried_for += pause;
            attempts += 1;
        }
        assert!((25..=60).contains(&attempts), "{attempts}");
        assert!(tried_for <= SCHEDULE.patience && tried_for > SCHEDULE.patience - PAUSE_MAX, "{tried_for:?}");
    }

    #[test]
    fn a_receiver_s_word_counts_where_it_is_later_than_ours() {
        let refused = |retry_after| AttemptOutcome::Refused { status: 503, retry_after };
        let later = SCHEDULE.after(refused(Some(Duration::from_mins(10))), 1, Duration::ZERO);
        assert_eq!(later, Next::Retry(Duration::from_mins(10)));
        let Next::Retry(pause) = SCHEDULE.after(refused(Some(Duration::ZERO)), 1, Duration::ZERO) else {
            panic!("not tried again")
        };
        assert!(pause >= Duration::from_millis(2_500), "{pause:?}");
        assert_eq!(SCHEDULE.after(refused(Some(Duration::from_hours(25))), 1, Duration::ZERO), Next::Dead);
    }

    #[test]
    fn who_is_gone_is_not_asked_again() {
        assert_eq!(SCHEDULE.after(AttemptOutcome::Gone, 1, Duration::ZERO), Next::Dead);
    }
}
