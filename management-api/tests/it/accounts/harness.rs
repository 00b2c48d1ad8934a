//! A management-api with accounts, whose clock the test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use management_api::accounts::{Clock, new_signing_key};
use management_api::app::Service;
use serde_json::{Value, json};
use shared::event::Timestamp;
use shared::testing::Answer;
use tempfile::TempDir;

use crate::harness::{Api, Kafka, config};

/// A running service.
pub struct Accounts {
    pub api: Api,
    ahead_ms: Arc<AtomicI64>,
}

impl Accounts {
    /// One that is ready, with a new key unless `settings` have one.
    pub async fn start(kafka: &Kafka, folder: &TempDir, settings: &[(&str, &str)]) -> Self {
        let key = new_signing_key();
        let mut all = vec![("JWT_SIGNING_KEY", key.expose().as_str())];
        all.extend(settings);
        let mut config = config(kafka, folder, &all);
        let ahead_ms = Arc::new(AtomicI64::new(0));
        let ahead = Arc::clone(&ahead_ms);
        config.accounts.clock = Clock::new(move || {
            Timestamp::from_millis(Timestamp::now().millis() + ahead.load(Ordering::SeqCst)).unwrap()
        });
        let api = Api::build(|shutdown| Service::build(config, shutdown)).await.ready().await;
        Self { api, ahead_ms }
    }

    /// Puts the clock forward.
    pub fn pass(&self, seconds: i64) {
        self.ahead_ms.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// `POST /internal/…`.
    pub async fn post(&self, path: &str, body: impl Into<axum::body::Body>) -> Answer {
        self.api.http.post_json(&format!("{}/internal/{path}", self.api.url), body).await
    }

    pub async fn create(&self, username: &str, email: &str, password: &str) -> Answer {
        let body = json!({ "username": username, "email": email, "password": password });
        self.post("accounts", body.to_string()).await
    }

    pub async fn login(&self, email: &str, password: &str) -> Answer {
        self.post("login", json!({ "email": email, "password": password }).to_string()).await
    }

    pub async fn refresh(&self, token: &Value) -> Answer {
        self.post("refresh", json!({ "refresh_token": token }).to_string()).await
    }

    pub async fn logout(&self, token: &Value) -> Answer {
        self.post("logout", json!({ "refresh_token": token }).to_string()).await
    }

    /// The first token of a new session of a new account.
    pub async fn sign_in(&self) -> Value {
        assert_eq!(self.create("ann", "ann@example.com", "correct horse").await.status, 201);
        self.login("ann@example.com", "correct horse").await.json()["refresh_token"].clone()
    }

    /// The ids of all accounts.
    pub async fn list(&self) -> Vec<String> {
        let page = self.api.get("/internal/accounts").await.json();
        let ids = page["accounts"].as_array().unwrap().iter();
        ids.map(|account| account["account_id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Header and claims of a token, unverified.
pub fn claims(token: &Value) -> (Value, Value) {
    let mut parts = token.as_str().unwrap().split('.');
    let mut json = || serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap()).unwrap();
    (json(), json())
}
