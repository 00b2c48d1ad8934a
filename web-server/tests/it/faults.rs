//! What callers see when Kafka fails.

use std::time::{Duration, Instant};

use shared::kafka::ProduceFault;
use web_server::app::RunError;

use crate::harness::{FakeAnswer, Server, eventually, read_records};

const BATCH: &str = r#"[{"username":"n","userid":"u","price":1},{"username":"n","userid":"u","price":1},{"username":"n","userid":"u","price":1}]"#;

#[tokio::test]
async fn without_a_broker_purchases_are_refused_and_come_back_with_it() {
    let server = Server::with(&[("PUBLISH_DEADLINE_MS", "1000")], |_| {}).await;
    server.broker.set_broker_up(1, false).unwrap();
    eventually("not healthy", async || server.client.get("/health").await.status == 503).await;
    let kafka = &server.client.get("/health").await.json()["checks"]["kafka"];
    assert_eq!((&kafka["status"], &kafka["detail"]), (&"failing".into(), &"no broker is connected".into()));
    assert_eq!(server.client.get("/readyz").await.status, 200, "callers still find somebody who tells them");
    server.management.answers(|_| FakeAnswer::ok("{}"));
    assert_eq!(server.client.get("/purchases").await.status, 200, "reads need no Kafka");
    let answer = server.client.buy().await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), "1");
    let detail = answer.problem("unavailable")["detail"].to_string();
    assert!(detail.contains("nothing was sent") && !detail.contains("127.0.0.1"), "{detail}");
    assert!(server.metric(r#"http_requests_refused_total{reason="broker"}"#).await.unwrap() >= 1.0);
    assert_eq!(server.metric("kafka_broker_connected").await, Some(0.0));
    assert_eq!(server.client.get("/livez").await.status, 200, "liveness never looks at Kafka");

    server.broker.set_broker_up(1, true).unwrap();
    eventually("healthy again", async || server.client.get("/health").await.status == 200).await;
    assert_eq!(server.client.buy().await.status, 202);
    assert_eq!(server.metric("kafka_broker_connected").await, Some(1.0));
}

#[tokio::test]
async fn starting_before_kafka_is_fine() {
    let server = Server::unready(&[("KAFKA_CREATE_TOPICS", "false")], |config| {
        config.publisher.kafka.topic = "made-later".to_owned();
    })
    .await;
    let answer = server.client.buy().await;
    assert_eq!(answer.status, 503);
    answer.problem("unavailable");
    let readiness = server.client.get("/readyz").await;
    assert_eq!(readiness.status, 503);
    assert_eq!(readiness.json()["status"], "not ready");
    assert_eq!(readiness.json()["checks"]["kafka"]["status"], "failing");
    assert_eq!(server.client.get("/health").await.json()["status"], "unhealthy");
    server.broker.create_topic("made-later", 2).unwrap();
    server.until_ready().await;
    let answer = server.client.buy().await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.json()["receipt"]["topic"], "made-later");
}

#[tokio::test]
async fn after_a_fatal_error_the_producer_is_built_anew() {
    let server = Server::with(&[("PUBLISH_DEADLINE_MS", "2000")], |_| {}).await;
    assert_eq!(server.client.buy().await.status, 202);
    server.broker.fail_produce(&[ProduceFault::OutOfOrderSequence]);
    let status = server.client.buy().await.status;
    assert!([202, 503, 504].contains(&status), "{status}");
    eventually("purchases are taken again", async || server.client.buy().await.status == 202).await;
    server.until_ready().await;
    let answer = server.client.buy().await;
    assert_eq!(answer.status, 202);
    let records = read_records(&server.broker).await;
    assert!(records.iter().any(|record| answer.json()["purchase_id"] == record.header("ce_id")));
    assert_eq!(server.metric("kafka_producer_restarts_total").await, Some(1.0));
}

#[tokio::test]
async fn a_record_that_the_broker_refuses_is_503_and_not_stored() {
    let server = Server::start().await;
    server.broker.fail_produce(&[ProduceFault::MessageTooLarge]);
    let answer = server.client.buy().await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    answer.problem("unavailable");
    assert_eq!(server.metric(r#"purchases_published_total{outcome="failed"}"#).await, Some(1.0));
    assert_eq!(server.client.buy().await.status, 202);
    assert_eq!(read_records(&server.broker).await.len(), 1, "only what was accepted");
}

#[tokio::test]
async fn every_lasting_refusal_of_a_record_is_503_and_told_and_nothing_is_unknown() {
    for (fault, reason) in [
        (ProduceFault::InvalidRecord, "Broker failed to validate record"),
        (ProduceFault::ClusterNotAuthorized, "Cluster authorization failed"),
        (ProduceFault::NotAuthorized, "Topic authorization failed"),
    ] {
        let server = Server::start().await;
        server.broker.fail_produce(&[fault]);
        let answer = server.client.buy().await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        answer.problem("unavailable");
        let health = server.client.get("/health").await;
        let detail = health.json()["checks"]["kafka"]["detail"].to_string();
        assert!(health.status == 503 && detail.contains(reason), "{detail}");
        // librdkafka looks at a topic that was forbidden again when it asks for the topic's state the next time.
        eventually("purchases are taken again", async || server.client.buy().await.status == 202).await;
        assert_eq!(server.client.get("/health").await.status, 200, "a delivery is proof that all is well");
        assert_eq!(server.metric(r#"purchases_published_total{outcome="unknown"}"#).await, Some(0.0));
        let delivered = server.metric(r#"purchases_published_total{outcome="delivered"}"#).await;
        assert_eq!(delivered, Some(1.0));
        assert_eq!(read_records(&server.broker).await.len(), 1, "only what was accepted");
    }
}

#[tokio::test]
async fn a_producer_that_may_not_live_is_built_anew_ever_more_rarely_and_it_shows() {
    let server = Server::start().await;
    assert_eq!(server.client.buy().await.status, 202);
    server.broker.refuse_producers(1_000);
    server.broker.fail_produce(&[ProduceFault::OutOfOrderSequence]);
    assert_ne!(server.client.buy().await.status, 202, "the producer dies of it");
    let unknown = server.metric(r#"purchases_published_total{outcome="unknown"}"#).await;
    let restarts = async || server.metric("kafka_producer_restarts_total").await.unwrap();
    let died = Instant::now();
    while died.elapsed() < Duration::from_secs(3) {
        let answer = server.client.buy().await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{}", answer.text());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let restarted = restarts().await;
    assert!((2.0..=6.0).contains(&restarted), "{restarted} producers in three seconds");
    let health = server.client.get("/health").await;
    let detail = health.json()["checks"]["kafka"]["detail"].to_string();
    assert!(health.status == 503 && detail.contains("authorization failed"), "{detail}");
    assert_eq!(server.metric(r#"purchases_published_total{outcome="unknown"}"#).await, unknown);

    server.broker.accept_producers();
    eventually("purchases are taken again", async || server.client.buy().await.status == 202).await;
    eventually("all is well", async || server.client.get("/health").await.status == 200).await;
    assert_eq!(server.client.buy().await.status, 202);
}

#[tokio::test]
async fn a_leader_that_moved_is_nobodys_problem() {
    let server = Server::start().await;
    server.broker.fail_produce(&[ProduceFault::NotLeader]);
    assert_eq!(server.client.buy().await.status, 202);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let settings = [("KAFKA_PRODUCER_QUEUE_RECORDS", "1"), ("KAFKA_PRODUCER_LINGER_US", "300000")];
    let server = Server::with(&settings, |_| {}).await;
    let answer = server.client.post("/buy/batch", BATCH).send().await;
    assert_eq!(answer.status, 207, "{}", answer.text());
    let results = answer.json()["results"].as_array().unwrap().clone();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 503, 503]);
    assert!(results[1]["error"]["detail"].as_str().unwrap().contains("nothing was sent"));
    assert_eq!(server.metric(r#"http_requests_refused_total{reason="queue_full"}"#).await, Some(2.0));
    assert_eq!(server.metric(r#"purchases_published_total{outcome="refused"}"#).await, Some(2.0));
    assert_eq!(server.client.buy().await.status, 202, "an empty queue takes again");
}

#[tokio::test]
async fn no_report_before_the_deadline_is_504_with_the_id() {
    let linger = ("KAFKA_PRODUCER_LINGER_US", "1000000");
    let server = Server::with(&[linger], |config| config.publisher.deadline = Duration::from_millis(200)).await;
    let answer = server.client.buy().await;
    assert_eq!(answer.status, 504);
    let problem = answer.problem("outcome-unknown");
    assert!(problem["detail"].as_str().unwrap().contains("Idempotency-Key"), "{problem}");
    let stored = async || {
        let records = read_records(&server.broker).await;
        records.iter().any(|record| problem["purchase_id"] == record.header("ce_id"))
    };
    eventually("what was unknown is stored all the same", stored).await;
    let batch = server.client.post("/buy/batch", BATCH).send().await;
    assert_eq!(batch.status, 207);
    for result in batch.json()["results"].as_array().unwrap() {
        assert_eq!(result["status"], 504);
        assert_eq!(result["error"]["type"], "urn:purchase:outcome-unknown");
        assert_eq!(result["error"]["purchase_id"].as_str().unwrap().len(), 36);
    }
    assert_eq!(server.metric(r#"purchases_published_total{outcome="unknown"}"#).await, Some(4.0));
}

#[tokio::test]
async fn what_could_not_be_delivered_at_the_end_is_told() {
    let settings = [("FLUSH_TIMEOUT_MS", "100"), ("KAFKA_PRODUCER_LINGER_US", "1000000")];
    let server = Server::with(&settings, |config| config.publisher.deadline = Duration::from_millis(50)).await;
    assert_eq!(server.client.buy().await.status, 504);
    server.broker.set_broker_up(1, false).unwrap();
    server.shutdown.stop();
    let ended = server.ended().await;
    assert!(matches!(ended, Err(RunError::LeftBehind { purchases: 1, .. })), "one purchase is left: {ended:?}");
}
