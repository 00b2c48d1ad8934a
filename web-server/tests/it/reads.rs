//! Reads through management-api.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;

use crate::harness::{FakeAnswer, Server};

const ID: &str = "019a0000-0000-7000-8000-000000000001";

#[tokio::test]
async fn the_json_of_management_api_is_passed_on_digit_for_digit() {
    let server = Server::with(&[("MANAGEMENT_API_TOKEN", "hush")], |_| {}).await;
    let body = r#"{"userid":"u","purchases":[{"price":999999999999999.9999}],"count":1,"total_spent":123456789012345678901234567890.1}"#;
    server.management.answers(move |_| FakeAnswer::ok(body));
    for (path, target) in [
        ("/getAllUserBuys/u", "/users/u/purchases?limit=1000"),
        ("/getAllUserBuys/%C3%BC%20%2F..%3F%23?limit=7", "/users/%C3%BC%20%2F%2E%2E%3F%23/purchases?limit=7"),
        ("/purchases", "/purchases?limit=100"),
        ("/purchases?userid=a%26b&cursor=x%2By%3D&limit=1000", "/purchases?limit=1000&cursor=x%2By%3D&userid=a%26b"),
        (&format!("/purchases/{ID}"), &format!("/purchases/{ID}")),
    ] {
        let request = server.client.request("GET", path).header("x-request-id", "r.1");
        let answer = request.header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let answer = answer.send().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, body), "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
        let seen = server.management.seen().pop().unwrap();
        assert_eq!(seen.target, target);
        assert_eq!(seen.header("authorization"), "Bearer hush");
        assert_eq!(seen.header("x-request-id"), "r.1");
        assert!(seen.header("traceparent").starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert_eq!(seen.header("host"), server.management.address.to_string());
    }
    assert_eq!(server.metric(r#"management_requests_total{outcome="success"}"#).await, Some(5.0));
}

#[tokio::test]
async fn bad_parameters_are_400_without_a_call() {
    let server = Server::start().await;
    for (path, fields) in [
        ("/getAllUserBuys/u?limit=0&timeout=49", vec!["limit", "timeout"]),
        ("/getAllUserBuys/%20?limit=1001&timeout=30001", vec!["userid", "limit", "timeout"]),
        ("/getAllUserBuys/%FF", vec!["userid"]),
        (&format!("/getAllUserBuys/{}", "x".repeat(257)), vec!["userid"]),
        ("/purchases?limit=x&userid=%00&timeout=", vec!["limit", "userid", "timeout"]),
        ("/purchases?limit=1&limit=2", vec!["limit"]),
        (&format!("/purchases/{ID}?timeout=-1"), vec!["timeout"]),
    ] {
        let answer = server.client.get(path).await;
        assert_eq!(
            (answer.status, answer.bad_fields()),
            (400, fields.into_iter().map(str::to_owned).collect()),
            "{path}"
        );
    }
    let wait = server.client.request("GET", &format!("/purchases/{ID}")).header("prefer", "wait=1.5").send().await;
    assert_eq!(wait.bad_fields(), ["Prefer"]);
    assert!(server.management.seen().is_empty());
}

#[tokio::test]
async fn an_unknown_id_is_404_and_so_is_what_is_no_id() {
    let server = Server::start().await;
    let answer = server.client.get(&format!("/purchases/{ID}")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.problem("not-found")["detail"], "no such purchase");
    for path in ["/purchases/7", "/purchases/%FF", "/purchases/null"] {
        assert_eq!(server.client.get(path).await.problem("not-found")["status"], 404, "{path}");
    }
    assert_eq!(server.management.seen().len(), 1);
}

#[tokio::test]
async fn a_400_of_management_api_is_passed_on_in_our_own_words() {
    let server = Server::start().await;
    server.management.answers(|_| {
        FakeAnswer::status(
            400,
            r#"{"detail":"x","errors":[{"field":"cursor","message":"is no cursor"}],"host":"db-host"}"#,
        )
    });
    let answer = server.client.get("/purchases?cursor=nonsense").await;
    assert_eq!(answer.bad_fields(), ["cursor"]);
    assert!(!answer.text().contains("db-host"));
    server.management.answers(|_| FakeAnswer::status(404, "not json"));
    server.client.get(&format!("/purchases/{ID}")).await.problem("not-found");
}

#[tokio::test]
async fn no_answer_in_time_is_503_and_says_how_each_attempt_failed() {
    let server = Server::start().await;
    server.management.answers(|_| FakeAnswer::never());
    let started = Instant::now();
    let answer = server.client.get("/purchases?timeout=200").await;
    assert!(started.elapsed() < Duration::from_secs(2));
    let problem = answer.problem("unavailable");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("attempt 1: no answer in "), "{detail}");
    for (status, told) in [(500, "answered with status 500"), (401, "answered with status 401")] {
        server.management.answers(move |_| FakeAnswer::status(status, "secret internals of db-host"));
        let detail = server.client.get("/purchases").await.problem("unavailable")["detail"].to_string();
        assert!(detail.contains(told) && !detail.contains("db-host"), "{detail}");
    }
    assert_eq!(server.metric(r#"management_requests_total{outcome="timeout"}"#).await, Some(1.0));
    assert_eq!(server.metric(r#"management_requests_total{outcome="error"}"#).await, Some(2.0));
}

/// Else the replica would work on, and its database too.
#[tokio::test]
async fn a_replica_that_took_too_long_sees_that_nobody_waits_any_more() {
    let replica = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let urls = format!("http://{}", replica.local_addr().unwrap());
    let server = Server::with(&[("CUSTOMER_MGMT_API_URL", &urls)], |_| {}).await;
    let client = server.client.clone();
    let reading = tokio::spawn(async move { client.get("/purchases?timeout=200").await });
    let (mut connection, _) = replica.accept().await.unwrap();
    let mut request = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), connection.read_to_end(&mut request)).await;
    let error = ended.expect("in time").expect_err("an orderly end could be that of a caller who still waits");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    reading.await.unwrap().problem("unavailable");
}

#[tokio::test]
async fn a_replica_that_is_gone_is_passed_over() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = crate::harness::FakeManagement::start().await;
    other.answers(|_| FakeAnswer::ok(r#"{"purchases":[]}"#));
    let urls = format!("http://{gone},http://{}/", other.address);
    let server = Server::with(&[("CUSTOMER_MGMT_API_URL", &urls)], |_| {}).await;
    for _ in 0..4 {
        assert_eq!(server.client.get("/purchases").await.status, 200);
    }
    let urls = format!("http://{gone}");
    let server = Server::with(&[("CUSTOMER_MGMT_API_URL", &urls)], |_| {}).await;
    let detail = server.client.get("/purchases").await.problem("unavailable")["detail"].to_string();
    assert!(detail.contains("attempt 1: not reachable") && !detail.contains("127.0.0.1"), "{detail}");
    assert_eq!(
        server.metric(r#"management_requests_total{outcome="unavailable"}"#).await,
        Some(3.0),
        "it could be a network that drops some"
    );
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_503() {
    let server = Server::with(&[("CUSTOMER_MGMT_API_URL", "http://management.invalid:8081")], |_| {}).await;
    let detail = server.client.get("/purchases").await.problem("unavailable")["detail"].to_string();
    assert!(detail.contains("no replica is known"), "{detail}");
}

#[tokio::test]
async fn waiting_for_one_purchase_is_passed_on_and_sets_the_deadline() {
    let server = Server::start().await;
    server.management.answers(|_| FakeAnswer { delay: Duration::from_millis(300), ..FakeAnswer::ok("{}") });
    let path = format!("/purchases/{ID}?timeout=50");
    assert_eq!(server.client.get(&path).await.status, 503);
    let answer = server.client.request("GET", &path).header("prefer", "wait=2").send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(server.management.seen().pop().unwrap().header("prefer"), "wait=2");
    assert_eq!(server.client.request("GET", &path).header("prefer", "wait=0").send().await.status, 503);
}

#[tokio::test]
async fn a_server_that_stops_ends_a_waiting_read() {
    let server = Server::start().await;
    server.management.answers(|_| FakeAnswer::never());
    let client = server.client.clone();
    let path = format!("/purchases/{ID}");
    let waiting = tokio::spawn(async move { client.request("GET", &path).header("prefer", "wait=30").send().await });
    crate::harness::eventually("the wait begins", async || !server.management.seen().is_empty()).await;
    server.shutdown.stop();
    waiting.await.unwrap().problem("unavailable");
    server.ended().await.unwrap();
}
