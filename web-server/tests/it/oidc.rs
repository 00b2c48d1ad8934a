//! Access tokens of an outside issuer: good ones open, whatever happens to the issuer.

mod issuer;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use uuid::Uuid;

use self::issuer::{AUDIENCE, Issuer, Key, Told};
use crate::accounts::signer::{Signer, claims, now, token};
use crate::harness::{Answer, FakeAnswer, Server, eventually};

const FETCHED: &str = r#"oidc_key_fetches_total{outcome="success"}"#;
const NOT_FETCHED: &str = r#"oidc_key_fetches_total{outcome="failed"}"#;

/// A server that takes this issuer's tokens, once it has asked for its keys.
async fn server_with(issuer: &Issuer, settings: &[(&str, &str)], asked: &str) -> Server {
    let outside = [("AUTH", "jwt"), ("OIDC_ISSUER", issuer.name.as_str()), ("OIDC_AUDIENCE", AUDIENCE)];
    let server = Server::with(&[&outside, settings].concat(), |_| {}).await;
    Signer::new().serve_with(&server, |_| FakeAnswer::ok("{}"));
    eventually("the issuer was asked", async || server.metric(asked).await == Some(1.0)).await;
    server
}

async fn server(issuer: &Issuer) -> Server {
    server_with(issuer, &[], FETCHED).await
}

async fn read(server: &Server, token: &str) -> Answer {
    server.client.request("GET", "/purchases").header("authorization", &format!("Bearer {token}")).send().await
}

/// Who the issuer's subject is here.
fn userid(issuer: &Issuer) -> Uuid {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, issuer.name.as_bytes());
    Uuid::new_v5(&namespace, b"248289761001")
}

#[tokio::test]
async fn who_has_signed_in_elsewhere_buys_and_reads_as_itself() {
    let key = Key::new("one", Algorithm::EdDSA);
    let issuer = Issuer::start(&[&key]).await;
    let server = server(&issuer).await;
    let good = key.token(&issuer.claims());
    let send = async |method: &str, path: &str, userid: String| {
        let body = json!({ "username": "n", "userid": userid, "price": 1 }).to_string();
        let request =
            if method == "POST" { server.client.post(path, body) } else { server.client.request(method, path) };
        request.header("authorization", &format!("Bearer {good}")).send().await
    };
    let own = userid(&issuer);
    assert_eq!(send("POST", "/buy", own.to_string()).await.status, 202);
    send("POST", "/buy", Uuid::nil().to_string()).await.problem("forbidden");
    assert_eq!(send("GET", &format!("/getAllUserBuys/{own}"), String::new()).await.status, 200);
    send("GET", "/backends", String::new()).await.problem("forbidden");
    send("DELETE", "/account", String::new()).await.problem("forbidden");
    for path in ["/api-keys", "/usage"] {
        send("GET", path, String::new()).await.problem("forbidden");
    }
    send("DELETE", &format!("/api-keys/{own}"), String::new()).await.problem("forbidden");
    let of_accounts = ["delete", "keys?", "revoke", "usage"];
    let asked = server.management.seen();
    assert!(!asked.iter().any(|seen| of_accounts.iter().any(|what| seen.target.contains(what))), "{asked:?}");
    // It is no administrator, whatever its issuer calls it.
    let admin = key.token(&issuer.with("scope", "admin"));
    let request = server.client.request("GET", "/backends").header("authorization", &format!("Bearer {admin}"));
    request.send().await.problem("forbidden");
    assert_eq!(read(&server, &token(&claims())).await.status, 200, "our own tokens count as before");
}

#[tokio::test]
async fn every_kind_of_key_is_taken_and_tokens_that_do_not_say_they_are_for_access() {
    let keys = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
        .map(|algorithm| Key::new(&format!("{algorithm:?}"), algorithm));
    let issuer = Issuer::start(&keys.each_ref()).await;
    let server = server(&issuer).await;
    for key in &keys {
        assert_eq!(read(&server, &key.token(&issuer.claims())).await.status, 200, "{}", key.kid);
        for claims in [
            issuer.claims(),
            issuer.with("exp", now() - 50),
            issuer.with("nbf", now() + 50),
            issuer.with("aud", AUDIENCE),
        ] {
            let token = key.sign(&key.header(Some("JWT")), &claims);
            assert_eq!(read(&server, &token).await.status, 200, "{}", key.kid);
        }
        assert_eq!(read(&server, &key.sign(&key.header(None), &issuer.with("token_use", "access"))).await.status, 200);
    }
}

/// Everything that is almost a token.
fn bad_tokens(issuer: &Issuer, key: &Key, rsa: &Key, stranger: &Key) -> Vec<(&'static str, String)> {
    let jwt = key.header(Some("JWT"));
    let as_access = |claims: Value| key.token(&claims);
    let good = as_access(issuer.claims());
    let body = good.split('.').nth(1).unwrap();
    let hmac = Header { typ: Some("at+jwt".to_owned()), kid: Some(rsa.kid.clone()), ..Header::new(Algorithm::HS256) };
    let modulus = rsa.published()["n"].as_str().unwrap().to_owned();
    let published = rsa.published().to_string();
    let hmac_by = |secret: &str| encode(&hmac, &issuer.claims(), &EncodingKey::from_secret(secret.as_bytes())).unwrap();
    let mut tokens = vec![
        ("an ID token", key.sign(&jwt, &issuer.without("scope"))),
        ("an ID token that has a scope", key.sign(&jwt, &issuer.with("nonce", "n"))),
        ("one of the hybrid flow", key.sign(&jwt, &issuer.with("at_hash", "h"))),
        ("one that says so", key.sign(&jwt, &issuer.with("token_use", "id"))),
        ("one that says so in another way", key.sign(&jwt, &issuer.with("typ", "ID"))),
        ("another type", key.sign(&key.header(Some("logout+jwt")), &issuer.claims())),
        ("a foreign audience", as_access(issuer.with("aud", "elsewhere"))),
        ("no audience", as_access(issuer.without("aud"))),
        ("a foreign issuer", as_access(issuer.with("iss", "https://elsewhere.example"))),
        ("no issuer", as_access(issuer.without("iss"))),
        ("expired", as_access(issuer.with("exp", now() - 70))),
        ("for ever", as_access(issuer.without("exp"))),
        ("not yet", as_access(issuer.with("nbf", now() + 70))),
        ("nobody's", as_access(issuer.without("sub"))),
        ("nobody's at all", as_access(issuer.with("sub", ""))),
        ("a long subject", as_access(issuer.with("sub", "s".repeat(256)))),
        ("a demand", key.sign(&Header { crit: Some(vec!["exp".to_owned()]), ..jwt.clone() }, &issuer.claims())),
        ("no kid", key.sign(&Header { kid: None, ..jwt }, &issuer.claims())),
        ("an unknown kid", stranger.token(&issuer.claims())),
        ("another's key", stranger.sign(&key.header(Some("at+jwt")), &issuer.claims())),
        (
            "another key's algorithm",
            stranger.sign(&Header { kid: Some(rsa.kid.clone()), ..stranger.header(Some("at+jwt")) }, &issuer.claims()),
        ),
        ("no algorithm", format!("eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJub25lIiwia2lkIjoib25lIn0.{body}.")),
        ("no signature", format!("{}.{body}.", good.split('.').next().unwrap())),
    ];
    tokens.extend([&modulus, &published].map(|secret| ("the public key as a secret", hmac_by(secret))));
    tokens
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_it_opens_nothing() {
    let (key, rsa) = (Key::new("one", Algorithm::ES256), Key::new("two", Algorithm::RS256));
    let stranger = Key::new("three", Algorithm::ES256);
    let issuer = Issuer::start(&[&key, &rsa]).await;
    let server = server(&issuer).await;
    for (what, token) in bad_tokens(&issuer, &key, &rsa, &stranger) {
        let answer = read(&server, &token).await;
        assert_eq!(answer.status, 401, "{what}");
        answer.problem("unauthorized");
    }
    assert_eq!(read(&server, &key.token(&issuer.claims())).await.status, 200);
}

#[tokio::test]
async fn keys_outlive_an_issuer_that_is_away_or_tells_none_and_new_ones_are_found() {
    let (old, new) = (Key::new("old", Algorithm::ES256), Key::new("new", Algorithm::ES256));
    let issuer = Issuer::start(&[&old]).await;
    let server = server(&issuer).await;
    let (tokens, mut failures) = (AtomicUsize::new(0), 0.0);
    let another = |key: &Key| key.token(&issuer.with("jti", tokens.fetch_add(1, Ordering::Relaxed)));
    assert_eq!(read(&server, &another(&old)).await.status, 200);
    for told in [Told::Failure, Told::Keys(Vec::new()), Told::Nonsense] {
        issuer.tells(told);
        failures += 1.0;
        eventually("it is asked in vain", async || {
            read(&server, &new.token(&issuer.claims())).await.problem("unauthorized");
            server.metric(NOT_FETCHED).await == Some(failures)
        })
        .await;
        assert_eq!(read(&server, &another(&old)).await.status, 200);
    }
    issuer.tells(Told::Keys(vec![new.published()]));
    eventually("the new key is known", async || read(&server, &another(&new)).await.status == 200).await;
    read(&server, &another(&old)).await.problem("unauthorized");
}

#[tokio::test]
async fn before_the_issuer_has_told_anything_nobody_knows() {
    let key = Key::new("one", Algorithm::EdDSA);
    let issuer = Issuer::start(&[]).await;
    let server = server_with(&issuer, &[], NOT_FETCHED).await;
    read(&server, &key.token(&issuer.claims())).await.problem("unavailable");
    assert_eq!(read(&server, &token(&claims())).await.status, 200, "our own tokens need no issuer");
    issuer.tells(Told::Keys(vec![json!({ "kty": "new" }), key.published(), json!(7)]));
    eventually("it is asked again", async || read(&server, &key.token(&issuer.claims())).await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_made_up_kids_cost_one_question_in_ten_seconds() {
    let key = Key::new("one", Algorithm::EdDSA);
    let issuer = Issuer::start(&[&key]).await;
    let server = server(&issuer).await;
    let (started, mut number) = (Instant::now(), 0);
    while number < 10_000 {
        let made_up = (0..100).map(|next| {
            let header = Header { kid: Some(format!("made up {}", number + next)), ..key.header(Some("at+jwt")) };
            key.sign(&header, &issuer.claims())
        });
        let tokens: Vec<_> = made_up.collect();
        for answer in join_all(tokens.iter().map(|token| read(&server, token))).await {
            assert_eq!(answer.status, 401);
        }
        number += 100;
    }
    let most = 2 + usize::try_from(started.elapsed().as_secs() / 10).unwrap();
    assert!(issuer.asked() <= most, "{} questions in {:?}", issuer.asked(), started.elapsed());
    assert_eq!(read(&server, &key.token(&issuer.claims())).await.status, 200);
}

/// Serves an issuer over HTTPS.
fn serve(issuer: &Arc<Issuer>, listener: TcpListener, config: ServerConfig) {
    let (router, acceptor) = (issuer.router(), TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}

#[tokio::test]
async fn an_issuer_that_nobody_vouches_for_is_not_believed() {
    let key = Key::new("one", Algorithm::EdDSA);
    let (issuer, listener) = Issuer::bind("https", &[&key]).await;
    let folder = tempfile::tempdir().unwrap();
    let certify = || rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (own, other) = (certify(), certify());
    let [trusted, foreign] = [("own", &own), ("other", &other)].map(|(name, certified)| {
        let path = folder.path().join(name);
        fs::write(&path, certified.cert.pem()).unwrap();
        path.display().to_string()
    });
    let private = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], private)
        .unwrap();
    serve(&issuer, listener, config);
    let server = server_with(&issuer, &[("OIDC_CA_FILE", &foreign)], NOT_FETCHED).await;
    read(&server, &key.token(&issuer.claims())).await.problem("unavailable");
    assert_eq!(issuer.asked(), 0);
    let server = server_with(&issuer, &[("OIDC_CA_FILE", &trusted)], FETCHED).await;
    assert_eq!(read(&server, &key.token(&issuer.claims())).await.status, 200);
}

#[tokio::test]
async fn an_issuer_that_calls_itself_by_another_name_is_none() {
    let key = Key::new("one", Algorithm::EdDSA);
    let issuer = Issuer::start(&[&key]).await;
    // The same server, and yet not what it says it is.
    let called = issuer.name.replace("127.0.0.1", "localhost");
    let outside = [("AUTH", "jwt"), ("OIDC_ISSUER", called.as_str()), ("OIDC_AUDIENCE", AUDIENCE)];
    let server = Server::with(&outside, |_| {}).await;
    eventually("it was asked", async || server.metric(NOT_FETCHED).await == Some(1.0)).await;
    assert_eq!(issuer.asked(), 0, "its keys are of no interest");
    let asked = Instant::now();
    read(&server, &key.token(&issuer.with("iss", called.clone()))).await.problem("unavailable");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}
