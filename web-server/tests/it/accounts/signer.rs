//! What signs access tokens, and says so as management-api does.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::ID;
use crate::harness::{FakeAnswer, Server};

/// The key of RFC 8037, appendix A.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----";
pub const KID: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
pub const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
/// The key of the second test of RFC 8032, 7.1.
const OTHER_KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n-----END PRIVATE KEY-----";

/// Signs tokens; its clones revoke them together.
#[derive(Clone, Default)]
pub struct Signer {
    revoked: Arc<Mutex<Vec<String>>>,
}

impl Signer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Has the server's management-api tell its key, and say yes to everything else.
    pub fn serve(&self, server: &Server) {
        self.serve_with(server, |_| FakeAnswer::status(204, ""));
    }

    /// The same, with other answers to everything else.
    pub fn serve_with(&self, server: &Server, other: impl Fn(&str) -> FakeAnswer + Send + 'static) {
        let signer = self.clone();
        server.management.answers(move |seen| {
            if seen.target == "/internal/token-keys" { signer.told() } else { other(&seen.target) }
        });
    }

    pub fn revoke(&self, id: &str) {
        self.revoked.lock().unwrap().push(id.to_owned());
    }

    fn told(&self) -> FakeAnswer {
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": KID, "x": PUBLIC });
        FakeAnswer::ok(json!({ "keys": [key], "revoked": *self.revoked.lock().unwrap() }).to_string())
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// The claims of a good token.
pub fn claims() -> Value {
    json!({
        "iss": "purchase-system", "aud": "purchase-system", "sub": ID, "client_id": "web-server",
        "jti": "00000000-0000-4000-8000-000000000001", "iat": now(), "exp": now() + 900,
        "sid": "00000000-0000-4000-8000-000000000002", "username": "ann",
    })
}

/// The claims with another value of one.
pub fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

pub fn header(typ: &str, kid: &str) -> Header {
    Header { typ: Some(typ.to_owned()), kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) }
}

/// A good token, if its claims are.
pub fn token(claims: &Value) -> String {
    sign_as(&header("at+jwt", KID), claims)
}

/// Signed by the key that is known.
pub fn sign_as(header: &Header, claims: &Value) -> String {
    sign(header, claims, KEY)
}

/// Signed by a key that nobody knows.
pub fn sign_by_other(header: &Header, claims: &Value) -> String {
    sign(header, claims, OTHER_KEY)
}

fn sign(header: &Header, claims: &Value, pem: &str) -> String {
    encode(header, claims, &EncodingKey::from_ed_pem(pem.as_bytes()).unwrap()).unwrap()
}
