//! `POST /buy/batch`.

use serde_json::{Value, json};
use shared::event::{IdempotencyKey, purchase_id_for_key};

use crate::harness::{FakeAnswer, Server, eventually, read_records};

fn item(userid: &str) -> Value {
    json!({"username": "n", "userid": userid, "price": 1})
}

fn results(answer: &crate::harness::Answer) -> Vec<Value> {
    let results = answer.json()["results"].as_array().unwrap().clone();
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result["index"], index, "input order");
    }
    results
}

#[tokio::test]
async fn a_batch_that_is_accepted_as_a_whole_is_202() {
    let server = Server::start().await;
    let items: Vec<_> = (0..500).map(|index| item(&format!("u{index}"))).collect();
    let answer = server.client.post("/buy/batch", json!(items).to_string()).send().await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let results = results(&answer);
    assert_eq!(results.len(), 500);
    let records = read_records(&server.broker).await;
    for result in &results {
        assert_eq!(result["status"], 202);
        let id = result["purchase_id"].as_str().unwrap();
        assert!(records.iter().any(|record| record.header("ce_id") == id));
    }
}

#[tokio::test]
async fn a_bad_item_is_its_own_400_and_the_others_go_on() {
    let server = Server::start().await;
    let body = r#"[{"username":"n","userid":"u","price":1},7,{"userid":"","price":"x"},{"username":"n","userid":"u","price":2,"idempotency_key":"a b"},{"userid":"a","userid":"a"}]"#;
    let answer = server.client.post("/buy/batch", body).send().await;
    assert_eq!(answer.status, 207);
    let results = results(&answer);
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 400, 400, 400, 400]);
    assert!(results[0].get("error").is_none() && results[1].get("purchase_id").is_none());
    let fields = |index: usize| -> Vec<&str> {
        let error = &results[index]["error"];
        assert_eq!(error["type"], "urn:purchase:invalid-input");
        assert_eq!(error["request_id"], answer.header("x-request-id"));
        error["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect()
    };
    assert_eq!(fields(1), ["body"]);
    assert_eq!(fields(2), ["username", "userid", "price"]);
    assert_eq!(fields(3), ["idempotency_key"]);
    assert_eq!(fields(4), ["body"]);
}

#[tokio::test]
async fn a_batch_without_a_good_item_is_207() {
    let server = Server::start().await;
    let answer = server.client.post("/buy/batch", "[1,2]").send().await;
    assert_eq!(answer.status, 207);
    assert!(results(&answer).iter().all(|result| result["status"] == 400));
}

#[tokio::test]
async fn the_headers_key_stands_for_each_item_without_its_own() {
    let server = Server::start().await;
    let mut items = [item("u"), item("u"), item("u")];
    items[1]["idempotency_key"] = json!("own");
    items[2]["idempotency_key"] = Value::Null;
    let request = server.client.post("/buy/batch", json!(items).to_string()).header("idempotency-key", "K");
    let results = results(&request.send().await);
    for (index, key) in ["K:0", "own", "K:2"].into_iter().enumerate() {
        let id = purchase_id_for_key("u", &IdempotencyKey::parse(key).unwrap());
        assert_eq!(results[index]["purchase_id"], id.to_string(), "{key}");
    }
}

#[tokio::test]
async fn other_shapes_are_400_as_a_whole() {
    let server = Server::start().await;
    let too_many = format!("[{}1]", "1,".repeat(500));
    for body in ["", "[", "{}", "7", "null", "[]", "[1,]", &too_many] {
        let answer = server.client.post("/buy/batch", body.to_owned()).send().await;
        assert_eq!((answer.status, answer.bad_fields()), (400, vec!["body".to_owned()]), "{body:.20}");
    }
    let request = server.client.post("/buy/batch", "[]").header("idempotency-key", "").header("prefer", "wait=x");
    assert_eq!(request.send().await.bad_fields(), ["Prefer", "Idempotency-Key", "body"]);
}

#[tokio::test]
async fn waiting_holds_for_the_whole_batch() {
    let server = Server::start().await;
    let stored = |ids: Vec<Value>| {
        let rows = ids.into_iter().map(|id| {
            json!({"purchase_id": id, "userid": "u", "username": "n", "price": 1, "timestamp": "2026-01-31T12:00:00.000Z"})
        });
        FakeAnswer::ok(json!({"purchases": rows.collect::<Vec<_>>()}).to_string())
    };
    let ids = |body: &str| serde_json::from_str::<Value>(body).unwrap()["purchase_ids"].as_array().unwrap().clone();
    let send = async || {
        let body = json!([item("u"), item("u"), item("u")]).to_string();
        server.client.post("/buy/batch", body).header("prefer", "wait=5").send().await
    };
    server.management.answers(move |seen| stored(ids(&seen.body)));
    let answer = send().await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(server.management.seen().len(), 1, "one question for all items");

    server.management.answers(move |seen| stored(ids(&seen.body).split_off(1)));
    let answer = send().await;
    assert_eq!(answer.status, 207);
    let statuses: Vec<_> = results(&answer).iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 201, 201]);
}

#[tokio::test]
async fn a_batch_whose_answer_finds_no_room_is_refused_before_anything_is_sent() {
    let settings = [("HTTP_MEMORY_MAX_KIB", "1200"), ("KAFKA_PRODUCER_LINGER_US", "1000000")];
    let server = Server::with(&settings, |_| {}).await;
    let batch = json!(vec![item("u"); 500]).to_string();
    let buying = [(); 2].map(|()| {
        let (client, body) = (server.client.clone(), batch.clone());
        tokio::spawn(async move { client.post("/buy/batch", body).send().await.status })
    });
    let is_full = async || server.metric("http_memory_bytes").await.is_some_and(|bytes| bytes > 768_000.0);
    eventually("two have taken their room", is_full).await;
    let refused = server.client.post("/buy/batch", batch.clone()).send().await;
    refused.problem("unavailable");
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    for bought in buying {
        assert_eq!(bought.await.unwrap(), 202, "its room was taken before");
    }
    assert_eq!(server.metric(r#"http_requests_refused_total{reason="memory"}"#).await, Some(1.0));
    assert_eq!(read_records(&server.broker).await.len(), 1000, "of the refused one nothing was sent");
    assert_eq!(server.client.post("/buy/batch", batch).send().await.status, 202, "the room was given back");
}
