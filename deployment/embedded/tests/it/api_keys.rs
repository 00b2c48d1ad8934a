//! API keys through all of it, as a program: from an account's token to what its key has bought.

use std::fs;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use shared::testing::{Answer, eventually};

use crate::accounts::{ADMIN, PASSWORD, Program, secret};

/// What an account does with its token, and its key.
struct Owner<'a> {
    program: &'a Program,
    account_id: String,
    token: String,
}

impl<'a> Owner<'a> {
    async fn new(program: &'a Program) -> Self {
        let new = json!({ "username": "ann", "email": "ann@example.com", "password": PASSWORD });
        let account_id = secret(&program.post("/account", &new).await, "account_id");
        let token = secret(&program.login(("ann@example.com", PASSWORD)).await, "access_token");
        Self { program, account_id, token }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let authorization = format!("Bearer {}", self.token);
        let json = ("content-type", "application/json");
        let headers = [("authorization", authorization.as_str()), json];
        let headers = if body.is_some() { &headers[..] } else { &headers[..1] };
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.program.http.request(method, &format!("{}{path}", self.program.url), headers, body).await
    }

    async fn buy(&self, path: &str, key: &str) -> Answer {
        let purchase = json!({ "username": "ann", "userid": self.account_id, "price": 5, "idempotency_key": "one" });
        let body = if path == "/buy" { purchase } else { json!([purchase, purchase]) };
        let headers = [("content-type", "application/json"), ("x-api-key", key)];
        self.program
            .http
            .request(Method::POST, &format!("{}{path}", self.program.url), &headers, body.to_string())
            .await
    }

    async fn usage(&self) -> Value {
        self.ask(Method::GET, "/usage", None).await.json()["usage"][0].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_buys_is_counted_followed_by_another_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start_with(folder.path(), "any").await;
    let owner = Owner::new(&program).await;
    let made = owner.ask(Method::POST, "/api-keys", Some(json!({ "name": "till 7" }))).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let (key_id, key) = (secret(&made, "key_id"), secret(&made, "api_key"));
    let service = owner.ask(Method::POST, "/api-keys", Some(json!({ "name": "s", "scopes": ["service"] }))).await;
    assert_eq!(service.status, 403, "{}", service.text());

    assert_eq!(owner.buy("/buy", &key).await.status, 201);
    let batch = owner.buy("/buy/batch", &key).await;
    assert_eq!(batch.status, 201, "{}", batch.text());
    // Counted by the transaction that has recorded them: of the batch's two, which have one key, one is a purchase.
    let usage = owner.usage().await;
    assert_eq!((&usage["key_id"], &usage["purchases"], &usage["name"]), (&json!(key_id), &json!(2), &json!("till 7")));
    let url = format!("{}/getAllUserBuys/{}", program.url, owner.account_id);
    let read = program.http.request(Method::GET, &url, &[("x-api-key", &key)], "").await;
    assert_eq!((read.status.as_u16(), &read.json()["count"]), (200, &json!(2)));
    let expected = json!({ "buy": 1, "batch": 1, "read": 1 });
    eventually("requests are told", async || (owner.usage().await["requests"] == expected).then_some(())).await;
    let listed = owner.ask(Method::GET, "/api-keys", None).await.json();
    assert!(listed["api_keys"][0]["last_used_at"].is_string(), "{listed}");

    let rotated = owner.ask(Method::POST, &format!("/api-keys/{key_id}/rotate"), None).await;
    let next = secret(&rotated, "api_key");
    for key in [&key, &next] {
        assert_eq!(owner.buy("/buy", key).await.status, 201, "both count for now");
    }
    let revoked = owner.ask(Method::DELETE, &format!("/api-keys/{key_id}"), None).await;
    assert_eq!(revoked.status, 204, "{}", revoked.text());
    let began = Instant::now();
    for key in [&key, &next] {
        eventually("it counts no more", async || (owner.buy("/buy", key).await.status == 401).then_some(())).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "after {:?}", began.elapsed());
    let actor = format!(r#""actor":"{}""#, owner.account_id);
    drop(program);
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    for secret in [&key, &next] {
        assert!(!log.contains(secret.as_str()), "the log has {secret}");
    }
    for event in ["api_key_created", "api_key_rotated", "api_key_revoked"] {
        let line = log.lines().find(|line| line.contains(&format!(r#""event":"{event}""#)));
        assert!(line.is_some_and(|line| line.contains(&key_id) && line.contains(&actor)), "no {event}: {line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrators_service_key_buys_for_all_and_a_deleted_accounts_key_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start_with(folder.path(), "api_key").await;
    let owner = Owner::new(&program).await;
    let made = owner.ask(Method::POST, "/api-keys", Some(json!({ "name": "own" }))).await;
    let own = secret(&made, "api_key");
    let token = eventually("an administrator", async || {
        let answer = program.login(ADMIN).await;
        (answer.status == 200).then(|| secret(&answer, "access_token"))
    })
    .await;
    let admin = Owner { program: &program, account_id: owner.account_id.clone(), token };
    let wish = json!({ "name": "shop", "scopes": ["buy", "service"] });
    let service = secret(&admin.ask(Method::POST, "/api-keys", Some(wish)).await, "api_key");
    for key in [&own, &service] {
        assert_eq!(owner.buy("/buy", key).await.status, 201);
    }
    assert_eq!(owner.ask(Method::DELETE, "/account", None).await.status, 204);
    let purchases = format!("{}/purchases", program.url);
    eventually("its key goes with it", async || {
        let read = program.http.request(Method::GET, &purchases, &[("x-api-key", &own)], "").await;
        (read.status == 401).then_some(())
    })
    .await;
    assert_eq!(owner.buy("/buy", &service).await.status, 201, "others stay");
    let path = format!("/usage?account_id={}", owner.account_id);
    assert_eq!(admin.ask(Method::GET, &path, None).await.json()["usage"][0]["purchases"], 1, "and what it has bought");
}
