//! What callers can do with their connections: be slow, be idle, half close, send too much, read nothing.

use std::time::{Duration, Instant};

use shared::http::ServerLimits;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Client, DEADLINE, FakeAnswer, Server, eventually};

const PURCHASE: &str = r#"{"username":"n","userid":"u","price":1}"#;
const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n";

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.client.address).await.unwrap()
}

/// The next answer's beginning; empty when the connection is closed instead.
async fn read_some(connection: &mut TcpStream) -> String {
    let mut buffer = [0; 4096];
    let read = tokio::time::timeout(DEADLINE, connection.read(&mut buffer)).await.expect("in time");
    String::from_utf8(buffer[..read.unwrap_or(0)].to_vec()).unwrap()
}

async fn read_all(connection: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = connection.read_to_end(&mut answer);
    tokio::time::timeout(DEADLINE, read).await.expect("in time").expect("no reset");
    String::from_utf8(answer).unwrap()
}

fn head(path: &str, length: usize, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n"
    )
}

/// Else each part of a large answer waits 40 ms for a caller on the same machine to confirm the one before.
#[tokio::test(flavor = "multi_thread")]
async fn two_segments_and_more_are_on_their_way_at_once_on_one_machine_too() {
    let server = Server::start().await;
    let connection = connect(&server).await;
    let segment = SockRef::from(&connection).tcp_mss().unwrap();
    assert!(segment <= 16 * 1024, "{segment} bytes");
}

#[tokio::test]
async fn a_slow_head_is_cut_off_and_an_idle_connection_is_kept() {
    let server = Server::with(&[("REQUEST_HEADER_TIMEOUT_MS", "300")], |_| {}).await;
    let (mut fresh, mut used) = (connect(&server).await, connect(&server).await);
    used.write_all(LIVEZ).await.unwrap();
    read_some(&mut used).await;
    let started = Instant::now();
    let answer = server.client.raw(b"POST /buy HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(5));
    // At rest for longer than a head may take, and for long enough to have given its buffers back.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for connection in [&mut fresh, &mut used] {
        connection.write_all(LIVEZ).await.unwrap();
        assert!(read_some(connection).await.starts_with("HTTP/1.1 200 "));
    }
    used.write_all(b"GET /li").await.unwrap();
    assert!(read_some(&mut used).await.starts_with("HTTP/1.1 408 "), "a slow head after good requests");
}

#[tokio::test]
async fn idle_connections_are_closed_in_their_time() {
    let server = Server::with(&[("KEEP_ALIVE_TIMEOUT_MS", "400")], |_| {}).await;
    let (mut fresh, mut used) = (connect(&server).await, connect(&server).await);
    used.write_all(LIVEZ).await.unwrap();
    assert!(read_some(&mut used).await.starts_with("HTTP/1.1 200 "));
    let started = Instant::now();
    assert_eq!(read_some(&mut fresh).await, "");
    assert_eq!(read_some(&mut used).await, "");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_endless_head_is_431() {
    let server = Server::start().await;
    let endless = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-long: {}", "y".repeat(500 * 1024));
    let answer = server.client.raw(endless.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_caller_that_closes_its_sending_side_is_answered() {
    let server = Server::start().await;
    server.management.answers(|_| FakeAnswer { delay: Duration::from_millis(300), ..FakeAnswer::ok("{}") });
    let buy = head("/buy", PURCHASE.len(), "") + PURCHASE;
    let slow_read = "GET /getAllUserBuys/u HTTP/1.1\r\nhost: h\r\n\r\n".to_owned();
    for (request, status) in [(buy, "202"), (slow_read, "200")] {
        let mut connection = connect(&server).await;
        connection.write_all(request.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        let answer = read_all(&mut connection).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[tokio::test]
async fn a_refusal_arrives_also_at_who_sends_everything_first() {
    let server = Server::start().await;
    let body = vec![b' '; 12 * 1024 * 1024];
    let declared = head("/buy", body.len(), "");
    let chunked = "POST /buy/batch HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nc00000\r\n";
    for head in [declared.as_str(), chunked] {
        let mut connection = connect(&server).await;
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&body).await.unwrap();
        let answer = read_all(&mut connection).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("urn:purchase:body-too-large"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn who_would_be_refused_is_not_invited_to_send() {
    let slow_kafka = ("KAFKA_PRODUCER_LINGER_US", "1000000");
    let settings = [("BATCHES_IN_FLIGHT_MAX", "1"), ("HTTP_MEMORY_MAX_KIB", "1024"), slow_kafka];
    let server = Server::with(&settings, |_| {}).await;
    let client = server.client.clone();
    let busy = tokio::spawn(async move { client.post("/buy/batch", format!("[{PURCHASE}]")).send().await.status });
    eventually("the place is taken", async || server.client.post("/buy/batch", "[]").send().await.status == 503).await;
    for (path, length, more, status) in [
        ("/buy/batch", 9, "", "503"),
        ("/buy", 16 * 1024 + 1, "", "413"),
        ("/buy", 9, "content-encoding: gzip\r\n", "415"),
        ("/buy", 9, "prefer: wait=soon\r\n", "400"),
        ("/nowhere", 9, "", "404"),
    ] {
        let mut connection = connect(&server).await;
        let head = head(path, length, &format!("expect: 100-continue\r\n{more}"));
        connection.write_all(head.as_bytes()).await.unwrap();
        let answer = read_some(&mut connection).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert_eq!(busy.await.unwrap(), 202);
    let mut connection = connect(&server).await;
    let text = format!("{}{{}}", head("/buy", 2, "expect: 100-continue\r\n").replace("application/json", "text/plain"));
    connection.write_all(text.as_bytes()).await.unwrap();
    assert!(read_some(&mut connection).await.starts_with("HTTP/1.1 415 "));
    let mut connection = connect(&server).await;
    connection.write_all(head("/buy", PURCHASE.len(), "expect: 100-continue\r\n").as_bytes()).await.unwrap();
    assert!(read_some(&mut connection).await.starts_with("HTTP/1.1 100 Continue\r\n"));
    connection.write_all(PURCHASE.as_bytes()).await.unwrap();
    assert!(read_some(&mut connection).await.starts_with("HTTP/1.1 202 "));
    // The head says already that there is no room.
    let mut connection = connect(&server).await;
    connection.write_all(head("/buy/batch", 1024 * 1024, "expect: 100-continue\r\n").as_bytes()).await.unwrap();
    assert!(read_some(&mut connection).await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn an_encoded_body_is_415_and_says_what_is_taken() {
    let server = Server::start().await;
    for path in ["/buy", "/buy/batch"] {
        for coding in ["gzip", "br", "gzip, identity"] {
            let answer = server.client.post(path, "\x1f").header("content-encoding", coding).send().await;
            assert_eq!((answer.status, answer.header("accept-encoding")), (415, "identity"));
            answer.problem("unsupported-content-encoding");
        }
    }
    assert_eq!(server.client.post("/buy", PURCHASE).header("content-encoding", "identity").send().await.status, 202);
}

#[tokio::test]
async fn idle_connections_make_room_and_operations_have_a_door_of_their_own() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = [("CONNECTIONS_MAX", "20"), ("OPERATIONS_LISTEN_ADDRESS", &port.to_string())];
    let server = Server::unready(&settings, |_| {}).await;
    let operations = Client::new(port);
    eventually("ready", async || {
        TcpStream::connect(port).await.is_ok() && operations.get("/readyz").await.status == 200
    })
    .await;
    let mut idle = Vec::new();
    for number in 0..20 {
        let mut connection = connect(&server).await;
        if number % 2 == 0 {
            connection.write_all(LIVEZ).await.unwrap();
            read_some(&mut connection).await;
        }
        idle.push(connection);
    }
    let callers = [(); 5].map(|()| Client::new(server.client.address));
    for caller in &callers {
        assert_eq!(caller.buy().await.status, 202);
    }
    assert_eq!(operations.get("/livez").await.status, 200);
    assert!((15.0..=20.0).contains(&operations.metric("http_connections").await.unwrap()));
    assert_eq!(operations.get("/nowhere").await.status, 404);
    // Who has been told to leave leaves in a moment.
    let is_closed = |connection: &TcpStream| matches!(connection.try_read(&mut [0]), Ok(0));
    eventually("the longest idle one is closed", async || is_closed(&idle[0])).await;
    let closed = idle.iter().filter(|connection| is_closed(connection)).count();
    assert!((5..20).contains(&closed), "{closed} idle ones were closed");
    let client = Client::new(server.client.address);
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/health", 200), ("/metrics", 404)] {
        assert_eq!(client.get(path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn connections_in_use_are_not_closed_for_others() {
    let server = Server::unready(&[("CONNECTIONS_MAX", "2")], |_| {}).await;
    server.management.answers(|_| FakeAnswer { delay: Duration::from_secs(2), ..FakeAnswer::ok("{}") });
    let ask = async || {
        let mut connection = connect(&server).await;
        let request = b"GET /purchases?timeout=9000 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        connection.write_all(request).await.unwrap();
        connection
    };
    let (mut first, mut second) = (ask().await, ask().await);
    eventually("both are asked for", async || server.management.seen().len() == 2).await;
    let mut third = ask().await;
    let refused = read_all(&mut third).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: "), "{refused}");
    assert!(refused.contains("connection: close"), "{refused}");
    let healthy = server.client.raw(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(healthy.starts_with("HTTP/1.1 200 "), "{healthy}");
    for connection in [&mut first, &mut second] {
        assert!(read_some(connection).await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(server.metric(r#"http_requests_refused_total{reason="memory"}"#).await, Some(1.0));
}

#[tokio::test]
async fn an_old_connection_ends_with_its_next_answer() {
    let server = Server::with(&[("CONNECTION_MAX_AGE_MS", "400")], |_| {}).await;
    let (mut connection, mut answers, started) = (connect(&server).await, Vec::<String>::new(), Instant::now());
    while !answers.last().is_some_and(|answer| answer.contains("connection: close")) {
        assert!(started.elapsed() < DEADLINE, "it does not end");
        connection.write_all(LIVEZ).await.unwrap();
        answers.push(read_some(&mut connection).await);
    }
    assert!(answers.len() > 1, "not from the beginning");
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")), "{answers:?}");
    assert_eq!(read_some(&mut connection).await, "");
}

#[tokio::test]
async fn who_reads_nothing_is_cut_off_and_holds_up_no_end() {
    let settings = [("ANSWER_TIMEOUT_MS", "500"), ("DRAIN_DELAY_MS", "0")];
    let server = Server::with(&settings, |_| {}).await;
    server.management.answers(|_| FakeAnswer::ok("x".repeat(8 * 1024 * 1024)));
    let ask = async || {
        let mut connection = connect(&server).await;
        connection.write_all(b"GET /purchases HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        connection
    };
    let held = async || server.metric("http_memory_bytes").await.unwrap();
    let before = held().await;
    let mut unread = ask().await;
    eventually("the answer is held", async || held().await > before + 1e6).await;
    eventually("it is given up", async || held().await < before + 1e5).await;
    let mut answer = Vec::new();
    let _ = unread.read_to_end(&mut answer).await;
    assert!(answer.len() < 8 * 1024 * 1024);
    let _unread = ask().await;
    eventually("the answer is held", async || held().await > before + 1e6).await;
    let started = Instant::now();
    server.shutdown.stop();
    server.ended().await.expect("nothing of ours was left");
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn over_the_budget_requests_are_refused_and_buying_and_health_go_on() {
    let server = Server::with(&[("HTTP_MEMORY_MAX_KIB", "2048")], |_| {}).await;
    server.management.answers(|_| FakeAnswer::ok("x".repeat(700 * 1024)));
    let refused = async || server.metric(r#"http_requests_refused_total{reason="memory"}"#).await;
    // Bodies without their last byte, one of them over what is left.
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut connection = connect(&server).await;
        connection.write_all(head("/buy/batch", 300 * 1024, "").as_bytes()).await.unwrap();
        connection.write_all(&vec![b' '; 300 * 1024 - 1]).await.unwrap();
        waiting.push(connection);
    }
    eventually("bodies are held", async || server.metric("http_memory_bytes").await.unwrap() > 1.2e6).await;
    let answer = server.client.post("/buy/batch", vec![b' '; 300 * 1024]).send().await;
    assert_eq!(answer.status, 503);
    answer.problem("unavailable");
    assert_eq!(server.client.get("/getAllUserBuys/u").await.status, 503, "there is no room for the answer");
    assert_eq!(refused().await, Some(2.0));
    assert_eq!(server.client.buy().await.status, 202);
    assert_eq!(server.client.get("/livez").await.status, 200);
    assert!(server.metric("http_memory_bytes").await <= server.metric("http_memory_max_bytes").await);
    drop(waiting);
    eventually("there is room again", async || server.client.get("/getAllUserBuys/u").await.status == 200).await;
}

#[tokio::test]
async fn health_is_answered_when_connections_take_all_the_room() {
    let server = Server::with(&[("HTTP_MEMORY_MAX_KIB", "1024")], |_| {}).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut connection = connect(&server).await;
        connection.write_all(b"GET /livez HTTP/1.1\r\nx-slow: ").await.unwrap();
        slow.push(connection);
    }
    assert!(
        server.client.raw(b"GET /livez HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.contains(" 200 OK")
    );
    // Who has connected and is slow to ask may be of no use too: a caller tries again.
    let buy = format!("{}{PURCHASE}", head("/buy", PURCHASE.len(), ""));
    eventually("buying goes on: who is of no use makes room", async || {
        let mut connection = connect(&server).await;
        connection.write_all(buy.as_bytes()).await.is_ok()
            && read_some(&mut connection).await.starts_with("HTTP/1.1 202 ")
    })
    .await;
}

#[test]
fn a_panic_outside_of_every_handler_gives_its_place_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let metrics = web_server::metrics::Metrics::new("", &[]);
        let limits = ServerLimits {
            connections: 2,
            header_timeout: DEADLINE,
            keep_alive_timeout: DEADLINE,
            answer_timeout: DEADLINE,
            max_age: None,
            drain_timeout: DEADLINE,
            half_close: true,
        };
        let router = axum::Router::new().fallback(async || -> () { panic!("on purpose") });
        let server = shared::http::Server {
            router,
            limits,
            budget: shared::http::ByteBudget::new(1 << 20, &metrics.http, shared::metrics::Counter::noop()),
            connections: metrics.http.connections.clone(),
            certificate: None,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = shared::shutdown::Shutdown::new();
        let serving = shutdown.clone();
        let running = tokio::spawn(async move { server.serve(listener, &serving).await });
        for _ in 0..5 {
            assert_eq!(Client::new(address).raw(LIVEZ).await, "");
        }
        let shows = |line: &str| metrics.registry.render().lines().any(|shown| shown == line);
        eventually("all places are free", async || shows("http_connections 0")).await;
        assert!(shows("http_memory_bytes 0"));
        shutdown.stop();
        assert_eq!(running.await.unwrap(), 0);
    });
}
