//! The rules of calls to management-api, seen from its replicas: who is asked, how often, and what the caller is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use shared::config::Settings;
use shared::http::{ByteBudget, Problem, RequestContext};
use shared::supervise::Supervisor;
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use web_server::Config;
use web_server::management_client::{Answer, ManagementClient};
use web_server::metrics::Metrics;

use crate::harness::{FakeAnswer, FakeManagement, Server};

const ID: &str = "019a0000-0000-7000-8000-000000000001";

/// Two replicas that always answer with this status.
async fn replicas(status: u16) -> [FakeManagement; 2] {
    let pair = [FakeManagement::start().await, FakeManagement::start().await];
    for replica in &pair {
        replica.answers(move |_| FakeAnswer::status(status, r#"{"detail":"as told"}"#));
    }
    pair
}

fn urls(replicas: &[FakeManagement]) -> String {
    replicas.iter().map(|replica| format!("http://{}", replica.address)).collect::<Vec<_>>().join(",")
}

fn asked(replicas: &[FakeManagement]) -> usize {
    replicas.iter().map(|replica| replica.seen().len()).sum()
}

/// Sends a command to these replicas, and ends what runs in the background.
async fn command(urls: &str, deadline: Duration) -> Result<Answer, Problem> {
    // The first of the list is asked first.
    let mut settings = Settings::from_pairs([("CUSTOMER_MGMT_API_URL", urls), ("MANAGEMENT_BALANCING", "round_robin")]);
    let (config, supervisor) = (Config::read(&mut settings), Supervisor::alone());
    let metrics = Metrics::new("", &[]);
    let budget = ByteBudget::new(config.http.memory_max, &metrics.http, shared::metrics::Counter::noop());
    let client = ManagementClient::start(&config.management, budget, metrics, &supervisor);
    let context = RequestContext::own();
    let answer = client.command("/accounts".to_owned(), "{}".into(), deadline, &context).await;
    supervisor.shutdown().stop();
    answer
}

#[tokio::test]
async fn reads_and_waits_ask_another_replica_only_when_that_may_help() {
    for (status, attempts, told) in [
        (200, 1, 200),
        (400, 1, 400),
        (404, 1, 404),
        (401, 2, 503),
        (429, 2, 503),
        (500, 2, 503),
        (503, 2, 503),
        (405, 1, 503),
        (422, 1, 503),
        (301, 1, 503),
    ] {
        let replicas = replicas(status).await;
        let server = Server::with(&[("CUSTOMER_MGMT_API_URL", &urls(&replicas))], |_| {}).await;
        let path = format!("/purchases/{ID}");
        assert_eq!(server.client.get(&path).await.status, told, "a read, {status}");
        assert_eq!(asked(&replicas), attempts, "a read, {status}");
        let waiting = server.client.request("GET", &path).header("prefer", "wait=3").send().await;
        assert_eq!((waiting.status, asked(&replicas)), (told, 2 * attempts), "a reader's wait, {status}");
        let body = r#"{"username":"n","userid":"u","price":10}"#;
        let bought = server.client.post("/buy", body).header("prefer", "wait=3").send().await;
        assert_eq!((bought.status, asked(&replicas)), (202, 3 * attempts), "a buyer's wait, {status}");
    }
}

#[tokio::test]
async fn a_command_reaches_one_replica_once_whatever_it_says() {
    let deadline = Duration::from_secs(10);
    for settled in [200, 201, 204, 400, 401, 403, 404, 409, 413, 422, 429] {
        let replicas = replicas(settled).await;
        let answer = command(&urls(&replicas), deadline).await.unwrap();
        assert_eq!((answer.status.as_u16(), asked(&replicas)), (settled, 1));
        if !answer.status.is_success() {
            let problem = answer.into_json().unwrap_err();
            assert_eq!((problem.status().as_u16(), problem.detail()), (settled, "as told"));
        }
    }
    for unknown in [301, 405, 408, 500, 502, 503, 504] {
        let replicas = replicas(unknown).await;
        let problem = command(&urls(&replicas), deadline).await.unwrap_err();
        assert_eq!((problem.status().as_u16(), asked(&replicas)), (504, 1), "after {unknown}");
    }
}

#[tokio::test]
async fn a_command_that_was_not_answered_is_not_sent_again() {
    let silent = replicas(200).await;
    for replica in &silent {
        replica.answers(|_| FakeAnswer::never());
    }
    let problem = command(&urls(&silent), Duration::from_millis(300)).await.unwrap_err();
    assert_eq!((problem.status().as_u16(), asked(&silent)), (504, 1));

    let (others, listener) = (replicas(200).await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let breaks_off = listener.local_addr().unwrap();
    let counted = Arc::new(AtomicUsize::new(0));
    let reached = Arc::clone(&counted);
    let breaking = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            reached.fetch_add(1, Ordering::SeqCst);
        }
    });
    let urls = format!("http://{breaks_off},{}", urls(&others));
    let problem = command(&urls, Duration::from_secs(10)).await.unwrap_err();
    assert_eq!((problem.status().as_u16(), counted.load(Ordering::SeqCst), asked(&others)), (504, 1, 0));
    breaking.abort();
}

#[tokio::test]
async fn a_command_goes_to_another_replica_if_nothing_was_sent() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let replicas = replicas(201).await;
    let urls = format!("http://{gone},http://{gone},{}", urls(&replicas));
    assert_eq!(command(&urls, Duration::from_secs(10)).await.unwrap().status, 201);
    assert_eq!(asked(&replicas), 1);
    let problem = command(&format!("http://{gone}"), Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(problem.status(), 503, "certainly not done");
}

#[tokio::test]
async fn an_answer_without_room_is_refused_and_one_with_room_is_counted_once() {
    let replicas = replicas(200).await;
    let settings = [("CUSTOMER_MGMT_API_URL", &*urls(&replicas)), ("HTTP_MEMORY_MAX_KIB", "4096")];
    let server = Server::with(&settings, |_| {}).await;
    // Three quarters are for content: what is counted twice, or not at all, is told apart.
    for (kib, status, refused) in [(2_000, 200, 0.0), (3_500, 503, 1.0), (2_000, 200, 1.0)] {
        let before = asked(&replicas);
        for replica in &replicas {
            replica.answers(move |_| FakeAnswer::ok("x".repeat(kib * 1024)));
        }
        let answer = server.client.get("/purchases").await;
        assert_eq!((answer.status, asked(&replicas)), (status, before + 1), "{kib} KiB, from one replica");
        assert_eq!(server.metric(r#"http_requests_refused_total{reason="memory"}"#).await, Some(refused));
    }
}

#[tokio::test]
async fn an_address_where_nobody_answers_counts_as_not_reachable() {
    // Its one place is taken, and nobody ever accepts: the kernel drops what comes then, as a network does whose pod is gone.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
    let _first = std::net::TcpStream::connect(address).unwrap();
    let server = Server::with(&[("CUSTOMER_MGMT_API_URL", &format!("http://{address}"))], |_| {}).await;
    let answer = server.client.get(&format!("/purchases/{ID}?timeout=9000")).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("not reachable"), "{}", answer.text());
}
