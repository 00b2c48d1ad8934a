//! What comes out of the guide's load test: 1,000 purchases a second for five minutes, by the shipped ScaledObject.

use std::{path::PathBuf, time::Duration};

use simulator::{
    horizontal::{Horizontal, Metric, SYNC_PERIOD},
    kafka_scaler::KafkaTrigger,
    scaled_object::ScaledObject,
};

const RATE: f64 = 1000.0;
const LASTS: Duration = Duration::from_mins(5);
/// Long enough for everything to be over.
const WATCHED: Duration = Duration::from_mins(30);
const PARTITIONS: usize = 10;
/// What a consumer recorded in the benchmark, a second; and one with `RECORD_BATCH_DELAY_MS=500` and
/// `RECORD_BATCH_MAX_RECORDS=100`, of two lanes.
const NORMAL: f64 = 123_900.0;
const SLOWED: f64 = 400.0;
/// Records that are recorded, and Kafka has not been told yet.
const UNTOLD: f64 = 50.0;

fn shipped() -> ScaledObject {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "customer-management-api.yaml"].iter().collect();
    ScaledObject::read(&path).unwrap_or_else(|error| panic!("{error}"))
}

/// How the replicas change, by second, when each records so much; and the largest lag.
fn replay(object: &ScaledObject, capacity: f64, untold: f64) -> (Vec<(u64, i32)>, f64) {
    let mut controller = Horizontal::new(object.behavior.clone());
    let (mut replicas, mut lag, mut largest) = (object.behavior.min, 0.0_f64, 0.0_f64);
    let mut changes = Vec::new();
    for look in 0..u32::try_from(WATCHED.as_secs() / SYNC_PERIOD.as_secs()).expect("few") {
        let now = SYNC_PERIOD * look;
        let arriving = if now < LASTS { RATE } else { 0.0 };
        let shown = if arriving > 0.0 { lag + untold } else { lag };
        let metric = Metric::Average { total: in_metric(&object.kafka, shown), target: lag_threshold(object) };
        let desired = controller.sync(now, replicas, &[Some(metric)]).desired;
        if desired != replicas {
            changes.push((now.as_secs(), desired));
        }
        replicas = desired;
        lag = (lag + (arriving - capacity * f64::from(replicas)) * SYNC_PERIOD.as_secs_f64()).max(0.0);
        largest = largest.max(lag);
    }
    (changes, largest)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "lags are far below 2^53")]
fn in_metric(trigger: &KafkaTrigger, lag: f64) -> f64 {
    trigger.limited(lag as i64, PARTITIONS) as f64
}

#[expect(clippy::cast_precision_loss, reason = "thresholds are far below 2^53")]
fn lag_threshold(object: &ScaledObject) -> f64 {
    object.kafka.lag_threshold as f64
}

#[test]
fn consumers_at_their_normal_speed_stay_one() {
    assert_eq!(replay(&shipped(), NORMAL, UNTOLD), (vec![], 0.0));
}

#[test]
fn slowed_consumers_become_five_and_one_again() {
    let (changes, largest) = replay(&shipped(), SLOWED, UNTOLD);
    // As AUTOSCALING.md tells it: up after 60 s by two a minute, down after 300 s by one a minute.
    assert_eq!(changes, [(60, 3), (120, 5), (435, 4), (495, 3), (555, 2), (615, 1)]);
    assert!((largest - 36_000.0).abs() < 1.0, "{largest}");
}

/// Offsets told twice a second, and a threshold of 100: why consumers came and went at a load that one records with ease.
#[test]
fn a_threshold_below_the_noise_adds_consumers_for_nothing() {
    let mut object = shipped();
    object.kafka.lag_threshold = 100;
    let (changes, _) = replay(&object, NORMAL, RATE * 0.25);
    assert_eq!(changes.first(), Some(&(60, 3)), "{changes:?}");
}
