//! Decides about requests, from memory, and works in what other replicas tell. It knows no clock and no network, so that the same
//! code runs in virtual time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use uuid::Uuid;

use super::report::{CALLERS_MAX, Report, Told};
use super::table::{Quota, Table};
use super::{Bucket, Fleet, Moment, Shares};

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
    /// Of a replica that knows no other: so many requests a second for each of about so many callers in each class.
    #[must_use]
    pub fn new(instance: Uuid, per_second: u32, callers_max: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "settings allow no more than a million")]
        let limit = per_second as f32;
        Self {
            instance,
            table: Table::new(callers_max),
            fleet: Mutex::new(Fleet::new(instance, limit)),
            shares: ArcSwap::from_pointee(Shares::even(limit, 1)),
            turns: AtomicU64::new(0),
        }
    }

    /// A request has come.
    pub fn ask(&self, quota: Quota, now: Moment) -> Verdict {
        self.decide(quota, 1, now, |bucket, share| bucket.take(1.0, share, now))
    }

    /// A request that was let in turns out to bring more than one: so many more. They are let in too if there are no debts, and
    /// may become one.
    pub fn charge(&self, quota: Quota, more: u16, now: Moment) -> Verdict {
        self.decide(quota, more, now, |bucket, share| bucket.borrow(more.into(), share, now))
    }

    /// What is left of a quota.
    pub fn look(&self, quota: Quota, now: Moment) -> Verdict {
        self.decide(quota, 0, now, |_, _| true)
    }

    /// Work that is done several times a second: what callers ask for now is what the others will be told and what this replica
    /// itself goes by, until the next time.
    pub fn turn(&self, now: Moment) -> Report {
        let sequence = self.turns.fetch_add(1, Ordering::Relaxed);
        self.table.forget(usize::try_from(sequence).unwrap_or(0), now);
        let watched = self.table.watched(now, self.shares.load().watch_from() / 2.0);
        let mut fleet = self.fleet();
        let quotas: HashSet<_> = watched.into_iter().chain(fleet.talked_about()).collect();
        let told = |(caller, class)| {
            let (per_second, admitted) = self.table.seen((caller, class), now)?;
            Some(Told { caller, class, per_second, admitted }).filter(|told| told.per_second >= TOLD_FROM)
        };
        let mut demands: Vec<_> = quotas.into_iter().filter_map(told).collect();
        demands.sort_unstable_by(|one, other| other.per_second.total_cmp(&one.per_second));
        demands.truncate(CALLERS_MAX);
        fleet.tell(&demands, now);
        self.divide(&mut fleet, now);
        Report { instance: self.instance, sequence, demands }
    }

    /// Another replica, or one that says that it is, has told something.
    pub fn hear(&self, report: &Report, now: Moment) {
        self.learn(now, |fleet| fleet.hear(report, now));
    }

    /// Something else has become known of the others.
    pub fn learn(&self, now: Moment, news: impl FnOnce(&mut Fleet)) {
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
    pub fn peers(&self, now: Moment) -> (usize, usize) {
        self.fleet().peers(now)
    }

    fn decide(&self, quota: Quota, asked: u16, now: Moment, act: impl FnOnce(&mut Bucket, f32) -> bool) -> Verdict {
        let shares = self.shares.load();
        let share = shares.of(quota);
        self.table.visit(quota, now, shares.watch_from(), |lane| {
            lane.demand.add(asked.into(), now);
            let is_admitted = act(&mut lane.bucket, share);
            if is_admitted {
                lane.admitted = lane.admitted.wrapping_add(asked.into());
            }
            let remaining = whole(lane.bucket.left(share, now) + ROUNDING);
            let wait_seconds = whole(lane.bucket.wait_seconds(share, now).ceil()).max(1);
            Verdict { is_admitted, remaining, wait_seconds }
        })
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn divide(&self, fleet: &mut Fleet, now: Moment) {
        if let Some(shares) = fleet.divide(now) {
            self.shares.store(shares.into());
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "less than nothing is nothing")]
fn whole(number: f32) -> u32 {
    number.max(0.0) as u32
}
