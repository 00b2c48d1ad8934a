//! What web-server knows of callbacks: management-api's word, and what it publishes of it.

use serde_json::{Value, json};

use crate::harness::{FakeAnswer, FakeManagement, Server, app, eventually};

const KEYS: &str = "/.well-known/webhook-keys.json";
const RULES: &str = "/internal/callbacks";

fn key() -> Value {
    json!({
        "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "webhook_public_key": "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    })
}

fn tell(management: &FakeManagement, status: u16, body: impl Into<String>) {
    let body = body.into();
    management.answers(move |seen| {
        if seen.target == RULES { FakeAnswer::status(status, body.clone()) } else { FakeAnswer::status(404, "{}") }
    });
}

fn rules(enabled: bool, allow_http: bool) -> String {
    json!({ "enabled": enabled, "allow_http": allow_http, "keys": [key()], "of_later": 1 }).to_string()
}

fn asked(management: &FakeManagement) -> usize {
    management.seen().iter().filter(|seen| seen.target == RULES).count()
}

#[tokio::test]
async fn the_public_keys_are_there_for_everybody() {
    let server = Server::with(&[("AUTH", "jwt"), ("RATE_LIMIT_PER_SECOND", "1")], |_| {}).await;
    tell(&server.management, 200, rules(true, false));
    for _ in 0..20 {
        let answer = server.client.get(KEYS).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "keys": [key()] })));
        assert_eq!(answer.header("cache-control"), "public, max-age=300");
    }
    assert!(asked(&server.management) <= 2, "however often they are asked for");
}

#[tokio::test]
async fn where_callbacks_are_off_there_are_no_keys() {
    for (status, body) in [(200, rules(false, false)), (404, r#"{"detail":"no such path"}"#.to_owned())] {
        let server = Server::start().await;
        tell(&server.management, status, body);
        server.client.get(KEYS).await.problem("not-found");
    }
}

#[tokio::test]
async fn what_nobody_has_told_is_not_known() {
    let server = Server::start().await;
    for (status, body) in [(500, "{}"), (200, "<html>"), (401, r#"{"detail":"a valid bearer token is required"}"#)] {
        tell(&server.management, status, body);
        let answer = server.client.get(KEYS).await;
        assert_eq!(answer.header("retry-after"), "1");
        answer.problem("unavailable");
    }
    tell(&server.management, 200, rules(true, false));
    eventually("it is known", async || server.client.get(KEYS).await.status == 200).await;
    // An older release beside it, or nobody at all, changes nothing.
    for (status, body) in [(404, r#"{"detail":"no such path"}"#), (500, "{}")] {
        let before = asked(&server.management);
        tell(&server.management, status, body);
        eventually("it was asked again", async || asked(&server.management) > before + 1).await;
        assert_eq!(server.client.get(KEYS).await.status, 200);
    }
}

#[tokio::test]
async fn nobody_is_asked_before_somebody_wants_to_know() {
    let server = Server::start().await;
    assert_eq!(server.client.buy().await.status, 202);
    assert_eq!(asked(&server.management), 0);
}

#[tokio::test]
async fn a_purchase_may_ask_for_what_the_rules_allow() {
    let management = FakeManagement::start().await;
    for (enabled, allow_http, text, complaint) in [
        (true, false, "https://Shop.example/paid", None),
        (true, true, "http://shop.example/paid", None),
        (true, false, "http://shop.example/paid", Some("callback_url must begin with https://")),
        (false, false, "https://shop.example/", Some("callback_url is refused: callbacks are not switched on here")),
    ] {
        tell(&management, 200, rules(enabled, allow_http));
        let app = app(&[], &management);
        let parsed = app.callbacks.rules().await.unwrap().parse(text);
        assert_eq!(parsed.as_ref().err().map(ToString::to_string).as_deref(), complaint, "{text}");
        assert!(parsed.is_err() || parsed.unwrap().as_str().ends_with("://shop.example/paid"));
        app.shutdown.stop();
    }
}
