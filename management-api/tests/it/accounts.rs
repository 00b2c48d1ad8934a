//! Accounts through the front door: made, used, gone on with, deleted.

mod api_keys;
mod crowds;
mod first_admin;
mod harness;
mod passwords;
mod refused;
mod sessions;

use futures_util::future::join_all;
use serde_json::json;

use self::harness::{Accounts, claims};
use crate::harness::Kafka;

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_made_used_and_deleted() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let made = accounts.create("Ann", "Ann@Example.com", "correct horse").await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!((&made["username"], &made["email"]), (&json!("Ann"), &json!("Ann@Example.com")));
    assert_eq!(made.as_object().unwrap().len(), 3);

    let tokens = accounts.login("ann@EXAMPLE.com", "correct horse").await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    let tokens = tokens.json();
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(900)));
    let (header, claims) = claims(&tokens["access_token"]);
    let keys = accounts.api.get("/internal/token-keys").await.json();
    assert_eq!(
        header,
        json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": keys["keys"][0]["kid"] }),
        "what verifies it is told"
    );
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("purchase-system"), &json!("purchase-system")));
    assert_eq!((&claims["sub"], &claims["username"]), (&made["account_id"], &json!("Ann")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    assert!(claims["jti"].is_string() && claims["sid"].is_string() && claims["client_id"].is_string());
    assert_eq!(claims.get("scope"), None, "nothing but an account");

    let id = made["account_id"].as_str().unwrap();
    assert_eq!(accounts.list().await, [id]);
    for _ in 0..2 {
        let deleted = accounts.post(&format!("accounts/{id}/delete"), "").await;
        assert_eq!(deleted.status, 204, "{}", deleted.text());
    }
    assert_eq!(accounts.login("ann@example.com", "correct horse").await.status, 403);
    assert_eq!(accounts.refresh(&tokens["refresh_token"]).await.status, 403);
    let keys = accounts.api.get("/internal/token-keys").await.json();
    assert_eq!(keys["revoked"], json!([id]));
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_at_the_same_moment_one_is_made() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[("PASSWORD_HASHES_MAX", "8")]).await;
    let alike = ["ann@example.com", "ANN@example.com", "ａｎｎ@example.com", "ann@EXAMPLE.com"];
    let made = alike.iter().enumerate().map(|(index, email)| {
        let (accounts, name) = (&accounts, format!("ann {index}"));
        async move { accounts.create(&name, email, "correct horse").await.status.as_u16() }
    });
    let mut statuses = join_all(made).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409]);
    let taken = accounts.create(" ANN\u{200b} 0", "else@example.com", "correct horse").await;
    let same_name = accounts.create(" ANN\u{200b} 1", "else@example.com", "correct horse").await;
    let (taken, same_name) = (taken.status.as_u16(), same_name.status.as_u16());
    assert!([taken, same_name].contains(&201) && accounts.list().await.len() == 2, "{taken} {same_name}");
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_leads_to_the_next_one() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    for name in ["ann", "bob", "eve"] {
        accounts.create(name, &format!("{name}@example.com"), "correct horse").await;
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = accounts.api.get(&format!("/internal/accounts?limit=1{cursor}")).await.json();
        names.push(page["accounts"][0]["username"].as_str().unwrap().to_owned());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(names, ["eve", "bob", "ann"]);
    for bad in ["limit=0", "limit=1001", "cursor=x"] {
        assert_eq!(accounts.api.get(&format!("/internal/accounts?{bad}")).await.status, 400, "{bad}");
    }
    assert!(accounts.api.stop().await);
}
