//! The HTTP interface: reads, waiting, the token, metrics, and the description of it all.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use management_api::app::Service;
use management_api::routes::{self, openapi::ApiDoc};
use serde_json::json;
use shared::testing::{assert_series, eventually};
use utoipa::OpenApi;

use crate::harness::{Api, Kafka, config, value_with_id};
use crate::memory_store::MemoryStore;

const ID: &str = "0190a5c2-0000-7000-8000-000000000001";

#[test]
fn every_route_is_described_and_every_description_is_a_route() {
    let document = ApiDoc::openapi();
    let mut described: Vec<_> = document
        .paths
        .paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = [("GET", &item.get), ("POST", &item.post)];
            methods
                .into_iter()
                .filter(|(_, operation)| operation.is_some())
                .map(move |(method, _)| (method, path.clone()))
        })
        .collect();
    let mut routes: Vec<_> =
        routes::successes().into_iter().map(|(method, path, _)| (method, path.to_owned())).collect();
    described.sort();
    routes.sort();
    assert_eq!(described, routes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_caller_is_answered_as_soon_as_the_purchase_is_recorded() {
    let kafka = Kafka::start();
    let api = Api::start_on(MemoryStore::new(), &kafka, &[]).await.ready().await;
    let url = format!("{}/purchases/{ID}", api.url);
    let waiting = tokio::spawn({
        let (http, url) = (api.http.clone(), url.clone());
        async move { http.request(Method::GET, &url, &[("prefer", "wait=25")], "").await }
    });
    kafka.send(&value_with_id(ID, "ann", "Ann", "1.50")).await;
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("\"price\":1.5,"), "{}", answer.text());
    let body = json!({ "purchase_ids": [ID, "0190a5c2-0000-7000-8000-000000000002"], "wait_ms": 2000 });
    let some = api.http.post_json(&format!("{}/internal/purchases/wait", api.url), body.to_string()).await;
    assert_eq!(some.json()["purchases"].as_array().map(Vec::len), Some(1), "{}", some.text());
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_tells_how_far_it_is_with_recording() {
    let kafka = Kafka::start();
    let api = Api::start_on(MemoryStore::new(), &kafka, &[]).await.ready().await;
    kafka.send(&value_with_id(ID, "ann", "Ann", "1.50")).await;
    eventually("all of it is recorded", async || {
        let state = api.get("/internal/recording").await.json();
        let has_all = state["partitions"] == state["partitions_total"] && state["partitions"].as_u64() > Some(0);
        (has_all && state["is_ready"] == true && state["lag_records"] == 0 && state["lag_seconds"] == 0.0).then_some(())
    })
    .await;
    assert!(api.stop().await);
}

/// Else it would work on for a caller who has gone to another replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_when_the_time_that_its_caller_gave_is_over() {
    let kafka = Kafka::start();
    let api = Api::start_on(MemoryStore::new(), &kafka, &[]).await.ready().await;
    let url = format!("{}/purchases/{ID}", api.url);
    let begun = Instant::now();
    let answer = api.http.request(Method::GET, &url, &[("prefer", "wait=25"), ("x-timeout-ms", "200")], "").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(begun.elapsed() < Duration::from_secs(10) && answer.text().contains("is over"), "{}", answer.text());
    assert_eq!(api.http.request(Method::GET, &url, &[("x-timeout-ms", "soon")], "").await.status, 404);
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_service_ends_waits_and_leaves_nothing_behind() {
    let kafka = Kafka::start();
    let api = Api::start_on(MemoryStore::new(), &kafka, &[]).await.ready().await;
    let url = format!("{}/purchases/{ID}", api.url);
    let waiting = tokio::spawn({
        let http = api.http.clone();
        async move { http.request(Method::GET, &url, &[("prefer", "wait=30")], "").await }
    });
    eventually("the caller waits", async || (api.metric("http_requests_in_flight").await > 1.0).then_some(())).await;
    let asked = std::time::Instant::now();
    assert!(api.stop().await, "nothing was cut off");
    assert_eq!(waiting.await.unwrap().status, 404, "not recorded yet");
    assert!(asked.elapsed() < Duration::from_secs(20), "long before the wait was over");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_for_which_there_is_no_room_is_refused_and_counted() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let config = config(&kafka, &folder, &[("HTTP_MEMORY_MAX_KIB", "1024")]);
    let api = Api::build(|shutdown| Service::build(config, shutdown)).await.ready().await;
    let (ids, name) = ((0..500).map(|number| format!("0190a5c2-0000-7000-8000-{number:012}")), "\u{1F6D2}".repeat(256));
    let ids: Vec<_> = ids.collect();
    let values = ids.iter().map(|id| value_with_id(id, &name, &name, "1"));
    join_all(values.map(async |value| kafka.send(&value).await)).await;
    let wait = async |ids: &[String]| {
        let body = json!({ "purchase_ids": ids, "wait_ms": 20_000 });
        api.http.post_json(&format!("{}/internal/purchases/wait", api.url), body.to_string()).await
    };
    for refused in [wait(&ids).await, api.get("/purchases?limit=500").await] {
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "1"), "{}", refused.text());
    }
    let refusals = api.metric("http_requests_refused_total{reason=\"memory\"}").await;
    assert!((refusals - 2.0).abs() < 1e-9, "{refusals}");
    assert_eq!(wait(&ids[..9]).await.json()["purchases"].as_array().map(Vec::len), Some(9), "smaller ones find room");
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_named_and_unknown_things_are_404() {
    let kafka = Kafka::start();
    let api = Api::start_on(MemoryStore::new(), &kafka, &[]).await.ready().await;
    let bad = api.get("/purchases?limit=0&cursor=%21").await;
    assert_eq!((bad.status.as_u16(), bad.header("content-type")), (400, "application/problem+json"));
    assert_eq!(bad.json()["errors"].as_array().map(Vec::len), Some(2), "{}", bad.text());
    assert_eq!(bad.json()["request_id"], bad.header("x-request-id"));
    for path in ["/purchases/nonsense", "/nowhere", &format!("/purchases/{ID}")] {
        assert_eq!(api.get(path).await.status, 404, "{path}");
    }
    let wait = format!("{}/internal/purchases/wait", api.url);
    for body in ["", "{}", r#"{"purchase_ids":[],"wait_ms":1}"#, r#"{"purchase_ids":["x"],"wait_ms":1}"#] {
        assert_eq!(api.http.post_json(&wait, body).await.status, 400, "{body}");
    }
    assert_eq!(api.http.post_json(&api.url, "").await.status, 404);
    let wrong = api.http.post_json(&format!("{}/purchases", api.url), "").await;
    assert_eq!((wrong.status.as_u16(), wrong.header("allow")), (405, "GET,HEAD"));
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_shows_these_series_and_no_others_from_the_start() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await;
    assert_series(&api.get("/metrics").await.text(), include_str!("scrape.txt"));
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_set_only_health_and_metrics_are_open() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let config = config(&kafka, &folder, &[("MANAGEMENT_API_TOKEN", "hush")]);
    let api = Api::build(|shutdown| Service::build(config, shutdown)).await.ready().await;
    let url = format!("{}/purchases", api.url);
    let with = async |token: &str| api.http.request(Method::GET, &url, &[("authorization", token)], "").await.status;
    assert_eq!(api.get("/purchases").await.status, 401);
    assert_eq!(with("Bearer wrong").await, 401);
    assert_eq!(with("Bearer hush").await, 200);
    for path in ["/livez", "/readyz", "/health", "/metrics"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_there_at_zero_from_the_start() {
    let kafka = Kafka::start();
    let api = Api::start_on(MemoryStore::new(), &kafka, &[("METRICS_HTTP_PREFIX", "flask_")]).await.ready().await;
    for series in [
        "kafka_messages_processed_total{status=\"success\"}",
        "kafka_messages_processed_total{status=\"duplicate\"}",
        "kafka_messages_processed_total{status=\"dead_letter\"}",
        "kafka_messages_processed_total{status=\"error\"}",
        "dead_letters_refused_total",
        "dead_letters_kept",
        "kafka_consumer_lag{partition=\"2\"}",
        "kafka_consumer_lag_seconds{partition=\"2\"}",
        "kafka_message_processing_seconds_count",
        "purchase_record_delay_seconds_count",
        "purchase_batch_records_count",
        "database_transaction_seconds_count",
        "kafka_consumer_capacity_records_per_second",
        "database_pool_connections{state=\"idle\"}",
        "flask_http_request_total{method=\"GET\",path=\"/purchases/{purchase_id}\",status=\"200\"}",
    ] {
        assert!(api.metric(series).await.abs() < 1e-9, "{series}");
    }
    eventually("partitions assigned", async || {
        (api.metric("kafka_consumer_assigned_partitions").await > 2.5).then_some(())
    })
    .await;
    assert!(api.metric("kafka_rebalances_total").await > 0.5);
    assert!(tokio::time::timeout(Duration::from_secs(20), api.stop()).await.unwrap());
}
