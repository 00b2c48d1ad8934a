//! Reads that a caller has already, and answers kept for others.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::harness::{Answer, FakeAnswer, Server, eventually};

const PATH: &str = "/getAllUserBuys/loadtest";
const KEPT_MS: u64 = 400;

async fn server(kept_ms: u64) -> Server {
    Server::with(&[("READ_CACHE_MS", &kept_ms.to_string())], |_| {}).await
}

fn answers(server: &Server, body: &'static str) {
    server.management.answers(move |_| FakeAnswer::ok(body));
}

/// Reads of callers that have reached management-api.
fn calls(server: &Server) -> usize {
    server.management.seen().iter().filter(|seen| seen.target.starts_with("/users/")).count()
}

#[tokio::test]
async fn a_read_that_the_caller_has_already_is_304() {
    let server = Server::start().await;
    answers(&server, r#"{"purchases":[]}"#);
    let id = "/purchases/019a0000-0000-7000-8000-000000000001";
    for (path, cache) in
        [(PATH, "private, no-cache"), ("/purchases", "private, no-cache"), (id, "private, max-age=31536000, immutable")]
    {
        let first = server.client.get(path).await;
        assert_eq!((first.status, first.header("cache-control")), (200, cache), "{path}");
        let again = server.client.request("GET", path).header("if-none-match", first.header("etag")).send().await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        assert_eq!((again.header("etag"), again.header("cache-control")), (first.header("etag"), cache));
        answers(&server, r#"{"purchases":[1]}"#);
        let changed = server.client.request("GET", path).header("if-none-match", first.header("etag")).send().await;
        assert_eq!(changed.status, 200, "{path}");
        assert_ne!(changed.header("etag"), first.header("etag"));
        answers(&server, r#"{"purchases":[]}"#);
    }
}

#[tokio::test]
async fn a_thousand_equal_reads_at_once_are_one_call() {
    let server = server(30_000).await;
    server.management.answers(|_| FakeAnswer { delay: Duration::from_millis(200), ..FakeAnswer::ok("{}") });
    let answers = join_all((0..1_000).map(|_| server.client.get(PATH))).await;
    assert!(answers.iter().all(|answer| (answer.status, answer.text().as_str()) == (200, "{}")));
    assert_eq!(calls(&server), 1);
    server.client.get("/getAllUserBuys/loadtest?limit=7").await;
    server.client.get("/getAllUserBuys/other").await;
    assert_eq!(calls(&server), 3, "another read is another call");
}

#[tokio::test]
async fn an_answer_is_never_older_than_the_setting_says() {
    let server = server(KEPT_MS).await;
    answers(&server, r#"{"count":1}"#);
    let first = Instant::now();
    assert_eq!(server.client.get(PATH).await.text(), r#"{"count":1}"#);
    answers(&server, r#"{"count":2}"#);
    let changed = Instant::now();
    let mut kept = 0;
    loop {
        let begun = Instant::now();
        if server.client.get(PATH).await.text() == r#"{"count":2}"# {
            break;
        }
        // Counted from after its own call.
        assert!(begun - changed <= Duration::from_millis(KEPT_MS), "{:?}", begun - first);
        kept += 1;
    }
    assert!(kept > 0 && calls(&server) == 2);
}

#[tokio::test]
async fn who_join_a_call_that_is_too_old_for_them_share_the_next_one() {
    let server = server(50).await;
    server.management.answers(|_| FakeAnswer { delay: Duration::from_millis(600), ..FakeAnswer::ok("{}") });
    let first = server.client.get(PATH);
    let others = async {
        eventually("the first is asked", async || calls(&server) == 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        join_all((0..100).map(|_| server.client.get(PATH))).await
    };
    let (first, others) = tokio::join!(first, others);
    assert!(first.status == 200 && others.iter().all(|answer| answer.status == 200));
    assert_eq!(calls(&server), 2);
}

/// Answers each read of a user's purchases by what `script` says of its number, from 0 on.
fn answers_in_turn(server: &Server, script: impl Fn(usize) -> FakeAnswer + Send + 'static) {
    let count = AtomicUsize::new(0);
    server.management.answers(move |seen| match seen.target.starts_with("/users/") {
        true => script(count.fetch_add(1, Ordering::Relaxed)),
        false => FakeAnswer::status(404, "{}"),
    });
}

/// Asks with this time limit, `wait` after the server's first call.
async fn joins(server: &Server, wait: Duration, path: &str) -> Answer {
    eventually("the first is asked", async || calls(server) == 1).await;
    tokio::time::sleep(wait).await;
    server.client.get(path).await
}

#[tokio::test]
async fn who_joins_a_call_whose_time_is_over_soon_has_a_time_of_its_own() {
    let server = server(30_000).await;
    answers_in_turn(&server, |number| if number == 0 { FakeAnswer::never() } else { FakeAnswer::ok("{}") });
    let path = &format!("{PATH}?timeout=1500");
    let late = async { join_all((0..20).map(|_| joins(&server, Duration::from_millis(700), path))).await };
    let (first, late) = tokio::join!(server.client.get(path), late);
    first.problem("unavailable");
    assert!(first.text().contains("attempt 1: no answer in"), "{}", first.text());
    assert!(late.iter().all(|answer| answer.status == 200), "{:?}", late[0].text());
    assert_eq!(calls(&server), 2);
}

#[tokio::test]
async fn who_waits_for_a_second_call_leaves_when_its_own_time_is_over_and_no_sooner() {
    let server = server(50).await;
    // The first call is too old for both who join it; the second one ends when only one of them has time left.
    answers_in_turn(&server, |number| FakeAnswer {
        delay: Duration::from_millis(if number == 0 { 1_500 } else { 2_200 }),
        ..FakeAnswer::ok("{}")
    });
    let path = &format!("{PATH}?timeout=3000");
    let (early, late) = (Duration::from_millis(100), Duration::from_millis(1_200));
    let (first, early, late) =
        tokio::join!(server.client.get(path), joins(&server, early, path), joins(&server, late, path));
    assert_eq!((first.status, late.status), (200, 200));
    early.problem("unavailable");
    assert!(early.text().contains("attempt 1: no answer in"), "{}", early.text());
    assert_eq!(calls(&server), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_equal_reads_that_find_no_place_each_is_counted_and_comes_again_at_its_own_time() {
    let server = Server::with(&[("READ_CACHE_MS", "30000"), ("READS_IN_FLIGHT_MAX", "1")], |_| {}).await;
    server.management.answers(|_| FakeAnswer::never());
    let in_the_way = server.client.get("/purchases?timeout=30000");
    let refused = async {
        eventually("the only place is taken", async || !server.management.seen().is_empty()).await;
        join_all((0..100).map(|_| server.client.get(PATH))).await
    };
    let refused = tokio::select! {
        refused = refused => refused,
        answer = in_the_way => panic!("{}", answer.text()),
    };
    assert!(refused.iter().all(|answer| answer.status == 503));
    let advised: BTreeSet<_> = refused.iter().map(|answer| answer.header("retry-after").to_owned()).collect();
    assert!(advised.len() > 1, "{advised:?}");
    let metrics = server.client.get("/metrics").await.text();
    assert!(metrics.contains("http_requests_refused_total{reason=\"in_flight\"} 100\n"), "{metrics}");
}

#[tokio::test]
async fn nobodys_own_purchase_is_hidden() {
    let server = server(30_000).await;
    answers(&server, r#"{"count":0}"#);
    for _ in 0..2 {
        assert_eq!(server.client.get(PATH).await.text(), r#"{"count":0}"#);
    }
    assert_eq!(calls(&server), 1);
    let bought = server.client.buy().await;
    assert_eq!(bought.status, 202);
    answers(&server, r#"{"count":1}"#);
    for _ in 0..3 {
        assert_eq!(server.client.get(PATH).await.text(), r#"{"count":1}"#);
    }
    // What another replica would be asked with, of a user who has not bought here.
    let cookie = bought.header("set-cookie").split(';').next().unwrap().to_owned();
    let other = "/getAllUserBuys/other";
    server.client.get(other).await;
    let before = calls(&server);
    for (name, value) in
        [("cookie", cookie.as_str()), ("cookie", &format!("a=b; {cookie}")), ("cache-control", "no-cache")]
    {
        server.client.request("GET", other).header(name, value).send().await;
    }
    server.client.get(other).await;
    assert_eq!(calls(&server), before + 3);
}

#[tokio::test]
async fn a_failed_call_is_told_to_all_who_joined_it_and_not_kept() {
    let server = server(KEPT_MS).await;
    server.management.answers(|_| FakeAnswer { delay: Duration::from_millis(100), ..FakeAnswer::status(500, "") });
    let answers = join_all((0..20).map(|_| server.client.get(PATH))).await;
    assert!(answers.iter().all(|answer| answer.status == 503));
    self::answers(&server, "{}");
    assert_eq!(server.client.get(PATH).await.status, 200);
}

#[tokio::test]
async fn nothing_is_kept_unless_it_is_asked_for() {
    let server = Server::start().await;
    answers(&server, "{}");
    for _ in 0..3 {
        assert_eq!(server.client.get(PATH).await.status, 200);
    }
    assert_eq!(calls(&server), 3);
    assert_eq!(server.client.buy().await.headers.get("set-cookie"), None);
}
