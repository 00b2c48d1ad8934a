//! Accounts look after their keys, administrators after anybody's.

use serde_json::json;

use super::keys::{KEY_ID, last_asked};
use crate::accounts::ID;
use crate::accounts::signer::{Signer, claims, token, with};
use crate::harness::{Answer, FakeAnswer, Server};

const OTHER: &str = "019a0000-0000-7000-8000-000000000002";

async fn server(status: u16) -> Server {
    let server = Server::start().await;
    Signer::new().serve_with(&server, move |_| FakeAnswer::status(status, r#"{"detail":"as told"}"#));
    server
}

/// Sends JSON, if there is any, and gives what management-api was asked last.
async fn send(server: &Server, method: &str, path: &str, token: &str, body: &str) -> (Answer, String) {
    let request =
        if body.is_empty() { server.client.request(method, path) } else { server.client.post(path, body.to_owned()) };
    let answer = request.header("authorization", &format!("Bearer {token}")).send().await;
    let asked = last_asked(&server.management).map(|seen| format!("{} {} {}", seen.method, seen.target, seen.body));
    (answer, asked.unwrap_or_default())
}

#[tokio::test]
async fn an_account_looks_after_its_own_keys() {
    let (made, done) = (server(201).await, server(200).await);
    let own = token(&claims());
    let body = r#"{"name":"till 7"}"#;
    let (answer, asked) = send(&made, "POST", "/api-keys", &own, body).await;
    assert_eq!((answer.status, answer.header("cache-control")), (201, "no-store"));
    assert_eq!(asked, format!("POST /internal/api-keys?account_id={ID}&may_serve=false&actor={ID} {body}"));
    let (answer, asked) = send(&done, "GET", "/api-keys", &own, "").await;
    assert_eq!((answer.status, asked), (200, format!("GET /internal/api-keys?account_id={ID} ")));
    let rotate = format!("/api-keys/{KEY_ID}/rotate");
    for (sent, passed_on) in [("", "{}"), (r#"{"overlap_seconds":0}"#, r#"{"overlap_seconds":0}"#)] {
        let (answer, asked) = send(&done, "POST", &rotate, &own, sent).await;
        assert_eq!(
            (answer.status, asked),
            (200, format!("POST /internal{rotate}?actor={ID}&account_id={ID} {passed_on}"))
        );
    }
    let (answer, asked) = send(&done, "DELETE", &format!("/api-keys/{KEY_ID}"), &own, "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(asked, format!("POST /internal/api-keys/{KEY_ID}/revoke?actor={ID}&account_id={ID} "));
}

#[tokio::test]
async fn an_administrator_looks_after_anybodys_and_nobody_else_does() {
    let (made, done) = (server(201).await, server(200).await);
    let (own, admin) = (token(&claims()), token(&with("scope", "admin")));
    let path = format!("/api-keys?account_id={OTHER}");
    for (method, body) in [("POST", r#"{"name":"n"}"#), ("GET", "")] {
        send(&made, method, &path, &own, body).await.0.problem("forbidden");
    }
    let (_, asked) = send(&made, "POST", &path, &admin, r#"{"name":"n"}"#).await;
    assert_eq!(
        asked,
        format!(r#"POST /internal/api-keys?account_id={OTHER}&may_serve=true&actor={ID} {{"name":"n"}}"#)
    );
    let (_, asked) = send(&done, "GET", &path, &admin, "").await;
    assert_eq!(asked, format!("GET /internal/api-keys?account_id={OTHER} "));
    let (_, asked) = send(&done, "DELETE", &format!("/api-keys/{KEY_ID}"), &admin, "").await;
    assert_eq!(asked, format!("POST /internal/api-keys/{KEY_ID}/revoke?actor={ID} "), "whoever's it is");
    send(&made, "POST", "/api-keys?account_id=7", &own, "{}").await.0.bad_fields();
}

#[tokio::test]
async fn without_a_good_token_or_such_a_key_nothing_is_done() {
    let server = server(403).await;
    let own = token(&claims());
    for (method, path) in [
        ("POST", "/api-keys".to_owned()),
        ("GET", "/api-keys".to_owned()),
        ("POST", format!("/api-keys/{KEY_ID}/rotate")),
        ("DELETE", format!("/api-keys/{KEY_ID}")),
    ] {
        send(&server, method, &path, "nonsense", "").await.0.problem("unauthorized");
        let (answer, _) = send(&server, method, &path, &own, "").await;
        match (method, path.as_str()) {
            ("GET", _) => answer.problem("unavailable"),
            ("POST", "/api-keys") => answer.problem("forbidden"),
            _ => answer.problem("not-found"),
        };
    }
    for path in ["/api-keys/7", "/api-keys/%ff"] {
        send(&server, "DELETE", path, &own, "").await.0.problem("not-found");
    }
    let big = json!({ "name": "x".repeat(20_000) }).to_string();
    send(&server, "POST", "/api-keys", &own, &big).await.0.problem("body-too-large");
}

#[tokio::test]
async fn what_management_api_says_of_a_conflict_is_passed_on() {
    let server = server(409).await;
    for path in ["/api-keys".to_owned(), format!("/api-keys/{KEY_ID}/rotate")] {
        let (answer, _) = send(&server, "POST", &path, &token(&claims()), "{}").await;
        assert_eq!(answer.problem("conflict")["detail"], "as told", "{path}");
    }
}

#[tokio::test]
async fn where_nobody_knows_whether_there_is_a_new_secret_the_caller_is_told_what_to_do() {
    let server = server(503).await;
    for (method, path, advice) in [
        ("POST", "/api-keys".to_owned(), "; the key may be there, and its secret cannot be shown again: list the keys"),
        ("POST", format!("/api-keys/{KEY_ID}/rotate"), "; the key may have a new secret, which cannot be shown again"),
        ("DELETE", format!("/api-keys/{KEY_ID}"), "it may have been done all the same"),
    ] {
        let (answer, _) = send(&server, method, &path, &token(&claims()), "").await;
        let detail = answer.problem("outcome-unknown")["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(advice), "{method} {path}: {detail}");
    }
}
