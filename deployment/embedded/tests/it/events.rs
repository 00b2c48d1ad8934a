//! Live events through all of it.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use shared::testing::{EventStream, HttpClient, ServerEvent};

use crate::accounts::{PASSWORD, Program, secret};
use crate::harness::Running;

/// Buys and waits until it is recorded; gives the purchase's id.
async fn buy(pipeline: &Running, userid: &str, headers: &[(&str, &str)]) -> String {
    let body = json!({ "username": "ann", "userid": userid, "price": 19.9 }).to_string();
    let headers = [&[("content-type", "application/json")], headers].concat();
    let answer = pipeline.http.request(Method::POST, &format!("http://{}/buy", pipeline.web), &headers, body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["purchase_id"].as_str().unwrap().to_owned()
}

async fn listen(address: SocketAddr, userid: &str, last_id: &str) -> EventStream {
    let stream = EventStream::open(address, &format!("/users/{userid}/events"), &[("last-event-id", last_id)]).await;
    assert_eq!(stream.status(), 200, "{:?}", stream.head);
    stream
}

fn purchase(event: Option<ServerEvent>) -> Value {
    let event = event.expect("the stream goes on");
    assert_eq!(event.event, "recorded", "{event:?}");
    serde_json::from_str(&event.data).unwrap()
}

/// The ids of the next purchases of a stream.
async fn next_ids(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(purchase(stream.next().await)["purchase_id"].as_str().unwrap().to_owned());
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_hears_of_its_own_purchases_as_they_are_recorded() {
    let pipeline = Running::start().await;
    buy(&pipeline, "ann", &[]).await;
    let mut stream = listen(pipeline.web, "ann", "").await;
    for header in ["content-type: text/event-stream", "cache-control: no-store, no-transform", "x-accel-buffering: no"]
    {
        assert!(stream.head.iter().any(|line| line == header), "{:?}", stream.head);
    }
    stream.opened().await;
    assert!(stream.retry_ms.is_some_and(|retry| (500..5_500).contains(&retry)), "{:?}", stream.retry_ms);
    buy(&pipeline, "bob", &[]).await;
    let id = buy(&pipeline, "ann", &[]).await;
    let told = purchase(stream.next().await);
    assert_eq!((&told["purchase_id"], &told["price"]), (&json!(id), &json!(19.9)));
    assert!(told["recorded_at"].is_string(), "{told}");
    // A repeat is recorded no second time.
    let key = [("idempotency-key", "one")];
    let once = buy(&pipeline, "ann", &key).await;
    assert_eq!(buy(&pipeline, "ann", &key).await, once);
    let last = buy(&pipeline, "ann", &[]).await;
    assert_eq!(next_ids(&mut stream, 2).await, [once, last]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_misses_nothing_and_hears_nothing_twice() {
    let pipeline = Running::start().await;
    let mut stream = listen(pipeline.web, "ann", "").await;
    stream.opened().await;
    let (start, mut bought) = (stream.last_id.clone(), Vec::new());
    for number in 0..12 {
        bought.push(buy(&pipeline, "ann", &[]).await);
        buy(&pipeline, if number % 2 == 0 { "bob" } else { "cid" }, &[]).await;
    }
    assert_eq!(next_ids(&mut stream, 5).await, bought[..5]);
    let last_id = stream.last_id.clone();
    drop(stream);
    let (mut back, mut from_start) =
        (listen(pipeline.web, "ann", &last_id).await, listen(pipeline.web, "ann", &start).await);
    // What two partitions committed in one millisecond has no order.
    let sorted = |mut ids: Vec<String>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(next_ids(&mut back, 7).await), sorted(bought[5..].to_vec()));
    assert_eq!(sorted(next_ids(&mut from_start, 12).await), sorted(bought));
    let more = buy(&pipeline, "ann", &[]).await;
    assert_eq!(next_ids(&mut back, 1).await, std::slice::from_ref(&more));
    assert_eq!(next_ids(&mut from_start, 1).await, [more]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_a_batch_too_a_stream_goes_on_where_it_was() {
    let pipeline = Running::start().await;
    let mut stream = listen(pipeline.web, "ann", "").await;
    stream.opened().await;
    let items = vec![json!({ "username": "ann", "userid": "ann", "price": 1 }); 50];
    let url = format!("http://{}/buy/batch", pipeline.web);
    assert_eq!(pipeline.http.post_json(&url, json!(items).to_string()).await.status, 201);
    let mut told = Vec::new();
    for size in [1, 7, 20, 22] {
        told.extend(next_ids(&mut stream, size).await);
        stream = listen(pipeline.web, "ann", &stream.last_id).await;
    }
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), 50);
    let last = buy(&pipeline, "ann", &[]).await;
    assert_eq!(next_ids(&mut stream, 1).await, [last]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_nobody_knows_is_told_so() {
    let pipeline = Running::start().await;
    buy(&pipeline, "ann", &[]).await;
    let mut stream = listen(pipeline.web, "ann", "").await;
    stream.opened().await;
    let known = stream.last_id.clone();
    let (log, _) = known.split_once('.').unwrap();
    let foreign = known.replace(log, "7f");
    let ahead = format!("{log}.0-999999");
    for unknown in ["garbage", foreign.as_str(), ahead.as_str(), "7f.x-1", &"9".repeat(5_000)] {
        let mut stream = listen(pipeline.web, "ann", unknown).await;
        let event = stream.next().await.unwrap();
        assert_eq!((event.event.as_str(), event.data.as_str()), ("reset", "{}"), "{unknown}");
        let id = buy(&pipeline, "ann", &[]).await;
        assert_eq!(next_ids(&mut stream, 1).await, [id], "and from there it goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_purchase_is_told_once_it_is_recorded_and_the_stream_ends() {
    let pipeline = Running::start().await;
    let path = |id: &str| format!("/purchases/{id}/events");
    let id = buy(&pipeline, "ann", &[]).await;
    let mut stream = EventStream::open(pipeline.web, &path(&id), &[]).await;
    assert_eq!(purchase(stream.next().await)["purchase_id"], json!(id));
    assert_eq!(stream.next().await, None);
    let waiting = EventStream::open(pipeline.web, &path("00000000-0000-4000-8000-000000000001"), &[]).await;
    assert_eq!(waiting.status(), 200);
    assert_eq!(EventStream::open(pipeline.web, &path("no-id"), &[]).await.status(), 404);
    let metrics = format!("http://{}/metrics", pipeline.web);
    let answer = pipeline.http.get(&metrics).await;
    assert_eq!(answer.metric("event_streams"), Some(1.0));
    assert_eq!(answer.metric(r#"event_streams_ended_total{reason="complete"}"#), Some(1.0));
    drop(waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens_to_another_and_not_after_its_access_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start_with(folder.path(), "any").await;
    let address = program.url.trim_start_matches("http://").parse().unwrap();
    let new = json!({ "username": "ann", "email": "ann@example.com", "password": PASSWORD });
    let account_id = secret(&program.post("/account", &new).await, "account_id");
    let token = secret(&program.login(("ann@example.com", PASSWORD)).await, "access_token");
    let authorization = format!("Bearer {token}");
    let shown = [("authorization", authorization.as_str())];
    let path = format!("/users/{account_id}/events");
    assert_eq!(EventStream::open(address, &path, &[]).await.status(), 401);
    assert_eq!(EventStream::open(address, "/users/bob/events", &shown).await.status(), 403);
    let mut stream = EventStream::open(address, &path, &shown).await;
    stream.opened().await;
    assert_eq!(program.with_token(Method::DELETE, "/account", &json!(token)).await.status, 204);
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), stream.next()).await, Ok(None));
}

/// Without `Prefer: wait` nothing waits: the events come by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn many_listeners_hear_of_their_own() {
    let pipeline = Running::start().await;
    let mut streams = Vec::new();
    for number in 0..40 {
        let mut stream = listen(pipeline.web, &format!("user-{}", number % 8), "").await;
        stream.opened().await;
        streams.push(stream);
    }
    let mut bought = Vec::new();
    for user in 0..8 {
        bought.push(buy(&pipeline, &format!("user-{user}"), &[]).await);
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        assert_eq!(next_ids(stream, 1).await, [bought[number % 8].clone()]);
    }
    let http = HttpClient::default();
    let sent = http.get(&format!("http://{}/metrics", pipeline.web)).await.metric("events_sent_total");
    assert_eq!(sent, Some(40.0));
}
