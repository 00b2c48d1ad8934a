//! A management-api that has keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use shared::api_keys::ApiKeySecret;

use crate::accounts::ID;
use crate::accounts::signer::{KID, PUBLIC};
use crate::harness::{FakeAnswer, FakeManagement, Seen};

pub const KEY_ID: &str = "019a0000-0000-7000-8000-0000000000aa";

/// Its keys; clones are the same.
#[derive(Clone, Default)]
pub struct Keys {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    known: HashMap<String, Value>,
    changed: Vec<Value>,
    refuses_usage: bool,
}

impl Keys {
    /// Serves them, and says so much of everything else.
    pub fn serve(&self, management: &FakeManagement) {
        let state = Arc::clone(&self.state);
        management.answers(move |seen| state.lock().unwrap().answer(seen));
    }

    /// A new key with these scopes, of the account that signers sign for.
    pub fn add(&self, scopes: &[&str]) -> String {
        let secret = ApiKeySecret::random();
        self.put(secret.expose(), key(scopes));
        secret.expose().to_owned()
    }

    /// What is said of a key from now on; nothing, when it is `null`.
    pub fn put(&self, secret: &str, key: Value) {
        let hash = ApiKeySecret::hash_of(secret).unwrap().to_string();
        self.state.lock().unwrap().known.insert(hash, key);
    }

    /// Tells that the key has another version.
    pub fn change(&self, version: i32) {
        self.state.lock().unwrap().changed = vec![json!({ "key_id": KEY_ID, "version": version })];
    }

    pub fn refuse_usage(&self, refuses: bool) {
        self.state.lock().unwrap().refuses_usage = refuses;
    }
}

impl State {
    fn answer(&self, seen: &Seen) -> FakeAnswer {
        let purchases = json!({ "purchases": [], "next_cursor": null });
        let answer = match seen.target.as_str() {
            "/internal/token-keys" => {
                let key = json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": KID, "x": PUBLIC });
                json!({ "keys": [key], "revoked": [], "changed_keys": self.changed })
            }
            "/internal/usage" => return FakeAnswer::status(if self.refuses_usage { 503 } else { 204 }, ""),
            target => match target.strip_prefix("/internal/known-keys/") {
                Some(hash) => json!({ "key": self.known.get(hash).cloned().unwrap_or_default() }),
                None => purchases,
            },
        };
        FakeAnswer::ok(answer.to_string())
    }
}

/// A key as management-api tells it.
pub fn key(scopes: &[&str]) -> Value {
    json!({
        "key_id": KEY_ID, "account_id": ID, "scopes": scopes, "ends_at": null, "rate_per_second": null, "version": 0,
    })
}

/// How often management-api was asked about keys.
pub fn questions(management: &FakeManagement) -> usize {
    management.seen().iter().filter(|seen| seen.target.starts_with("/internal/known-keys/")).count()
}
