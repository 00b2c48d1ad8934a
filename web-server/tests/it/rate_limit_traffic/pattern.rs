//! What happens in one run: traffic that changes every few seconds, and at most one kind of fault.

use std::ops::Range;

use shared::metrics::value;

use super::chance::Chance;

/// How long a pattern takes.
pub const END_MS: u64 = 18_000;

/// What can happen to replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    ComesAndGoes,
    Freezes,
    IsCutOff,
}

/// Traffic from some moment on.
#[derive(Clone, Debug)]
pub struct Phase {
    pub from_ms: u64,
    /// Requests a second at each replica.
    pub rates: Vec<f64>,
}

/// When a replica is not as it should be.
#[derive(Clone, Copy, Debug)]
pub struct Away {
    pub replica: usize,
    pub from_ms: u64,
    pub to_ms: u64,
    /// Whether the others are told at once that nobody listens there any more.
    pub is_noticed: bool,
}

/// What happens.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub replicas: usize,
    pub limit: u32,
    /// What callers may do who have no rate of their own.
    pub limit_of_others: u32,
    pub phases: Vec<Phase>,
    pub fault: Option<Fault>,
    pub aways: Vec<Away>,
    /// How long a message takes at most.
    pub delay_max_ms: u64,
    /// Whether requests come by chance, or as evenly as they can.
    pub is_random: bool,
    pub chance: Chance,
}

impl Pattern {
    pub fn of_seed(seed: u64) -> Self {
        Self::with_limit(seed, 40..100)
    }

    /// With a limit so small that replicas have less than one request a second each.
    pub fn of_small_limit(seed: u64) -> Self {
        Self { fault: None, ..Self::with_limit(seed, 1..9) }
    }

    /// With a caller who may do less, or more, than others.
    pub fn of_own_rate(seed: u64) -> Self {
        let limit_of_others = [0, 1, 1_000][usize::try_from(seed % 3).unwrap()];
        Self { fault: None, limit_of_others, ..Self::of_seed(seed) }
    }

    fn with_limit(seed: u64, limits: Range<u64>) -> Self {
        let mut chance = Chance::of_seed(seed);
        let replicas = [1, 2, 2, 4, 4, 8][chance.index(6)];
        let limit = u32::try_from(chance.between(limits.start, limits.end)).unwrap();
        let faults = [None, Some(Fault::ComesAndGoes), Some(Fault::Freezes), Some(Fault::IsCutOff)];
        let fault = faults[chance.index(4)].filter(|_| replicas > 1);
        let phases = phases(&mut chance, replicas, limit);
        let aways = if fault.is_some() { aways(&mut chance, replicas) } else { Vec::new() };
        let delay_max_ms = [2, 20, 50][chance.index(3)];
        let limit_of_others = limit;
        Self {
            replicas,
            limit,
            limit_of_others,
            phases,
            fault,
            aways,
            delay_max_ms,
            is_random: chance.number(2) == 0,
            chance,
        }
    }

    pub fn away(&self, replica: usize, fault: Fault, ms: u64) -> Option<&Away> {
        let aways = if self.fault == Some(fault) { self.aways.as_slice() } else { &[] };
        aways.iter().find(|away| away.replica == replica && (away.from_ms..away.to_ms).contains(&ms))
    }
}

fn phases(chance: &mut Chance, replicas: usize, limit: u32) -> Vec<Phase> {
    let (mut phases, mut from_ms) = (Vec::new(), 0);
    while from_ms < END_MS {
        let total = f64::from(limit) * (0.3 + 2.7 * chance.part());
        let hot = chance.index(replicas);
        let weights: Vec<f64> = match chance.number(3) {
            0 => vec![1.0; replicas],
            1 => (0..replicas)
                .map(|replica| if replica == hot { 9.0 * value((replicas - 1).max(1)) } else { 1.0 })
                .collect(),
            _ => (0..replicas).map(|_| chance.part()).collect(),
        };
        let sum: f64 = weights.iter().sum();
        phases.push(Phase { from_ms, rates: weights.iter().map(|weight| total * weight / sum).collect() });
        from_ms += chance.between(3_000, 10_000);
    }
    phases
}

fn aways(chance: &mut Chance, replicas: usize) -> Vec<Away> {
    let (mut aways, mut from_ms) = (Vec::new(), chance.between(0, 8_000));
    while from_ms < END_MS && aways.len() < 2 {
        let to_ms = from_ms + chance.between(300, 8_000);
        aways.push(Away { replica: chance.index(replicas), from_ms, to_ms, is_noticed: chance.number(2) == 0 });
        from_ms = to_ms + chance.between(500, 8_000);
    }
    aways
}
