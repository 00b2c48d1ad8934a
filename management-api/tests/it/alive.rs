//! Half-dead is not alive: a task that dies starts anew, or the service ends with an error.

use std::time::{Duration, Instant};

use management_api::metrics::TASKS;
use shared::testing::eventually;

use crate::harness::{Api, Kafka, value};

/// How soon the service must be well again, or ended.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn failures(api: &Api, task: &str) -> f64 {
    api.metric(&format!(r#"task_failures_total{{task="{task}"}}"#)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_task_is_counted_from_0_on() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await;
    for task in TASKS {
        assert!(failures(&api, task).await < 0.5, "{task}");
    }
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_dies_starts_anew() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    let mut recorded = 0;
    for task in
        ["database_watch", "kafka_producer", "kafka_sender", "lag_watch", "lane", "metrics", "reader", "waiters"]
    {
        api.shutdown.faults().kill(task);
        let died = Instant::now();
        eventually("its death is counted", async || (failures(&api, task).await > 0.5).then_some(())).await;
        assert!(died.elapsed() < AT_ONCE, "{task}: {:?}", died.elapsed());
        // Another membership of the group waits for the in-process broker to forget the one before.
        kafka.send("poison").await;
        kafka.send(&value("ann", "1")).await;
        recorded += 1;
        api.user_with("ann", recorded).await;
        assert_eq!(api.get("/readyz").await.status, 200, "{task}");
    }
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_listener_the_service_ends_with_an_error() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    api.shutdown.faults().kill("http");
    let died = Instant::now();
    assert!(!api.ended().await, "the service goes on without its listener");
    assert!(died.elapsed() < AT_ONCE);
}
