//! Half-dead is not alive, in one process too.

use std::time::Duration;

use shared::testing::eventually;
use tokio::time::timeout;

use crate::harness::Running;

/// How soon all of it must have ended.
const AT_ONCE: Duration = Duration::from_secs(5);
const PURCHASE: &str = r#"{"username":"ann","userid":"u1","price":19.90}"#;

#[tokio::test]
async fn when_what_records_cannot_go_on_all_of_it_ends_with_an_error() {
    let mut pipeline = Running::start().await;
    pipeline.recording.faults().kill("http");
    let ended = timeout(AT_ONCE, &mut pipeline.task).await.expect("it ends at once").expect("without a panic");
    assert!(!ended, "with an error");
}

#[tokio::test]
async fn a_reader_that_dies_starts_anew_and_purchases_go_on() {
    let pipeline = Running::start().await;
    pipeline.recording.faults().kill("reader");
    let failed = r#"task_failures_total{task="reader"}"#;
    let metrics = format!("http://{}/metrics", pipeline.management);
    eventually("its death is counted", async || {
        (pipeline.http.get(&metrics).await.metric(failed) == Some(1.0)).then_some(())
    })
    .await;
    let buy = format!("http://{}/buy", pipeline.web);
    eventually("a purchase is recorded", async || {
        (pipeline.http.post_json(&buy, PURCHASE).await.status == 201).then_some(())
    })
    .await;
}
