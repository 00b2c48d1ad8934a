//! An outside issuer of tokens, as far as it is one: its discovery document, its keys, and what it signs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::Ed25519KeyPair;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::accounts::signer::now;

/// Where the key itself begins in what stands around one of 2048 bits (PKCS#8, RFC 5958).
const PKCS8_HEAD: usize = 26;
pub const AUDIENCE: &str = "shop";

/// A key of the issuer.
#[derive(Clone)]
pub struct Key {
    pub kid: String,
    pub algorithm: Algorithm,
    secret: EncodingKey,
}

impl Key {
    pub fn new(kid: &str, algorithm: Algorithm) -> Self {
        let secret = match algorithm {
            Algorithm::RS256 => {
                let der: Pkcs8V1Der<'_> = KeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
                EncodingKey::from_rsa_der(&der.as_ref()[PKCS8_HEAD..])
            }
            Algorithm::ES256 => EncodingKey::from_ec_der(&rcgen::KeyPair::generate().unwrap().serialize_der()),
            _ => {
                let der = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
                EncodingKey::from_ed_der(der.as_ref())
            }
        };
        Self { kid: kid.to_owned(), algorithm, secret }
    }

    pub fn published(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.secret, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.clone());
        serde_json::to_value(jwk).unwrap()
    }

    pub fn header(&self, typ: Option<&str>) -> Header {
        Header { typ: typ.map(str::to_owned), kid: Some(self.kid.clone()), ..Header::new(self.algorithm) }
    }

    pub fn sign(&self, header: &Header, claims: &Value) -> String {
        encode(header, claims, &self.secret).unwrap()
    }

    /// A token as it should be, if its claims are.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(Some("at+jwt")), claims)
    }
}

/// What it says when it is asked for its keys.
#[derive(Clone)]
pub enum Told {
    Keys(Vec<Value>),
    Nonsense,
    Failure,
}

/// The issuer; it calls itself what its address is.
pub struct Issuer {
    pub name: String,
    told: Mutex<Told>,
    /// How often it was asked for its keys.
    asked: AtomicUsize,
}

impl Issuer {
    pub async fn start(keys: &[&Key]) -> Arc<Self> {
        let (issuer, listener) = Self::bind("http", keys).await;
        tokio::spawn(axum::serve(listener, issuer.router()).into_future());
        issuer
    }

    /// One that is to be served on a listener.
    pub async fn bind(scheme: &str, keys: &[&Key]) -> (Arc<Self>, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = format!("{scheme}://{}", listener.local_addr().unwrap());
        let told = Told::Keys(keys.iter().map(|key| key.published()).collect());
        (Arc::new(Self { name, told: Mutex::new(told), asked: AtomicUsize::new(0) }), listener)
    }

    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(answer).with_state(Arc::clone(self))
    }

    pub fn tells(&self, told: Told) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// The claims of a good token.
    pub fn claims(&self) -> Value {
        json!({
            "iss": self.name, "aud": ["elsewhere", AUDIENCE], "sub": "248289761001", "client_id": "app", "scope": "openid buy",
            "iat": now(), "exp": now() + 300, "preferred_username": "ann",
        })
    }

    /// The claims with another value of one.
    pub fn with(&self, name: &str, value: impl Into<Value>) -> Value {
        let mut claims = self.claims();
        claims[name] = value.into();
        claims
    }

    /// The claims without one.
    pub fn without(&self, name: &str) -> Value {
        let mut claims = self.claims();
        claims.as_object_mut().unwrap().remove(name);
        claims
    }
}

async fn answer(State(issuer): State<Arc<Issuer>>, request: Request) -> Response {
    match request.uri().path() {
        "/.well-known/openid-configuration" => {
            json!({ "issuer": issuer.name, "jwks_uri": format!("{}/keys", issuer.name) }).to_string().into_response()
        }
        "/keys" => {
            issuer.asked.fetch_add(1, Ordering::Relaxed);
            match issuer.told.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                Told::Keys(keys) => json!({ "keys": keys }).to_string().into_response(),
                Told::Nonsense => "<html>".into_response(),
                Told::Failure => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
