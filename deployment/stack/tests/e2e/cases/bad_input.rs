//! What is refused, and how: nothing of it reaches Kafka, and every bad field is named at once.

use http::Method;
use serde_json::Value;
use shared::testing::Answer;

use crate::doors::{escape, order, somebody};
use crate::pipeline::open;

/// Checks the shape that all errors have, and gives the named fields in order.
fn problem(answer: &Answer, status: u16) -> Vec<String> {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let body = answer.json();
    assert!(body["type"].as_str().is_some_and(|name| name.starts_with("urn:purchase:")), "{body}");
    assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
    assert_eq!(body["status"], status);
    assert_eq!(body["error"], body["detail"]);
    assert_eq!(body["request_id"], answer.header("x-request-id"));
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| error["field"].as_str().expect("a field").to_owned()).collect()
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let doors = open().await;
    let userid = somebody("bad");
    let quoted = Value::from(&*userid);
    let long = "x".repeat(257);
    let with = |username: &str, price: &str| format!(r#"{{"username":{username},"userid":{quoted},"price":{price}}}"#);
    let prices = [
        "0",
        "-1",
        "0.00001",
        "1000000000000000",
        "999999999999999.99999",
        "NaN",
        "Infinity",
        "1e400",
        "1e-400",
        "true",
        "null",
        "{}",
        "[]",
        "\"\"",
        "\"+1\"",
        "\"1e3\"",
        "\" 1\"",
        "\"01\"",
        "\"1.\"",
        "\".5\"",
        "\"-0\"",
        "\"NaN\"",
        "\"１\"",
        "01",
    ];
    for price in prices {
        let answer = doors.post("/buy", &[], with("\"Ann\"", price)).await;
        let fields = problem(&answer, 400);
        let is_json = serde_json::from_str::<Value>(price).is_ok() || price.starts_with("1e");
        assert_eq!(fields, [if is_json { "price" } else { "body" }], "{price}: {}", answer.text());
    }
    let names = ["\"\"", "\" \\t\"", "7", "null", "\"a\\u0000b\"", "\"\\u0085\"", "[\"a\"]", &format!("\"{long}\"")];
    for name in names {
        let answer = doors.post("/buy", &[], with(name, "1")).await;
        assert_eq!(problem(&answer, 400), ["username"], "{name}");
    }
    let all = doors.post("/buy", &[("idempotency-key", "a b"), ("prefer", "wait=31")], "{}").await;
    let mut fields = problem(&all, 400);
    fields.sort();
    assert_eq!(fields, ["Idempotency-Key", "Prefer", "price", "userid", "username"]);
    let read = doors.get(&format!("/getAllUserBuys/{}", escape(&userid))).await;
    assert_eq!(read.json()["count"], 0, "nothing of it was bought");
}

#[tokio::test]
async fn what_is_no_object_of_distinct_names_is_refused_as_a_whole() {
    let doors = open().await;
    let deep = "[".repeat(5000);
    let bodies: [&[u8]; 12] = [
        b"",
        b"{",
        b"nope",
        b"[1]",
        b"7",
        b"null",
        b"{} x",
        b"\xff\xfe",
        b"{\"a\":1,\"a\":2}",
        br#"{"username":"a","userid":"b","price":1,"price":1}"#,
        br#"{"username":"a","userid":"b","price":1"#,
        deep.as_bytes(),
    ];
    for body in bodies {
        let answer = doors.post("/buy", &[], body.to_vec()).await;
        assert_eq!(problem(&answer, 400), ["body"], "{}", String::from_utf8_lossy(body));
    }
    let unknown = r#"{"username":"a","userid":"b","price":1,"x":{"y":[1,2]},"currency":null}"#;
    assert_eq!(doors.post("/buy", &[], unknown).await.status.as_u16(), doors.accepted, "unknown fields are ignored");
}

#[tokio::test]
async fn a_body_of_exactly_16_kib_passes_and_one_byte_more_does_not() {
    let doors = open().await;
    let body = order("Ann", &somebody("size"), "1");
    let fill = |bytes: usize| format!("{body}{}", " ".repeat(bytes - body.len()));
    let fits = doors.post("/buy", &[], fill(16 * 1024)).await;
    assert_eq!(fits.status.as_u16(), doors.accepted, "{}", fits.text());
    problem(&doors.post("/buy", &[], fill(16 * 1024 + 1)).await, 413);
}

#[tokio::test]
async fn other_media_types_paths_and_methods_are_refused() {
    let doors = open().await;
    let body = order("Ann", "u", "1");
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        let answer =
            doors.request(Method::POST, &doors.web("/buy"), &[("content-type", content_type)], body.clone()).await;
        problem(&answer, 415);
    }
    problem(&doors.request(Method::POST, &doors.web("/buy"), &[], body.clone()).await, 415);
    let charset = [("content-type", "Application/JSON; charset=utf-8")];
    let answer = doors.request(Method::POST, &doors.web("/buy"), &charset, body.clone()).await;
    assert_eq!(answer.status.as_u16(), doors.accepted, "{}", answer.text());

    for path in ["/nope", "/buy/", "/BUY", "/getAllUserBuys", "/purchases/a/b", "/..%2fbuy"] {
        problem(&doors.get(path).await, 404);
    }
    problem(&doors.get_management("/nope").await, 404);
    for (method, path) in
        [(Method::GET, "/buy"), (Method::DELETE, "/purchases"), (Method::PUT, "/buy/batch"), (Method::POST, "/livez")]
    {
        let answer = doors.request(method.clone(), &doors.web(path), &[], "").await;
        problem(&answer, 405);
        assert!(!answer.header("allow").is_empty(), "{method} {path} says what is allowed");
    }
    problem(&doors.request(Method::POST, &doors.management("/purchases"), &[], "").await, 405);
}

#[tokio::test]
async fn a_key_is_1_to_255_visible_ascii_characters() {
    let doors = open().await;
    let body = order("Ann", &somebody("key"), "1");
    let longest = "k".repeat(255);
    for good in ["!", "~", "a:b", &longest] {
        let answer = doors.post("/buy", &[("idempotency-key", good)], body.clone()).await;
        assert_eq!(answer.status.as_u16(), doors.accepted, "{good}: {}", answer.text());
    }
    let too_long = "k".repeat(256);
    for bad in ["", "a b", "tab\there", &too_long] {
        let answer = doors.post("/buy", &[("idempotency-key", bad)], body.clone()).await;
        assert_eq!(problem(&answer, 400), ["Idempotency-Key"], "{bad}");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(problem(&doors.post("/buy", &twice, body).await, 400), ["Idempotency-Key"]);
}

#[tokio::test]
async fn a_callers_request_id_is_kept_only_when_it_is_plain() {
    let doors = open().await;
    let longest = "i".repeat(64);
    for (given, kept) in [("Order-1_a.b", true), (longest.as_str(), true), ("a b", false), ("<x>", false), ("", false)]
    {
        let answer = doors.request(Method::GET, &doors.web("/livez"), &[("x-request-id", given)], "").await;
        assert_eq!(answer.header("x-request-id") == given, kept, "{given}");
        assert!(!answer.header("x-request-id").is_empty());
    }
}
