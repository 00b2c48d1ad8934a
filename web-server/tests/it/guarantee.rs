//! What a 2xx rests on, with a publisher in the test's own hands.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use web_server::metrics::Refusal;
use web_server::publisher::{NotPublished, Publishing, PurchasePublisher, PurchaseRecord, Receipt};

use crate::harness::{FakeServer, eventually};

/// Gives each purchase its outcome when the test says so, by the username.
struct ScriptedPublisher {
    reports: Arc<Semaphore>,
}

impl PurchasePublisher for ScriptedPublisher {
    fn publish(&self, record: PurchaseRecord<'_>) -> Publishing {
        let (reports, username) = (Arc::clone(&self.reports), record.purchase.username.clone());
        Box::pin(async move {
            let _report = reports.acquire().await;
            match username.as_str() {
                "refused" => Err(NotPublished::Refused(Refusal::QueueFull)),
                "failed" => Err(NotPublished::Failed("internals of broker broker-host".to_owned())),
                "unknown" => Err(NotPublished::Unknown("internals of broker broker-host".to_owned())),
                "panic" => panic!("the publisher panics"),
                _ => Ok(Receipt { partition: 3, offset: 42 }),
            }
        })
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn check_start(&self) -> Result<(), String> {
        Ok(())
    }

    fn flush(&self, _deadline: Duration) -> usize {
        0
    }
}

async fn start(reports: usize) -> (FakeServer, Arc<Semaphore>) {
    let reports = Arc::new(Semaphore::new(reports));
    let server = FakeServer::start(Arc::new(ScriptedPublisher { reports: Arc::clone(&reports) })).await;
    (server, reports)
}

fn purchase(username: &str) -> String {
    format!(r#"{{"username":"{username}","userid":"u","price":1}}"#)
}

#[tokio::test]
async fn nobody_is_answered_before_the_delivery_report() {
    let (server, reports) = start(0).await;
    let client = server.client.clone();
    let buying = tokio::spawn(async move { client.post("/buy", purchase("n")).send().await });
    let in_flight = async || server.metric("http_requests_in_flight").await == Some(2.0);
    eventually("the purchase is on its way", in_flight).await;
    assert!(!buying.is_finished());
    reports.add_permits(1);
    let answer = buying.await.unwrap();
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["receipt"], serde_json::json!({"topic": "purchases", "partition": 3, "offset": 42}));
}

#[tokio::test]
async fn each_outcome_has_its_status_and_shows_no_internals() {
    let (server, _reports) = start(1).await;
    for (username, status, kind) in
        [("refused", 503, "unavailable"), ("failed", 503, "unavailable"), ("unknown", 504, "outcome-unknown")]
    {
        let answer = server.client.post("/buy", purchase(username)).send().await;
        assert_eq!(answer.status, status, "{username}");
        let problem = answer.problem(kind);
        assert!(!problem.to_string().contains("broker-host"), "{problem}");
        assert_eq!(problem.get("purchase_id").is_some(), status == 504);
    }
    let all = ["n", "refused", "failed", "unknown"].map(purchase).join(",");
    let answer = server.client.post("/buy/batch", format!("[{all}]")).send().await;
    assert_eq!(answer.status, 207);
    let results = answer.json()["results"].as_array().unwrap().clone();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 503, 503, 504]);
}

#[tokio::test]
async fn the_longest_outcomes_of_a_batch_find_room_in_what_was_reserved_for_them() {
    let (server, _reports) = start(1).await;
    for outcome in ["refused", "failed", "unknown"] {
        let batch = format!("[{}]", vec![purchase(outcome); 500].join(","));
        let answer = server.client.post("/buy/batch", batch).header("x-request-id", &"r".repeat(64)).send().await;
        assert_eq!(answer.status, 207, "{}", answer.text());
    }
}

#[tokio::test]
async fn the_longest_answer_to_a_purchase_is_small() {
    let (server, _reports) = start(1).await;
    let (wide, escaped) = ("\u{1F6D2}".repeat(256), r#"\""#.repeat(256));
    for (username, userid) in [(&wide, &wide), (&escaped, &escaped)] {
        let body = format!(r#"{{"username":"{username}","userid":"{userid}","price":999999999999999.9999}}"#);
        let answer = server.client.post("/buy", body).send().await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        assert!(answer.text().len() <= 4096, "no room is reserved for it: {} bytes", answer.text().len());
    }
}

#[tokio::test]
async fn a_panic_is_one_callers_500() {
    let (server, _reports) = start(1).await;
    let answer = server.client.post("/buy", purchase("panic")).header("x-request-id", "r-1").send().await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.problem("internal")["request_id"], "r-1");
    assert_eq!(server.client.post("/buy", purchase("n")).send().await.status, 202);
}
