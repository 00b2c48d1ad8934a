//! Health, metrics and the end.

use std::time::Duration;

use shared::testing::assert_series;
use tokio::net::TcpStream;
use web_server::routes;

use crate::harness::{Server, eventually};

#[tokio::test]
async fn health_answers_have_their_own_shape() {
    let server = Server::start().await;
    for (path, status) in [("/livez", "alive"), ("/readyz", "ready"), ("/health", "healthy")] {
        let answer = server.client.get(path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        assert_eq!(answer.json()["status"], status);
    }
    let checks = server.client.get("/readyz").await.json()["checks"].clone();
    assert_eq!(
        checks,
        serde_json::json!({
            "kafka": {"status": "ok", "detail": ""}, "draining": {"status": "ok", "detail": ""}
        })
    );
}

#[tokio::test]
async fn a_scrape_shows_these_series_and_no_others_from_the_start() {
    let server = Server::unready(&[], |_| {}).await;
    assert_series(&server.client.get("/metrics").await.text(), include_str!("scrape.txt"));
}

#[tokio::test]
async fn every_metric_is_there_at_zero_from_the_start() {
    let server = Server::unready(&[], |_| {}).await;
    let answer = server.client.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4");
    let text = answer.text();
    let series = |name: &str, label: &str, values: &[&str]| -> Vec<String> {
        values.iter().map(|value| format!("{name}{{{label}=\"{value}\"}} 0")).collect()
    };
    let mut expected = series("purchases_published_total", "outcome", &["delivered", "refused", "failed", "unknown"]);
    let reasons = ["rate", "in_flight", "queue_full", "shedding", "broker", "draining"];
    expected.extend(series("http_requests_refused_total", "reason", &reasons));
    let outcomes = ["success", "error", "timeout", "unavailable"];
    expected.extend(series("management_requests_total", "outcome", &outcomes));
    expected.extend(series("management_hedges_total", "winner", &["first", "hedge", "none"]));
    for name in ["purchase_publish_duration_seconds_count", "management_request_duration_seconds_count"] {
        expected.push(format!("{name} 0"));
    }
    for name in ["kafka_producer_queue_records", "kafka_producer_queue_bytes", "kafka_broker_connected"] {
        expected.push(format!("{name} "));
    }
    for (method, path, status) in routes::series() {
        let labels = format!(r#"{{method="{method}",path="{path}",status="{status}"}}"#);
        expected.push(format!("http_request_total{labels} 0"));
        expected.push(format!("http_request_duration_seconds_count{labels} 0"));
        expected.push(format!("http_request_created{labels} 1"));
    }
    expected
        .extend(["http_requests_in_flight 1", "build_info{version=", "process_cpu_seconds_total "].map(str::to_owned));
    for line in expected {
        assert!(text.lines().any(|found| found.starts_with(&line)), "{line} is missing in\n{text}");
    }
    for forbidden in ["pod=", "namespace=", "node=", "app=", "job=", "instance="] {
        assert!(!text.contains(&format!("{{{forbidden}")) && !text.contains(&format!(",{forbidden}")), "{forbidden}");
    }
}

#[tokio::test]
async fn requests_are_counted_under_the_names_of_the_guide() {
    let server = Server::with(&[("METRICS_HTTP_PREFIX", "flask_")], |_| {}).await;
    assert_eq!(server.client.buy().await.status, 202);
    let labels = r#"{method="POST",path="/buy",status="202"}"#;
    assert_eq!(server.metric(&format!("flask_http_request_total{labels}")).await, Some(1.0));
    assert_eq!(server.metric(&format!("flask_http_request_duration_seconds_count{labels}")).await, Some(1.0));
    assert!(server.metric(&format!("flask_http_request_created{labels}")).await.unwrap() > 1.7e9);
    assert_eq!(server.metric(&format!("http_request_total{labels}")).await, None);
    assert_eq!(server.metric(r#"purchases_published_total{outcome="delivered"}"#).await, Some(1.0));
    assert_eq!(server.metric("purchase_publish_duration_seconds_count").await, Some(1.0));
}

#[tokio::test]
async fn draining_is_told_and_still_serves_and_then_ends() {
    let server = Server::start().await;
    server.shutdown.drain();
    let readiness = server.client.get("/readyz").await;
    assert_eq!(readiness.status, 503);
    assert_eq!(readiness.json()["checks"]["draining"]["status"], "failing");
    let answer = server.client.buy().await;
    assert_eq!((answer.status, answer.header("connection")), (202, "close"));
    server.shutdown.stop();
    let address = server.client.address;
    server.ended().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn what_is_in_flight_at_the_end_is_answered() {
    let server = Server::with(&[("KAFKA_PRODUCER_LINGER_US", "500000")], |_| {}).await;
    let client = server.client.clone();
    let buying = tokio::spawn(async move { client.buy().await });
    let queued = async || server.metric("http_requests_in_flight").await == Some(2.0);
    eventually("the purchase is on its way", queued).await;
    server.shutdown.stop();
    assert_eq!(buying.await.unwrap().status, 202);
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_caller_who_never_finishes_is_cut_off_and_told_of() {
    let server = Server::with(&[("DRAIN_TIMEOUT_MS", "1000")], |_| {}).await;
    let client = server.client.clone();
    let head = b"POST /buy HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
    let _slow = tokio::spawn(async move { client.raw(head).await });
    let running = async || server.metric("http_requests_in_flight").await == Some(2.0);
    eventually("the slow request runs", running).await;
    server.shutdown.stop();
    let ended = tokio::time::timeout(Duration::from_secs(5), server.ended()).await.unwrap();
    assert!(ended.unwrap_err().to_string().starts_with("1 connections and 0 purchases were left"));
}
