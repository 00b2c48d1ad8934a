//! Load shedding through the front door.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use web_server::publisher::{Publishing, PurchasePublisher, PurchaseRecord};

use crate::harness::{
    Answer, BusyPublisher, Client, FakeAnswer, FakeManagement, FakeServer, PromptPublisher, eventually,
};

const SLOW: Duration = Duration::from_millis(40);
const FAST: Duration = Duration::from_micros(100);
const SHED: &str = r#"http_requests_refused_total{reason="shedding"}"#;
const BUYS: &str = r#"work_in_flight_limit{kind="purchases"}"#;
const BATCHES: &str = r#"work_in_flight_limit{kind="batches"}"#;
const READS: &str = r#"work_in_flight_limit{kind="reads"}"#;

/// Callers who ask again as soon as they are answered, until they are stopped.
struct Callers {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Vec<(Answer, Duration)>>,
}

impl Callers {
    fn buy(client: &Client, count: usize) -> Self {
        Self::start(client, count, async |client| client.buy().await)
    }

    fn read(client: &Client, count: usize) -> Self {
        Self::start(client, count, async |client| client.get("/purchases").await)
    }

    fn start<F>(client: &Client, count: usize, ask: impl Fn(Client) -> F + Copy + Send + 'static) -> Self
    where
        F: Future<Output = Answer> + Send,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..count {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            callers.spawn(async move {
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    answers.push((ask(client.clone()).await, begun.elapsed()));
                    // Not even who is refused asks more often.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                answers
            });
        }
        Self { stop, callers }
    }

    /// Stops them; gives all answers, and how long each took.
    async fn answers(self) -> Vec<(Answer, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await.into_iter().flatten().collect()
    }
}

async fn server(pairs: &[(&str, &str)], publisher: Arc<dyn PurchasePublisher>) -> FakeServer {
    let pairs = [&[("SHED_BUY_LATENCY_MS", "500"), ("SHED_READ_LATENCY_MS", "500")], pairs].concat();
    FakeServer::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), &pairs, publisher).await
}

fn refused(answers: &[(Answer, Duration)]) -> Vec<&(Answer, Duration)> {
    answers.iter().filter(|(answer, _)| answer.status == 503).collect()
}

#[tokio::test]
async fn what_a_slow_kafka_cannot_take_in_time_is_refused_and_taken_again_when_it_is_fast() {
    // 100 a second, so 20 in the time of one.
    let kafka = BusyPublisher::new(4, SLOW);
    let server = server(&[("IN_FLIGHT_MAX", "64"), ("SHED_BUY_LATENCY_MS", "200")], kafka.clone()).await;
    let buyers = Callers::buy(&server.client, 60);
    eventually("the limit is what is served in time", async || {
        server.metric(BUYS).await.is_some_and(|limit| (4.0..=32.0).contains(&limit))
    })
    .await;
    eventually("many are refused", async || server.metric(SHED).await > Some(300.0)).await;
    for path in ["/livez", "/readyz", "/health", "/metrics"] {
        assert_eq!(server.client.get(path).await.status, 200, "{path}");
    }
    let answers = buyers.answers().await;
    assert!(answers.iter().all(|(answer, _)| [202, 503].contains(&answer.status)));
    let refused = refused(&answers);
    let advised: BTreeSet<u32> =
        refused.iter().map(|(answer, _)| answer.header("retry-after").parse().unwrap()).collect();
    assert!(advised.len() > 2 && advised.iter().all(|seconds| (1..=10).contains(seconds)), "{advised:?}");
    refused[0].0.problem("unavailable");
    let quickest =
        |status: u16| answers.iter().filter(|(answer, _)| answer.status == status).map(|(_, time)| time).min();
    assert!(quickest(503) < quickest(202), "at once");
    kafka.takes(FAST);
    // So few that even a busy machine serves them in time.
    let buyers = Callers::buy(&server.client, 16);
    eventually("all are let in again", async || server.metric(BUYS).await == Some(64.0)).await;
    eventually("nobody is refused any more", async || {
        let count = server.metric(SHED).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.metric(SHED).await == count
    })
    .await;
    buyers.answers().await;
}

#[tokio::test]
async fn what_management_api_cannot_answer_in_time_is_refused_and_buyers_notice_nothing() {
    let management = FakeManagement::start().await;
    let takes = |delay| move |_: &_| FakeAnswer { delay, ..FakeAnswer::ok(r#"{"purchases":[],"next_cursor":null}"#) };
    management.answers(takes(Duration::from_secs(1)));
    let url = format!("http://{}", management.address);
    let settings =
        [("CUSTOMER_MGMT_API_URL", url.as_str()), ("READS_IN_FLIGHT_MAX", "64"), ("SHED_READ_LATENCY_MS", "200")];
    let server = server(&settings, Arc::new(PromptPublisher)).await;
    let readers = Callers::read(&server.client, 60);
    eventually("fewer are let in", async || server.metric(READS).await.is_some_and(|limit| limit <= 16.0)).await;
    eventually("many are refused", async || server.metric(SHED).await > Some(100.0)).await;
    for _ in 0..20 {
        assert_eq!(server.client.buy().await.status, 202);
    }
    assert_eq!(server.metric(BUYS).await, Some(4096.0));
    let answers = readers.answers().await;
    assert!(answers.iter().all(|(answer, _)| [200, 503].contains(&answer.status)));
    refused(&answers)[0].0.problem("unavailable");
    management.answers(takes(Duration::ZERO));
    // So few that even a busy machine serves them in time.
    let readers = Callers::read(&server.client, 16);
    eventually("all are let in again", async || server.metric(READS).await == Some(64.0)).await;
    readers.answers().await;
}

#[tokio::test]
async fn reads_wait_for_no_second_place_and_one_too_many_is_refused_at_once() {
    let management = FakeManagement::start().await;
    management.answers(|_| FakeAnswer::never());
    let url = format!("http://{}", management.address);
    let settings =
        [("CUSTOMER_MGMT_API_URL", url.as_str()), ("READS_IN_FLIGHT_MAX", "4"), ("MANAGEMENT_IN_FLIGHT_MAX", "1")];
    let server = server(&settings, Arc::new(PromptPublisher)).await;
    let mut reading = JoinSet::new();
    for _ in 0..4 {
        let client = server.client.clone();
        reading.spawn(async move { client.get("/purchases?timeout=30000").await });
    }
    eventually("all reach management-api", async || management.seen().len() == 4).await;
    let refused = tokio::time::timeout(Duration::from_secs(10), server.client.get("/purchases?timeout=30000")).await;
    let refused = refused.expect("it does not wait");
    refused.problem("unavailable");
    assert!((1..=2).contains(&refused.header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(server.metric(r#"http_requests_refused_total{reason="in_flight"}"#).await, Some(1.0));
    reading.abort_all();
}

#[tokio::test]
async fn who_waits_on_purpose_takes_nobody_s_place() {
    let management = FakeManagement::start().await;
    management.answers(|seen| match seen.header("prefer") {
        "" => FakeAnswer::ok(r#"{"purchases":[],"next_cursor":null}"#),
        _ => FakeAnswer::never(),
    });
    let url = format!("http://{}", management.address);
    let settings = [("CUSTOMER_MGMT_API_URL", url.as_str()), ("READS_IN_FLIGHT_MAX", "1"), ("IN_FLIGHT_MAX", "1")];
    let server = server(&settings, Arc::new(PromptPublisher)).await;
    let mut waiting = JoinSet::new();
    for _ in 0..5 {
        let client = server.client.clone();
        let path = "/purchases/019a0000-0000-7000-8000-000000000001";
        waiting.spawn(async move { client.request("GET", path).header("prefer", "wait=30").send().await });
    }
    eventually("they wait", async || management.seen().len() == 5).await;
    assert_eq!(server.client.get("/purchases").await.status, 200);
    waiting.abort_all();
}

/// A publisher that takes the process's time, as too little CPU does.
struct Hog(Duration);

impl PurchasePublisher for Hog {
    fn publish(&self, record: PurchaseRecord<'_>) -> Publishing {
        std::thread::sleep(self.0);
        PromptPublisher.publish(record)
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn check_start(&self) -> Result<(), String> {
        Ok(())
    }

    fn flush(&self, _deadline: Duration) -> usize {
        0
    }
}

#[tokio::test]
async fn when_the_process_is_late_reads_go_first_then_batches_and_buyers_never() {
    let management = FakeManagement::start().await;
    management.answers(|_| FakeAnswer {
        delay: Duration::from_millis(30),
        ..FakeAnswer::ok(r#"{"purchases":[],"next_cursor":null}"#)
    });
    let url = format!("http://{}", management.address);
    let settings = [("CUSTOMER_MGMT_API_URL", url.as_str()), ("READS_IN_FLIGHT_MAX", "64")];
    let server = server(&settings, Arc::new(Hog(Duration::from_millis(15)))).await;
    let (buyers, readers) = (Callers::buy(&server.client, 4), Callers::read(&server.client, 16));
    eventually("reads yield", async || server.metric(READS).await == Some(1.0)).await;
    eventually("batches yield", async || server.metric(BATCHES).await.is_some_and(|limit| limit <= 16.0)).await;
    eventually("reads are refused", async || server.metric(SHED).await > Some(20.0)).await;
    assert_eq!(server.client.get("/readyz").await.status, 200);
    let (bought, read) = (buyers.answers().await, readers.answers().await);
    assert!(bought.iter().all(|(answer, _)| answer.status == 202));
    assert!(!refused(&read).is_empty());
    let reader = Callers::read(&server.client, 40);
    eventually("reads have all places again", async || server.metric(READS).await == Some(64.0)).await;
    reader.answers().await;
}
