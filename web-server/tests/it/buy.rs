//! `POST /buy`.

use serde_json::{Value, json};
use shared::event::{IdempotencyKey, Timestamp, purchase_id_for_key};
use uuid::Uuid;

use crate::harness::{Server, read_records};

#[tokio::test]
async fn an_accepted_purchase_is_in_kafka_with_its_key_value_and_headers() {
    let server = Server::start().await;
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let answer = server
        .client
        .post("/buy", r#"{"username":"Ωmega","userid":"u 1","price":19.90,"colour":"red"}"#)
        .header("traceparent", &format!("00-{trace_id}-00f067aa0ba902b7-01"))
        .send()
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    let body = answer.json();
    let id = body["purchase_id"].as_str().unwrap();
    assert_eq!(Uuid::parse_str(id).unwrap().get_version_num(), 7);
    assert_eq!(answer.header("location"), format!("/purchases/{id}"));
    assert_eq!(body["status"], "accepted");
    assert!(body["message"].is_string());
    assert!(answer.text().contains(r#""price":19.9,"#), "the digits are exact: {}", answer.text());

    let record = read_records(&server.broker).await.remove(0);
    assert_eq!(record.key, "u 1");
    let value: Value = serde_json::from_str(&record.value).unwrap();
    assert_eq!(value, body["data"]);
    let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["price", "purchase_id", "timestamp", "userid", "username"]);
    let receipt = json!({"topic": "purchases", "partition": record.partition, "offset": record.offset});
    assert_eq!(body["receipt"], receipt);
    assert_eq!(record.header("ce_specversion"), "1.0");
    assert_eq!(record.header("ce_id"), id);
    assert_eq!(record.header("ce_type"), "purchase.accepted.v1");
    assert_eq!(record.header("ce_source"), "web-server");
    assert_eq!(record.header("ce_time"), value["timestamp"]);
    assert_eq!(record.header("content-type"), "application/json");
    assert!(record.header("traceparent").starts_with(&format!("00-{trace_id}-")));
    assert_eq!(Timestamp::parse(value["timestamp"].as_str().unwrap()).unwrap().millis(), record.timestamp_ms);
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_id_for_the_same_user_only() {
    let server = Server::start().await;
    let buy = async |userid: &str, key: &str| {
        let body = json!({"username": "n", "userid": userid, "price": "1"}).to_string();
        let answer = server.client.post("/buy", body).header("idempotency-key", key).send().await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["purchase_id"].as_str().unwrap().to_owned()
    };
    let first = buy("u", "order-1").await;
    assert_eq!(first, purchase_id_for_key("u", &IdempotencyKey::parse("order-1").unwrap()).to_string());
    assert_eq!(buy("u", "order-1").await, first);
    assert_ne!(buy("v", "order-1").await, first);
    assert_ne!(buy("u", "order-2").await, first);
    assert_eq!(buy("u", &"k".repeat(255)).await.len(), 36);
}

#[tokio::test]
async fn every_bad_field_and_header_is_named_at_once() {
    let server = Server::start().await;
    let answer = server
        .client
        .post("/buy", r#"{"username":" ","price":0}"#)
        .header("idempotency-key", "has space")
        .header("prefer", "wait=31")
        .send()
        .await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.bad_fields(), ["Prefer", "Idempotency-Key", "username", "userid", "price"]);
    let twice = server.client.post("/buy", r#"{"username":"n","userid":"u","price":1}"#);
    let twice = twice.header("idempotency-key", "a").header("idempotency-key", "b").send().await;
    assert_eq!(twice.bad_fields(), ["Idempotency-Key"]);
    let too_long = server.client.post("/buy", r#"{"username":"n","userid":"u","price":1}"#);
    let too_long = too_long.header("idempotency-key", &"k".repeat(256)).send().await;
    assert_eq!(too_long.bad_fields(), ["Idempotency-Key"]);
}

#[tokio::test]
async fn a_callback_that_would_never_come_is_refused() {
    let server = Server::start().await;
    let body = r#"{"username":"n","userid":"u","price":1,"callback_url":"https://shop.example/done"}"#;
    let answer = server.client.post("/buy", body).send().await;
    assert_eq!((answer.status, answer.bad_fields()), (400, vec!["callback_url".to_owned()]));
    let body = r#"{"username":"n","userid":"u","price":1,"callback_url":null}"#;
    assert_eq!(server.client.post("/buy", body).send().await.status, 202);
}

#[tokio::test]
async fn bodies_that_are_no_purchase_are_refused_with_400() {
    let server = Server::start().await;
    for body in ["", "{", "nope", "\u{feff}{}", "[]", "7", "null", r#"{"userid":"a","userid":"b"}"#, r#"{"x":1,"x":2}"#]
    {
        let answer = server.client.post("/buy", body).send().await;
        assert_eq!((answer.status, answer.bad_fields()), (400, vec!["body".to_owned()]), "{body}");
    }
    let answer = server.client.post("/buy", vec![0xff, 0xfe, 0x00]).send().await;
    assert_eq!(answer.bad_fields(), ["body"]);
    for price in
        ["0", "-1", "1e400", "true", "null", "{}", "[]", "\"\"", "\"+1\"", "\"1e3\"", "\"01\"", "0.00001", "1e15"]
    {
        let body = format!(r#"{{"username":"n","userid":"u","price":{price}}}"#);
        let answer = server.client.post("/buy", body).send().await;
        assert_eq!((answer.status, answer.bad_fields()), (400, vec!["price".to_owned()]), "{price}");
    }
    for (price, exact) in
        [("1e3", "1000"), ("1.00000", "1"), ("\"19.90\"", "19.9"), ("999999999999999.9999", "999999999999999.9999")]
    {
        let body = format!(r#"{{"username":"n","userid":"u","price":{price}}}"#);
        let answer = server.client.post("/buy", body).send().await;
        assert_eq!(answer.status, 202, "{price}");
        assert!(answer.text().contains(&format!(r#""price":{exact},"#)), "{price}: {}", answer.text());
    }
}

#[tokio::test]
async fn by_userid_one_user_stays_in_one_partition() {
    let server = Server::with(&[("KAFKA_PARTITION_BY", "userid")], |_| {}).await;
    for _ in 0..20 {
        assert_eq!(server.client.buy().await.status, 202);
    }
    let records = read_records(&server.broker).await;
    assert!(records.iter().all(|record| record.partition == records[0].partition), "{records:?}");
}
