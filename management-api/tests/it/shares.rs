//! Buyers and readers wait in shares of their own.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use shared::testing::{Answer, eventually};
use tokio::task::JoinHandle;

use crate::harness::{Api, Kafka, value_with_id};
use crate::memory_store::MemoryStore;

const FIRST: &str = "0190a5c2-0000-7000-8000-000000000001";
const SECOND: &str = "0190a5c2-0000-7000-8000-000000000002";
const THIRD: &str = "0190a5c2-0000-7000-8000-000000000003";

fn reader(api: &Api, id: &str) -> JoinHandle<Answer> {
    let (http, url) = (api.http.clone(), format!("{}/purchases/{id}", api.url));
    tokio::spawn(async move { http.request(Method::GET, &url, &[("prefer", "wait=30")], "").await })
}

fn buyer(api: &Api, ids: &[&str]) -> JoinHandle<Answer> {
    let (http, url) = (api.http.clone(), format!("{}/internal/purchases/wait", api.url));
    let body = json!({ "purchase_ids": ids, "wait_ms": 30_000 }).to_string();
    tokio::spawn(async move { http.post_json(&url, body).await })
}

async fn waiting(api: &Api, count: f64) {
    eventually("they wait", async || (api.metric("http_requests_in_flight").await > count).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_its_share_a_wait_ends_at_once_with_what_is_recorded() {
    let kafka = Kafka::start();
    let shares = [("WAITING_BUYERS_MAX", "2"), ("WAITING_READERS_MAX", "1")];
    let api = Api::start_on(MemoryStore::new(), &kafka, &shares).await.ready().await;
    let waits = reader(&api, FIRST);
    waiting(&api, 1.0).await;
    let began = Instant::now();
    assert_eq!(reader(&api, SECOND).await.unwrap().status, 404, "no place");
    let buys = buyer(&api, &[SECOND, THIRD]);
    waiting(&api, 2.0).await;
    assert_eq!(buyer(&api, &[FIRST]).await.unwrap().json(), json!({ "purchases": [] }), "no place");
    assert!(began.elapsed() < Duration::from_secs(10), "at once");

    for id in [FIRST, SECOND, THIRD] {
        kafka.send(&value_with_id(id, "ann", "Ann", "1.50")).await;
    }
    assert_eq!(waits.await.unwrap().status, 200);
    assert_eq!(buys.await.unwrap().json()["purchases"].as_array().map(Vec::len), Some(2));
    let many = [FIRST, SECOND, THIRD];
    let told = buyer(&api, &many).await.unwrap().json();
    assert_eq!(told["purchases"].as_array().map(Vec::len), Some(3), "more than there are places: looked up now");
    assert_eq!(buyer(&api, &[FIRST]).await.unwrap().status, 200, "places are given back");
    assert!(api.stop().await);
}
