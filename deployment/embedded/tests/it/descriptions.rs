//! The API descriptions of both services say what the code checks: examples, held against the schema and sent.

use std::fmt::Write;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::harness::Running;

/// The schema of one parameter, or of a field of the body.
fn parameter(description: &Value, path: &str, name: &str) -> Validator {
    let parameters = description["paths"][path]["get"]["parameters"].as_array().unwrap();
    let found = parameters.iter().find(|parameter| parameter["name"] == name);
    compile(description, &found.unwrap_or_else(|| panic!("{path} has no {name}"))["schema"])
}

fn body(description: &Value, path: &str) -> Validator {
    compile(description, &description["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"])
}

/// A schema with the components that it refers to.
fn compile(description: &Value, schema: &Value) -> Validator {
    let mut schema = schema.clone();
    schema["components"] = description["components"].clone();
    jsonschema::draft202012::new(&schema).unwrap()
}

/// Every byte escaped, so that any text is a good part of a URL.
fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        let _ = write!(escaped, "%{byte:02X}");
        escaped
    })
}

/// Texts, and whether they name a user.
fn names() -> Vec<(String, bool)> {
    let good = ["u", "Ann Ünïcøde", "%2F", "ключ", "a\u{200b}", "..", "1"];
    let bad = ["", " ", "\u{3000}", "a\0b", "\u{7f}", "a\u{85}", "\t", "line\nline"];
    let (good, bad) = (good.map(|text| (text.to_owned(), true)), bad.map(|text| (text.to_owned(), false)));
    let long = [("x".repeat(256), true), ("😀".repeat(256), true), ("x".repeat(257), false), ("é".repeat(257), false)];
    good.into_iter().chain(bad).chain(long).collect()
}

async fn assert_read(pipeline: &Running, base: &str, target: &str, good: bool) {
    let status = pipeline.http.get(&format!("http://{base}{target}")).await.status.as_u16();
    assert_eq!(status, if good { 200 } else { 400 }, "{target}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_described_as_they_are_checked() {
    let pipeline = Running::start().await;
    let (web, management) = (pipeline.web.to_string(), pipeline.management.to_string());
    for _ in 0..2 {
        let body = r#"{"username":"ann","userid":"u","price":1}"#;
        assert_eq!(pipeline.http.post_json(&format!("http://{web}/buy"), body).await.status, 201);
    }
    let page = pipeline.http.get(&format!("http://{web}/purchases?limit=1")).await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let cursors = [cursor, "", "=", &cursor[1..], &format!("{cursor}A"), &"A".repeat(2000), "ключ"];
    for (base, path) in [(&web, "/getAllUserBuys/{userid}"), (&management, "/users/{userid}/purchases")] {
        let description = pipeline.http.get(&format!("http://{base}/openapi.json")).await.json();
        let (in_path, in_query) =
            (parameter(&description, path, "userid"), parameter(&description, "/purchases", "userid"));
        for (name, good) in names() {
            assert_eq!((in_path.is_valid(&json!(name)), in_query.is_valid(&json!(name))), (good, good), "{name:?}");
            let escaped = escape(&name);
            assert_read(&pipeline, base, &format!("/purchases?userid={escaped}"), good).await;
            if !name.is_empty() {
                assert_read(&pipeline, base, &path.replace("{userid}", &escaped), good).await;
            }
        }
        let schema = parameter(&description, "/purchases", "cursor");
        for (index, text) in cursors.iter().enumerate() {
            assert_eq!(schema.is_valid(&json!(text)), index == 0, "{text}");
            assert_read(&pipeline, base, &format!("/purchases?cursor={}", escape(text)), index == 0).await;
        }
        for bytes in ["userid=%ff", "cursor=%ff", "limit=%ff", "userid=a&userid=a", "limit=1&limit=1"] {
            assert_read(&pipeline, base, &format!("/purchases?{bytes}"), false).await;
        }
        assert_read(&pipeline, base, &path.replace("{userid}", "%ff"), false).await;
        assert_read(&pipeline, base, &format!("{}?limit=%ff", path.replace("{userid}", "u")), false).await;
    }
    assert_read(&pipeline, &web, "/purchases?timeout=%ff", false).await;
    assert_read(&pipeline, &web, "/purchases?timeout=500&timeout=500", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_are_described_as_they_are_checked() {
    let pipeline = Running::start().await;
    let description = pipeline.http.get(&format!("http://{}/openapi.json", pipeline.web)).await.json();
    let schema = body(&description, "/buy");
    let good = [
        "10",
        "19.9",
        "0.0001",
        "1e3",
        "1.00000",
        "999999999999999",
        "123456789012345.5",
        r#""19.90""#,
        r#""1""#,
        r#""0.0001""#,
        r#""1.00000""#,
        r#""999999999999999.9999""#,
    ];
    let bad = [
        "0",
        "0.0",
        "-1",
        "1e15",
        "1000000000000000",
        "1e300",
        "0.00001",
        "19.99999",
        "true",
        "null",
        "[]",
        "{}",
        r#""""#,
        r#""0""#,
        r#""0.00""#,
        r#""-1""#,
        r#""+1""#,
        r#""01""#,
        r#""1.""#,
        r#"".5""#,
        r#"" 1""#,
        r#""1e3""#,
        r#""0.00001""#,
        r#""1000000000000000""#,
        r#""NaN""#,
    ];
    for (price, expected) in good.map(|price| (price, 201)).into_iter().chain(bad.map(|price| (price, 400))) {
        let text = format!(r#"{{"username":"ann","userid":"u","price":{price}}}"#);
        let sent: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(schema.is_valid(&sent), expected == 201, "the schema, {price}");
        let answer = pipeline.http.post_json(&format!("http://{}/buy", pipeline.web), text).await;
        assert_eq!(answer.status, expected, "the code, {price}: {}", answer.text());
    }
    for name in ["username", "userid"] {
        for (text, good) in names() {
            let mut sent = json!({ "username": "ann", "userid": "u", "price": 1 });
            sent[name] = json!(text);
            assert_eq!(schema.is_valid(&sent), good, "the schema, {name} {text:?}");
            let answer = pipeline.http.post_json(&format!("http://{}/buy", pipeline.web), sent.to_string()).await;
            assert_eq!(answer.status, if good { 201 } else { 400 }, "the code, {name} {text:?}");
        }
    }
}
