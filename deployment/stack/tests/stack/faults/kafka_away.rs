//! Kafka stops for a while and comes back.

use std::time::Duration;

use http::Method;
use shared::testing::{HttpClient, eventually};
use stack::Load;
use stack::ledger::Outcome;
use stack::load::LoadPlan;
use tokio::time::{Instant, sleep};

use crate::deployment::Plan;
use crate::doors::order;
use crate::infra::infra_alone;

/// How long Kafka is away.
const AWAY: Duration = Duration::from_secs(15);
/// How soon after Kafka's end its absence must be known.
const NOTICED: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn kafka_stopped_for_15_s_means_503_and_then_all_goes_on_without_a_restart() {
    let mut infra = infra_alone().await;
    let stack = Plan::new("kafka_away").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    let ids: Vec<_> = stack.web.iter().chain(&stack.api).map(stack::Service::process_id).collect();
    // Not repeated: each purchase's one answer must be true.
    let load = Load::start(LoadPlan { retry_for: Duration::ZERO, connections: 200, ..stack.load(200.0) });
    let started = Instant::now();
    let progress = load.progress().clone();
    eventually("purchases are accepted", async || (progress.acknowledged() > 300).then_some(())).await;

    let stopping = started.elapsed();
    assert!(infra.kafka.stop_broker(1).await.expect("it stops"), "in good order");
    let stopped = started.elapsed();
    sleep(NOTICED).await;
    assert_refused(&stack.web[0].base_url()).await;
    for web in &stack.web {
        assert_eq!(web.get("/health").await.expect("it answers").status, 503);
        assert_eq!(web.get("/readyz").await.expect("it answers").status, 200, "it tells callers, and reads");
        assert_eq!(web.get("/livez").await.expect("it answers").status, 200);
    }
    sleep((AWAY + stopped).saturating_sub(started.elapsed())).await;
    infra.kafka.start_broker(1).await.expect("it starts");
    let back = started.elapsed();
    let acknowledged = progress.acknowledged();
    eventually("purchases are accepted again", async || (progress.acknowledged() > acknowledged + 300).then_some(()))
        .await;
    let report = load.stop().await;

    let mut late = Vec::new();
    for attempt in report.ledger.entries().iter().flat_map(|entry| &entry.attempts) {
        let Outcome::Answered { status, .. } = attempt.outcome else { panic!("no answer: {attempt:?}") };
        assert!([202, 503, 504].contains(&status), "{attempt:?}");
        let is_away = attempt.begun > stopped + NOTICED && attempt.begun + attempt.took < back;
        assert!(!is_away || status == 503, "Kafka is known to be away: {attempt:?}");
        assert!(!is_away || attempt.took < Duration::from_secs(1), "a refusal is told at once: {attempt:?}");
        // Unknown is true only of what was on its way while Kafka went.
        if status == 504 && (attempt.begun + Duration::from_millis(100) < stopping || attempt.begun > stopped + NOTICED)
        {
            late.push(attempt.clone());
        }
    }
    assert!(late.is_empty(), "{} answers of 504 outside of the stop, the first: {:?}", late.len(), late[0]);
    assert!(report.statuses.get(&503).is_some_and(|count| *count > 1000), "{:?}", report.statuses);
    eprintln!("statuses {:?}", report.statuses);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
    assert!(stack.web.iter().chain(&stack.api).map(stack::Service::process_id).eq(ids), "nothing was restarted");
    // One of the consumers may still be joining the group when the other has recorded all.
    for service in stack.web.iter().chain(&stack.api) {
        eventually("all is well", async || {
            let health = service.get("/health").await.expect("it answers");
            (health.status == 200).then_some(())
        })
        .await;
    }
}

/// A refusal says when to come again and what is wrong.
async fn assert_refused(url: &str) {
    let headers = [("content-type", "application/json")];
    let answer =
        HttpClient::default().request(Method::POST, &format!("{url}/buy"), &headers, order("p", "probe", "1")).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0), "{:?}", answer.headers);
    assert_eq!(answer.header("content-type"), "application/problem+json");
}
