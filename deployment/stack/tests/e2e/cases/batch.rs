//! `POST /buy/batch`.

use serde_json::Value;
use shared::testing::Answer;

use crate::doors::{order, somebody};
use crate::pipeline::open;

fn batch(items: &[String]) -> String {
    format!("[{}]", items.join(","))
}

fn statuses(answer: &Answer) -> Vec<u64> {
    let results = answer.json()["results"].as_array().cloned().unwrap_or_default();
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result["index"], index, "input order");
        let (id, error) = (&result["purchase_id"], &result["error"]);
        assert!(id.is_string() != error.is_object() && error.is_null() == id.is_string(), "{result}");
    }
    results.iter().map(|result| result["status"].as_u64().expect("a status number")).collect()
}

#[tokio::test]
async fn a_whole_batch_is_202_and_recorded_when_waited_for() {
    let doors = open().await;
    let userid = somebody("batch");
    let items: Vec<_> = (1..=500).map(|number| order("Ann", &userid, &number.to_string())).collect();
    let answer = doors.post("/buy/batch", &[], batch(&items)).await;
    assert_eq!(answer.status.as_u16(), doors.accepted, "{}", answer.text());
    assert_eq!(statuses(&answer), vec![u64::from(doors.accepted); 500]);
    assert_eq!(doors.purchases_of(&userid, 500).await.json()["total_spent"], 125_250);

    let waited = doors.post("/buy/batch", &[("prefer", "wait=20")], batch(&items[..3])).await;
    assert_eq!(waited.status, 201, "{}", waited.text());
    assert_eq!(statuses(&waited), [201, 201, 201]);
    doors.purchases_of(&userid, 503).await;
}

#[tokio::test]
async fn a_mixed_batch_is_207_and_only_the_good_items_are_bought() {
    let doors = open().await;
    let userid = somebody("mixed");
    let bad = r#"{"username":"","userid":7,"price":-1}"#.to_owned();
    let items = [order("Ann", &userid, "1"), bad, order("Ann", &userid, "2"), "7".to_owned()];
    let answer = doors.post("/buy/batch", &[], batch(&items)).await;
    assert_eq!(answer.status, 207, "{}", answer.text());
    let accepted = u64::from(doors.accepted);
    assert_eq!(statuses(&answer), [accepted, 400, accepted, 400]);
    let errors = answer.json()["results"][1]["error"]["errors"].as_array().map(Vec::len);
    assert_eq!(errors, Some(3), "every bad field of the item: {}", answer.text());
    doors.purchases_of(&userid, 2).await;
}

#[tokio::test]
async fn keys_of_a_batch_make_a_repeat_harmless() {
    let doors = open().await;
    let userid = somebody("batch key");
    let own = format!(r#"{{"username":"Ann","userid":{},"price":5,"idempotency_key":"own"}}"#, Value::from(&*userid));
    let items = batch(&[order("Ann", &userid, "1"), order("Ann", &userid, "2"), own]);
    let headers = [("idempotency-key", "all"), ("prefer", "wait=10")];
    let first = doors.post("/buy/batch", &headers, items.clone()).await;
    let again = doors.post("/buy/batch", &headers, items).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201), "{} {}", first.text(), again.text());
    assert_eq!(first.json(), again.json());
    // The header's key stands for KEY:INDEX on an item without its own.
    let single = [("idempotency-key", "all:1"), ("prefer", "wait=10")];
    let single = doors.post("/buy", &single, order("Ann", &userid, "2")).await;
    assert_eq!(single.json()["purchase_id"], first.json()["results"][1]["purchase_id"]);
    assert_eq!(doors.purchases_of(&userid, 3).await.json()["total_spent"], 8);
}

#[tokio::test]
async fn what_is_no_batch_is_400() {
    let doors = open().await;
    let item = order("Ann", "u", "1");
    let too_many = batch(&vec![item.clone(); 501]);
    for body in ["[]", "{}", "7", "", "[", "null", &item, &too_many, "[1] x"] {
        let answer = doors.post("/buy/batch", &[], body.to_owned()).await;
        assert_eq!(answer.status, 400, "{:.60}: {}", body, answer.text());
        assert_eq!(answer.json()["errors"][0]["field"], "body", "{}", answer.text());
    }
    let too_large = format!("[{}]", " ".repeat(8 * 1024 * 1024));
    assert_eq!(doors.post("/buy/batch", &[], too_large).await.status, 413);
}
