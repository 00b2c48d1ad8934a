//! The real record path on a simulated Kafka, database and clock.
//!
//! Reader, lanes, loader and progress run as they are; around them is a world in one thread, on a clock that jumps to
//! where something happens next, and in which a seed decides everything that is left to chance. Processes are killed,
//! frozen and put out of their group, transactions and dead letters get no answer, topics are made anew, logs are cut. What
//! the database holds is held against what was written: at every commit, and at the end.
//!
//! A run is repeated by its seed: `make simulate FIRST_SEED=42 SEEDS=1`.

mod database;
mod dead_letters;
mod faults;
mod group;
mod kafka;
mod process;
mod run;
mod store;
mod topic;
mod trace;
mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use shared::config::Settings;

use crate::run::run;

/// Seeds in every run of the tests: about 20 s on two cores.
const SEEDS: u64 = 240;
/// Seeds that a planted bug may take to be found.
#[cfg(debug_assertions)]
const SEEDS_OF_A_BUG: u64 = 400;

/// Runs seeds on two threads; gives how much has failed in them.
fn simulate(seeds: Range<u64>) -> u64 {
    let (next, faults) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = run(seed);
            faults.fetch_add(outcome.faults, Ordering::Relaxed);
            if let Some(broken) = outcome.violations {
                panic!("seed {seed} (again: make simulate FIRST_SEED={seed} SEEDS=1)\n{broken}");
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    faults.into_inner()
}

#[test]
fn whatever_fails_every_record_is_recorded_once_or_a_dead_letter() {
    let faults = simulate(0..SEEDS);
    assert!(faults > 50 * SEEDS, "{faults} faults are too few to show anything");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..4 {
        let (one, other) = (run(seed), run(seed));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert!(one.records > 100, "only {} records", one.records);
        assert_ne!(one.trace, run(seed + 4).trace);
    }
}

#[cfg(debug_assertions)]
#[test]
fn every_planted_bug_is_found() {
    use management_api::planted::{self, Bug};

    let missed = Bug::ALL.into_iter().filter(|bug| {
        planted::plant(Some(*bug));
        let found = (0..SEEDS_OF_A_BUG).any(|seed| run(seed).violations.is_some());
        planted::plant(None);
        !found
    });
    assert_eq!(missed.collect::<Vec<_>>(), [], "not found in {SEEDS_OF_A_BUG} seeds");
}

/// `make simulate`.
#[test]
#[ignore = "as long as is asked for"]
fn simulate_many() {
    let mut settings = Settings::from_environment();
    let first = settings.number("FIRST_SEED", 0, 0..=u64::MAX / 2, "the first seed");
    let count = settings.number("SEEDS", 1_000, 1..=u64::MAX / 2, "how many seeds");
    settings.finish_or_exit();
    let began = std::time::Instant::now();
    let faults = simulate(first..first + count);
    eprintln!("{count} seeds, {faults} faults, {:.1} s", began.elapsed().as_secs_f64());
}
