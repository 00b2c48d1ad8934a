use std::{iter, path::PathBuf, time::Duration};

use super::*;
use crate::horizontal::{Horizontal, SYNC_PERIOD};

/// Every autoscaler that is shipped, whichever of them a user applies.
const FILES: [&str; 8] = [
    "deployment/customer-web-server/hpa.yaml",
    "deployment/customer-web-server/hpa-http.yaml",
    "deployment/customer-web-server/hpa-in-flight.yaml",
    "deployment/customer-management-api/hpa.yaml",
    "deployment/customer-management-api/hpa-http.yaml",
    "keda/customer-web-server.yaml",
    "keda/customer-management-api.yaml",
    "keda/arrival-rate/customer-management-api.yaml",
];
const HOUR: Duration = Duration::from_hours(1);
const SILENCE: Load = Load { demand: 0.0, cpu_percent: 2, memory_percent: 0 };

fn shipped(file: &str) -> Shipped {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../..", file].iter().collect();
    Shipped::read(&path).unwrap_or_else(|error| panic!("{error}"))
}

/// The replicas after each look at a load of so long, then at silence for an hour. Pods keep the memory of the peak.
fn an_hour_after(shipped: &Shipped, peak: Load, length: Duration) -> (i32, i32) {
    let silence = Load { memory_percent: peak.memory_percent, ..SILENCE };
    let looks = |time: Duration| usize::try_from(time.as_secs() / SYNC_PERIOD.as_secs()).unwrap();
    let loads = iter::repeat_n(peak, looks(length)).chain(iter::repeat_n(silence, looks(HOUR)));
    let mut controller = Horizontal::new(shipped.behavior.clone());
    let (mut replicas, mut most) = (shipped.behavior.min, 0);
    for (now, load) in (0..).map(|look| SYNC_PERIOD * look).zip(loads) {
        replicas = controller.sync(now, replicas, &shipped.metrics(load, replicas)).desired;
        most = most.max(replicas);
    }
    (most, replicas)
}

/// Peaks that ask for two replicas up to more than there may be, each with every memory from idle to the limit (400 % of
/// what web-server requests).
fn peaks(shipped: &Shipped) -> impl Iterator<Item = (Load, Duration)> {
    let target = shipped.signals.iter().find_map(|signal| match signal {
        Signal::Demand(target) => Some(*target),
        _ => None,
    });
    let heights = [1.5, 2.0, 3.4, 5.0, 9.9, 10.0, 12.0];
    let memories = (20..=400).step_by(20);
    heights.into_iter().flat_map(move |height| {
        #[expect(clippy::cast_possible_truncation, reason = "far below the largest number")]
        let cpu_percent = (height * 100.0) as i32;
        let demand = height * target.unwrap_or_default();
        memories.clone().flat_map(move |memory_percent| {
            [3, 60].map(|minutes| (Load { demand, cpu_percent, memory_percent }, Duration::from_mins(minutes)))
        })
    })
}

#[test]
fn an_hour_after_any_peak_there_are_the_fewest_replicas() {
    for file in FILES {
        let shipped = shipped(file);
        let mut highest = 0;
        for (peak, length) in peaks(&shipped) {
            let (most, left) = an_hour_after(&shipped, peak, length);
            assert_eq!(left, shipped.behavior.min, "{file}: an hour after {peak:?} of {length:?}");
            highest = highest.max(most);
        }
        assert_eq!(highest, shipped.behavior.max, "{file}: no peak was high enough to be one");
    }
}

/// Why no autoscaler looks at memory: 45 MiB used of 64 MiB requested, whatever the load, hold seven pods for ever.
#[test]
fn memory_that_does_not_follow_the_load_holds_replicas_up() {
    let mut with_memory = shipped(FILES[0]);
    with_memory.signals.push(Signal::Memory(80));
    let peak = Load { demand: 0.0, cpu_percent: 1000, memory_percent: 45 * 100 / 64 };
    assert_eq!(an_hour_after(&with_memory, peak, HOUR), (10, 7));
    assert_eq!(an_hour_after(&shipped(FILES[0]), peak, HOUR), (10, 2));
}

#[test]
fn every_kind_of_file_is_read() {
    let signals = |file: &str| shipped(file).signals;
    assert_eq!(signals(FILES[1]), [Signal::Cpu(70), Signal::Demand(100.0)]);
    assert_eq!(signals(FILES[2]), [Signal::Cpu(70), Signal::Demand(16.0)]);
    assert_eq!(signals(FILES[5]), [Signal::Demand(100.0), Signal::Cpu(70)]);
    assert_eq!(signals(FILES[7]), [Signal::Demand(87_000.0), Signal::Cpu(70)]);
}
