//! A crowd of waiting strangers before the whole pipeline in one process.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shared::testing::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::Running;

const STRANGERS: usize = 1_100;
/// How many of them may wait: the default of `WAITING_READERS_MAX`.
const READERS_MAX: usize = 256;
const PURCHASE: &str = r#"{"username":"ann","userid":"u1","price":19.90}"#;

/// Asks for a purchase that never comes, and counts itself in `told` when it has an answer. On a slow machine a crowd may be
/// more than is read in time: who is refused for that comes again.
async fn stranger(web: SocketAddr, number: usize, told: Arc<AtomicUsize>) {
    let id = format!("0190a5c2-0000-7000-8000-{number:012}");
    // However busy this machine is: nothing here is about how long a read may take.
    let request = format!("GET /purchases/{id}?timeout=30000 HTTP/1.1\r\nhost: x\r\nprefer: wait=30\r\n\r\n");
    loop {
        let mut stream = TcpStream::connect(web).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        let mut answer = vec![0; 1024];
        let length = stream.read(&mut answer).await.unwrap_or(0);
        let answer = String::from_utf8_lossy(&answer[..length]);
        if answer.is_empty() {
            return;
        }
        if answer.starts_with("HTTP/1.1 404") {
            told.fetch_add(1, Ordering::Relaxed);
            return;
        }
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\r\nretry-after: "), "{answer}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_waiting_strangers_keep_no_buyer_waiting() {
    // Two ends of each connection are in this process; where it may not open as many files, the test says so itself.
    let process = std::process::id().to_string();
    let _ = Command::new("prlimit").args(["--pid", &process, "--nofile=16384:"]).status();
    let pipeline = Running::start().await;
    let (told, mut strangers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for number in 0..STRANGERS {
        strangers.spawn(stranger(pipeline.web, number, Arc::clone(&told)));
    }
    // Those over the share of readers are told at once; the others wait.
    let waiting = async || (told.load(Ordering::Relaxed) >= STRANGERS - READERS_MAX).then_some(());
    eventually("the share is full", waiting).await;
    let buy = format!("http://{}/buy", pipeline.web);
    for _ in 0..20 {
        let began = Instant::now();
        let answer = pipeline.http.post_json(&buy, PURCHASE).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert!(began.elapsed() < Duration::from_secs(3), "after {:?}", began.elapsed());
    }
    assert_eq!(told.load(Ordering::Relaxed), STRANGERS - READERS_MAX, "the others wait on");
    strangers.shutdown().await;
}
