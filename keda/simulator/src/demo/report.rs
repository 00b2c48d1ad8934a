//! The table while it runs, and the verdict at the end.

use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use super::{
    autoscaler::Look,
    timeline::{Change, Sample, Timeline},
    world::Recorded,
};
use crate::{horizontal::SYNC_PERIOD, scaled_object::ScaledObject};

/// What became of the purchases and of the consumers.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Purchases that got a 2xx.
    pub accepted: u64,
    /// Those that did not.
    pub refused: u64,
    /// What is recorded of them.
    pub recorded: Recorded,
    /// Consumers that did not end in good order when they were told to.
    pub failed_ends: usize,
}

/// Says what is replayed, with which times, and begins the table.
pub(super) fn begin(object: &ScaledObject, speed: f64) {
    let (min, max, threshold) = (object.behavior.min, object.behavior.max, object.kafka.lag_threshold);
    print(&format!("{}: {min} to {max} replicas, one for each {threshold} records of lag\n", object.target));
    print(&format!("{}\n", times(object, speed)));
    print(" time s     lag  delay s  lag in the metric  CPU %  wanted  desired  replicas  with partitions\n");
}

/// A line of the table.
pub(super) fn look(sample: &Sample, look: &Look) {
    let number = |value: Option<i64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
    let [lag, cpu, wanted] = [look.lag, look.cpu_percent.map(i64::from), look.wanted.map(i64::from)].map(number);
    let Sample { at, delay, recording, .. } = sample;
    print(&format!(
        "{:>7.1} {:>7} {delay:>8.1} {lag:>18} {cpu:>6} {wanted:>7} {:>8} {:>9} {recording:>16}\n",
        at.as_secs_f64(),
        sample.lag,
        look.desired,
        look.current,
    ));
}

/// Names a file.
pub(super) fn saved(path: &Path) {
    print(&format!("plot: {}\n", path.display()));
}

/// Prints each statement with its verdict; whether all of them hold.
pub(super) fn end(timeline: &Timeline, outcome: &Outcome, object: &ScaledObject) -> bool {
    let statements = [scaling(timeline, object), recording(outcome)].concat();
    for (holds, statement) in &statements {
        print(&format!("{} {statement}\n", if *holds { "ok    " } else { "FAILED" }));
    }
    statements.iter().all(|(holds, _)| *holds)
}

fn scaling(timeline: &Timeline, object: &ScaledObject) -> Vec<(bool, String)> {
    let window = object.behavior.down.window;
    let threshold = object.kafka.lag_threshold;
    let after = |at: Option<Duration>| match at {
        Some(at) => format!("{:.1} s after the step began", at.saturating_sub(timeline.step.0).as_secs_f64()),
        None => "never".to_owned(),
    };
    let (detected, drained) = (timeline.detected(), timeline.drained(threshold));
    let (largest_at, largest) = timeline.largest_lag().unzip();
    let (most_at, most) = timeline.most().unzip();
    let flaps = timeline.flaps(window);
    let changes = timeline.changes();
    let is_back = changes.last().is_some_and(|change| change.to == object.behavior.min);
    vec![
        (detected.is_some(), format!("detected {}", after(detected))),
        (most.is_some(), format!("scaled to {} {}", most.unwrap_or(object.behavior.min), after(most_at))),
        (
            drained.is_some(),
            format!(
                "drained to {threshold} a replica {}, from {} records {}",
                after(drained),
                largest.unwrap_or(0),
                after(largest_at)
            ),
        ),
        (
            flaps.is_empty(),
            format!(
                "no flapping: replicas that came within {} s of others going: {}",
                trimmed(window.as_secs_f64()),
                list(&flaps)
            ),
        ),
        (is_back, format!("back at {}: {}", object.behavior.min, list(&changes))),
    ]
}

fn recording(outcome: &Outcome) -> Vec<(bool, String)> {
    let Outcome { accepted, refused, recorded, failed_ends } = outcome;
    let agree = if recorded.totals_agree { "says the same" } else { "says something else" };
    vec![
        (*failed_ends == 0, format!("consumers that did not end in good order: {failed_ends}")),
        (
            *refused == 0 && *accepted > 0 && recorded.rows == *accepted && recorded.totals_agree,
            format!(
                "each purchase recorded exactly once: {accepted} accepted, {refused} refused, {} rows in SQL, and the \
                 read API {agree}",
                recorded.rows
            ),
        ),
    ]
}

fn list(changes: &[Change]) -> String {
    let text = |change: &Change| format!("{} → {} at {:.1} s", change.from, change.to, change.at.as_secs_f64());
    let all: Vec<String> = changes.iter().map(text).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// The times in force, in words.
pub(super) fn times(object: &ScaledObject, speed: f64) -> String {
    let behavior = &object.behavior;
    let [sync, poll, up, down] =
        [SYNC_PERIOD.div_f64(speed), object.polling_interval, behavior.up.window, behavior.down.window]
            .map(|time| trimmed(time.as_secs_f64()));
    format!(
        "times {} × shorter than shipped: the controller looks every {sync} s, KEDA asks every {poll} s, up after \
         {up} s, down after {down} s",
        trimmed(speed),
    )
}

/// A number without zeros at its end.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn print(text: &str) {
    // A reader that went away is no error.
    let _ = io::stdout().write_all(text.as_bytes());
}
