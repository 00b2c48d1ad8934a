//! Rate limits of one server: who is a caller, what is limited, and what callers are told.

use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use web_server::metrics::TASKS;

use crate::harness::{Answer, FakeServer, PromptPublisher, eventually};

const PURCHASE: &str = r#"{"username":"n","userid":"u","price":1}"#;

async fn start(settings: &[(&str, &str)]) -> FakeServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    FakeServer::on(listener, settings, Arc::new(PromptPublisher)).await
}

async fn buy_as(server: &FakeServer, forwarded: &str) -> Answer {
    server.client.post("/buy", PURCHASE).header("x-forwarded-for", forwarded).send().await
}

fn batch(items: usize) -> String {
    format!("[{}]", vec![PURCHASE; items].join(","))
}

#[tokio::test]
async fn who_comes_too_often_is_told_when_to_come_again() {
    let server = start(&[("RATE_LIMIT_PER_SECOND", "5")]).await;
    for left in (0..5).rev() {
        let answer = server.client.buy().await;
        assert_eq!((answer.status, answer.header("ratelimit-policy")), (202, r#""buy";q=5;w=1"#));
        assert_eq!(answer.header("ratelimit").split(';').nth(1), Some(format!("r={left}").as_str()));
    }
    let refused = server.client.buy().await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert_eq!(refused.header("ratelimit-policy"), r#""buy";q=5;w=1"#);
    assert_eq!(refused.header("ratelimit"), r#""buy";r=0;t=1"#);
    assert_eq!(refused.problem("too-many-requests")["violated-policies"], json!(["buy"]));
    assert_eq!(server.metric(r#"http_requests_refused_total{reason="rate"}"#).await, Some(1.0));
    let read = server.client.get("/purchases/x").await;
    assert_eq!(
        (read.status, read.header("ratelimit-policy")),
        (404, r#""read";q=5;w=1"#),
        "reads have a quota of their own"
    );
    eventually("it may buy again", async || server.client.buy().await.status == 202).await;
    eventually("it is counted", async || server.metric("rate_limit_callers").await == Some(1.0)).await;
}

#[tokio::test]
async fn everything_is_limited_but_what_is_open_to_everybody() {
    let server = start(&[("RATE_LIMIT_PER_SECOND", "1")]).await;
    let reads =
        ["/getAllUserBuys/u", "/purchases", "/purchases/x", "/usage", "/api-keys", "/accounts_page", "/backends"];
    for path in reads {
        // What its management-api says does not matter here.
        let ask = async |method| server.client.request(method, path).send_undocumented().await.status;
        eventually("it is limited", async || ask("GET").await == 429).await;
        assert_eq!(ask("HEAD").await, 429, "{path}");
    }
    for (method, path) in
        [("POST", "/api-keys"), ("POST", "/api-keys/x/rotate"), ("DELETE", "/api-keys/x"), ("DELETE", "/account")]
    {
        eventually("it is limited", async || {
            let answer = server.client.request(method, path).send_undocumented().await;
            answer.status == 429 && answer.problem("too-many-requests")["violated-policies"] == json!(["read"])
        })
        .await;
    }
    eventually("buying is limited", async || server.client.buy().await.status == 429).await;
    assert_eq!(server.client.post("/buy/batch", batch(1)).send().await.status, 429, "batches have no other quota");
    for path in ["/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/docs/index.html"] {
        for _ in 0..20 {
            let answer = server.client.get(path).await;
            assert_eq!((answer.status, answer.header("ratelimit")), (200, ""), "{path}");
        }
    }
}

#[tokio::test]
async fn without_the_setting_nobody_is_limited() {
    let server = start(&[]).await;
    for _ in 0..50 {
        let answer = server.client.buy().await;
        assert_eq!((answer.status, answer.header("ratelimit-policy")), (202, ""));
    }
}

#[tokio::test]
async fn a_forged_address_makes_nobody_somebody_else() {
    let server = start(&[("RATE_LIMIT_PER_SECOND", "2")]).await;
    for forged in ["192.0.2.1", "192.0.2.2"] {
        assert_eq!(buy_as(&server, forged).await.status, 202);
    }
    assert_eq!(buy_as(&server, "192.0.2.3").await.status, 429, "its word is not taken");
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_caller_has_a_quota_of_its_own() {
    let server = start(&[("RATE_LIMIT_PER_SECOND", "2"), ("TRUSTED_PROXIES", "127.0.0.0/8,10.0.0.0/8")]).await;
    for caller in ["192.0.2.1", "198.51.100.7"] {
        assert_eq!(buy_as(&server, caller).await.status, 202);
        assert_eq!(
            buy_as(&server, &format!("203.0.113.9, {caller}, 10.0.0.7")).await.status,
            202,
            "what is left of it is hearsay"
        );
        assert_eq!(
            buy_as(&server, &format!("::ffff:{caller}")).await.status,
            429,
            "and IPv4 is IPv4 however it is written"
        );
    }
    for address in ["2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"] {
        assert_eq!(buy_as(&server, address).await.status, 202);
    }
    assert_eq!(buy_as(&server, "2001:db8:0:0:7::").await.status, 429, "a network of IPv6 is one caller");
    assert_eq!(buy_as(&server, "2001:db8:0:1::1").await.status, 202, "another network is another");
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_the_body() {
    let server = start(&[("RATE_LIMIT_PER_SECOND", "1")]).await;
    eventually("the quota is used", async || server.client.buy().await.status == 429).await;
    for path in ["/buy", "/buy/batch"] {
        let mut stream = TcpStream::connect(server.client.address).await.unwrap();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 429");
    }
}

#[tokio::test]
async fn a_batch_costs_as_much_as_it_brings() {
    let server = start(&[("RATE_LIMIT_PER_SECOND", "20")]).await;
    let answer = server.client.post("/buy/batch", batch(8)).send().await;
    assert_eq!((answer.status, answer.header("ratelimit")), (202, r#""buy";r=12;t=1"#));
    let answer = server.client.post("/buy/batch", batch(100)).send().await;
    assert_eq!(answer.status, 202, "it is let in like one purchase, and what is missing is owed");
    let refused = server.client.buy().await;
    assert_eq!(refused.status, 429);
    assert!((3..=6).contains(&refused.header("retry-after").parse::<u32>().unwrap()), "{:?}", refused.headers);
    let refused = server.client.post("/buy/batch", batch(1)).send().await;
    refused.problem("too-many-requests");
    eventually("it is paid", async || server.client.buy().await.status == 202).await;
}

#[tokio::test]
async fn of_batches_that_are_sent_at_once_only_one_makes_debts() {
    let server = start(&[("RATE_LIMIT_PER_SECOND", "20")]).await;
    let mut streams = Vec::new();
    let body = batch(100);
    for _ in 0..4 {
        let mut stream = TcpStream::connect(server.client.address).await.unwrap();
        let head = format!(
            "POST /buy/batch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    eventually("all heads are let in", async || server.metric("http_requests_in_flight").await == Some(5.0)).await;
    let mut answers = Vec::new();
    for mut stream in streams {
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answers.push(answer);
    }
    let refused = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 429 "));
    assert_eq!(refused.count(), 3, "{answers:#?}");
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn limits_go_on_after_their_tasks_have_died() {
    let peers = [("RATE_LIMIT_PEERS", "127.0.0.1:9"), ("RATE_LIMIT_PEER_TOKEN", "hush")];
    let server = start(&[&[("RATE_LIMIT_PER_SECOND", "1000")], &peers[..]].concat()).await;
    for task in ["limiter", "peers"] {
        assert!(TASKS.contains(&task));
        let failures = format!(r#"task_failures_total{{task="{task}"}}"#);
        for times in [1.0, 2.0] {
            server.shutdown.faults().kill(task);
            eventually("its death is counted", async || server.metric(&failures).await == Some(times)).await;
            assert_eq!(server.client.buy().await.status, 202);
        }
    }
    eventually("it works again", async || server.metric(r#"rate_limit_peers{state="silent"}"#).await == Some(1.0))
        .await;
}
