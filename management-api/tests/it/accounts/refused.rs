//! What is wrong with what is sent, and how little is told of it.

use management_api::accounts::new_signing_key;
use management_api::config::Config;
use serde_json::{Value, json};
use shared::config::Settings;

use super::harness::Accounts;
use crate::harness::{Api, Kafka};
use crate::memory_store::MemoryStore;

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_is_named_and_none_is_repeated() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let all = ["username", "password", "email"].as_slice();
    for (body, fields) in [
        (r#"{"username":"","password":"hush123","email":"ann"}"#, all),
        (r#"{"username":7,"password":["hush123"],"email":null}"#, all),
        ("{}", all),
        (r#"{"username":"ann","password":"hush1234","email":"ann@b","email":"ann@c"}"#, &["body"]),
        (r#""hush1234""#, &["body"]),
        ("hush1234", &["body"]),
        (r#"{"password":"hush1234""#, &["body"]),
    ] {
        let answer = accounts.post("accounts", body).await;
        assert_eq!(answer.status, 400, "{body}");
        let problem = answer.json();
        let named: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
        assert_eq!(named, fields.iter().collect::<Vec<_>>(), "{body}");
        assert!(!answer.text().contains("hush"), "{}", answer.text());
    }
    for (path, field) in [("login", "email"), ("refresh", "refresh_token")] {
        let answer = accounts.post(path, r#"{"password":"hush1234"}"#).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["errors"][0]["field"]), (400, &json!(field)));
    }
    let long = json!({ "email": "ann@example.com", "password": "x".repeat(1_000_000) }).to_string();
    assert_eq!(accounts.post("login", long).await.status, 413);
    assert!(accounts.list().await.is_empty());
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_login_is_answered_alike() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    accounts.create("ann", "ann@example.com", "correct horse").await;
    let count = async || accounts.api.count(r#"password_hashes_total{outcome="hashed"}"#).await;
    let (mut told, mut hashes) = (Vec::new(), count().await);
    assert_eq!(hashes, 1, "for the account");
    for (email, password) in [
        ("ann@example.com", "battery staple"),
        ("ann@example.com", ""),
        ("ann@example.com", &"x".repeat(8_000)),
        ("bob@example.com", "correct horse"),
        ("no address", "correct horse"),
        ("", ""),
    ] {
        let answer = accounts.login(email, password).await;
        let request_id = answer.header("x-request-id").to_owned();
        let headers: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
        told.push((answer.status.as_u16(), headers, answer.text().replace(&request_id, "")));
        hashes += 1;
        assert_eq!(count().await, hashes, "one for {email:?} and {password:.20?}");
    }
    assert!(told.iter().all(|one| *one == told[0] && one.0 == 403), "{told:?}");
    let mut refused = Vec::new();
    let of_nobody = format!("prt_{}", "A".repeat(64));
    for token in ["", "prt_", "nonsense", &of_nobody] {
        let answer = accounts.refresh(&Value::from(token)).await;
        refused.push((answer.status.as_u16(), answer.json()["detail"].clone()));
    }
    assert!(refused.iter().all(|one| *one == refused[0] && one.0 == 403), "{refused:?}");
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_there_are_no_accounts_and_all_else_works() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    let account = format!("accounts/{}", uuid::Uuid::nil());
    for path in ["accounts", "login", "refresh", "logout", &format!("{account}/delete"), &format!("{account}/password")]
    {
        let answer = api.http.post_json(&format!("{}/internal/{path}", api.url), "{}").await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["detail"]),
            (404, &json!("accounts are not set up")),
            "{path}"
        );
    }
    for path in ["accounts", "token-keys"] {
        assert_eq!(api.get(&format!("/internal/{path}")).await.status, 404, "{path}");
    }
    assert_eq!(api.get("/purchases").await.status, 200);
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_it_is_told_whether_anything_was_done() {
    let (kafka, key) = (Kafka::start(), new_signing_key());
    // It keeps no accounts.
    let api = Api::start_on(MemoryStore::new(), &kafka, &[("JWT_SIGNING_KEY", key.expose())]).await.ready().await;
    let login = r#"{"email":"ann@example.com","password":"correct horse"}"#;
    let refresh = format!(r#"{{"refresh_token":"prt_{}"}}"#, "A".repeat(64));
    let create = r#"{"username":"ann","email":"ann@example.com","password":"correct horse"}"#;
    for (path, body, status) in
        [("login", login, 429), ("refresh", &refresh, 429), ("logout", &refresh, 429), ("accounts", create, 503)]
    {
        let answer = api.http.post_json(&format!("{}/internal/{path}", api.url), body.to_owned()).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (status, "1"), "{path}");
        assert_eq!(answer.json()["detail"], "the database does not answer, try again");
    }
    assert!(api.stop().await);
}

#[test]
fn bad_settings_are_told_and_not_repeated() {
    let mistakes = |pairs: &[(&str, &str)]| {
        let mut settings = Settings::from_pairs(pairs.iter().copied());
        let _ = Config::read(&mut settings);
        settings.finish().map_err(|bad| bad.0)
    };
    let bad = [
        ("JWT_SIGNING_KEY", "hush"),
        ("PASSWORD_HASHES_MAX", "0"),
        ("ADMIN_EMAIL", "admin"),
        ("ADMIN_PASSWORD", "hush"),
    ];
    let told = mistakes(&bad).unwrap_err();
    assert_eq!(told.len(), bad.len(), "{told:?}");
    assert!(bad.iter().all(|(name, _)| told.iter().any(|line| line.starts_with(name))), "{told:?}");
    assert!(!told.concat().contains("hush"), "{told:?}");
    for alone in [("ADMIN_EMAIL", "admin@example.com"), ("ADMIN_PASSWORD", "correct horse")] {
        assert_eq!(mistakes(&[alone]).unwrap_err().len(), 1);
    }
    assert_eq!(mistakes(&[("ADMIN_EMAIL", "admin@example.com"), ("ADMIN_PASSWORD", "correct horse")]), Ok(()));
    let key = new_signing_key();
    let key = ("JWT_SIGNING_KEY", key.expose().as_str());
    let told = mistakes(&[key]).unwrap_err();
    assert!(told.len() == 1 && told[0].starts_with("MANAGEMENT_API_TOKEN: is needed"), "{told:?}");
    assert_eq!(mistakes(&[key, ("MANAGEMENT_API_TOKEN", "a token")]), Ok(()));
    assert_eq!(mistakes(&[key, ("LISTEN_ADDRESS", "127.0.0.1:0")]), Ok(()));
}
