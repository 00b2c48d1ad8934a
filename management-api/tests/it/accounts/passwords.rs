//! Another password.

use serde_json::{Value, json};
use shared::testing::Answer;
use uuid::Uuid;

use super::harness::{Accounts, claims};
use crate::harness::Kafka;

/// Asks for another password, in the session of an access token.
async fn change(accounts: &Accounts, access_token: &Value, old: &str, new: &str) -> Answer {
    let (_, claims) = claims(access_token);
    let (id, session) = (claims["sub"].as_str().unwrap(), claims["sid"].as_str().unwrap());
    let body = json!({ "old_password": old, "new_password": new }).to_string();
    accounts.post(&format!("accounts/{id}/password?session_id={session}"), body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_password_counts_at_once_and_ends_all_other_sessions() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let other = accounts.sign_in().await;
    let own = accounts.login("ann@example.com", "correct horse").await.json();
    let token = &own["access_token"];
    let hashed = async || accounts.api.count(r#"password_hashes_total{outcome="hashed"}"#).await;
    let before = hashed().await;
    for wrong in ["battery staple", ""] {
        let refused = change(&accounts, token, wrong, "another horse").await;
        assert_eq!(refused.status, 403, "{}", refused.text());
    }
    assert_eq!(hashed().await, before + 2, "the new one is not hashed for who does not know the old one");
    let short = change(&accounts, token, "correct horse", "short").await;
    assert_eq!((short.status.as_u16(), &short.json()["errors"][0]["field"]), (400, &json!("new_password")));
    assert_eq!(accounts.login("ann@example.com", "correct horse").await.status, 200, "nothing has changed");

    let changed = change(&accounts, token, "correct horse", "another horse").await;
    assert_eq!((changed.status.as_u16(), changed.text().as_str()), (204, ""));
    assert_eq!(accounts.login("ann@example.com", "correct horse").await.status, 403);
    assert_eq!(accounts.login("ann@example.com", "another horse").await.status, 200);
    assert_eq!(accounts.refresh(&other).await.status, 403);
    assert_eq!(accounts.refresh(&own["refresh_token"]).await.status, 200, "who has changed it stays signed in");
    let revoked = accounts.api.get("/internal/token-keys").await.json()["revoked"].clone();
    assert_eq!(revoked.as_array().unwrap().len(), 2, "so that access tokens end, too: {revoked}");
    assert!(!revoked.to_string().contains(claims(token).1["sid"].as_str().unwrap()));
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_change_is_told_and_never_repeated() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let body = r#"{"old_password":"hush1234","new_password":"hush5678"}"#;
    let (nobody, session) = (Uuid::nil(), "session_id=00000000-0000-4000-8000-000000000001");
    for (path, body, status) in [
        (format!("accounts/{nobody}/password?{session}"), body, 403),
        (format!("accounts/{nobody}/password"), body, 400),
        (format!("accounts/{nobody}/password?session_id=x"), body, 400),
        (format!("accounts/x/password?{session}"), body, 400),
        (format!("accounts/{nobody}/password?{session}"), r#"{"new_password":"hush5678"}"#, 400),
        (format!("accounts/{nobody}/password?{session}"), r#"{"old_password":"hush1234"}"#, 400),
        (format!("accounts/{nobody}/password?{session}"), r#"{"old_password":7,"new_password":"hush5678"}"#, 400),
    ] {
        let answer = accounts.post(&path, body).await;
        assert_eq!(answer.status, status, "{path} {body}");
        assert!(!answer.text().contains("hush"), "{}", answer.text());
    }
    assert!(accounts.api.stop().await);
}
