//! Replicas come and go under load.

use std::time::Duration;

use serde_json::Value;
use shared::testing::{ForeignMember, RawProducer, committed_offset, eventually};
use stack::Load;

use crate::deployment::{Deployment, Plan, READY, is};
use crate::doors::order;
use crate::infra::infra_alone;

/// The longest that any purchase may have waited to be recorded.
const STALL_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_come_and_go_stall_no_purchase() {
    let infra = infra_alone().await;
    let plan = Plan::new("rebalances").replicas(1, 4);
    let mut stack = plan.prepare(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    let mut others = stack.api.split_off(1);
    stack.start().await;
    let load = Load::start(stack.load(500.0));
    let progress = load.progress().clone();
    let more = async |count: u64| {
        let before = progress.acknowledged();
        eventually("purchases are accepted", async || (progress.acknowledged() > before + count).then_some(())).await;
    };
    more(500).await;
    for mut service in others.drain(..) {
        service.start_again().expect("it starts");
        service.wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
        stack.api.push(service);
        let owners = stack.api.len();
        stack.wait_assigned(owners).await;
        more(300).await;
    }
    // Two at once: an autoscaler does not ask them to take turns.
    let mut leaving = stack.api.split_off(2);
    leaving.iter().for_each(stack::Service::sigterm);
    for service in &mut leaving {
        let code = service.wait_exit(Duration::from_secs(30)).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(code, Some(0), "{}", service.plan().name);
    }
    stack.wait_assigned(2).await;
    more(1000).await;
    let report = load.stop().await;
    assert_eq!((report.given_up, report.failures.len()), (0, 0), "{:?} {:?}", report.statuses, report.failures);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
    let longest = "SELECT extract(epoch FROM max(recorded_at - purchased_at))::float8 FROM purchases";
    let longest: f64 = stack.sql(&infra.postgres).await.query_one(longest, &[]).await.expect("the table").get(0);
    eprintln!("the longest wait from accepting to recording: {longest:.2} s");
    assert!(longest <= STALL_MAX.as_secs_f64(), "a purchase waited {longest} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_more_than_there_are_partitions_is_ready_and_takes_over() {
    let infra = infra_alone().await;
    let plan = Plan::new("spare").replicas(0, 3).with("KAFKA_TOPIC_PARTITIONS", 2);
    let mut stack = plan.prepare(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    for service in &mut stack.api {
        service.start_again().expect("it starts");
    }
    let owners = async |stack: &Deployment| -> Option<Vec<usize>> {
        let assigned = stack.assigned().await;
        let owners = assigned.iter().enumerate().filter(|(_, count)| is(**count, 1.0)).map(|(number, _)| number);
        Some(owners.collect::<Vec<_>>()).filter(|owners| owners.len() == 2)
    };
    let first = eventually("two of three have a partition", async || owners(&stack).await).await;
    for service in &mut stack.api {
        service.wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
    }
    stack.api[first[0]].kill_9();
    let second =
        eventually("the spare one has it", async || owners(&stack).await.filter(|owners| *owners != first)).await;
    assert!(!second.contains(&first[0]), "{second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_kept_out_of_the_group_by_another_program_says_why_and_records_all_once_that_has_left() {
    const PURCHASES: u8 = 20;
    let infra = infra_alone().await;
    let plan = Plan::new("foreign").replicas(0, 1);
    let mut stack = plan.prepare(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    infra.kafka.create_topic(&stack.kafka.topic, 10).await.expect("made");
    let group = stack.api[0].plan().settings["KAFKA_CONSUMER_GROUP"].clone();
    let foreign = ForeignMember::join(&stack.kafka, &group, "roundrobin").await;
    let producer = RawProducer::new(&stack.kafka);
    let send = async || {
        for number in 0..PURCHASES {
            let value = order("Ann", "ann", "1");
            producer.send(&stack.kafka.topic, i32::from(number % 10), None, Some(value.as_bytes())).await;
        }
    };
    send().await;
    // What it takes from the group, and tells Kafka of, is recorded all the same.
    foreign.take(usize::from(PURCHASES)).await;
    assert_eq!(committed_offset(&stack.kafka, &group, 0).await, Some(2));

    stack.api[0].start_again().expect("it starts");
    eventually("the broker's reason", async || {
        let ready = stack.api[0].get("/readyz").await.ok()?;
        let body: Value = serde_json::from_str(&ready.body).ok()?;
        let detail = body["checks"]["consumer"]["detail"].to_string();
        (ready.status == 503 && detail.contains("nconsistent group protocol")).then_some(detail)
    })
    .await;
    send().await;
    assert_eq!(stack.rows(&infra.postgres).await, 0);

    foreign.leave().await;
    stack.api[0].wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
    stack.wait_no_lag(&infra.postgres).await;
    assert_eq!(stack.rows(&infra.postgres).await, i64::from(PURCHASES) * 2);
}
