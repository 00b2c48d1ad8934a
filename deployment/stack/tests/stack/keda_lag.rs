//! Lag as KEDA counts it, from what is committed to Kafka, is the lag that our own consumers show.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use shared::testing::eventually;
use simulator::kafka_scaler::{KafkaTrigger, OffsetResetPolicy};
use simulator::scaled_object::ScaledObject;
use stack::kafka::PartitionOffsets;
use stack::load::Purchases;
use stack::{KafkaCluster, Load, LoadPlan};

use crate::deployment::{Deployment, Plan};
use crate::infra::{Infra, infra_alone};

/// Lag of each partition that has any.
pub type Lags = BTreeMap<i32, i64>;

#[tokio::test(flavor = "multi_thread")]
async fn keda_lag_is_ours_when_idle_and_under_a_standing_backlog() {
    let mut infra = infra_alone().await;
    let stack = Plan::new("keda_lag").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    buy(&stack, 500).await;
    stack.wait_no_lag(&infra.postgres).await;
    assert_eq!(wait_for_lag(&stack, &infra.kafka, 0).await, Lags::new());

    // With the database away nothing is recorded, and without a sender nothing comes: both sides stand still.
    infra.postgres.kill_9();
    buy(&stack, 1234).await;
    let lags = wait_for_lag(&stack, &infra.kafka, 1234).await;
    assert_eq!(lags.len(), 10, "every partition is behind: {lags:?}");

    infra.postgres.start_again().await.expect("it starts");
    assert_eq!(wait_for_lag(&stack, &infra.kafka, 0).await, Lags::new());
    stack.wait_no_lag(&infra.postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keda_lag_is_ours_for_a_group_that_has_committed_nothing() {
    let infra = infra_alone().await;
    // Longer than this test waits for anything: no transaction ends in it.
    let plan = Plan::new("keda_no_commit").with("RECORD_BATCH_DELAY_MS", 60_000);
    let stack = plan.start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    buy(&stack, 700).await;
    wait_for_lag(&stack, &infra.kafka, 700).await;

    let offsets = offsets(&stack, &infra.kafka).await.expect("the broker answers");
    assert!(offsets.iter().all(|partition| partition.committed.is_none()), "{offsets:?}");
    let latest = KafkaTrigger { offset_reset_policy: OffsetResetPolicy::Latest, ..trigger(&stack) };
    assert_eq!(latest.lag(&offsets), 10, "this is why the policy is earliest");
}

/// Purchases a second of the guide's load test.
const GUIDE_RATE: f64 = 1000.0;
/// How far from the true lag KEDA's may be at that rate, in records.
const APART_MAX: i64 = 50;
/// How often it is looked, about as many times a second as consumers tell Kafka what they have recorded, and out of step with them.
const LOOK_INTERVAL: Duration = Duration::from_millis(170);
const LOOKS: usize = 100;
/// One look at the broker and the database.
#[derive(Debug)]
struct LagSeen {
    /// What KEDA makes of it.
    keda: i64,
    /// Records in Kafka that were not in SQL when the look began, and when it ended.
    truth: (i64, i64),
}

impl LagSeen {
    /// How far KEDA's lag is from the true one, which was between both while it was looked.
    fn apart(&self) -> i64 {
        let (before, after) = self.truth;
        (self.keda - before).max(after - self.keda).max(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keda_lag_stays_near_the_true_lag_at_the_guides_rate() {
    let infra = infra_alone().await;
    let stack = Plan::new("keda_steady").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    // From here on every partition has a commit.
    buy(&stack, 500).await;
    wait_for_lag(&stack, &infra.kafka, 0).await;
    let plan = LoadPlan { purchases: Purchases::of_the_guide(), retry_for: Duration::ZERO, ..stack.load(GUIDE_RATE) };
    let load = Load::start(plan);
    let seen = watch_lag(&stack, &infra).await;
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "{:?} {:?}", report.statuses, report.failures);
    assert!(report.per_second() > 0.9 * GUIDE_RATE, "only {:.0} a second", report.per_second());

    let lags: Vec<_> = seen.iter().map(|look| (look.keda, look.truth)).collect();
    eprintln!("KEDA's lag, and the true one before and after each look: {lags:?}");
    // A commit is late by as long as the machine is busy elsewhere: one look in ten may meet such a moment.
    let mut apart: Vec<_> = seen.iter().map(LagSeen::apart).collect();
    apart.sort_unstable();
    let usual = apart[(apart.len() - 1) * 9 / 10];
    assert!(usual <= APART_MAX, "{usual} apart: {apart:?}");
    let threshold = trigger(&stack).lag_threshold;
    assert!(seen.iter().all(|look| look.keda < threshold), "one replica is enough: {lags:?}");
}

/// Looks at the lag while a load runs. All of the topic's records are purchases, so what is recorded are the table's rows.
async fn watch_lag(stack: &Deployment, infra: &Infra) -> Vec<LagSeen> {
    let client = stack.sql(&infra.postgres).await;
    let recorded = async || -> i64 {
        let row = client.query_one("SELECT count(*) FROM purchases", &[]).await;
        row.expect("the table is there").get(0)
    };
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let mut seen = Vec::new();
    while seen.len() < LOOKS {
        looks.tick().await;
        let before = recorded().await;
        let offsets = offsets(stack, &infra.kafka).await.expect("the broker answers");
        let after = recorded().await;
        let end: i64 = offsets.iter().map(|partition| partition.end).sum();
        seen.push(LagSeen { keda: trigger(stack).lag(&offsets), truth: (end - before, end - after) });
    }
    seen
}

/// Waits until KEDA's lag and that of our consumers are this sum, and the same in each partition.
pub async fn wait_for_lag(stack: &Deployment, kafka: &KafkaCluster, sum: i64) -> Lags {
    eventually("KEDA's lag and ours are as expected", async || {
        let ours = our_lag(stack).await;
        // A group that was never heard of has no coordinator in the first moments.
        let offsets = offsets(stack, kafka).await.ok()?;
        let trigger = trigger(stack);
        let lag = |partition: &PartitionOffsets| (partition.partition, trigger.lag(&[*partition]));
        let theirs: Lags = offsets.iter().map(lag).filter(|(_, lag)| *lag != 0).collect();
        (trigger.lag(&offsets) == sum && theirs == ours).then_some(ours)
    })
    .await
}

/// `kafka_consumer_lag` over all replicas.
async fn our_lag(stack: &Deployment) -> Lags {
    let whole = |lag: f64| format!("{lag}").parse().expect("a whole number");
    let lags = stack.lags().await.into_iter().filter(|(_, lag)| *lag > 0.0);
    lags.map(|(partition, lag)| (partition, whole(lag))).collect()
}

async fn offsets(stack: &Deployment, kafka: &KafkaCluster) -> stack::Result<Vec<PartitionOffsets>> {
    let trigger = trigger(stack);
    kafka.offsets(&trigger.group, &trigger.topic).await
}

/// The shipped trigger, for this test's group and topic.
fn trigger(stack: &Deployment) -> KafkaTrigger {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../keda/customer-management-api.yaml");
    let shipped = ScaledObject::read(&file).unwrap_or_else(|error| panic!("{error}")).kafka;
    KafkaTrigger {
        group: stack.api[0].plan().settings["KAFKA_CONSUMER_GROUP"].clone(),
        topic: stack.kafka.topic.clone(),
        ..shipped
    }
}

async fn buy(stack: &Deployment, count: u64) {
    let plan = LoadPlan { purchases_max: Some(count), retry_for: Duration::ZERO, ..stack.load(2000.0) };
    let report = Load::run(plan).await;
    assert_eq!(report.given_up, 0, "{:?} {:?}", report.statuses, report.failures);
}
