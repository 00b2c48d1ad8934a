//! Callers who hang up: what they began counts like any other.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Server, eventually, read_records};

const BODY: &str = r#"{"username":"n","userid":"u","price":10}"#;
/// Longer than it takes to hang up, so that every purchase is still on its way then.
const SLOW: (&str, &str) = ("KAFKA_PRODUCER_LINGER_US", "500000");
const HUNG_UP: &str = r#"http_request_total{method="POST",path="/buy",status="499"}"#;
const ANSWERED: &str = r#"http_request_total{method="POST",path="/buy",status="202"}"#;
const DELIVERED: &str = r#"purchases_published_total{outcome="delivered"}"#;

/// Sends a whole request, and keeps the connection.
async fn send(server: &Server, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.client.address).await.unwrap();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
    stream
}

/// Breaks the connection off, as a process that dies does.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().unwrap();
}

async fn in_flight(server: &Server, count: u32) {
    let all = Some(f64::from(count + 1));
    eventually("all are on their way", async || server.metric("http_requests_in_flight").await == all).await;
}

#[tokio::test]
async fn what_became_of_their_purchases_is_counted() {
    let server = Server::with(&[SLOW], |_| {}).await;
    let mut broken = Vec::new();
    for _ in 0..20 {
        broken.push(send(&server, "/buy", BODY).await);
    }
    in_flight(&server, 20).await;
    broken.iter().for_each(reset);
    drop(broken);
    eventually("the hanging up is counted", async || server.metric(HUNG_UP).await == Some(20.0)).await;
    eventually("the outcomes are counted", async || server.metric(DELIVERED).await == Some(20.0)).await;
    assert_eq!(read_records(&server.broker).await.len(), 20);
    assert_eq!(server.metric("http_requests_in_flight").await, Some(1.0));
}

#[tokio::test]
async fn whoever_sends_and_leaves_the_sums_are_right() {
    let server = Server::start().await;
    for round in 0..60_u64 {
        let stream = send(&server, "/buy", BODY).await;
        if round % 2 == 0 {
            reset(&stream);
        }
        tokio::time::sleep(Duration::from_micros(round * 50)).await;
    }
    eventually("each purchase is counted once, and each request", async || {
        let records = read_records(&server.broker).await.len();
        let (hung_up, answered) = (server.metric(HUNG_UP).await.unwrap(), server.metric(ANSWERED).await.unwrap());
        let stored = f64::from(u32::try_from(records).unwrap());
        records >= 30 && server.metric(DELIVERED).await == Some(stored) && hung_up + answered >= stored
    })
    .await;
}

#[tokio::test]
async fn what_they_left_in_flight_keeps_its_place() {
    let server = Server::with(&[SLOW, ("IN_FLIGHT_MAX", "1"), ("BATCHES_IN_FLIGHT_MAX", "1")], |_| {}).await;
    for (path, body) in [("/buy", BODY.to_owned()), ("/buy/batch", format!("[{BODY},{BODY}]"))] {
        let stream = send(&server, path, &body).await;
        in_flight(&server, 1).await;
        reset(&stream);
        drop(stream);
        in_flight(&server, 0).await;
        assert_eq!(server.client.post(path, body.clone()).send().await.status, 503, "{path} is still full");
        eventually("the place is free", async || server.client.post(path, body.clone()).send().await.status == 202)
            .await;
    }
}
