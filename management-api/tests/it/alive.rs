//! Half-dead is not alive: a task that dies starts anew, or the service ends with an error.

use std::time::{Duration, Instant};

use management_api::accounts::new_signing_key;
use management_api::app::Service;
use management_api::callbacks::sending::new_secret;
use management_api::metrics::TASKS;
use shared::shutdown::Shutdown;
use shared::testing::eventually;

use crate::harness::{Api, Kafka, config, value};
use crate::memory_store::MemoryStore;

/// How soon the service must be well again, or ended.
const AT_ONCE: Duration = Duration::from_secs(5);

/// They start anew, whenever they die.
const LASTING: [&str; 11] = [
    "callback_upkeep",
    "callbacks",
    "commits",
    "database_watch",
    "kafka_producer",
    "kafka_sender",
    "lag_watch",
    "lane",
    "metrics",
    "reader",
    "waiters",
];
/// They have work at the start only, or in a rebalance, and begin it anew.
const AT_THE_START: [&str; 4] = ["dead_letter_limits", "first_admin", "loader", "migration"];
/// Without one of them there is no service.
const VITAL: [&str; 3] = ["http", "ingest", "operations"];

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
    let (kafka, folder, keys) = (Kafka::start(), tempfile::tempdir().unwrap(), new_secret());
    let settings = [("CALLBACK_SIGNING_SECRET", keys.expose().as_str())];
    let build = |shutdown: &Shutdown| Service::build(config(&kafka, &folder, &settings), shutdown);
    let api = Api::build(build).await.ready().await;
    let mut recorded = 0;
    for task in LASTING {
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

#[test]
fn each_task_is_killed_here() {
    let mut killed = [LASTING.as_slice(), &AT_THE_START, &VITAL].concat();
    killed.sort_unstable();
    assert_eq!(killed, TASKS);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_at_the_start_that_dies_begins_anew() {
    let key = new_signing_key();
    let settings = [
        ("JWT_SIGNING_KEY", key.expose().as_str()),
        ("ADMIN_EMAIL", "root@example.com"),
        ("ADMIN_PASSWORD", "correct horse"),
    ];
    for task in AT_THE_START {
        let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
        let dying = |shutdown: &Shutdown| {
            shutdown.faults().kill(task);
            Service::build(config(&kafka, &folder, &settings), shutdown)
        };
        let api = Api::build(dying).await.ready().await;
        eventually("its death is counted", async || (failures(&api, task).await > 0.5).then_some(())).await;
        kafka.send("poison").await;
        kafka.send(&value("ann", "1")).await;
        api.user_with("ann", 1).await;
        assert!(api.stop().await, "{task}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_part_that_cannot_start_anew_the_service_ends_with_an_error() {
    for task in VITAL {
        let (kafka, store) = (Kafka::start(), MemoryStore::new());
        let operations = [("OPERATIONS_LISTEN_ADDRESS", "127.0.0.1:0")];
        let api = Api::start_on(store, &kafka, &operations).await.ready().await;
        api.shutdown.faults().kill(task);
        let died = Instant::now();
        assert!(!api.ended().await, "the service goes on without {task}");
        assert!(died.elapsed() < AT_ONCE, "{task}: {:?}", died.elapsed());
    }
}
