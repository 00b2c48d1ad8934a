//! Whose quota a request is taken from where callers say who they are.

use serde_json::json;

use crate::accounts::ID;
use crate::accounts::signer::{Signer, claims, token, with};
use crate::harness::{Answer, FakeAnswer, Server, eventually};

const OTHER: &str = "019a0000-0000-7000-8000-000000000002";
const SETTINGS: [(&str, &str); 3] = [("AUTH", "jwt"), ("RATE_LIMIT_PER_SECOND", "3"), ("TRUSTED_PROXIES", "127.0.0.1")];

async fn server() -> Server {
    let server = Server::with(&SETTINGS, |_| {}).await;
    Signer::new().serve_with(&server, |_| FakeAnswer::ok("{}"));
    server
}

async fn read(server: &Server, token: &str, address: &str) -> Answer {
    let request = server.client.request("GET", "/purchases").header("authorization", &format!("Bearer {token}"));
    request.header("x-forwarded-for", address).send().await
}

fn token_of(account: &str) -> String {
    token(&with("sub", account))
}

#[tokio::test]
async fn an_account_has_one_quota_wherever_it_asks_from() {
    let server = server().await;
    for number in 1..=3 {
        let answer = read(&server, &token_of(ID), &format!("192.0.2.{number}")).await;
        assert_eq!((answer.status, answer.header("ratelimit-policy")), (200, r#""read";q=3;w=1"#));
    }
    // Another token of the same account, from where nobody has asked.
    let refused = read(&server, &token(&with("jti", "00000000-0000-4000-8000-000000000009")), "192.0.2.9").await;
    assert_eq!(refused.problem("too-many-requests")["violated-policies"], json!(["read"]));
    for account in [OTHER, "019a0000-0000-7000-8000-000000000003"] {
        assert_eq!(read(&server, &token_of(account), "192.0.2.1").await.status, 200, "others there have their own");
    }
}

#[tokio::test]
async fn accounts_behind_one_address_take_nothing_from_each_other() {
    let server = server().await;
    for account in 10..30 {
        let account = format!("019a0000-0000-7000-8000-0000000000{account}");
        assert_eq!(read(&server, &token_of(&account), "192.0.2.1").await.status, 200, "{account}");
    }
}

#[tokio::test]
async fn who_guesses_tokens_is_the_address_it_guesses_from() {
    let server = server().await;
    for (number, left) in (0..3).zip([2, 1, 0]) {
        let answer = read(&server, &format!("guess.{number}.x"), "192.0.2.1").await;
        answer.problem("unauthorized");
        assert!(answer.header("ratelimit").contains(&format!(";r={left};")), "{:?}", answer.headers);
    }
    read(&server, "guess", "192.0.2.1").await.problem("too-many-requests");
    assert_eq!(read(&server, &token(&claims()), "192.0.2.1").await.status, 200, "who has signed in is not the address");
    read(&server, "guess", "192.0.2.2").await.problem("unauthorized");
    server
        .client
        .request("GET", "/purchases")
        .header("x-forwarded-for", "192.0.2.1")
        .send()
        .await
        .problem("too-many-requests");
}

#[tokio::test]
async fn a_batch_costs_the_account_that_sends_it() {
    let server = server().await;
    let item = json!({ "username": "n", "userid": ID, "price": 1 });
    let buy = async |address: &str, items: usize| {
        let request = server.client.post("/buy/batch", json!(vec![&item; items]).to_string());
        let request = request.header("authorization", &format!("Bearer {}", token_of(ID)));
        request.header("x-forwarded-for", address).send().await
    };
    let answer = buy("192.0.2.1", 2).await;
    assert_eq!(answer.status, 202);
    assert!(answer.header("ratelimit").starts_with(r#""buy";r=1;"#), "{:?}", answer.headers);
    assert_eq!(buy("192.0.2.2", 30).await.status, 202, "what is missing is owed");
    buy("192.0.2.3", 1).await.problem("too-many-requests");
    eventually("it is paid", async || buy("192.0.2.4", 1).await.status == 202).await;
}
