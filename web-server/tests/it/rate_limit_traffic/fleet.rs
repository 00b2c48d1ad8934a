//! The replicas, their messages and their callers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use shared::metrics::value;
use uuid::Uuid;
use web_server::limits::report::Report;
use web_server::limits::table::Allowance;
use web_server::limits::{CallerKey, Limiter, Rates, RouteClass};

use super::chance::Chance;
use super::pattern::{END_MS, Fault, Pattern};
use super::windows::{SLOT_MS, Windows};

const STEP_MS: u64 = 10;
const STEP_SECONDS: f64 = 0.01;
const TURN_MS: u64 = 100;

struct Fleet<'a> {
    pattern: &'a Pattern,
    limiters: Vec<Limiter>,
    /// When each has its next turn.
    turns: Vec<u64>,
    /// Requests that are on their way to each, as they come evenly.
    arriving: Vec<f64>,
    messages: BinaryHeap<Reverse<(u64, usize, usize)>>,
    reports: Vec<Report>,
    chance: Chance,
}

/// Plays a pattern, and gives what was let in.
pub fn play(pattern: &Pattern) -> Windows {
    let mut windows = Windows::new(pattern);
    let mut fleet = Fleet::new(pattern);
    for ms in (0..END_MS).step_by(usize::try_from(STEP_MS).unwrap()) {
        let slot = usize::try_from(ms / SLOT_MS).unwrap();
        fleet.exchange(ms);
        for replica in 0..pattern.replicas {
            for _ in 0..fleet.arrivals(replica, ms) {
                windows.admitted[slot] +=
                    u32::from(fleet.limiters[replica].ask(allowance(pattern), at(ms)).is_admitted);
                windows.asked[slot] += 1;
            }
        }
    }
    windows
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn allowance(pattern: &Pattern) -> Allowance {
    let quota = (CallerKey::of_address([192, 0, 2, 1].into()), RouteClass::Buy);
    let own = Rates { per_second: pattern.limit, login_per_minute: 0 };
    Allowance { quota, limit: own.limit(RouteClass::Buy) }
}

fn rates(pattern: &Pattern) -> Rates {
    Rates { per_second: pattern.limit_of_others, login_per_minute: 0 }
}

impl<'a> Fleet<'a> {
    fn new(pattern: &'a Pattern) -> Self {
        let mut chance = pattern.chance.clone();
        let mut fleet = Self {
            pattern,
            limiters: (0..pattern.replicas).map(|replica| new_limiter(pattern, replica, 0)).collect(),
            turns: (0..pattern.replicas).map(|_| chance.number(TURN_MS)).collect(),
            arriving: vec![0.0; pattern.replicas],
            messages: BinaryHeap::new(),
            reports: Vec::new(),
            chance,
        };
        // They have found each other before callers come.
        for replica in 0..pattern.replicas {
            fleet.turn(replica, 0);
        }
        fleet
    }

    fn is_there(&self, replica: usize, ms: u64) -> bool {
        self.pattern.away(replica, Fault::ComesAndGoes, ms).is_none()
    }

    fn is_running(&self, replica: usize, ms: u64) -> bool {
        self.is_there(replica, ms) && self.pattern.away(replica, Fault::Freezes, ms).is_none()
    }

    fn is_connected(&self, replica: usize, ms: u64) -> bool {
        self.pattern.away(replica, Fault::IsCutOff, ms).is_none()
    }

    /// Delivers what has arrived by now, and lets everybody tell whose turn it is.
    fn exchange(&mut self, ms: u64) {
        for replica in 0..self.pattern.replicas {
            if ms > 0 && self.is_there(replica, ms) && !self.is_there(replica, ms - STEP_MS) {
                self.limiters[replica] = new_limiter(self.pattern, replica, ms);
                self.turns[replica] = ms;
            }
            if ms >= self.turns[replica] && self.is_running(replica, ms) {
                self.turn(replica, ms);
                self.turns[replica] = ms + TURN_MS;
            }
        }
        while let Some(Reverse((due, to, report))) = self.messages.peek().copied()
            && due <= ms
        {
            self.messages.pop();
            if self.is_running(to, ms) && self.is_connected(to, ms) {
                self.limiters[to].hear(&self.reports[report], at(ms));
            }
        }
    }

    fn turn(&mut self, replica: usize, ms: u64) {
        let report = self.limiters[replica].turn(at(ms));
        self.reports.push(report);
        for other in (0..self.pattern.replicas).filter(|other| *other != replica) {
            if !self.is_connected(replica, ms) || !self.is_connected(other, ms) {
                continue;
            }
            if self.is_running(other, ms) {
                let due = ms + self.chance.number(self.pattern.delay_max_ms);
                self.messages.push(Reverse((due, other, self.reports.len() - 1)));
                continue;
            }
            // The machine answers, or somebody says that nobody listens there; or nothing does, for a while.
            let away = self.pattern.away(other, Fault::ComesAndGoes, ms);
            let gone = away
                .filter(|away| away.is_noticed)
                .map(|away| instance(other, life(self.pattern, other, away.from_ms)));
            self.limiters[replica].learn(at(ms), |fleet| match gone {
                Some(instance) => fleet.lose(instance, at(ms)),
                None => fleet.reach(at(ms)),
            });
        }
    }

    /// How many requests come to a replica in this step; those of one that has gone come to the others.
    fn arrivals(&mut self, replica: usize, ms: u64) -> u32 {
        if !self.is_running(replica, ms) {
            return 0;
        }
        let phase = self.pattern.phases.iter().rev().find(|phase| phase.from_ms <= ms).unwrap();
        let mut rate = phase.rates[replica];
        if self.pattern.fault == Some(Fault::ComesAndGoes) {
            let (there, gone): (Vec<_>, Vec<_>) =
                (0..self.pattern.replicas).partition(|other| self.is_there(*other, ms));
            rate += gone.iter().map(|gone| phase.rates[*gone]).sum::<f64>() / value(there.len());
        }
        let mean = rate * STEP_SECONDS;
        if self.pattern.is_random {
            return self.chance.events(mean);
        }
        self.arriving[replica] += mean;
        let mut whole = 0;
        while self.arriving[replica] >= 1.0 {
            self.arriving[replica] -= 1.0;
            whole += 1;
        }
        whole
    }
}

/// How often a replica has been started before.
fn life(pattern: &Pattern, replica: usize, ms: u64) -> usize {
    let ended = |away: &&super::pattern::Away| away.replica == replica && away.to_ms <= ms;
    if pattern.fault == Some(Fault::ComesAndGoes) { pattern.aways.iter().filter(ended).count() } else { 0 }
}

fn instance(replica: usize, life: usize) -> Uuid {
    Uuid::from_u128((replica * 100 + life) as u128 + 1)
}

fn new_limiter(pattern: &Pattern, replica: usize, ms: u64) -> Limiter {
    let limiter = Limiter::new(instance(replica, life(pattern, replica, ms)), rates(pattern), 1_000);
    limiter.learn(at(ms), |fleet| fleet.expect(pattern.replicas - 1));
    limiter
}
