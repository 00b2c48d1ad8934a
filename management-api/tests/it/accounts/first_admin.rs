//! The first administrator.

use serde_json::json;
use shared::testing::eventually;

use super::harness::{Accounts, claims};
use crate::harness::Kafka;

const ADMIN: [(&str, &str); 2] = [("ADMIN_EMAIL", "root@example.com"), ("ADMIN_PASSWORD", "correct horse")];

async fn scope(accounts: &Accounts, password: &str) -> Option<serde_json::Value> {
    let answer = accounts.login("root@example.com", password).await;
    (answer.status == 200).then(|| claims(&answer.json()["access_token"]).1["scope"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_administrator_is_made_once() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    for _ in 0..2 {
        let accounts = Accounts::start(&kafka, &folder, &ADMIN).await;
        let scope = eventually("an administrator", async || scope(&accounts, "correct horse").await).await;
        assert_eq!(scope, json!("admin"));
        assert_eq!(accounts.list().await.len(), 1);
        assert!(accounts.api.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_the_same_password_becomes_the_administrators_and_no_other() {
    for (password, expected) in [("correct horse", json!("admin")), ("battery staple", json!(null))] {
        let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
        let accounts = Accounts::start(&kafka, &folder, &[]).await;
        // Anybody can say that an address is theirs. The name is taken, too.
        assert_eq!(accounts.create("admin", "root@example.com", password).await.status, 201);
        assert!(accounts.api.stop().await);
        let accounts = Accounts::start(&kafka, &folder, &ADMIN).await;
        eventually("the expected scope", async || (scope(&accounts, password).await? == expected).then_some(())).await;
        for _ in 0..5 {
            assert_eq!(scope(&accounts, password).await, Some(expected.clone()), "and it stays so");
        }
        assert!(accounts.api.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_name_is_taken_the_administrator_has_another() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    assert_eq!(accounts.create("Admin", "ann@example.com", "battery staple").await.status, 201);
    assert!(accounts.api.stop().await);
    let accounts = Accounts::start(&kafka, &folder, &ADMIN).await;
    let scope = eventually("an administrator", async || scope(&accounts, "correct horse").await).await;
    assert_eq!(scope, json!("admin"));
    assert!(accounts.api.stop().await);
}
