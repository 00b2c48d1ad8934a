//! Live events, where management-api does what the test says.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shared::commits::{Commit, CommitPage, CommitPosition, userid_mark};
use shared::testing::EventStream;
use uuid::Uuid;

use crate::harness::{FakeAnswer, Seen, Server, eventually};

const LOG: u32 = 7;

/// A log of commits of one partition, each with so many purchases of `ann`.
#[derive(Clone, Default)]
struct Log {
    last: Arc<AtomicI64>,
    purchases: Arc<Mutex<usize>>,
    /// Positions before this one are not served.
    first: Arc<AtomicI64>,
}

impl Log {
    fn of(purchases: usize) -> Self {
        let log = Self::default();
        *log.purchases.lock().unwrap() = purchases;
        log
    }

    fn commit(&self) {
        self.last.fetch_add(1, Ordering::SeqCst);
    }

    /// Answers as management-api does, without waiting.
    fn answer(&self, seen: &Seen) -> FakeAnswer {
        if let Some(query) = seen.target.strip_prefix("/internal/commits") {
            let after = query.strip_prefix("?after=").map(|after| after.parse().unwrap());
            let page = serde_json::to_string(&self.page(after)).unwrap();
            return FakeAnswer { delay: Duration::from_millis(5), ..FakeAnswer::ok(page) };
        }
        if seen.target != "/internal/purchases/find" {
            return FakeAnswer::status(404, "{}");
        }
        let asked: Value = serde_json::from_str(&seen.body).unwrap();
        let found: Vec<_> = asked["purchase_ids"].as_array().unwrap().iter().map(purchase).collect();
        FakeAnswer::ok(json!({ "purchases": found }).to_string())
    }

    fn page(&self, after: Option<CommitPosition>) -> CommitPage {
        let [first, last] = [&self.first, &self.last].map(|number| number.load(Ordering::SeqCst));
        let now = CommitPosition::new(LOG, [(0, last)]);
        let Some(mut position) = after else {
            return CommitPage { position: now, commits: Vec::new(), is_reset: false };
        };
        if position.log_id != LOG || position.number(0) < first || position.number(0) > last {
            return CommitPage { position: now, commits: Vec::new(), is_reset: true };
        }
        let purchases = *self.purchases.lock().unwrap();
        let commits: Vec<_> = (position.number(0) + 1..=last)
            .map(|number| Commit {
                partition: 0,
                number,
                purchase_ids: (0..purchases).map(|_| Uuid::now_v7()).collect(),
                userid_marks: Some(vec![userid_mark("ann"); purchases]),
            })
            .collect();
        for commit in &commits {
            position.pass(commit);
        }
        CommitPage { position, commits, is_reset: false }
    }
}

fn purchase(id: &Value) -> Value {
    let (username, time) = ("n".repeat(200), "2026-01-31T12:00:00.000Z");
    json!({ "purchase_id": id, "userid": "ann", "username": username, "price": 1, "timestamp": time, "recorded_at": time })
}

async fn listen(server: &Server, last_id: &str) -> EventStream {
    let mut stream = EventStream::open(server.client.address, "/users/ann/events", &[("last-event-id", last_id)]).await;
    assert_eq!(stream.status(), 200, "{:?}", stream.head);
    if last_id.is_empty() {
        stream.opened().await;
    }
    stream
}

async fn server(log: &Log, settings: &[(&str, &str)]) -> Server {
    let server = Server::with(settings, |_| {}).await;
    let log = log.clone();
    server.management.answers(move |seen| log.answer(seen));
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_is_let_go_of_and_hears_the_rest_when_it_comes_back() {
    let log = Log::of(400);
    let server = server(&log, &[]).await;
    let (mut slow, mut quick) = (listen(&server, "").await, listen(&server, "").await);
    let (begun, mut all, mut heard) = (Instant::now(), 0, 0);
    // What one does not read fills the network's buffers first; then it is looked at more than once.
    while all < 40 * 400 || begun.elapsed() < Duration::from_secs(2) {
        log.commit();
        for _ in 0..400 {
            assert!(quick.next().await.is_some(), "who reads is told all");
        }
        all += 400;
    }
    while slow.next().await.is_some() {
        heard += 1;
    }
    assert!(heard < all, "it was let go of");
    while heard < all {
        slow = listen(&server, &slow.last_id).await;
        while heard < all && slow.next().await.is_some() {
            heard += 1;
        }
    }
    assert!(server.metric(r#"event_streams_ended_total{reason="slow"}"#).await >= Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_too_many_is_refused_and_one_that_ends_leaves_its_place() {
    let server = server(&Log::of(1), &[("EVENT_STREAMS_MAX", "1")]).await;
    let stream = listen(&server, "").await;
    let refused = server.client.get("/users/bob/events").await;
    refused.problem("unavailable");
    assert!(!refused.header("retry-after").is_empty());
    drop(stream);
    eventually("the place is free", async || {
        EventStream::open(server.client.address, "/users/bob/events", &[]).await.status() == 200
    })
    .await;
    assert!(server.metric(r#"event_streams_ended_total{reason="left"}"#).await >= Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_takes_no_more_than_its_places() {
    let settings = [("EVENT_STREAMS_PER_CALLER_MAX", "1"), ("TRUSTED_PROXIES", "127.0.0.1")];
    let server = server(&Log::of(1), &settings).await;
    let open = async |address| {
        EventStream::open(server.client.address, "/users/bob/events", &[("x-forwarded-for", address)]).await
    };
    let streams = [open("192.0.2.1").await, open("192.0.2.1").await, open("192.0.2.2").await];
    assert_eq!(streams.each_ref().map(EventStream::status), [200, 503, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_streams_are_told_when_to_come_back_and_end() {
    let server = server(&Log::of(1), &[]).await;
    let mut stream = listen(&server, "").await;
    let first = stream.retry_ms.take();
    server.shutdown.drain();
    assert_eq!(stream.next().await, None);
    assert!(stream.retry_ms.is_some_and(|retry| (500..5_500).contains(&retry)), "{first:?}");
    assert_eq!(server.metric(r#"event_streams_ended_total{reason="draining"}"#).await, Some(1.0));
    server.shutdown.stop();
    server.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_says_how_the_log_stands_nobody_listens() {
    let server = Server::start().await;
    server.client.get("/users/ann/events").await.problem("unavailable");
    assert_eq!(server.metric("event_streams").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_does_not_go_on_from_where_it_was_is_told_to_all() {
    let log = Log::of(1);
    let server = server(&log, &[]).await;
    let mut stream = listen(&server, "").await;
    log.commit();
    assert_eq!(stream.next().await.unwrap().event, "recorded");
    // As if the database were another one.
    log.first.store(1_000, Ordering::SeqCst);
    log.last.store(1_000, Ordering::SeqCst);
    let event = stream.next().await.unwrap();
    assert_eq!((event.event.as_str(), stream.last_id.as_str()), ("reset", "7.0-1000"));
    assert_eq!(server.metric("event_stream_resets_total").await, Some(1.0));
    log.commit();
    assert_eq!(stream.next().await.unwrap().event, "recorded");
    assert_eq!(stream.last_id, "7.0-1001");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_while_nobody_listens() {
    let log = Log::of(1);
    let server = server(&log, &[]).await;
    drop(listen(&server, "").await);
    eventually("its place is free", async || server.metric("event_streams").await == Some(0.0)).await;
    let asked = || server.management.seen().iter().filter(|seen| seen.target.starts_with("/internal/commits")).count();
    let before = AtomicUsize::new(0);
    eventually("the questions end", async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = asked();
        before.swap(now, Ordering::SeqCst) == now
    })
    .await;
}
