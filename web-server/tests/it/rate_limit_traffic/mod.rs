//! The limiters of a whole fleet in virtual time: a seed decides what traffic comes, and which replicas come, go, freeze or are cut
//! off. The code that decides is the one that runs in the service.

pub mod chance;
mod fleet;
mod pattern;
mod windows;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use shared::metrics::value;

use self::fleet::play;
use self::pattern::{Fault, Pattern};
use self::windows::Errors;

/// How many patterns are played.
const PATTERNS: u64 = 1_000;

/// The worst errors of patterns with and without each kind of fault.
#[derive(Clone, Copy, Debug, Default)]
struct Worst {
    calm: Errors,
    going: Errors,
    freezing: Errors,
    cut: Errors,
}

impl Worst {
    fn include(&mut self, pattern: &Pattern, calm: Errors, shaken: Errors) {
        self.calm.include(calm);
        match pattern.fault {
            None => {}
            Some(Fault::ComesAndGoes) => self.going.include(shaken),
            Some(Fault::Freezes) => self.freezing.include(shaken),
            Some(Fault::IsCutOff) => self.cut.include(shaken),
        }
    }
}

fn play_all() -> Worst {
    let (next, worst) = (AtomicU64::new(0), Mutex::new(Worst::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= PATTERNS {
                return;
            }
            let pattern = Pattern::of_seed(seed);
            let windows = play(&pattern);
            let (calm, shaken) = windows.errors();
            assert!(
                calm.over <= 0.1 && calm.under <= 0.1,
                "seed {seed}: {calm:?} in ten seconds, three seconds after any fault, of {pattern:?}"
            );
            worst.lock().unwrap().include(&pattern, calm, shaken);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    worst.into_inner().unwrap()
}

#[test]
#[expect(clippy::print_stdout, reason = "the errors are what is measured here")]
fn whatever_traffic_comes_every_ten_seconds_have_the_limit_within_a_tenth() {
    let worst = play_all();
    println!("worst errors of {PATTERNS} patterns, as parts of the limit: {worst:#?}");
    // What one replica had that goes or freezes is lost until it is missed, and it has it again as it comes back.
    for errors in [worst.going, worst.freezing] {
        assert!(errors.over <= 0.15 && errors.under <= 0.3, "{worst:?}");
    }
    // One that is cut off goes on with what it had, neither more nor less, and the others take all of it.
    assert!(worst.cut.over <= 1.0 && worst.cut.under <= 0.5, "{worst:?}");
}

#[test]
fn of_a_limit_too_small_to_be_divided_ten_seconds_have_a_request_more_for_each_replica_at_most() {
    for seed in 0..PATTERNS / 4 {
        let pattern = Pattern::of_small_limit(seed);
        let (errors, _) = play(&pattern).errors();
        let limit = f64::from(pattern.limit) * 10.0;
        let most = f64::max(limit / 10.0, value(pattern.replicas));
        assert!(errors.over * limit <= most + 0.001, "seed {seed}: {errors:?} of {pattern:?}");
    }
}

#[test]
fn a_rate_of_its_own_holds_for_a_caller_whatever_others_may_do() {
    for seed in 0..PATTERNS / 4 {
        let pattern = Pattern::of_own_rate(seed);
        let (errors, _) = play(&pattern).errors();
        assert!(errors.over <= 0.1 && errors.under <= 0.1, "seed {seed}: {errors:?} of {pattern:?}");
    }
}
