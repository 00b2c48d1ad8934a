//! Accounts: what callers say is passed on, and what they are told gives nothing away.

mod page;
pub mod signer;
mod tokens;

use std::time::{Duration, Instant};

use serde_json::json;

use self::signer::{Signer, claims, token, with};
use crate::harness::{Answer, FakeAnswer, Server};

pub const ID: &str = "019a0000-0000-7000-8000-000000000001";
const PATHS: [(&str, &str); 3] =
    [("/account", "/internal/accounts"), ("/login", "/internal/login"), ("/refresh", "/internal/refresh")];

#[tokio::test]
async fn what_callers_send_and_are_told_is_passed_on() {
    let server = Server::with(&[("MANAGEMENT_API_TOKEN", "hush")], |_| {}).await;
    for (path, target) in PATHS {
        let status = if path == "/account" { 201 } else { 200 };
        server.management.answers(move |_| FakeAnswer::status(status, r#"{"access_token":"x"}"#));
        let body = r#"{"email":"ann@example.com","password":"correct horse"}"#;
        let answer = server.client.post(path, body).header("x-request-id", "r.1").send().await;
        assert_eq!((answer.status, answer.text().as_str()), (status, r#"{"access_token":"x"}"#), "{path}");
        assert_eq!((answer.header("content-type"), answer.header("cache-control")), ("application/json", "no-store"));
        let seen = server.management.seen().pop().unwrap();
        assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.body.as_str()), ("POST", target, body));
        assert_eq!((seen.header("authorization"), seen.header("x-request-id")), ("Bearer hush", "r.1"));
    }
}

#[tokio::test]
async fn refusals_are_told_in_words_for_callers() {
    let server = Server::with(&[("RATE_LIMIT_LOGIN_PER_MINUTE", "0")], |_| {}).await;
    let refusals = [
        (403, 401, "unauthorized"),
        (401, 503, "unavailable"),
        (404, 503, "unavailable"),
        (409, 409, "conflict"),
        (400, 400, "invalid-input"),
        (429, 503, "unavailable"),
        (503, 504, "outcome-unknown"),
    ];
    for (status, told, kind) in refusals {
        server.management.answers(move |_| FakeAnswer::status(status, r#"{"detail":"as told"}"#));
        for (path, _) in PATHS {
            // What a path cannot be answered, it does not document.
            if (path == "/account" && told == 401) || (path != "/account" && told == 409) {
                continue;
            }
            let asked = server.management.seen().len();
            let answer = server.client.post(path, "{}").send().await;
            assert_eq!(answer.status, told, "{path}, {status}");
            answer.problem(kind);
            assert_eq!(answer.headers.contains_key("www-authenticate"), told == 401);
            assert_eq!(server.management.seen().len(), asked + 1, "never sent twice");
        }
    }
}

#[tokio::test]
async fn a_password_of_a_megabyte_goes_no_further() {
    let server = Server::start().await;
    let body = json!({ "email": "ann@example.com", "password": "x".repeat(1_000_000) }).to_string();
    for (path, _) in PATHS {
        server.client.post(path, body.clone()).send().await.problem("body-too-large");
        let form = server.client.request("POST", path).header("content-type", "text/plain").send().await;
        form.problem("unsupported-media-type");
    }
    assert!(server.management.seen().is_empty());
}

#[tokio::test]
async fn who_signs_out_needs_no_more_than_a_refresh_token() {
    let server = Server::start().await;
    server.management.answers(|_| FakeAnswer::status(204, ""));
    let body = r#"{"refresh_token":"prt_x"}"#;
    let answer = server.client.post("/logout", body).send().await;
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    let seen = server.management.seen().into_iter().find(|seen| seen.method == "POST").unwrap();
    assert_eq!((seen.target.as_str(), seen.body.as_str()), ("/internal/logout", body));
    server.management.answers(|_| FakeAnswer::status(400, r#"{"detail":"as told"}"#));
    server.client.post("/logout", "{}").send().await.problem("invalid-input");
}

#[tokio::test]
async fn a_password_is_changed_with_a_token_and_tried_ten_times_a_minute() {
    let server = Server::with(&[("TRUSTED_PROXIES", "127.0.0.1")], |_| {}).await;
    Signer::new().serve_with(&server, |target| {
        let is_right = target.contains("/password");
        if is_right { FakeAnswer::status(204, "") } else { FakeAnswer::status(500, "") }
    });
    let body = r#"{"old_password":"correct horse","new_password":"another horse"}"#;
    let change = async |token: &str, number: usize| {
        let request = server.client.post("/account/password", body);
        let request = request.header("authorization", &format!("Bearer {token}"));
        request.header("x-forwarded-for", &format!("192.0.2.{number}")).send().await
    };
    change("nonsense", 0).await.problem("unauthorized");
    let good = token(&claims());
    let changed = change(&good, 0).await;
    assert_eq!((changed.status, changed.text().as_str()), (204, ""));
    let seen = server.management.seen().into_iter().find(|seen| seen.method == "POST").unwrap();
    let sid = claims()["sid"].as_str().unwrap().to_owned();
    let target = format!("/internal/accounts/{ID}/password?session_id={sid}");
    assert_eq!((seen.target, seen.body.as_str()), (target, body));

    Signer::new().serve_with(&server, |_| FakeAnswer::status(403, "{}"));
    for number in 1..10 {
        change(&good, number).await.problem("forbidden");
    }
    let refused = change(&good, 10).await;
    assert_eq!(refused.problem("too-many-requests")["violated-policies"], json!(["login"]), "from wherever");
    assert_eq!(refused.header("ratelimit-policy"), r#""login";q=10;w=60"#);
    let other = token(&with("sub", "019a0000-0000-7000-8000-000000000002"));
    change(&other, 10).await.problem("forbidden");
    for number in 0..9 {
        let other = token(&with("sub", format!("019a0000-0000-7000-8000-00000000001{number}")));
        change(&other, 99).await.problem("forbidden");
    }
    change(&other, 99).await.problem("forbidden");
    change(&other, 99).await.problem("too-many-requests");
}

#[tokio::test]
async fn an_account_is_deleted_by_its_own_token() {
    let server = Server::start().await;
    let signer = Signer::new();
    signer.serve(&server);
    let delete = async |token: &str| -> Answer {
        let request = server.client.request("DELETE", "/account").header("authorization", &format!("Bearer {token}"));
        request.send().await
    };
    delete("nonsense").await.problem("unauthorized");
    assert!(server.management.seen().iter().all(|seen| seen.target == "/internal/token-keys"));
    let good = token(&claims());
    assert_eq!(delete(&good).await.status, 204);
    let deleted = server.management.seen().into_iter().find(|seen| seen.method == "POST").unwrap();
    assert_eq!((deleted.target, deleted.body.as_str()), (format!("/internal/accounts/{ID}/delete?actor={ID}"), ""));
    signer.revoke(ID);
    let began = Instant::now();
    crate::harness::eventually("the token counts no more", async || delete(&good).await.status == 401).await;
    assert!(began.elapsed() < Duration::from_secs(5), "after {:?}", began.elapsed());
}
