//! How often somebody may try to sign in: from one address, and to one account.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::{Answer, FakeAnswer, FakeServer, PromptPublisher, Server, eventually};

const RIGHT: &str = "correct horse";
const TOKENS: &str = r#"{"access_token":"x","refresh_token":"y","token_type":"Bearer","expires_in":900}"#;

/// A server that knows one account, and whose callers have the addresses that they say.
async fn server(settings: &[(&str, &str)]) -> Server {
    let server = Server::with(&[&[("TRUSTED_PROXIES", "127.0.0.1")], settings].concat(), |_| {}).await;
    server.management.answers(|seen| match seen.target.as_str() {
        "/internal/login" if !(seen.body.to_lowercase().contains("ann@") && seen.body.contains(RIGHT)) => {
            FakeAnswer::status(403, "{}")
        }
        "/internal/accounts" => FakeAnswer::status(409, r#"{"detail":"taken"}"#),
        _ => FakeAnswer::ok(TOKENS),
    });
    server
}

async fn post(server: &Server, path: &str, body: String, address: &str) -> Answer {
    server.client.post(path, body).header("x-forwarded-for", address).send().await
}

async fn login(server: &Server, email: &str, password: &str, address: &str) -> Answer {
    post(server, "/login", json!({ "email": email, "password": password }).to_string(), address).await
}

#[tokio::test]
async fn one_address_tries_ten_times_a_minute() {
    let server = server(&[]).await;
    for left in (0..10).rev() {
        let answer = login(&server, &format!("{left}@example.com"), "guess", "192.0.2.1").await;
        answer.problem("unauthorized");
        assert_eq!(answer.header("ratelimit-policy"), r#""login";q=10;w=60"#);
        assert!(answer.header("ratelimit").starts_with(&format!(r#""login";r={left};t="#)), "{:?}", answer.headers);
    }
    let asked = server.management.seen().len();
    let refused = login(&server, "new@example.com", RIGHT, "192.0.2.1").await;
    assert_eq!(refused.problem("too-many-requests")["violated-policies"], json!(["login"]));
    let wait: u32 = refused.header("retry-after").parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait} s");
    assert_eq!(refused.header("ratelimit"), format!(r#""login";r=0;t={wait}"#));
    // Who makes accounts finds out which there are: it takes from the same.
    post(&server, "/account", "{}".to_owned(), "192.0.2.1").await.problem("too-many-requests");
    assert_eq!(server.management.seen().len(), asked, "no password was looked at");
    post(&server, "/account", "{}".to_owned(), "192.0.2.2").await.problem("conflict");
    assert_eq!(server.metric(r#"http_requests_refused_total{reason="rate"}"#).await, Some(2.0));
}

#[tokio::test]
async fn one_account_is_tried_ten_times_a_minute_whether_or_not_there_is_one() {
    let server = server(&[]).await;
    for email in ["ann@example.com", "nobody@example.com"] {
        for number in 1..=10 {
            let email = if number % 2 == 0 { email.to_uppercase() } else { email.to_owned() };
            login(&server, &email, "guess", &format!("192.0.2.{number}")).await.problem("unauthorized");
        }
        let refused = login(&server, email, RIGHT, "192.0.2.99").await;
        assert_eq!(refused.problem("too-many-requests")["violated-policies"], json!(["login"]));
        assert_eq!(refused.header("ratelimit-policy"), r#""login";q=10;w=60"#);
        assert!(
            refused.header("ratelimit").starts_with(r#""login";r=0;t="#),
            "it is the account's: {:?}",
            refused.headers
        );
    }
    // What has no e-mail address in it counts as one account.
    for (number, body) in
        ["{}", "[]", "nonsense", r#"{"email":7}"#, r#"{"email":"a","email":"b"}"#].iter().cycle().take(10).enumerate()
    {
        assert_eq!(post(&server, "/login", (*body).to_owned(), &format!("198.51.100.{number}")).await.status, 401);
    }
    assert_eq!(post(&server, "/login", "[1]".to_owned(), "198.51.100.99").await.status, 429);
}

#[tokio::test]
async fn who_has_signed_in_from_somewhere_is_not_locked_out_there_by_others() {
    let server = server(&[]).await;
    assert_eq!(login(&server, "ann@example.com", RIGHT, "192.0.2.1").await.status, 200);
    for number in 0..20 {
        login(&server, "ann@example.com", "guess", &format!("198.51.100.{number}")).await;
    }
    login(&server, "ann@example.com", RIGHT, "192.0.2.2").await.problem("too-many-requests");
    assert_eq!(login(&server, "Ann@example.com", RIGHT, "192.0.2.1").await.status, 200);
    for _ in 0..8 {
        login(&server, "ann@example.com", "guess", "192.0.2.1").await.problem("unauthorized");
    }
    login(&server, "ann@example.com", RIGHT, "192.0.2.1").await.problem("too-many-requests");
}

#[tokio::test]
async fn sessions_go_on_while_nobody_can_sign_in() {
    let server = server(&[("RATE_LIMIT_LOGIN_PER_MINUTE", "1")]).await;
    eventually("nobody can sign in there", async || login(&server, "x@y", "guess", "192.0.2.1").await.status == 429)
        .await;
    let refresh = async || post(&server, "/refresh", r#"{"refresh_token":"x"}"#.to_owned(), "192.0.2.1").await;
    for _ in 0..60 {
        let answer = refresh().await;
        assert_eq!((answer.status, answer.header("ratelimit-policy")), (200, r#""refresh";q=60;w=60"#));
    }
    assert_eq!(refresh().await.problem("too-many-requests")["violated-policies"], json!(["refresh"]));
    assert_eq!(server.client.buy().await.status, 202, "and who buys is not limited");
}

#[tokio::test]
async fn without_the_setting_anybody_may_try_for_ever() {
    let server = server(&[("RATE_LIMIT_LOGIN_PER_MINUTE", "0")]).await;
    for _ in 0..30 {
        let answer = login(&server, "ann@example.com", "guess", "192.0.2.1").await;
        assert_eq!((answer.status, answer.header("ratelimit-policy")), (401, ""));
    }
}

/// How many of so many logins get past the limit, one after the other at the next of the servers.
async fn tried(
    fleet: &[FakeServer],
    email: impl Fn(usize) -> String,
    address: impl Fn(usize) -> String,
    logins: usize,
) -> usize {
    let mut tried = 0;
    for number in 0..logins {
        let body = json!({ "email": email(number), "password": "guess" }).to_string();
        let request = fleet[number % fleet.len()].client.post("/login", body);
        // Nobody answers behind it: what gets there is not found.
        let answer = request.header("x-forwarded-for", &address(number)).send().await;
        tried += usize::from(answer.status != 429);
    }
    tried
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_share_the_limit_of_an_address_and_of_an_account() {
    let listeners = join_all((0..4).map(|_| TcpListener::bind("127.0.0.1:0"))).await;
    let listeners: Vec<_> = listeners.into_iter().map(Result::unwrap).collect();
    let peers: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    let peers = peers.join(",");
    let settings =
        [("RATE_LIMIT_PEERS", peers.as_str()), ("RATE_LIMIT_PEER_TOKEN", "hush"), ("TRUSTED_PROXIES", "127.0.0.1")];
    let start = |listener| FakeServer::on(listener, &settings, Arc::new(PromptPublisher));
    let fleet = join_all(listeners.into_iter().map(start)).await;
    for server in &fleet {
        eventually("they hear each other", async || {
            server.metric(r#"rate_limit_peers{state="heard"}"#).await == Some(3.0)
        })
        .await;
    }
    let of_address = tried(&fleet, |number| format!("{number}@example.com"), |_| "192.0.2.1".to_owned(), 60).await;
    // 10, and some that one lets in before the others had time to tell what they are asked for. Alone, each would let in 10.
    assert!((8..=18).contains(&of_address), "{of_address} from one address");
    let of_account = tried(&fleet, |_| "ann@example.com".to_owned(), |number| format!("198.51.100.{number}"), 60).await;
    assert!((8..=18).contains(&of_account), "{of_account} to one account");
}
