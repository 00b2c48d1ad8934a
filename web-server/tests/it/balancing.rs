//! Reads over several replicas of management-api: who is asked, who is left out, and what a slow or missing one costs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::harness::{DEADLINE, FakeAnswer, FakeManagement, Server, eventually};

const PATH: &str = "/purchases";
const LEFT_OUT: &str = r#"management_replicas{state="left_out"}"#;

/// Replicas that answer at once.
async fn replicas<const COUNT: usize>() -> [FakeManagement; COUNT] {
    let replicas = join_all((0..COUNT).map(|_| FakeManagement::start())).await;
    for replica in &replicas {
        replica.answers(|_| FakeAnswer::ok("{}"));
    }
    replicas.try_into().unwrap_or_else(|_| unreachable!())
}

fn answer_after(replica: &FakeManagement, delay: Duration) {
    replica.answers(move |_| FakeAnswer { delay, ..FakeAnswer::ok("{}") });
}

async fn server(addresses: &[SocketAddr], balancing: &str) -> Server {
    let urls: Vec<_> = addresses.iter().map(|address| format!("http://{address}")).collect();
    Server::with(&[("CUSTOMER_MGMT_API_URL", &urls.join(",")), ("MANAGEMENT_BALANCING", balancing)], |_| {}).await
}

async fn server_of(replicas: &[FakeManagement]) -> Server {
    server(&replicas.iter().map(|replica| replica.address).collect::<Vec<_>>(), "least_loaded").await
}

/// Reads one after the other, each of which must be answered.
async fn read(server: &Server, times: usize) {
    for _ in 0..times {
        let answer = server.client.get(PATH).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn every_strategy_asks_all_replicas() {
    for strategy in ["round_robin", "random", "least_loaded"] {
        let replicas = replicas::<3>().await;
        let server = server(&replicas.each_ref().map(|replica| replica.address), strategy).await;
        // A replica that this machine was slow to serve once is left alone for a while, and hedged reads take turns of their own.
        let fair = if strategy == "round_robin" { 25..=45 } else { 10..=80 };
        eventually("each has its share", async || {
            let before = replicas.each_ref().map(FakeManagement::reads);
            read(&server, 90).await;
            let shares = [0, 1, 2].map(|index| replicas[index].reads() - before[index]);
            shares.iter().all(|share| fair.contains(share))
        })
        .await;
    }
}

#[tokio::test]
async fn a_slow_replica_is_overtaken_and_sees_that_nobody_waits_any_more() {
    let (replicas, slow) = (replicas::<1>().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let server = server(&[replicas[0].address, slow.local_addr().unwrap()], "round_robin").await;
    let accepted = tokio::spawn(async move {
        let mut connection = slow.accept().await.unwrap().0;
        let mut request = Vec::new();
        tokio::time::timeout(DEADLINE, connection.read_to_end(&mut request))
            .await
            .map(|ended| ended.map_err(|error| error.kind()))
    });
    let begun = Instant::now();
    read(&server, 2).await;
    assert!(begun.elapsed() < Duration::from_millis(1_500), "not after the deadline of 2 s: {:?}", begun.elapsed());
    assert_eq!(accepted.await.unwrap(), Ok(Err(std::io::ErrorKind::ConnectionReset)));
    assert_eq!(server.metric(r#"management_hedges_total{winner="hedge"}"#).await, Some(1.0));
    assert_eq!(server.metric(r#"management_requests_total{outcome="cancelled"}"#).await, Some(1.0));
}

#[tokio::test]
async fn attempts_beyond_the_first_are_a_tenth_of_the_calls_when_all_are_slow() {
    const CALLS: usize = 300;
    let replicas = replicas::<3>().await;
    for replica in &replicas {
        answer_after(replica, Duration::from_millis(800));
    }
    let server = server_of(&replicas).await;
    let answers = join_all((0..CALLS).map(|_| server.client.get(PATH))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let asked: usize = replicas.iter().map(FakeManagement::reads).sum();
    assert!((CALLS + 10..=CALLS + CALLS / 10).contains(&asked), "{asked} attempts for {CALLS} calls");
}

#[tokio::test]
async fn a_replica_that_never_answers_is_left_out_and_has_its_share_again_once_it_does() {
    let replicas = replicas::<3>().await;
    replicas[0].answers(|_| FakeAnswer::never());
    // The default strategy leaves it alone after its first lost race, and would need longer to be sure.
    let server = server(&replicas.each_ref().map(|replica| replica.address), "round_robin").await;
    eventually("it is left out", async || {
        read(&server, 10).await;
        server.metric(LEFT_OUT).await == Some(1.0)
    })
    .await;
    replicas[0].answers(|_| FakeAnswer::ok("{}"));
    eventually("it is taken back", async || server.metric(LEFT_OUT).await == Some(0.0)).await;
    eventually("it has its share", async || {
        let before = replicas[0].reads();
        read(&server, 60).await;
        replicas[0].reads() - before >= 15
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_fails_at_once_draws_no_calls() {
    let replicas = replicas::<3>().await;
    replicas[0].answers(|_| FakeAnswer::status(503, "{}"));
    let server = server_of(&replicas).await;
    read(&server, 300).await;
    let failed = replicas[0].reads();
    assert!((1..=10).contains(&failed), "{failed} of 300 calls went to it first");
}

#[tokio::test]
async fn after_a_failure_two_others_are_asked_at_once() {
    let answered_at_once = async || {
        let replicas = replicas::<3>().await;
        replicas[0].answers(|_| FakeAnswer::status(500, "{}"));
        replicas[1].answers(|_| FakeAnswer::never());
        // In the order of the list: the one that fails, the one that never answers, the one that does.
        let server = server(&replicas.each_ref().map(|replica| replica.address), "round_robin").await;
        let begun = Instant::now();
        read(&server, 1).await;
        assert_eq!(replicas.each_ref().map(FakeManagement::reads), [1; 3]);
        begun.elapsed() < Duration::from_millis(200)
    };
    // One after the other takes 300 ms every time: of so few calls nothing is known that would hedge them sooner.
    eventually("it is answered at once", answered_at_once).await;
}

#[tokio::test]
async fn what_is_left_of_the_deadline_goes_with_each_attempt() {
    let replicas = replicas::<1>().await;
    let server = server_of(&replicas).await;
    for (path, most) in [("/purchases?timeout=700", 700), ("/purchases", 2_000)] {
        assert_eq!(server.client.get(path).await.status, 200);
        let left: u64 = replicas[0].seen().pop().unwrap().header("x-timeout-ms").parse().unwrap();
        // A little more than is left: our own clock decides.
        assert!((most / 2..=most + 25).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn callers_in_a_hurry_put_no_replica_out() {
    let replicas = replicas::<2>().await;
    for replica in &replicas {
        answer_after(replica, Duration::from_millis(150));
    }
    let server = server_of(&replicas).await;
    for _ in 0..12 {
        let answer = server.client.get("/purchases?timeout=50").await;
        assert!(answer.text().contains("no answer in"), "{}", answer.text());
    }
    let all_in_use = async || server.metric(r#"management_replicas{state="in_use"}"#).await == Some(2.0);
    eventually("both are in use", all_in_use).await;
    assert_eq!(server.metric(LEFT_OUT).await, Some(0.0));
    read(&server, 4).await;
}
