//! Who may buy and read what, by `AUTH`.

use serde_json::{Value, json};

use crate::accounts::ID;
use crate::accounts::signer::{Signer, claims, token, with};
use crate::harness::{Answer, FakeAnswer, Server, eventually};

const OTHER: &str = "019a0000-0000-7000-8000-000000000002";
const PURCHASE: &str = "019a0000-0000-7000-8000-00000000000a";

fn purchase(userid: &str) -> String {
    json!({
        "purchase_id": PURCHASE, "userid": userid, "username": "n", "price": 1, "timestamp": "2026-01-31T12:00:00.000Z",
        "recorded_at": "2026-01-31T12:00:00.000Z",
    })
    .to_string()
}

/// A server that asks for tokens, whose management-api has one purchase of this user.
async fn server(signer: &Signer, userid: &'static str) -> Server {
    let server = Server::with(&[("AUTH", "jwt"), ("TOKEN_REVOCATIONS_MAX_AGE_MS", "5000")], |_| {}).await;
    signer.serve_with(&server, move |target| {
        FakeAnswer::ok(if target.contains(PURCHASE) { purchase(userid) } else { "{}".to_owned() })
    });
    server
}

fn bought_by(userid: &str) -> String {
    json!({ "username": "n", "userid": userid, "price": 1 }).to_string()
}

fn admin() -> String {
    token(&with("scope", "admin"))
}

async fn get(server: &Server, path: &str, token: &str) -> Answer {
    server.client.request("GET", path).header("authorization", &format!("Bearer {token}")).send().await
}

async fn buy(server: &Server, body: impl Into<bytes::Bytes>, path: &str, token: &str) -> Answer {
    server.client.post(path, body).header("authorization", &format!("Bearer {token}")).send().await
}

#[tokio::test]
async fn without_a_token_nothing_is_bought_or_read_and_health_is_told() {
    let server = server(&Signer::new(), ID).await;
    for path in [&format!("/getAllUserBuys/{ID}"), "/purchases", &format!("/purchases/{PURCHASE}")] {
        server.client.get(path).await.problem("unauthorized");
        get(&server, path, "nonsense").await.problem("unauthorized");
    }
    server.client.post("/buy", bought_by(ID)).send().await.problem("unauthorized");
    server.client.post("/buy/batch", format!("[{}]", bought_by(ID))).send().await.problem("unauthorized");
    assert_eq!(server.metric(r#"purchases_published_total{outcome="delivered"}"#).await, Some(0.0));
    for path in ["/livez", "/readyz", "/health", "/metrics", "/openapi.json"] {
        assert_eq!(server.client.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_user_buys_and_reads_as_itself_and_an_administrator_for_all() {
    let server = server(&Signer::new(), ID).await;
    let (own, admin) = (token(&claims()), admin());
    assert_eq!(buy(&server, bought_by(ID), "/buy", &own).await.status, 202);
    buy(&server, bought_by(OTHER), "/buy", &own).await.problem("forbidden");
    // The same id, written in another way, is another user.
    buy(&server, bought_by(&ID.to_uppercase()), "/buy", &own).await.problem("forbidden");
    assert_eq!(buy(&server, bought_by(OTHER), "/buy", &admin).await.status, 202);
    assert_eq!(server.metric(r#"purchases_published_total{outcome="delivered"}"#).await, Some(2.0));
    for (userid, status) in [(ID, 200), (OTHER, 403)] {
        for path in [format!("/getAllUserBuys/{userid}"), format!("/purchases?userid={userid}")] {
            assert_eq!(get(&server, &path, &own).await.status, status, "{path}");
            assert_eq!(get(&server, &path, &admin).await.status, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn who_names_nobody_reads_its_own_purchases() {
    let server = server(&Signer::new(), ID).await;
    let asked = async |token: &str| {
        assert_eq!(get(&server, "/purchases", token).await.status, 200);
        server.management.seen().pop().unwrap().target
    };
    assert_eq!(asked(&token(&claims())).await, format!("/purchases?limit=100&userid={}", ID.replace('-', "%2D")));
    assert_eq!(asked(&admin()).await, "/purchases?limit=100");
}

#[tokio::test]
async fn anothers_purchase_is_not_there() {
    for (owner, status) in [(ID, 200), (OTHER, 404)] {
        let server = server(&Signer::new(), owner).await;
        let path = format!("/purchases/{PURCHASE}");
        assert_eq!(get(&server, &path, &token(&claims())).await.status, status);
        let read = get(&server, &path, &admin()).await;
        assert_eq!((read.status, read.header("cache-control")), (200, "private, no-cache"));
    }
}

#[tokio::test]
async fn each_item_of_a_batch_is_the_buyers_own_or_refused() {
    let server = server(&Signer::new(), ID).await;
    let body = format!("[{},{}]", bought_by(ID), bought_by(OTHER));
    let answer = buy(&server, body, "/buy/batch", &token(&claims())).await;
    let statuses: Vec<_> =
        answer.json()["results"].as_array().unwrap().iter().map(|item| item["status"].clone()).collect();
    assert_eq!((answer.status, statuses), (207, vec![json!(202), json!(403)]));
}

#[tokio::test]
async fn a_revoked_token_is_refused_within_five_seconds_also_if_it_was_good_before() {
    let signer = Signer::new();
    let server = server(&signer, ID).await;
    let own = token(&claims());
    assert_eq!(get(&server, "/purchases", &own).await.status, 200);
    signer.revoke(ID);
    let revoked = std::time::Instant::now();
    eventually("it is refused", async || get(&server, "/purchases", &own).await.status == 401).await;
    assert!(revoked.elapsed() < std::time::Duration::from_secs(5), "{:?}", revoked.elapsed());
    assert_eq!(get(&server, "/purchases", &token(&with("sub", OTHER))).await.status, 200, "others stay");
}

#[tokio::test]
async fn what_is_known_of_revoked_tokens_may_not_get_too_old() {
    let server = server(&Signer::new(), ID).await;
    let own = token(&claims());
    assert_eq!(buy(&server, bought_by(ID), "/buy", &own).await.status, 202);
    server.management.answers(|_| FakeAnswer::status(503, "{}"));
    assert_eq!(buy(&server, bought_by(ID), "/buy", &own).await.status, 202, "not at once");
    eventually("nobody is let in", async || buy(&server, bought_by(ID), "/buy", &own).await.status == 503).await;
    assert!(server.metric("token_revocations_age_seconds").await.unwrap() > 2.0);
    Signer::new().serve(&server);
    eventually("it goes on", async || buy(&server, bought_by(ID), "/buy", &own).await.status == 202).await;
}

#[tokio::test]
async fn administrators_see_how_the_replicas_do() {
    let server = Server::start().await;
    Signer::new().serve_with(&server, |_| FakeAnswer::ok("{}"));
    server.client.get("/backends").await.problem("unauthorized");
    get(&server, "/backends", &token(&claims())).await.problem("forbidden");
    server.client.get("/purchases").await;
    let answer = get(&server, "/backends", &admin()).await;
    let replicas = answer.json()["replicas"].as_array().cloned().unwrap();
    let [replica] = replicas.as_slice() else { panic!("{replicas:?}") };
    assert_eq!(
        (&replica["address"], &replica["state"]),
        (&json!(server.management.address.to_string()), &json!("in_use"))
    );
    assert!(
        replica["latency_ms"].as_f64().is_some_and(|latency| latency > 0.0) && replica["in_flight"] == 0,
        "{replica}"
    );
    assert!(matches!(replica, Value::Object(members) if members.len() == 4));
}
