//! New replicas get their share of callers who keep their connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{FakeServer, PromptPublisher};

const CONNECTIONS: usize = 64;
const AGE: Duration = Duration::from_secs(1);
const BUY: &str = "POST /buy HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: 39\r\n\r\n\
    {\"username\":\"n\",\"userid\":\"u\",\"price\":1}";

/// Spreads new connections over the replicas that there are, one after the other, as a balancer before them does.
struct Balancer {
    replicas: Vec<SocketAddr>,
    in_use: AtomicUsize,
    turn: AtomicUsize,
    /// Purchases of each replica since the counting began.
    bought: Vec<AtomicUsize>,
}

impl Balancer {
    fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.in_use.load(Ordering::Relaxed)
    }
}

/// Buys until the end, and opens a connection only when the one before was ended; every purchase must be accepted.
async fn buy_until(end: Instant, balancer: Arc<Balancer>) {
    while Instant::now() < end {
        let replica = balancer.next();
        let mut connection = TcpStream::connect(balancer.replicas[replica]).await.unwrap();
        while Instant::now() < end {
            connection.write_all(BUY.as_bytes()).await.unwrap();
            let mut answer = String::new();
            // The receipt is the last thing of an answer.
            while !answer.ends_with("}}") {
                let mut part = [0; 2048];
                let length = connection.read(&mut part).await.unwrap();
                assert!(length > 0, "it was closed with a request under way: {answer}");
                answer.push_str(std::str::from_utf8(&part[..length]).unwrap());
            }
            assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
            balancer.bought[replica].fetch_add(1, Ordering::Relaxed);
            if answer.contains("connection: close\r\n") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ages_after_a_scale_out_old_connections_are_even_over_all_replicas() {
    let age = AGE.as_millis().to_string();
    let mut servers = Vec::new();
    for _ in 0..4 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        servers.push(FakeServer::on(listener, &[("CONNECTION_MAX_AGE_MS", &age)], Arc::new(PromptPublisher)).await);
    }
    let balancer = Arc::new(Balancer {
        replicas: servers.iter().map(|server| server.client.address).collect(),
        in_use: AtomicUsize::new(2),
        turn: AtomicUsize::new(0),
        bought: servers.iter().map(|_| AtomicUsize::new(0)).collect(),
    });
    let end = Instant::now() + 7 * AGE;
    let buyers = (0..CONNECTIONS).map(|_| tokio::spawn(buy_until(end, Arc::clone(&balancer))));
    let counted = async {
        tokio::time::sleep(AGE).await;
        let bought = |replica: usize| balancer.bought[replica].load(Ordering::Relaxed);
        assert!(bought(0) > 0 && bought(1) > 0 && bought(2) == 0, "only two are there");
        balancer.in_use.store(4, Ordering::Relaxed);
        tokio::time::sleep(2 * AGE).await;
        let before: Vec<_> = (0..4).map(bought).collect();
        tokio::time::sleep(3 * AGE).await;
        (0..4).map(|replica| bought(replica) - before[replica]).collect::<Vec<_>>()
    };
    let (bought, buyers) = tokio::join!(counted, join_all(buyers));
    for buyer in buyers {
        buyer.expect("no request fails");
    }
    let even = bought.iter().sum::<usize>() / 4;
    assert!(bought.iter().all(|bought| bought.abs_diff(even) * 100 <= even * 15), "{bought:?}");
}
