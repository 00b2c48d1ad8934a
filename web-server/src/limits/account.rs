//! What all replicas are asked for by a caller, and what they have let in, against its limit.

use std::time::Duration;

use uuid::Uuid;

use super::report::Told;
use super::{Moment, RouteClass};

/// How much of a limit that nobody could use is made up for later, in windows of it. Of what was let in over it as much is, or as
/// much as replicas let in that each have less than a request to give, and let one in.
const MADE_UP: f32 = 0.5;
/// How soon: the limit that is divided changes by what is over or missing in so many windows.
const WITHIN: f32 = 1.0;
/// There is always something to divide.
const LEAST: f32 = 1e-3;
/// What a replica's demand counts at most, in limits: past it the division is fair enough, and a peer that lies leaves some.
const DEMAND_MAX: f32 = 10.0;

/// One caller's limit. Shares by demand are wrong for a moment whenever demand changes; what is lost or gained then is known a
/// moment later from what was let in, and is made up for.
#[derive(Clone, Debug)]
pub struct Account {
    /// What its caller may do a window, as far as is known here.
    pub limit: f32,
    /// When somebody first told of the caller.
    pub since: Duration,
    /// What could have been let in and was not; less than nothing for the opposite.
    balance: f32,
    settled: Moment,
    entries: Vec<Entry>,
}

/// What one replica has told.
#[derive(Clone, Copy, Debug)]
struct Entry {
    instance: Uuid,
    per_window: f32,
    admitted: u32,
}

/// What there is to divide, and among whom.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// What can be let in now, in requests a window.
    pub limit: f32,
    /// What this replica is asked for.
    pub own: f32,
    /// What all are asked for.
    pub all: f32,
}

impl Asked {
    /// As if all were asked alike: nobody may take what is left by those that have not told yet what they are asked for.
    #[must_use]
    pub fn alike(self, replicas: f32) -> Self {
        Self { own: self.all / replicas, ..self }
    }
}

impl Account {
    /// Nobody has told anything so far.
    #[must_use]
    pub fn new(limit: f32, class: RouteClass, now: Duration) -> Self {
        Self { limit, since: now, balance: 0.0, settled: class.moment(now), entries: Vec::new() }
    }

    /// A replica tells what it is asked for, and how much it has let in since it knows the caller.
    pub fn tell(&mut self, instance: Uuid, told: &Told) {
        // What is not a number is nothing.
        let new = Entry { instance, per_window: told.per_window.max(0.0), admitted: told.admitted };
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.instance == instance) else {
            // What it has let in by now may be long ago.
            return self.entries.push(new);
        };
        // It begins anew when the caller was forgotten there meanwhile.
        let more = told.admitted.checked_sub(entry.admitted).unwrap_or(told.admitted);
        #[expect(clippy::cast_precision_loss, reason = "what is let in between two reports is no large number")]
        let more = more as f32;
        self.balance -= more;
        *entry = new;
    }

    /// A replica tells nothing of this caller any more.
    pub fn hush(&mut self, instance: Uuid) {
        let entries = self.entries.iter_mut().filter(|entry| entry.instance == instance);
        entries.for_each(|entry| entry.per_window = 0.0);
    }

    /// A replica is there no more.
    pub fn forget(&mut self, instance: Uuid) {
        self.entries.retain(|entry| entry.instance != instance);
    }

    /// Whether anybody is asked for anything.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.entries.iter().any(|entry| entry.per_window > 0.0)
    }

    /// What there is to divide now. If not all replicas were heard a moment ago, nobody knows what they have let in, and it is the
    /// limit itself.
    pub fn settle(&mut self, own: Uuid, replicas: f32, is_all_heard: bool, now: Moment) -> Asked {
        let (limit, passed) = (self.limit, now.windows_since(self.settled).max(0.0));
        self.settled = now;
        let most = limit * MADE_UP;
        self.balance =
            if is_all_heard { (self.balance + limit * passed).clamp(-most.max(replicas), most) } else { 0.0 };
        // What is too much is cut.
        let asked = |entry: &Entry| entry.per_window.min(limit * DEMAND_MAX);
        let all = self.entries.iter().map(asked).sum();
        let own = self.entries.iter().find(|entry| entry.instance == own).map_or(0.0, asked);
        Asked { limit: (limit + self.balance / WITHIN).max(LEAST), own, all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CallerKey;

    const ONE: Uuid = Uuid::from_u128(1);

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    fn told(per_window: f32, admitted: u32) -> Told {
        Told { caller: CallerKey::of_address([192, 0, 2, 1].into()), class: RouteClass::Buy, per_window, admitted }
    }

    /// What can be let in after `ms`, if so many of 100 a second were.
    fn limit_after(ms: u64, admitted: u32) -> f32 {
        let mut account = Account::new(100.0, RouteClass::Buy, Duration::ZERO);
        account.tell(ONE, &told(100.0, 7));
        account.tell(ONE, &told(100.0, 7 + admitted));
        account.settle(ONE, 1.0, true, at(ms)).limit
    }

    #[test]
    fn what_is_lost_or_gained_is_made_up_for_within_limits() {
        let near = |limit: f32, expected: f32| assert!((limit - expected).abs() < 0.1, "{limit} instead of {expected}");
        near(limit_after(100, 10), 100.0);
        near(limit_after(200, 10), 110.0);
        near(limit_after(100, 30), 80.0);
        near(limit_after(60_000, 0), 150.0);
        near(limit_after(100, u32::MAX - 7), 50.0);
    }

    #[test]
    fn who_is_not_heard_is_not_taken_for_one_that_lets_nobody_in() {
        let mut account = Account::new(100.0, RouteClass::Buy, Duration::ZERO);
        account.tell(ONE, &told(100.0, 7));
        assert!((account.settle(ONE, 1.0, false, at(900)).limit - 100.0).abs() < 0.1);
        assert!((account.settle(ONE, 1.0, true, at(1_000)).limit - 110.0).abs() < 0.1);
    }

    #[test]
    fn a_count_that_begins_anew_is_no_debt() {
        let mut account = Account::new(100.0, RouteClass::Buy, Duration::ZERO);
        account.tell(ONE, &told(100.0, 1_000_000));
        account.tell(ONE, &told(100.0, 5));
        assert!((account.settle(ONE, 1.0, true, at(100)).limit - 105.0).abs() < 0.1);
        assert!(account.is_asked());
        account.hush(ONE);
        assert!(!account.is_asked());
    }
}
