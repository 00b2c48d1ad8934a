//! Decides about requests, from memory, and works in what other replicas tell. It knows no clock and no network, so that the same
//! code runs in virtual time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use uuid::Uuid;

use super::report::{CALLERS_MAX, Report, Told};
use super::table::{Allowance, Lane, Table};
use super::{Fleet, Moment, Rates, Shares};

/// What is asked for so seldom is not worth telling.
const TOLD_FROM: f32 = 0.05;

/// What rounding may have taken from what is left.
const ROUNDING: f32 = 1e-3;

/// The limits of one replica.
pub struct Limiter {
    instance: Uuid,
    table: Table,
    fleet: Mutex<Fleet>,
    shares: ArcSwap<Shares>,
    turns: AtomicU64,
}

/// What a caller is told of its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request is let in.
    pub is_admitted: bool,
    /// How many requests would be let in now.
    pub remaining: u32,
    /// Seconds until one is let in again, or until more than that are; at least 1.
    pub wait_seconds: u32,
}

impl Limiter {
    /// Of a replica that knows no other, for about so many callers.
    #[must_use]
    pub fn new(instance: Uuid, rates: Rates, callers_max: usize) -> Self {
        Self {
            instance,
            table: Table::new(callers_max),
            fleet: Mutex::new(Fleet::new(instance, rates)),
            shares: ArcSwap::from_pointee(Shares::even(1)),
            turns: AtomicU64::new(0),
        }
    }

    /// A request has come.
    pub fn ask(&self, allowance: Allowance, now: Duration) -> Verdict {
        self.decide(allowance, 1, now, |lane, share, now| lane.bucket.take(1.0, share, now))
    }

    /// A request that was let in turns out to bring more than one: so many more. They are let in too if there are no debts, and
    /// may become one.
    pub fn charge(&self, allowance: Allowance, more: u16, now: Duration) -> Verdict {
        self.decide(allowance, more, now, |lane, share, now| lane.bucket.borrow(more.into(), share, now))
    }

    /// What is left of a quota.
    pub fn look(&self, allowance: Allowance, now: Duration) -> Verdict {
        self.decide(allowance, 0, now, |_, _, _| true)
    }

    /// Work that is done several times a second: what callers ask for now is what the others will be told and what this replica
    /// itself goes by, until the next time.
    pub fn turn(&self, now: Duration) -> Report {
        let sequence = self.turns.fetch_add(1, Ordering::Relaxed);
        self.table.forget(usize::try_from(sequence).unwrap_or(0), now);
        let watched = self.table.watched(now, &self.shares.load());
        let mut fleet = self.fleet();
        let quotas: HashSet<_> = watched.iter().map(|watched| watched.quota).chain(fleet.talked_about()).collect();
        let told = |(caller, class)| {
            let (per_window, admitted) = self.table.seen((caller, class), now)?;
            Some(Told { caller, class, per_window, admitted }).filter(|told| told.per_window >= TOLD_FROM)
        };
        let mut demands: Vec<_> = quotas.into_iter().filter_map(told).collect();
        demands.sort_unstable_by(|one, other| other.per_window.total_cmp(&one.per_window));
        demands.truncate(CALLERS_MAX);
        fleet.tell(&demands, &watched, now);
        self.divide(&mut fleet, now);
        Report { instance: self.instance, sequence, demands }
    }

    /// Another replica, or one that says that it is, has told something.
    pub fn hear(&self, report: &Report, now: Duration) {
        self.learn(now, |fleet| fleet.hear(report, now));
    }

    /// Something else has become known of the others.
    pub fn learn(&self, now: Duration, news: impl FnOnce(&mut Fleet)) {
        let mut fleet = self.fleet();
        news(&mut fleet);
        self.divide(&mut fleet, now);
    }

    /// Which replica this is.
    #[must_use]
    pub fn instance(&self) -> Uuid {
        self.instance
    }

    /// How many callers are known.
    #[must_use]
    pub fn callers(&self) -> usize {
        self.table.callers()
    }

    /// How many other replicas are heard, and how many are not that should be.
    #[must_use]
    pub fn peers(&self, now: Duration) -> (usize, usize) {
        self.fleet().peers(now)
    }

    fn decide(
        &self,
        allowance: Allowance,
        asked: u16,
        now: Duration,
        act: impl FnOnce(&mut Lane, f32, Moment) -> bool,
    ) -> Verdict {
        let shares = self.shares.load();
        let (share, window_seconds) = (shares.of(allowance), allowance.quota.1.window_seconds());
        self.table.visit(allowance, now, &shares, |lane, now| {
            lane.demand.add(asked.into(), now);
            let is_admitted = act(lane, share, now);
            if is_admitted {
                lane.admitted = lane.admitted.wrapping_add(asked.into());
            }
            let remaining = whole(lane.bucket.left(share, now) + ROUNDING);
            let wait_seconds = whole((lane.bucket.wait(share, now) * f32::from(window_seconds)).ceil()).max(1);
            Verdict { is_admitted, remaining, wait_seconds }
        })
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn divide(&self, fleet: &mut Fleet, now: Duration) {
        if let Some(shares) = fleet.divide(now) {
            self.shares.store(shares.into());
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "less than nothing is nothing")]
fn whole(number: f32) -> u32 {
    number.max(0.0) as u32
}
