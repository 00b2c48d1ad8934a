//! What is counted for keys, and how it is told.

use serde_json::{Value, json};
use shared::api_keys::RequestClass;
use uuid::Uuid;

use super::keys::{KEY_ID, Keys, last_asked};
use super::{buy, read, server};
use crate::accounts::ID;
use crate::accounts::signer::{claims, token, with};
use crate::harness::{DEADLINE, FakeManagement, Server, app, eventually};

fn flushes(management: &FakeManagement) -> Vec<Value> {
    let told = management.seen().into_iter().filter(|seen| seen.target == "/internal/usage" && seen.method == "POST");
    told.map(|seen| serde_json::from_str(&seen.body).unwrap()).collect()
}

fn counts(flush: &Value) -> Vec<(String, u64)> {
    let count = |count: &Value| {
        assert_eq!((&count["key_id"], count["day"].as_str().unwrap().len()), (&json!(KEY_ID), 10));
        (count["class"].as_str().unwrap().to_owned(), count["requests"].as_u64().unwrap())
    };
    let mut counts: Vec<_> = flush["counts"].as_array().unwrap().iter().map(count).collect();
    counts.sort();
    counts
}

async fn use_key(server: &Server, key: &str) {
    for _ in 0..3 {
        read(server, "/purchases", key).await;
    }
    assert_eq!(buy(server, "/buy", ID, key).await.status, 202);
    assert_eq!(buy(server, "/buy/batch", ID, key).await.status, 202);
}

#[tokio::test]
async fn what_is_not_taken_is_told_again_under_the_same_id_and_the_rest_at_the_end() {
    let keys = Keys::default();
    let server = server("any", &keys).await;
    let key = keys.add(&["buy", "read"]);
    keys.refuse_usage(true);
    use_key(&server, &key).await;
    read(&server, "/purchases", &token(&claims())).await.problem("unauthorized");
    eventually("told twice", async || flushes(&server.management).len() >= 2).await;
    keys.refuse_usage(false);
    let before = flushes(&server.management).len();
    eventually("taken", async || flushes(&server.management).len() > before).await;
    let told = flushes(&server.management);
    assert!(told.iter().all(|flush| *flush == told[0]), "one flush, word for word: {told:?}");
    let expected = [("batch", 1), ("buy", 1), ("read", 3)].map(|(class, count)| (class.to_owned(), count));
    assert_eq!(counts(&told[0]), expected);
    read(&server, "/purchases", &key).await;
    server.shutdown.stop();
    let management = server.management.address;
    let seen = {
        let Server { management, .. } = &server;
        async || flushes(management)
    };
    eventually("the last is told at the end", async || seen().await.len() > told.len()).await;
    let last = seen().await.pop().unwrap();
    assert!(last["flush_id"] != told[0]["flush_id"], "{management}");
    assert_eq!(counts(&last), [("read".to_owned(), 1)]);
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_key_sees_its_own_use_an_account_that_of_its_keys_and_an_administrator_anybodys() {
    let keys = Keys::default();
    let server = server("off", &keys).await;
    let (key, own, admin) = (keys.add(&["buy"]), token(&claims()), token(&with("scope", "admin")));
    let other = "019a0000-0000-7000-8000-000000000002";
    let ask = async |path: &str, credentials: &str| {
        let authorization = format!("Bearer {credentials}");
        let answer = server.client.request("GET", path).header("authorization", &authorization).send().await;
        (answer.status, last_asked(&server.management).unwrap().target)
    };
    let target = |query: &str| (200, format!("/internal/usage?{query}"));
    assert_eq!(ask("/usage", &key).await, target(&format!("key_id={KEY_ID}")));
    let days = "from=2026-01-01&to=2026-01-31";
    assert_eq!(ask(&format!("/usage?{days}"), &own).await, target(&format!("account_id={ID}&{days}")));
    let path = format!("/usage?account_id={other}");
    assert_eq!(ask(&path, &own).await.0, 403);
    assert_eq!(ask(&path, &admin).await, target(&format!("account_id={other}")));
    for bad in ["from=yesterday", "to=2026-1-1", "account_id=7"] {
        assert_eq!(ask(&format!("/usage?{bad}"), &own).await.0, 400, "{bad}");
    }
    for (account, credentials) in [(ID, &key), (other, &key), ("7", &key)] {
        assert_eq!(ask(&format!("/usage?account_id={account}"), credentials).await.0, 400, "a key is one key");
    }
    server.client.get("/usage").await.problem("unauthorized");
}

#[tokio::test]
async fn however_many_keys_come_what_is_counted_for_them_stays_small_and_is_told_in_parts() {
    let (keys, management) = (Keys::default(), FakeManagement::start().await);
    keys.serve(&management);
    let app = app(&[("AUTH", "api_key")], &management);
    for number in 0..60_000 {
        app.api_keys.usage.count(Uuid::from_u128(number), RequestClass::Read);
    }
    app.api_keys.usage.count(Uuid::from_u128(0), RequestClass::Read);
    app.api_keys.usage.flush_last(DEADLINE).await;
    let told = flushes(&management);
    let parts: Vec<_> = told.iter().map(|flush| flush["counts"].as_array().unwrap().len()).collect();
    assert_eq!(parts, [1_000; 50], "those that came first");
    let requests = told.iter().flat_map(|flush| flush["counts"].as_array().unwrap());
    assert_eq!(requests.map(|count| count["requests"].as_u64().unwrap()).sum::<u64>(), 50_001, "they are counted on");
    app.shutdown.stop();
}
