//! Who buys and reads with API keys.

mod keys;
mod looked_after;
mod usage;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use shared::api_keys::{ApiKeySecret, KEY_PREFIX};
use shared::event::Timestamp;
use web_server::state::App;

use self::keys::{KEY_ID, Keys, key, last_asked, questions};
use crate::accounts::ID;
use crate::accounts::signer::{claims, token};
use crate::harness::{Answer, FakeManagement, Server, app, eventually, read_records};

const OTHER: &str = "019a0000-0000-7000-8000-000000000002";
const HEADERS: [&str; 2] = ["authorization", "x-api-key"];

async fn server(auth: &str, keys: &Keys) -> Server {
    let server = Server::with(&[("AUTH", auth), ("TOKEN_REVOCATIONS_MAX_AGE_MS", "5000")], |_| {}).await;
    keys.serve(&server.management);
    server
}

async fn buy(server: &Server, path: &str, userid: &str, key: &str) -> Answer {
    let purchase = json!({ "username": "n", "userid": userid, "price": 1 });
    let body = if path == "/buy" { purchase } else { json!([purchase]) };
    server.client.post(path, body.to_string()).header("authorization", &format!("Bearer {key}")).send().await
}

async fn read(server: &Server, path: &str, key: &str) -> Answer {
    server.client.request("GET", path).header("x-api-key", key).send().await
}

#[tokio::test]
async fn a_key_buys_and_reads_as_its_owner_and_its_records_name_it() {
    let keys = Keys::default();
    let server = server("api_key", &keys).await;
    let own = keys.add(&["buy", "read"]);
    for path in ["/buy", "/buy/batch"] {
        let bought = buy(&server, path, ID, &own).await;
        assert_eq!(bought.status, 202, "{}", bought.text());
    }
    buy(&server, "/buy", OTHER, &own).await.problem("forbidden");
    assert_eq!(buy(&server, "/buy/batch", OTHER, &own).await.status, 207);
    let records = read_records(&server.broker).await;
    assert_eq!(records.iter().map(|record| record.header("api_key_id")).collect::<Vec<_>>(), [KEY_ID; 2]);
    for (userid, status) in [(ID, 200), (OTHER, 403)] {
        for path in [format!("/getAllUserBuys/{userid}"), format!("/purchases?userid={userid}")] {
            assert_eq!(read(&server, &path, &own).await.status, status, "{path}");
        }
    }
    assert_eq!(read(&server, "/purchases", &own).await.status, 200);
    let asked = last_asked(&server.management).unwrap().target;
    assert!(asked.ends_with(&format!("&userid={}", ID.replace('-', "%2D"))), "{asked}");
    assert_eq!(questions(&server.management), 1, "whatever is done with it");
}

#[tokio::test]
async fn scopes_say_what_a_key_does_and_a_service_key_does_it_for_all() {
    let keys = Keys::default();
    let server = server("api_key", &keys).await;
    for (scopes, bought, own_read, others_read) in [
        (&["buy"][..], 403, 403, 403),
        (&["read"], 403, 200, 403),
        (&["buy", "service"], 202, 403, 403),
        (&["read", "service"], 403, 200, 200),
    ] {
        let key = keys.add(scopes);
        assert_eq!(buy(&server, "/buy", OTHER, &key).await.status, bought, "{scopes:?}");
        assert_eq!(read(&server, &format!("/getAllUserBuys/{ID}"), &key).await.status, own_read, "{scopes:?}");
        assert_eq!(read(&server, &format!("/getAllUserBuys/{OTHER}"), &key).await.status, others_read, "{scopes:?}");
    }
}

#[tokio::test]
async fn each_mode_takes_what_it_names() {
    let keys = Keys::default();
    let (own, token) = (keys.add(&["buy", "read"]), token(&claims()));
    for (auth, by_key, by_token, by_nothing) in
        [("off", 200, 200, 200), ("jwt", 401, 200, 401), ("api_key", 200, 401, 401), ("any", 200, 200, 401)]
    {
        let server = server(auth, &keys).await;
        let get = async |pairs: &[(&str, &str)]| {
            let request = server.client.request("GET", "/purchases");
            let request = pairs.iter().fold(request, |request, (name, value)| request.header(name, value));
            request.send().await.status
        };
        let (bearer_key, bearer_token) = (format!("Bearer {own}"), format!("Bearer {token}"));
        assert_eq!(get(&[("authorization", &bearer_key)]).await, by_key, "{auth}");
        assert_eq!(get(&[("x-api-key", &own)]).await, by_key, "{auth}");
        assert_eq!(get(&[("authorization", &bearer_token)]).await, by_token, "{auth}");
        assert_eq!(get(&[]).await, by_nothing, "{auth}");
        if ["api_key", "any"].contains(&auth) {
            for bearer in [&bearer_key, &bearer_token] {
                assert_eq!(get(&[("authorization", bearer), ("x-api-key", &own)]).await, 401, "{auth}: both at once");
            }
            assert_eq!(get(&[("x-api-key", &own), ("x-api-key", &own)]).await, 401);
            server.client.request("GET", "/purchases").header("x-api-key", "x").send().await.problem("unauthorized");
        }
    }
}

/// Whether it is found out who asks.
async fn is_known(app: &App, headers: &HeaderMap) -> bool {
    app.identify(headers, &|| true).await.is_some_and(|identified| identified.0.is_ok())
}

#[tokio::test]
async fn of_a_hundred_thousand_mistyped_keys_nobody_hears() {
    let (keys, management) = (Keys::default(), FakeManagement::start().await);
    keys.serve(&management);
    let app = app(&[("AUTH", "any")], &management);
    let right = keys.add(&["read"]);
    let mut refused = 0;
    for number in 0..100_000_usize {
        let mut mistyped = right.clone().into_bytes();
        let place = KEY_PREFIX.len() + number % 36;
        mistyped[place] = match b'!' + u8::try_from(number / 36 % 94).unwrap() {
            same if same == mistyped[place] => b' ',
            other => other,
        };
        let headers = HeaderMap::from_iter([(
            HEADERS[number % 2].parse().unwrap(),
            if number % 2 == 0 {
                HeaderValue::try_from(["Bearer ".as_bytes(), &mistyped].concat()).unwrap()
            } else {
                HeaderValue::try_from(mistyped).unwrap()
            },
        )]);
        refused += usize::from(!is_known(&app, &headers).await);
    }
    assert_eq!((refused, management.seen().len()), (100_000, 0));
    let headers = HeaderMap::from_iter([(HEADERS[1].parse().unwrap(), HeaderValue::try_from(right).unwrap())]);
    assert!(is_known(&app, &headers).await);
    app.shutdown.stop();
}

#[tokio::test]
async fn a_thousand_who_come_at_once_with_a_key_ask_once_and_so_do_those_with_one_that_is_none() {
    let (keys, management) = (Keys::default(), FakeManagement::start().await);
    keys.serve(&management);
    let app = app(&[("AUTH", "api_key")], &management);
    let none = ApiKeySecret::random().expose().to_owned();
    for (key, is_good) in [(keys.add(&["read"]), true), (none, false)] {
        let before = questions(&management);
        let headers = HeaderMap::from_iter([(HEADERS[1].parse().unwrap(), HeaderValue::try_from(key).unwrap())]);
        for _ in 0..2 {
            let asked = join_all((0..1000).map(|_| is_known(&app, &headers))).await;
            assert!(asked.iter().all(|known| *known == is_good));
        }
        assert_eq!(questions(&management), before + 1);
    }
    app.shutdown.stop();
}

#[tokio::test]
async fn a_key_has_a_quota_of_its_own_at_its_own_rate() {
    let keys = Keys::default();
    let server = server("api_key", &keys).await;
    let (slow, other) = (keys.add(&["read"]), keys.add(&["read"]));
    let mut with_rate = key(&["read"]);
    (with_rate["rate_per_second"], with_rate["key_id"]) = (1.into(), OTHER.into());
    keys.put(&slow, with_rate);
    let answers = join_all((0..12).map(|_| read(&server, "/purchases", &slow))).await;
    assert!(answers.iter().all(|answer| answer.header("ratelimit-policy") == "\"read\";q=1;w=1"));
    assert!(answers.iter().any(|answer| answer.status == 200) && answers.iter().any(|answer| answer.status == 429));
    let answers = join_all((0..12).map(|_| read(&server, "/purchases", &other))).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.header("ratelimit-policy").is_empty()));
}

#[tokio::test]
async fn keys_that_are_made_up_by_the_rules_reach_nobody_by_the_thousand_and_hold_up_nobody_who_was_known() {
    let keys = Keys::default();
    let server = server("api_key", &keys).await;
    let own = keys.add(&["read"]);
    assert_eq!(read(&server, "/purchases", &own).await.status, 200);
    let began = Instant::now();
    let made_up: Vec<_> = (0..1000).map(|_| ApiKeySecret::random().expose().to_owned()).collect();
    let answers = join_all(made_up.iter().map(|key| read(&server, "/purchases", key))).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    let limit = 100 * (1 + usize::try_from(began.elapsed().as_secs()).unwrap() + 1);
    assert_eq!(count(401) + count(503), 1000);
    assert!(questions(&server.management) <= limit && count(503) + limit >= 1000, "{}", questions(&server.management));
    assert_eq!(read(&server, "/purchases", &own).await.status, 200, "who is known is not kept out");
    let mut changed = key(&["buy"]);
    changed["version"] = 1.into();
    keys.put(&own, changed);
    keys.change(1);
    let crowd = async {
        loop {
            let made_up: Vec<_> = (0..200).map(|_| ApiKeySecret::random().expose().to_owned()).collect();
            join_all(made_up.iter().map(|key| read(&server, "/purchases", key))).await;
        }
    };
    let asked_anew = eventually("it is asked about anew", async || {
        let status = read(&server, "/purchases", &own).await.status;
        assert_ne!(status, 503, "whatever others make up");
        status == 403
    });
    tokio::select! { () = crowd => {}, () = asked_anew => {} }
}

async fn refused_in_time(server: &Server, key: &str) {
    let began = Instant::now();
    eventually("it counts no more", async || read(server, "/purchases", key).await.status == 401).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_revoked_or_changed_is_known_within_five_seconds() {
    let keys = Keys::default();
    let server = server("any", &keys).await;
    let (old, new) = (keys.add(&["read"]), keys.add(&["read"]));
    let get = async |key: &str| read(&server, "/purchases", key).await.status;
    assert_eq!((get(&old).await, get(&new).await), (200, 200));
    // Followed by another: the old secret has an end now, the new one has none, and both are of the new version.
    let of_version = |version: i32, scopes: &[&str], ends_at: Value| {
        let mut key = key(scopes);
        (key["version"], key["ends_at"]) = (version.into(), ends_at);
        key
    };
    let end = Timestamp::from_millis(Timestamp::now().millis() + 3_000).unwrap();
    keys.put(&old, of_version(1, &["read"], json!(end)));
    keys.put(&new, of_version(1, &["read"], Value::Null));
    keys.change(1);
    refused_in_time(&server, &old).await;
    assert!(Timestamp::now() >= end, "not before");
    assert_eq!(get(&new).await, 200);
    // Other scopes.
    keys.put(&new, of_version(2, &["buy"], Value::Null));
    keys.change(2);
    eventually("the other scopes count", async || get(&new).await == 403).await;
    // Revoked.
    keys.put(&new, Value::Null);
    keys.change(3);
    refused_in_time(&server, &new).await;
}

#[tokio::test]
async fn what_is_known_of_changed_keys_may_not_get_too_old() {
    let keys = Keys::default();
    let server = server("api_key", &keys).await;
    let own = keys.add(&["read", "buy"]);
    assert_eq!(buy(&server, "/buy", ID, &own).await.status, 202);
    server.management.answers(|_| crate::harness::FakeAnswer::status(503, "{}"));
    assert_eq!(buy(&server, "/buy", ID, &own).await.status, 202, "not at once");
    eventually("nobody is let in", async || buy(&server, "/buy", ID, &own).await.status == 503).await;
    keys.serve(&server.management);
    eventually("it goes on", async || buy(&server, "/buy", ID, &own).await.status == 202).await;
}
