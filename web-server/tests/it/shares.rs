//! Who waits, waits in a share of its own: no crowd of waiting callers keeps others out.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::{Answer, Client, FakeAnswer, Server, eventually, read_records};

const BODY: &str = r#"{"username":"n","userid":"u","price":10}"#;
const ID: &str = "019a0000-0000-7000-8000-000000000001";

async fn buy_waiting(client: Client) -> Answer {
    client.post("/buy", BODY).header("prefer", "wait=30").send().await
}

async fn ask_waiting(client: Client) -> Answer {
    client.request("GET", &format!("/purchases/{ID}")).header("prefer", "wait=30").send().await
}

/// A server whose management-api keeps every wait, and answers all else at once.
async fn server(settings: &[(&str, &str)], always_wait: bool) -> Server {
    let server = Server::with(settings, |config| config.always_wait = always_wait).await;
    server.management.answers(|seen| match seen.method.as_str() {
        "POST" => FakeAnswer::never(),
        _ if !seen.header("prefer").is_empty() => FakeAnswer::never(),
        _ => FakeAnswer::status(404, r#"{"detail":"no such purchase"}"#),
    });
    server
}

async fn waiting(server: &Server, count: usize) {
    eventually("they wait", async || server.management.seen().len() == count).await;
}

/// A reader that waits, and whose connection breaks when this is dropped.
async fn reader(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.client.address).await.unwrap();
    let request = format!("GET /purchases/{ID} HTTP/1.1\r\nhost: h\r\nprefer: wait=30\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.set_zero_linger().unwrap();
    stream
}

fn hang_up(callers: impl IntoIterator<Item = JoinHandle<Answer>>) {
    for caller in callers {
        caller.abort();
    }
}

#[tokio::test]
async fn readers_over_their_share_are_told_what_there_is_and_buyers_wait_all_the_same() {
    let server = server(&[("WAITING_READERS_MAX", "2")], false).await;
    let readers = (reader(&server).await, reader(&server).await);
    waiting(&server, 2).await;
    let started = Instant::now();
    assert_eq!(ask_waiting(server.client.clone()).await.status, 404);
    assert!(started.elapsed() < Duration::from_secs(5), "at once");
    let buyer = tokio::spawn(buy_waiting(server.client.clone()));
    waiting(&server, 4).await;
    drop(readers);
    hang_up([buyer]);
    eventually("places are given back", async || {
        let asked = server.management.seen().len();
        let _reader = reader(&server).await;
        eventually("it is passed on", async || server.management.seen().len() > asked).await;
        !server.management.seen().last().unwrap().header("prefer").is_empty()
    })
    .await;
}

#[tokio::test]
async fn buyers_over_their_share_are_accepted_without_a_wait() {
    let server = server(&[("WAITING_BUYERS_MAX", "2")], false).await;
    let batch = |items: &[&str]| {
        let request = server.client.post("/buy/batch", format!("[{}]", items.join(",")));
        request.header("prefer", "wait=30").send()
    };
    let started = Instant::now();
    assert_eq!(batch(&[BODY; 3]).await.status, 202, "a batch waits as a whole or not at all");
    let buyers = [(); 2].map(|()| tokio::spawn(buy_waiting(server.client.clone())));
    waiting(&server, 2).await;
    assert_eq!(buy_waiting(server.client.clone()).await.status, 202);
    assert_eq!(batch(&[BODY]).await.status, 202);
    assert!(started.elapsed() < Duration::from_secs(10), "at once");
    hang_up(buyers);
}

#[tokio::test]
async fn a_waiting_buyer_holds_no_place_of_others() {
    let server = server(&[("IN_FLIGHT_MAX", "1"), ("BATCHES_IN_FLIGHT_MAX", "1")], false).await;
    let buyer = tokio::spawn(buy_waiting(server.client.clone()));
    waiting(&server, 1).await;
    assert_eq!(server.client.buy().await.status, 202);
    hang_up([buyer]);
}

#[tokio::test]
async fn always_waiting_a_purchase_without_a_place_to_wait_is_not_sent() {
    let server = server(&[("WAITING_BUYERS_MAX", "1"), ("WAITING_READERS_MAX", "1")], true).await;
    let reader = tokio::spawn(ask_waiting(server.client.clone()));
    let buyer = tokio::spawn(buy_waiting(server.client.clone()));
    waiting(&server, 2).await;
    let refused = server.client.buy().await;
    assert_eq!(refused.status, 503);
    assert!(refused.problem("unavailable")["detail"].as_str().unwrap().contains("nothing was sent"));
    assert_eq!(read_records(&server.broker).await.len(), 1);
    hang_up([reader, buyer]);
}
