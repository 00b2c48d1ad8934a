//! The guide's load is one user's. Balanced it is work for every consumer, by userid for one; recorded once in both.

use std::time::Duration;

use serde_json::Value;
use shared::testing::eventually;
use stack::load::{LoadPlan, Purchases};
use stack::metrics::sum;
use stack::{Load, Service, http};

use crate::deployment::{Deployment, Plan, is};
use crate::infra::{Guard, infra_alone};

const PURCHASES: u64 = 2000;
const CONSUMERS: usize = 5;

/// What became of a backlog.
struct Drained {
    /// How many partitions had records of it.
    partitions: usize,
    /// How many records each consumer recorded.
    shares: Vec<f64>,
}

#[tokio::test(flavor = "multi_thread")]
async fn scale_out_balanced_gives_every_consumer_its_share_of_one_users_load() {
    let drained = drain("balanced").await;
    assert_eq!(drained.partitions, 10);
    assert!(drained.shares.iter().all(|share| *share > 0.0), "{:?}", drained.shares);
}

#[tokio::test(flavor = "multi_thread")]
async fn scale_out_by_userid_leaves_one_users_load_to_one_consumer() {
    let drained = drain("userid").await;
    assert_eq!(drained.partitions, 1);
    let mut shares = drained.shares;
    shares.sort_unstable_by(f64::total_cmp);
    assert!(shares[..CONSUMERS - 1].iter().all(|share| is(*share, 0.0)), "{shares:?}");
}

/// A standing backlog of the guide's purchase before five waiting consumers, recorded by them.
async fn drain(partition_by: &str) -> Drained {
    let infra = infra_alone().await;
    let plan = Plan::new(&format!("scale_out_{partition_by}"))
        .replicas(1, CONSUMERS)
        .with("KAFKA_PARTITION_BY", partition_by)
        // As to a database far away: whoever has the records needs a while for them.
        .with("RECORD_BATCH_DELAY_MS", 100)
        .with("RECORD_BATCH_MAX_RECORDS", 100)
        // They are frozen while the backlog is made, and stay members.
        .with("KAFKA_SESSION_TIMEOUT_MS", 120_000);
    let stack = plan.start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(CONSUMERS).await;
    stack.api.iter().for_each(Service::sigstop);
    let targets = stack.web.iter().map(Service::address).collect();
    let purchases = Purchases::of_the_guide();
    let report = Load::run(LoadPlan { purchases, purchases_max: Some(PURCHASES), ..LoadPlan::new(targets, 32) }).await;
    assert_eq!(report.given_up, 0, "{:?} {:?}", report.statuses, report.failures);
    let group = &stack.api[0].plan().settings["KAFKA_CONSUMER_GROUP"];
    let offsets = infra.kafka.offsets(group, &stack.kafka.topic).await.expect("the broker answers");
    assert!(offsets.iter().all(|partition| partition.committed.is_none()), "nothing is recorded yet: {offsets:?}");
    let partitions = offsets.iter().filter(|partition| partition.end > 0).count();
    stack.api.iter().for_each(Service::sigcont);
    wait_recorded_once(&infra, &stack).await;
    let mut shares = Vec::new();
    for api in &stack.api {
        let page = api.metrics().await.expect("it answers");
        shares.push(sum(&page, "kafka_messages_processed_total", "success").expect("the metric"));
    }
    Drained { partitions, shares }
}

/// As many rows as were accepted, and the same in the user's totals; also when nothing is left to come.
async fn wait_recorded_once(infra: &Guard, stack: &Deployment) {
    let expected = i64::try_from(PURCHASES).expect("a small number");
    eventually("all is recorded", async || (stack.rows(&infra.postgres).await >= expected).then_some(())).await;
    stack.wait_no_lag(&infra.postgres).await;
    assert_eq!(stack.rows(&infra.postgres).await, expected);
    let path = "/users/loadtest/purchases?limit=1";
    let answer = http::get(&stack.api[0].address(), path, Duration::from_secs(5)).await.expect("it answers");
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((&body["count"], &body["total_spent"]), (&expected.into(), &(expected * 10).into()), "{}", answer.body);
}
