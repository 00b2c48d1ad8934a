//! Sizes, times and shapes of requests, and the answers that every path has in common.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{DEADLINE, Server, eventually};

/// A purchase of exactly so many bytes.
fn purchase_of(bytes: usize) -> String {
    let shell = r#"{"username":"n","userid":"u","price":1,"note":""}"#.len();
    format!(r#"{{"username":"n","userid":"u","price":1,"note":"{}"}}"#, "x".repeat(bytes - shell))
}

#[tokio::test]
async fn body_limits_are_inclusive() {
    let server = Server::start().await;
    let (buy, batch) = (16 * 1024, 8 * 1024 * 1024);
    assert_eq!(server.client.post("/buy", purchase_of(buy)).send().await.status, 202);
    let answer = server.client.post("/buy", purchase_of(buy + 1)).send().await;
    assert_eq!(answer.status, 413);
    answer.problem("body-too-large");
    assert_eq!(server.client.post("/buy/batch", format!("[{}]", purchase_of(batch - 2))).send().await.status, 202);
    assert_eq!(server.client.post("/buy/batch", format!("[{}]", purchase_of(batch - 1))).send().await.status, 413);
}

#[tokio::test]
async fn a_slow_body_is_408_and_does_not_hold_the_connection() {
    let server = Server::with(&[("REQUEST_BODY_TIMEOUT_MS", "200")], |_| {}).await;
    for path in ["/buy", "/buy/batch"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{{"
        );
        let answer = server.client.raw(head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("urn:purchase:body-too-slow"), "{answer}");
    }
    let mut drip = send_head(&server, "/buy", 999).await;
    let started = Instant::now();
    while drip.write_all(b" ").await.is_ok() && drip.try_read(&mut [0]).is_err() {
        assert!(started.elapsed() < DEADLINE, "a body that never stands still has no more time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn only_json_is_taken() {
    let server = Server::start().await;
    let body = r#"{"username":"n","userid":"u","price":1}"#;
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "", "json"] {
        let raw = format!(
            "POST /buy HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = server.client.raw(raw.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 415 ") && answer.contains("urn:purchase:unsupported-media-type"),
            "{answer}"
        );
    }
    assert_eq!(server.client.request("POST", "/buy").send().await.status, 415);
    assert_eq!(server.client.request("POST", "/buy/batch").send().await.status, 415);
    let with_charset = server.client.request("POST", "/buy").header("content-type", "Application/JSON ; charset=utf-8");
    assert_eq!(with_charset.send().await.status, 400, "the type is fine, the empty body is not");
}

/// Sends a request's head and no more.
async fn send_head(server: &Server, path: &str, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.client.address).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}");
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

async fn read_status(stream: &mut TcpStream) -> String {
    let mut start = [0; 12];
    let read = tokio::time::timeout(DEADLINE, stream.read_exact(&mut start));
    read.await.expect("an answer in time").unwrap();
    String::from_utf8(start.to_vec()).unwrap()
}

const ONE_AT_A_TIME: [(&str, &str); 2] = [("IN_FLIGHT_MAX", "1"), ("BATCHES_IN_FLIGHT_MAX", "1")];
const BODIES: [(&str, &str); 2] = [
    ("/buy", r#"{"username":"n","userid":"u","price":1}"#),
    ("/buy/batch", r#"[{"username":"n","userid":"u","price":1}]"#),
];

#[tokio::test]
async fn too_many_in_flight_are_refused_before_their_body_is_read() {
    let slow_kafka = [("KAFKA_PRODUCER_LINGER_US", "1000000")];
    let server = Server::with(&[&ONE_AT_A_TIME[..], &slow_kafka].concat(), |_| {}).await;
    for (path, body) in BODIES {
        let client = server.client.clone();
        let buying = tokio::spawn(async move { client.post(path, body).send().await.status });
        eventually("the place is taken", async || server.metric("http_requests_in_flight").await == Some(2.0)).await;
        assert_eq!(read_status(&mut send_head(&server, path, body.len()).await).await, "HTTP/1.1 503");
        server.client.post(path, body).send().await.problem("unavailable");
        assert_eq!(buying.await.unwrap(), 202);
        assert_eq!(server.client.post(path, body).send().await.status, 202, "the place is free");
    }
    assert_eq!(server.metric(r#"http_requests_refused_total{reason="in_flight"}"#).await, Some(4.0));
}

#[tokio::test]
async fn who_is_slow_to_send_a_body_keeps_nobody_out() {
    let server = Server::with(&ONE_AT_A_TIME, |_| {}).await;
    for (path, body) in BODIES {
        let mut slow = send_head(&server, path, body.len()).await;
        eventually("it is begun", async || server.metric("http_requests_in_flight").await == Some(2.0)).await;
        assert_eq!(server.client.post(path, body).send().await.status, 202);
        slow.write_all(body.as_bytes()).await.unwrap();
        assert_eq!(read_status(&mut slow).await, "HTTP/1.1 202");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let server = Server::start().await;
    for path in [
        "/page",
        "/nowhere",
        "/buy/",
        "/getAllUserBuys",
        "/getAllUserBuys/",
        "/purchases/a/b",
        "/internal/purchases/wait",
    ] {
        let answer = server.client.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        answer.problem("not-found");
    }
    for (method, path, allow) in [
        ("GET", "/buy", "POST"),
        ("DELETE", "/buy/batch", "POST"),
        ("POST", "/purchases", "GET,HEAD"),
        ("PUT", "/getAllUserBuys/u", "GET,HEAD"),
        ("BREW", "/livez", "GET,HEAD"),
    ] {
        let answer = server.client.request(method, path).send().await;
        assert_eq!((answer.status, answer.header("allow")), (405, allow), "{method} {path}");
        answer.problem("method-not-allowed");
    }
    assert_eq!(server.client.request("HEAD", "/livez").send().await.status, 200);
    let unmatched = server.metric(r#"http_request_total{method="GET",path="unmatched",status="404"}"#).await;
    assert_eq!(unmatched, Some(7.0));
    assert_eq!(server.metric(r#"http_request_total{method="other",path="/livez",status="405"}"#).await, Some(1.0));
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_forbids_what_browsers_need_not_do() {
    let server = Server::start().await;
    for path in ["/livez", "/readyz", "/metrics", "/nowhere", "/buy", "/purchases?limit=0"] {
        let answer = server.client.request("GET", path).header("x-request-id", "Order-1_a.b").send().await;
        assert_eq!(answer.header("x-request-id"), "Order-1_a.b", "{path}");
        assert_eq!((answer.header("x-content-type-options"), answer.header("cache-control")), ("nosniff", "no-store"));
        assert_eq!(answer.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
        let answer = server.client.request("GET", path).header("x-request-id", "not good").send().await;
        assert_eq!(answer.header("x-request-id").len(), 32, "{path}");
    }
}

#[tokio::test]
async fn a_page_of_ours_stands_in_nobodys_frame_and_loads_nothing_of_others() {
    let server = Server::start().await;
    let page = server.client.get("/docs/index.html").await;
    assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"));
    assert!(page.header("content-security-policy").starts_with("default-src 'self'"));
    assert_eq!((page.header("x-frame-options"), page.header("referrer-policy")), ("DENY", "no-referrer"));
}

#[tokio::test]
async fn only_pages_of_known_origins_may_call() {
    const ORIGIN: &str = "https://shop.example";
    let ask = async |server: &Server, method: &str, origin: &str| {
        let request = server.client.request(method, "/buy").header("origin", origin);
        request.header("access-control-request-method", "POST").send().await
    };
    let allowed = |answer: &crate::harness::Answer| {
        ["access-control-allow-origin", "access-control-allow-credentials"].map(|name| answer.header(name).to_owned())
    };
    let closed = Server::start().await;
    assert_eq!(allowed(&ask(&closed, "GET", ORIGIN).await), ["", ""]);
    let server = Server::with(&[("CORS_ALLOWED_ORIGINS", "https://shop.example, http://localhost:3000")], |_| {}).await;
    let preflight = ask(&server, "OPTIONS", ORIGIN).await;
    assert_eq!((preflight.status, allowed(&preflight)), (200, [ORIGIN.to_owned(), "true".to_owned()]));
    assert!(preflight.header("access-control-allow-headers").contains("idempotency-key"));
    let answer = ask(&server, "GET", "http://localhost:3000").await;
    assert_eq!(allowed(&answer)[0], "http://localhost:3000");
    let readable: Vec<_> = answer.header("access-control-expose-headers").split(',').map(str::trim).collect();
    for name in ["ratelimit", "ratelimit-policy", "retry-after", "x-request-id", "etag", "location", "www-authenticate"]
    {
        assert!(readable.contains(&name), "{name} of {readable:?}");
    }
    for foreign in ["https://evil.example", "https://shop.example.evil", "null", "http://shop.example"] {
        assert_eq!(allowed(&ask(&server, "OPTIONS", foreign).await)[0], "", "{foreign}");
    }
    let open = Server::with(&[("CORS_ALLOWED_ORIGINS", "*")], |_| {}).await;
    assert_eq!(allowed(&ask(&open, "GET", ORIGIN).await), ["*", ""]);
}
