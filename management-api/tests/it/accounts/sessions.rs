//! Sessions go on, are used twice, and end.

use std::collections::HashSet;

use futures_util::future::join_all;
use management_api::accounts::new_signing_key;
use serde_json::json;

use super::harness::{Accounts, claims};
use crate::harness::Kafka;

const DAY: i64 = 24 * 60 * 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_from_token_to_token() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let mut token = accounts.sign_in().await;
    let mut sessions = HashSet::new();
    for _ in 0..3 {
        accounts.pass(600);
        let next = accounts.refresh(&token).await;
        assert_eq!(next.status, 200, "{}", next.text());
        let next = next.json();
        sessions.insert(claims(&next["access_token"]).1["sid"].to_string());
        assert_ne!(next["refresh_token"], token);
        token = next["refresh_token"].clone();
    }
    assert_eq!(sessions.len(), 1, "all of one session");
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_refreshes_of_one_token_at_once_have_one_successor() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let token = accounts.sign_in().await;
    let answers = join_all((0..50).map(|_| accounts.refresh(&token))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "nobody is signed out");
    let successors: HashSet<_> = answers.iter().map(|answer| answer.json()["refresh_token"].to_string()).collect();
    assert_eq!(successors.len(), 1);
    accounts.pass(29);
    let again = accounts.refresh(&token).await.json();
    assert!(successors.contains(&again["refresh_token"].to_string()), "for a lost answer");
    assert_eq!(accounts.refresh(&again["refresh_token"]).await.status, 200);
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_used_again_after_the_grace_ends_its_session() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let stolen = accounts.sign_in().await;
    let other = accounts.login("ann@example.com", "correct horse").await.json();
    let next = accounts.refresh(&stolen).await.json();
    accounts.pass(31);
    assert_eq!(accounts.refresh(&stolen).await.status, 403);
    assert_eq!(accounts.refresh(&next["refresh_token"]).await.status, 403, "whoever has the newest one, too");
    let session = claims(&next["access_token"]).1["sid"].clone();
    assert_eq!(accounts.api.get("/internal/token-keys").await.json()["revoked"], json!([session]));
    assert_eq!(accounts.refresh(&other["refresh_token"]).await.status, 200, "another session goes on");
    accounts.pass(16 * 60);
    assert_eq!(accounts.api.get("/internal/token-keys").await.json()["revoked"], json!([session]), "clocks differ");
    accounts.pass(2 * 60);
    assert_eq!(accounts.api.get("/internal/token-keys").await.json()["revoked"], json!([]), "no token lives so long");
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_ends_its_own_session_by_its_newest_token_or_a_spent_one() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let first = accounts.sign_in().await;
    let second = accounts.login("ann@example.com", "correct horse").await.json();
    let other = accounts.login("ann@example.com", "correct horse").await.json();
    let next = accounts.refresh(&second["refresh_token"]).await.json();
    for token in [&first, &second["refresh_token"]] {
        for _ in 0..2 {
            let answer = accounts.logout(token).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (204, ""), "also who is signed out already");
        }
        assert_eq!(accounts.refresh(token).await.status, 403);
    }
    assert_eq!(accounts.refresh(&next["refresh_token"]).await.status, 403);
    for nothing in ["", "nonsense", &format!("prt_{}", "A".repeat(64))] {
        assert_eq!(accounts.logout(&json!(nothing)).await.status, 204, "{nothing}");
    }
    let revoked = accounts.api.get("/internal/token-keys").await.json()["revoked"].clone();
    assert!(
        revoked.as_array().unwrap().len() == 2
            && revoked.to_string().contains(&claims(&next["access_token"]).1["sid"].to_string())
    );
    assert_eq!(accounts.refresh(&other["refresh_token"]).await.status, 200, "another session goes on");
    assert_eq!(accounts.post("logout", "{}").await.status, 400);
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_after_thirty_idle_days_and_after_ninety_in_any_case() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let mut token = accounts.sign_in().await;
    let idle = accounts.login("ann@example.com", "correct horse").await.json();
    for _ in 0..3 {
        accounts.pass(29 * DAY);
        let next = accounts.refresh(&token).await;
        assert_eq!(next.status, 200, "{}", next.text());
        token = next.json()["refresh_token"].clone();
    }
    assert_eq!(accounts.refresh(&idle["refresh_token"]).await.status, 403);
    accounts.pass(4 * DAY);
    assert_eq!(accounts.refresh(&token).await.status, 403);
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_and_all_that_are_set_count() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let (old, new) = (new_signing_key(), new_signing_key());
    let mut kids = Vec::new();
    let steps = [
        format!("{}{}", old.expose(), new.expose()),
        format!("{}{}", new.expose(), old.expose()),
        new.expose().clone(),
    ];
    let mut token = None;
    for keys in &steps {
        let accounts = Accounts::start(&kafka, &folder, &[("JWT_SIGNING_KEY", keys)]).await;
        let refresh = match token {
            None => accounts.sign_in().await,
            Some(token) => token,
        };
        let next = accounts.refresh(&refresh).await.json();
        token = Some(next["refresh_token"].clone());
        let told = accounts.api.get("/internal/token-keys").await.json();
        let told: Vec<_> = told["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
        kids.push((claims(&next["access_token"]).0["kid"].clone(), told));
        assert!(accounts.api.stop().await);
    }
    let [(first, both), (second, turned), (third, one)] = kids.try_into().unwrap();
    assert_eq!((&first, &second), (&both[0], &both[1]));
    assert_eq!(turned, [second.clone(), first]);
    assert_eq!((&third, one), (&second, vec![second.clone()]));
}
