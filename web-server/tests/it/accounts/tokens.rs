//! Access tokens: a good one opens, any other is told the same.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::signer::{KID, PUBLIC, Signer, claims, header, now, sign_as, sign_by_other, token, with};
use crate::harness::{Answer, FakeAnswer, Server, eventually};

const ASKED: &str = r#"Bearer realm="purchase""#;
const REFUSED: &str = r#"Bearer realm="purchase", error="invalid_token""#;
const AGE: &str = "token_revocations_age_seconds";

/// Asks for what only who has signed in may: whoever is no administrator is 403.
async fn ask(server: &Server, authorization: &[&str]) -> Answer {
    let request = server.client.request("GET", "/accounts_page");
    let request = authorization.iter().fold(request, |request, value| request.header("authorization", value));
    request.send().await
}

async fn ask_with(server: &Server, token: &str) -> Answer {
    ask(server, &[&format!("Bearer {token}")]).await
}

fn questions(server: &Server) -> usize {
    server.management.seen().iter().filter(|seen| seen.target == "/internal/token-keys").count()
}

#[tokio::test]
async fn good_tokens_open_also_within_the_skew_of_clocks() {
    let server = Server::start().await;
    Signer::new().serve(&server);
    for token in [
        token(&claims()),
        sign_as(&header("application/at+JWT", KID), &claims()),
        token(&with("exp", now() - 50)),
        token(&with("nbf", now() + 50)),
        token(&with("aud", "purchase-system")),
    ] {
        ask_with(&server, &token).await.problem("forbidden");
    }
    ask(&server, &[&format!("bearer {}", token(&claims()))]).await.problem("forbidden");
}

/// Everything that is almost a token.
fn bad_tokens() -> Vec<(&'static str, String)> {
    let ours = header("at+jwt", KID);
    let good = token(&claims());
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let mut without_subject = claims();
    without_subject.as_object_mut().unwrap().remove("sub");
    let hmac = Header { typ: Some("at+jwt".to_owned()), kid: Some(KID.to_owned()), ..Header::new(Algorithm::HS256) };
    vec![
        ("an ID token", sign_as(&header("JWT", KID), &claims())),
        ("no type", sign_as(&Header { typ: None, ..ours.clone() }, &claims())),
        ("a demand", sign_as(&Header { crit: Some(vec!["exp".to_owned()]), ..ours.clone() }, &claims())),
        ("no kid", sign_as(&Header { kid: None, ..ours.clone() }, &claims())),
        ("a foreign kid", sign_as(&header("at+jwt", "foreign"), &claims())),
        ("another's signature", sign_by_other(&ours, &claims())),
        ("a foreign audience", sign_as(&ours, &with("aud", "elsewhere"))),
        ("a foreign issuer", sign_as(&ours, &with("iss", "elsewhere"))),
        ("expired", sign_as(&ours, &with("exp", now() - 70))),
        ("not yet", sign_as(&ours, &with("nbf", now() + 70))),
        ("no subject", sign_as(&ours, &without_subject)),
        ("a subject that is none", sign_as(&ours, &with("sub", "root"))),
        ("an expiry that is none", sign_as(&ours, &with("exp", "never"))),
        ("the public key as a secret", encode(&hmac, &claims(), &EncodingKey::from_secret(PUBLIC.as_bytes())).unwrap()),
        ("no algorithm", format!("eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJub25lIn0.{body}.")),
        (
            "another body",
            format!("{head}.{}.{signature}", sign_as(&ours, &with("scope", "admin")).split('.').nth(1).unwrap()),
        ),
        ("no signature", format!("{head}.{body}.")),
        ("half of it", good[..good.len() / 2].to_owned()),
        ("no token", "nonsense".to_owned()),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("a large one", "x".repeat(12_000)),
    ]
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_is_told_alike() {
    let server = Server::start().await;
    Signer::new().serve(&server);
    let mut told = Vec::new();
    let mut remember = |what: &'static str, answer: &Answer| {
        let mut problem = answer.problem("unauthorized");
        problem.as_object_mut().unwrap().remove("request_id");
        let challenge = if ["no header", "another scheme"].contains(&what) { ASKED } else { REFUSED };
        assert_eq!(answer.header("www-authenticate"), challenge, "{what}");
        told.push((what, problem));
    };
    for (what, token) in bad_tokens() {
        remember(what, &ask_with(&server, &token).await);
    }
    let good = token(&claims());
    remember("no header", &ask(&server, &[]).await);
    remember("another scheme", &ask(&server, &[&format!("Basic {good}")]).await);
    remember("two headers", &ask(&server, &[&format!("Bearer {good}"), &format!("Bearer {good}")]).await);
    let first = told[0].1.clone();
    let others: Vec<&(&str, Value)> = told.iter().filter(|(_, problem)| *problem != first).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test]
async fn a_revoked_session_counts_no_more() {
    let server = Server::start().await;
    let signer = Signer::new();
    signer.serve(&server);
    let (ended, other) = (token(&claims()), token(&with("sid", "00000000-0000-4000-8000-000000000003")));
    ask_with(&server, &ended).await.problem("forbidden");
    signer.revoke("00000000-0000-4000-8000-000000000002");
    eventually("it counts no more", async || ask_with(&server, &ended).await.status == 401).await;
    ask_with(&server, &other).await.problem("forbidden");
}

#[tokio::test]
async fn until_a_token_is_used_nobody_is_asked() {
    let server = Server::start().await;
    assert_eq!(server.metric(AGE).await, Some(-1.0));
    ask(&server, &[]).await.problem("unauthorized");
    assert!(server.management.seen().is_empty());
    Signer::new().serve(&server);
    ask_with(&server, &token(&claims())).await.problem("forbidden");
    eventually("it is asked again and again", async || questions(&server) > 1).await;
    assert!(server.metric(AGE).await.unwrap() >= 0.0);
}

#[tokio::test]
async fn what_was_known_outlives_management_api() {
    let server = Server::start().await;
    let good = token(&claims());
    server.management.answers(|_| FakeAnswer::status(500, ""));
    ask_with(&server, &good).await.problem("unavailable");
    Signer::new().serve(&server);
    eventually("it is known", async || ask_with(&server, &good).await.status == 403).await;
    server.management.answers(|_| FakeAnswer::status(500, ""));
    eventually("it is old", async || server.metric(AGE).await.unwrap() > 1.0).await;
    ask_with(&server, &good).await.problem("forbidden");
}

#[tokio::test]
async fn what_is_known_is_believed_for_so_long_and_no_longer() {
    let server = Server::with(&[("TOKEN_REVOCATIONS_MAX_AGE_MS", "5000")], |_| {}).await;
    let good = token(&claims());
    Signer::new().serve(&server);
    ask_with(&server, &good).await.problem("forbidden");
    server.management.answers(|_| FakeAnswer::status(500, ""));
    eventually("it is too old", async || ask_with(&server, &good).await.status == 503).await;
    assert!(server.metric(AGE).await.unwrap() > 2.0);
    Signer::new().serve(&server);
    eventually("it is known again", async || ask_with(&server, &good).await.status == 403).await;
}

#[tokio::test]
async fn where_accounts_are_not_set_up_no_token_is_good_until_they_are() {
    let server = Server::start().await;
    server.management.answers(|_| FakeAnswer::status(404, r#"{"detail":"accounts are not set up"}"#));
    let problem = ask_with(&server, &token(&claims())).await.problem("unavailable");
    assert_eq!(problem["detail"], "accounts are not set up");
    Signer::new().serve(&server);
    eventually("they are", async || ask_with(&server, &token(&claims())).await.status == 403).await;
    server.management.answers(|_| FakeAnswer::status(404, r#"{"detail":"no such path"}"#));
    let asked = questions(&server);
    eventually("an old replica is asked", async || questions(&server) > asked + 1).await;
    ask_with(&server, &token(&claims())).await.problem("forbidden");
}

#[tokio::test]
async fn made_up_keys_cost_nobody_anything() {
    let server = Server::start().await;
    Signer::new().serve(&server);
    let began = std::time::Instant::now();
    for number in 0..1_000 {
        let token = sign_by_other(&header("at+jwt", &format!("kid-{number}")), &claims());
        assert_eq!(ask_with(&server, &token).await.status, 401);
    }
    // As often as without them, once at the start, and once in ten seconds.
    let most = 3 + began.elapsed().as_secs() / 2 + began.elapsed().as_secs() / 10;
    assert!(u64::try_from(questions(&server)).unwrap() <= most, "{} questions, {most} at most", questions(&server));
}

#[tokio::test]
async fn a_key_that_has_just_begun_to_sign_is_asked_for() {
    let server = Server::start().await;
    server.management.answers(|_| FakeAnswer::ok(json!({ "keys": [], "revoked": [] }).to_string()));
    ask_with(&server, "nonsense").await.problem("unauthorized");
    Signer::new().serve(&server);
    ask_with(&server, &token(&claims())).await.problem("forbidden");
}
