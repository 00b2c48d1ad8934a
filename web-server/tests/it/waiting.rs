//! `Prefer: wait`: the answer after the database has the purchase.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, FakeAnswer, Seen, Server};

const BODY: &str = r#"{"username":"n","userid":"u","price":10}"#;

async fn buy(server: &Server, prefer: &str) -> Answer {
    server.client.post("/buy", BODY).header("idempotency-key", "k").header("prefer", prefer).send().await
}

/// Says that the one purchase asked for is stored with this price.
fn stored(price: &'static str) -> impl Fn(&Seen) -> FakeAnswer {
    move |seen| {
        let ids: Value = serde_json::from_str(&seen.body).unwrap();
        let purchase = format!(
            r#"{{"purchase_id":{},"userid":"u","username":"n","price":{price},"timestamp":"2026-01-31T12:00:00.000Z","recorded_at":"2026-01-31T12:00:00.500Z"}}"#,
            ids["purchase_ids"][0]
        );
        FakeAnswer::ok(format!(r#"{{"purchases":[{purchase}]}}"#))
    }
}

#[tokio::test]
async fn a_recorded_purchase_is_201_with_the_stored_row() {
    let server = Server::start().await;
    server.management.answers(stored("10.0"));
    let answer = buy(&server, "wait=5").await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["status"], "recorded");
    assert_eq!(body["data"]["timestamp"], "2026-01-31T12:00:00.000Z", "the first recorded stays");
    assert_eq!(body["data"]["recorded_at"], "2026-01-31T12:00:00.500Z");
    let seen = server.management.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/internal/purchases/wait"));
    let asked: Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(asked["purchase_ids"], json!([body["purchase_id"]]));
    assert!((4_000..=5_000).contains(&asked["wait_ms"].as_u64().unwrap()), "{asked}");
    assert_eq!(seen.header("x-request-id"), answer.header("x-request-id"));
    assert!(seen.header("traceparent").contains(answer.header("x-request-id")));
}

#[tokio::test]
async fn a_key_used_with_other_content_is_422_for_who_waits() {
    let server = Server::start().await;
    server.management.answers(stored("11"));
    let answer = buy(&server, "wait=5").await;
    assert_eq!(answer.status, 422);
    answer.problem("idempotency-key-conflict");
    assert_eq!(buy(&server, "wait=0").await.status, 202, "who does not wait is not told");
}

#[tokio::test]
async fn a_wait_without_a_row_ends_as_202() {
    let server = Server::start().await;
    server.management.answers(|_| FakeAnswer::ok(r#"{"purchases":[]}"#));
    assert_eq!(buy(&server, "wait=1").await.status, 202);
    server.management.answers(|_| FakeAnswer::status(500, "boom"));
    assert_eq!(buy(&server, "wait=1").await.status, 202);
    server.management.answers(|_| FakeAnswer::ok("nonsense"));
    assert_eq!(buy(&server, "wait=1").await.status, 202);
    server.management.answers(|_| FakeAnswer::never());
    assert_eq!(buy(&server, "wait=1").await.status, 202);
}

#[tokio::test]
async fn a_server_that_stops_does_not_make_its_callers_wait() {
    let server = Server::start().await;
    server.management.answers(|_| FakeAnswer::never());
    let client = server.client.clone();
    let waiting =
        tokio::spawn(async move { client.post("/buy", BODY).header("prefer", "wait=30").send().await.status });
    crate::harness::eventually("the wait begins", async || !server.management.seen().is_empty()).await;
    server.shutdown.stop();
    assert_eq!(waiting.await.unwrap(), 202);
    server.ended().await.unwrap();
}

#[tokio::test]
async fn always_waiting_only_a_stored_purchase_is_a_2xx() {
    let server = Server::with(&[("PUBLISH_DEADLINE_MS", "1000")], |config| config.always_wait = true).await;
    server.management.answers(stored("10"));
    assert_eq!(server.client.post("/buy", BODY).send().await.status, 201);
    assert_eq!(buy(&server, "wait=0").await.status, 201);

    server.management.answers(|_| FakeAnswer::ok(r#"{"purchases":[]}"#));
    let answer = server.client.post("/buy", BODY).send().await;
    assert_eq!(answer.status, 504);
    let problem = answer.problem("outcome-unknown");
    assert_eq!(problem["purchase_id"].as_str().unwrap().len(), 36);
    let batch = server.client.post("/buy/batch", format!("[{BODY}]")).send().await;
    assert_eq!(batch.status, 207);
    assert_eq!(batch.json()["results"][0]["status"], 504);
}

#[tokio::test]
async fn always_waiting_a_wait_that_ends_early_is_begun_again() {
    let server = Server::with(&[], |config| config.always_wait = true).await;
    let asked = AtomicUsize::new(0);
    server.management.answers(move |seen| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => FakeAnswer::ok(r#"{"purchases":[]}"#),
        1 => FakeAnswer::status(503, "{}"),
        _ => stored("10")(seen),
    });
    assert_eq!(server.client.post("/buy", BODY).send().await.status, 201);
    assert_eq!(server.management.seen().len(), 3);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_sent() {
    let writable = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&writable);
    let check = move || if asked.load(Ordering::SeqCst) { Ok(()) } else { Err("the disk is full".to_owned()) };
    let server = Server::with(&[], |config| config.admission = Some(Arc::new(check))).await;
    writable.store(false, Ordering::SeqCst);
    assert_eq!(server.client.get("/health").await.json()["checks"]["recording"]["status"], "failing");
    assert_eq!(server.client.get("/readyz").await.status, 200, "reads go on");
    for path in ["/buy", "/buy/batch"] {
        let body = if path == "/buy" { BODY.to_owned() } else { format!("[{BODY}]") };
        let answer = server.client.post(path, body).send().await;
        assert_eq!(answer.status, 503);
        let problem = answer.problem("unavailable");
        assert!(!problem["detail"].as_str().unwrap().contains("disk"), "internals stay inside");
    }
    assert_eq!(server.metric(r#"http_requests_refused_total{reason="shedding"}"#).await, Some(2.0));
    assert_eq!(server.metric(r#"purchases_published_total{outcome="delivered"}"#).await, Some(0.0));
    writable.store(true, Ordering::SeqCst);
    assert_eq!(server.client.post("/buy", BODY).send().await.status, 202);
}

#[tokio::test]
async fn a_wait_counts_from_the_request_on() {
    let server = Server::start().await;
    server.management.answers(|seen| {
        let asked: Value = serde_json::from_str(&seen.body).unwrap();
        let delay = Duration::from_millis(asked["wait_ms"].as_u64().unwrap());
        FakeAnswer { delay, ..FakeAnswer::ok(r#"{"purchases":[]}"#) }
    });
    let started = std::time::Instant::now();
    assert_eq!(buy(&server, "wait=1").await.status, 202);
    let elapsed = started.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&elapsed), "{elapsed:?}");
}
