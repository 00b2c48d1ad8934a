//! What signs access tokens, and says so as management-api does.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::ID;
use crate::harness::{FakeAnswer, Server};

/// What stands before the 32 bytes of an Ed25519 key in PKCS#8 (RFC 8410, 7).
const HEAD: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// The key of RFC 8037, appendix A.
const KEY: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5,
    0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
pub const KID: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
pub const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
/// The key of the second test of RFC 8032, 7.1.
const OTHER_KEY: [u8; 32] = [
    0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e, 0x0f, 0x5b, 0x8a, 0x31,
    0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb,
];

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

fn sign(header: &Header, claims: &Value, key: [u8; 32]) -> String {
    encode(header, claims, &EncodingKey::from_ed_der(&[HEAD.as_slice(), &key].concat())).unwrap()
}
