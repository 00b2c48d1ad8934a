//! Half-dead is not alive: a task that dies starts anew, or the server ends with an error.

use std::time::{Duration, Instant};

use web_server::app::RunError;
use web_server::metrics::TASKS;

use crate::harness::{FakeAnswer, Server, eventually};

/// How soon the server must be well again, or ended.
const AT_ONCE: Duration = Duration::from_secs(5);

fn failures(task: &str) -> String {
    format!(r#"task_failures_total{{task="{task}"}}"#)
}

#[tokio::test]
async fn every_task_is_counted_from_0_on() {
    let server = Server::start().await;
    for task in TASKS {
        assert_eq!(server.metric(&failures(task)).await, Some(0.0), "{task}");
    }
}

#[tokio::test]
async fn a_task_that_dies_starts_anew() {
    let server = Server::start().await;
    server.management.answers(|_| FakeAnswer::ok(r#"{"purchases":[],"next_cursor":null}"#));
    for task in
        ["probes", "replicas", "kafka_producer", "kafka_sender", "metrics", "shedding", "token_keys", "callbacks"]
    {
        for times in [1.0, 2.0] {
            server.shutdown.faults().kill(task);
            let died = Instant::now();
            eventually("its death is counted", async || server.metric(&failures(task)).await == Some(times)).await;
            assert_eq!(server.client.buy().await.status, 202, "{task}");
            assert_eq!(server.client.get("/purchases").await.status, 200, "{task}");
            assert!(died.elapsed() < AT_ONCE, "{task}");
        }
    }
    server.shutdown.stop();
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_task_that_dies_before_its_work_is_done_starts_anew() {
    let server = Server::unready(&[("KAFKA_CREATE_TOPICS", "false")], |config| {
        config.publisher.kafka.topic = "made-later".to_owned();
    })
    .await;
    server.shutdown.faults().kill("topics");
    eventually("its death is counted", async || server.metric(&failures("topics")).await == Some(1.0)).await;
    server.broker.create_topic("made-later", 2).unwrap();
    server.until_ready().await;
    assert_eq!(server.client.buy().await.status, 202);
}

#[tokio::test]
async fn without_one_of_its_listeners_the_server_ends_with_an_error() {
    for task in ["http", "operations"] {
        let server = Server::with(&[("OPERATIONS_LISTEN_ADDRESS", "127.0.0.1:0")], |_| {}).await;
        server.shutdown.faults().kill(task);
        let died = Instant::now();
        let ended = server.ended().await;
        assert!(matches!(ended, Err(RunError::Died(dead)) if dead == task), "without {task}: {ended:?}");
        assert!(died.elapsed() < AT_ONCE);
    }
}

#[tokio::test]
async fn a_task_that_dies_while_the_server_ends_holds_nothing_up() {
    for task in ["replicas", "kafka_producer", "kafka_sender"] {
        let server = Server::start().await;
        server.shutdown.faults().kill(task);
        server.shutdown.stop();
        let began = Instant::now();
        server.ended().await.unwrap();
        assert!(began.elapsed() < AT_ONCE, "{task}");
    }
}
