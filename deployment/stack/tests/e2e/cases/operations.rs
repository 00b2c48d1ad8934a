//! What operators and tools look at: health, metrics, the API's description.

use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;
use shared::testing::Answer;
use stack::metrics::samples;
use uuid::Uuid;

use crate::doors::Doors;
use crate::pipeline::open;

const WEB_SERIES: [&str; 19] = [
    "purchases_published_total{outcome=\"delivered\"}",
    "purchases_published_total{outcome=\"refused\"}",
    "purchases_published_total{outcome=\"failed\"}",
    "purchases_published_total{outcome=\"unknown\"}",
    "purchase_publish_duration_seconds_count",
    "kafka_producer_queue_records",
    "kafka_producer_queue_bytes",
    "kafka_broker_connected",
    "http_requests_refused_total{reason=\"rate\"}",
    "http_requests_refused_total{reason=\"in_flight\"}",
    "http_requests_refused_total{reason=\"queue_full\"}",
    "http_requests_refused_total{reason=\"shedding\"}",
    "http_requests_refused_total{reason=\"broker\"}",
    "http_requests_refused_total{reason=\"draining\"}",
    "management_requests_total{outcome=\"success\"}",
    "management_requests_total{outcome=\"timeout\"}",
    "management_requests_total{outcome=\"unavailable\"}",
    "management_request_duration_seconds_count",
    "management_hedges_total{winner=\"none\"}",
];
const MANAGEMENT_SERIES: [&str; 15] = [
    "kafka_messages_processed_total{status=\"success\"}",
    "kafka_messages_processed_total{status=\"duplicate\"}",
    "kafka_messages_processed_total{status=\"dead_letter\"}",
    "kafka_messages_processed_total{status=\"error\"}",
    "kafka_message_processing_seconds_count",
    "purchase_record_delay_seconds_count",
    "kafka_consumer_lag{partition=\"0\"}",
    "kafka_consumer_lag_seconds{partition=\"3\"}",
    "kafka_consumer_assigned_partitions",
    "kafka_rebalances_total",
    "kafka_consumer_capacity_records_per_second",
    "purchase_batch_records_count",
    "database_transaction_seconds_count",
    "database_pool_connections{state=\"idle\"}",
    "database_pool_connections{state=\"used\"}",
];
const BOTH_SERIES: [&str; 4] =
    ["http_requests_in_flight", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"];
/// Names that Prometheus itself gives to what it scrapes.
const FORBIDDEN_LABELS: [&str; 6] = ["pod", "namespace", "node", "app", "job", "instance"];

#[tokio::test]
async fn health_has_its_shapes() {
    let doors = open().await;
    for url in [doors.web(""), doors.management("")] {
        for (path, status) in [("/livez", "alive"), ("/readyz", "ready"), ("/health", "healthy")] {
            let answer = doors.request(Method::GET, &format!("{url}{path}"), &[], "").await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(answer.json()["status"], status, "{path}");
            for (name, check) in answer.json()["checks"].as_object().expect("checks") {
                assert_eq!(check["status"], "ok", "{name}");
                assert!(check["detail"].is_string(), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn metrics_are_there_from_the_start_with_labels_from_closed_sets() {
    let doors = open().await;
    for (url, own) in [(doors.web(""), WEB_SERIES.as_slice()), (doors.management(""), &MANAGEMENT_SERIES)] {
        doors.request(Method::GET, &format!("{url}/no/such/path"), &[], "").await;
        doors.request(Method::from_bytes(b"BREW").expect("a method"), &format!("{url}/livez"), &[], "").await;
        let answer = doors.request(Method::GET, &format!("{url}/metrics"), &[], "").await;
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4");
        let page = answer.text();
        for series in own.iter().chain(&BOTH_SERIES) {
            assert!(answer.metric(series).is_some(), "{series} is missing:\n{page}");
        }
        assert!(samples(&page).any(|sample| sample.name == "build_info"), "{page}");
        assert!(page.contains(r#"method="GET",path="unmatched",status="404"} "#), "{page}");
        assert!(page.contains(r#"method="other",path="/livez",status="405"} "#), "{page}");
        for sample in samples(&page) {
            let labels: Vec<&str> = sample.labels.split(',').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
            assert!(!labels.iter().any(|label| FORBIDDEN_LABELS.contains(label)), "{sample:?}");
        }
    }
}

#[tokio::test]
async fn every_route_counts_its_success_from_the_start() {
    let doors = open().await;
    for url in [doors.web(""), doors.management("")] {
        let page = doors.request(Method::GET, &format!("{url}/metrics"), &[], "").await.text();
        let description = doors.request(Method::GET, &format!("{url}/openapi.json"), &[], "").await.json();
        for (method, path, operation) in operations(&description) {
            let statuses = operation["responses"].as_object().into_iter().flatten().map(|(status, _)| status.as_str());
            let success = statuses.filter(|status| *status < "400").min().expect("a success is described");
            let labels = format!(r#"method="{method}",path="{path}",status="{success}""#);
            for name in ["http_request_total", "http_request_duration_seconds_count", "http_request_created"] {
                assert!(page.contains(&format!("{name}{{{labels}")), "{name} of {method} {path}: {operation}");
            }
        }
    }
}

#[tokio::test]
async fn every_described_path_answers_with_a_described_status() {
    let doors = open().await;
    let expected = [
        "/buy",
        "/buy/batch",
        "/getAllUserBuys/{userid}",
        "/purchases",
        "/purchases/{purchase_id}",
        "/livez",
        "/readyz",
        "/health",
        "/metrics",
    ];
    check_description(&doors, &doors.web(""), &expected).await;
    let expected = [
        "/users/{userid}/purchases",
        "/purchases",
        "/purchases/{purchase_id}",
        "/livez",
        "/readyz",
        "/health",
        "/metrics",
    ];
    check_description(&doors, &doors.management(""), &expected).await;
}

async fn check_description(doors: &Doors, url: &str, expected: &[&str]) {
    let answer = doors.request(Method::GET, &format!("{url}/openapi.json"), &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let description = answer.json();
    assert!(
        description["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")),
        "{}",
        description["openapi"]
    );
    assert_references_resolve(&description, &description);
    let mut paths = BTreeSet::new();
    for (method, path, operation) in operations(&description) {
        let described: BTreeSet<String> =
            operation["responses"].as_object().into_iter().flatten().map(|(status, _)| status.clone()).collect();
        let target = path
            .replace("{userid}", "u%20x")
            .replace("{purchase_id}", &Uuid::new_v4().to_string())
            .replace("{file}", "index.html");
        for body in ["{}", "", "[]", r#"{"username":"a","userid":"described","price":1}"#] {
            let method: Method = method.parse().expect("a method");
            let answer = doors
                .request(method.clone(), &format!("{url}{target}"), &[("content-type", "application/json")], body)
                .await;
            assert!(
                described.contains(answer.status.as_str()),
                "{method} {path} with {body:?}: {} is not described",
                answer.status
            );
            assert!(!is_unknown_path(&answer), "{method} {path}: {}", answer.text());
            assert_ne!(answer.status, 405, "{method} {path}");
        }
        paths.insert(path);
    }
    for path in expected {
        assert!(paths.contains(*path), "{path} is not described");
    }
}

#[tokio::test]
async fn the_reference_in_the_browser_needs_no_other_host() {
    let doors = open().await;
    let mut answer = doors.get("/docs").await;
    if answer.status.is_redirection() {
        answer = doors.get(answer.header("location")).await;
    }
    assert_eq!(answer.status, 200, "{}", answer.text());
    let page = answer.text();
    assert!(answer.header("content-type").starts_with("text/html"), "{}", answer.header("content-type"));
    for tag in
        page.split('<').filter(|tag| tag.starts_with("script") || tag.starts_with("link") || tag.starts_with("img"))
    {
        assert!(!tag.contains("//"), "{tag}");
    }
}

/// Method, path and description of every operation.
fn operations(description: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in description["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            if ["get", "post", "put", "delete", "patch"].contains(&method.as_str()) {
                found.push((method.to_uppercase(), path.clone(), operation.clone()));
            }
        }
    }
    assert!(!found.is_empty(), "the description names no path");
    found
}

fn assert_references_resolve(part: &Value, whole: &Value) {
    match part {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("a reference within the description");
                assert!(whole.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            members.values().for_each(|member| assert_references_resolve(member, whole));
        }
        Value::Array(items) => items.iter().for_each(|item| assert_references_resolve(item, whole)),
        _ => {}
    }
}

fn is_unknown_path(answer: &Answer) -> bool {
    answer.status == 404 && answer.text().contains("no such path")
}
