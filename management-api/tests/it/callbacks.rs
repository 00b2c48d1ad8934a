//! Callbacks as receivers see them: what is sent, what becomes of it, and where nothing is ever sent.

mod encrypted;
mod hostile;
mod receiver;
#[path = "../../../deployment/callbacks/verify.rs"]
mod verify;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use management_api::callbacks::sending::{
    AttemptOutcome, CallbackClient, CallbackRequest, SendingConfig, Unreachable, new_secret,
};
use shared::callbacks::{CallbackUrl, Schemes};
use shared::config::Settings;
use shared::testing::eventually;
use standardwebhooks::Webhook;
use uuid::Uuid;

use self::receiver::{FakeResolver, Receiver, Reply, Seen, answer};
use self::verify::{WebhookHeaders, is_genuine};
use crate::harness::{Api, Kafka, config as service_config};

const BODY: &str = r#"{"type":"purchase.recorded","data":{"username":"Ünïcøde"}}"#;
/// The shortest that an attempt may take.
const SHORTEST: &str = "1000";

/// The settings of a client, with these and a new secret unless there is one among them.
fn config(pairs: &[(&str, &str)]) -> SendingConfig {
    let secret = new_secret();
    let mut all = vec![("CALLBACK_SIGNING_SECRET", secret.expose().as_str())];
    all.extend(pairs);
    let mut settings = Settings::from_pairs(all);
    let config = SendingConfig::read(&mut settings).unwrap();
    settings.finish().unwrap();
    config
}

/// A client that may call this machine over http.
fn local_client(pairs: &[(&str, &str)]) -> CallbackClient {
    let local = [("CALLBACK_ALLOW_HTTP", "true"), ("CALLBACK_ALLOW_PRIVATE", "true")];
    CallbackClient::new(&config(&[&local, pairs].concat()))
}

fn url(text: &str) -> CallbackUrl {
    CallbackUrl::parse(text, Schemes::HttpToo).unwrap_or_else(|error| panic!("{text}: {error}"))
}

async fn send(client: &CallbackClient, url: &CallbackUrl) -> AttemptOutcome {
    let (id, body) = (Uuid::now_v7(), Bytes::from_static(BODY.as_bytes()));
    client.send(&CallbackRequest { id, url, body, traceparent: None }).await
}

/// What becomes of one callback whose receiver answers so.
async fn outcome_of(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> AttemptOutcome {
    let receiver = Receiver::start(reply).await;
    send(&local_client(&[("CALLBACK_TIMEOUT_MS", SHORTEST)]), &url(&format!("http://{}/", receiver.address))).await
}

#[tokio::test]
async fn what_is_sent_is_a_signed_post_to_the_host_that_was_named() {
    let receiver = Receiver::willing().await;
    let secret = new_secret();
    let config = config(&[
        ("CALLBACK_SIGNING_SECRET", secret.expose()),
        ("CALLBACK_ALLOW_HTTP", "true"),
        ("CALLBACK_ALLOW_PRIVATE", "true"),
    ]);
    let client = CallbackClient::with_resolver(&config, FakeResolver::new([&[receiver.address]]));
    let (id, url) = (Uuid::now_v7(), url("http://Shop.test:80/paid?order=1"));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let body = Bytes::from_static(BODY.as_bytes());
    let callback = CallbackRequest { id, url: &url, body, traceparent: Some(traceparent) };
    assert_eq!(client.send(&callback).await, AttemptOutcome::Delivered);
    let seen = receiver.seen().pop().unwrap();
    assert_eq!(seen.request_line, "POST /paid?order=1 HTTP/1.1");
    assert_eq!(seen.body, BODY.as_bytes());
    for (name, value) in [
        ("host", "shop.test"),
        ("content-type", "application/json"),
        ("webhook-id", id.to_string().as_str()),
        ("traceparent", traceparent),
    ] {
        assert_eq!(seen.headers[name], value, "{name}");
    }
    assert!(seen.headers["user-agent"].starts_with("purchase-callbacks/"));
    assert_receivers_take_it(&seen, secret.expose(), &config);
}

/// By a library of the specification, and by what receivers are told to do themselves.
fn assert_receivers_take_it(seen: &Seen, keys: &str, config: &SendingConfig) {
    let headers: HeaderMap = seen
        .headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
        .collect();
    let secret = keys.split(' ').next().unwrap();
    Webhook::new(secret).unwrap().verify(&seen.body, &headers).unwrap();
    let [id, timestamp, signature] =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| seen.headers[name].as_str());
    let headers = WebhookHeaders { id, timestamp, signature };
    let public = &config.rules().keys[0].webhook_public_key;
    for key in [secret, public] {
        assert!(is_genuine(key, &headers, &seen.body), "{key}");
        assert!(!is_genuine(key, &headers, b"another body"));
        assert!(!is_genuine(key, &WebhookHeaders { id: "another", ..headers }, &seen.body));
        assert!(!is_genuine(key, &WebhookHeaders { timestamp: "1614265330", ..headers }, &seen.body));
        assert!(!is_genuine(key, &WebhookHeaders { signature: "v1,AAAA v1a,AAAA v2,x y", ..headers }, &seen.body));
    }
    let other = new_secret();
    assert!(!is_genuine(other.expose().split(' ').next().unwrap(), &headers, &seen.body));
}

#[tokio::test]
async fn the_answer_decides_what_becomes_of_it() {
    let refused = |status, seconds: Option<u64>| {
        let retry_after = seconds.map(Duration::from_secs);
        AttemptOutcome::Refused { status, retry_after }
    };
    for (status, headers, outcome) in [
        ("200 OK", "", AttemptOutcome::Delivered),
        ("202 Accepted", "", AttemptOutcome::Delivered),
        ("299 Odd", "", AttemptOutcome::Delivered),
        ("410 Gone", "", AttemptOutcome::Gone),
        ("404 Not Found", "", refused(404, None)),
        ("500 Internal Server Error", "", refused(500, None)),
        ("503 Unavailable", "retry-after: 120\r\n", refused(503, Some(120))),
        ("429 Too Many", "Retry-After: 999999\r\n", refused(429, Some(86_400))),
        ("503 Unavailable", "retry-after: Fri, 30 Jan 2026 10:00:00 GMT\r\n", refused(503, Some(0))),
        ("503 Unavailable", "retry-after: soon\r\n", refused(503, None)),
    ] {
        assert_eq!(outcome_of(move |_| answer(status, headers)).await, outcome, "{status} {headers}");
    }
    let no_content = || Reply::Answer("HTTP/1.1 204 No Content\r\n\r\n".to_owned());
    assert_eq!(outcome_of(move |_| no_content()).await, AttemptOutcome::Delivered);
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_ends_at_the_deadline() {
    assert_eq!(outcome_of(|_| Reply::Hang).await, AttemptOutcome::Timeout);
    assert_eq!(outcome_of(|_| Reply::Drip("HTTP/1.1 200 OK\r\nx: ".to_owned())).await, AttemptOutcome::Timeout);
    let early = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(5);
    assert_eq!(
        outcome_of(move |_| Reply::Drip(early.clone())).await,
        AttemptOutcome::Unreachable(Unreachable::BadAnswer)
    );
}

#[tokio::test]
async fn an_answer_that_is_none_is_told_apart_from_no_answer() {
    for (text, reason) in [
        ("", Unreachable::NoAnswer),
        ("HTTP/1.1 200", Unreachable::NoAnswer),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", Unreachable::BadAnswer),
        ("HTTP/1.1 two hundred\r\n\r\n", Unreachable::BadAnswer),
    ] {
        let outcome = outcome_of(move |_| Reply::Close(text.to_owned())).await;
        assert_eq!(outcome, AttemptOutcome::Unreachable(reason), "{text}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    for head in [many, large] {
        let outcome = outcome_of(move |_| Reply::Answer(head.clone())).await;
        assert_eq!(outcome, AttemptOutcome::Unreachable(Unreachable::BadAnswer));
    }
}

#[tokio::test]
async fn nobody_there_is_told_from_nobody_of_that_name() {
    // A port that was ours a moment ago is nobody's.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = url(&format!("http://{free}/"));
    assert_eq!(send(&local_client(&[]), &gone).await, AttemptOutcome::Unreachable(Unreachable::Connection));
    for answers in [FakeResolver::new([]), FakeResolver::new([&[]])] {
        let client = CallbackClient::with_resolver(&config(&[("CALLBACK_ALLOW_HTTP", "true")]), answers);
        let outcome = send(&client, &url("http://nobody.test/")).await;
        assert_eq!(outcome, AttemptOutcome::Unreachable(Unreachable::Name));
    }
    // One of two addresses is enough.
    let receiver = Receiver::willing().await;
    let config = config(&[("CALLBACK_ALLOW_HTTP", "true"), ("CALLBACK_ALLOW_PRIVATE", "true")]);
    let client = CallbackClient::with_resolver(&config, FakeResolver::new([&[free, receiver.address]]));
    assert_eq!(send(&client, &url("http://shop.test/")).await, AttemptOutcome::Delivered);
}

#[tokio::test]
async fn a_receiver_is_called_on_one_connection_again_and_again() {
    let receiver = Receiver::start(|index| match index % 3 {
        0 => answer("200 OK", ""),
        1 => Reply::Answer("HTTP/1.1 500 No\r\ncontent-length: 5\r\n\r\nsorry".to_owned()),
        _ => Reply::Answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned()),
    })
    .await;
    let (client, url) = (local_client(&[]), url(&format!("http://{}/", receiver.address)));
    for _ in 0..20 {
        send(&client, &url).await;
    }
    assert_eq!((receiver.seen().len(), receiver.connections()), (20, 1));
    let ids: BTreeSet<_> = receiver.seen().into_iter().map(|seen| seen.headers["webhook-id"].clone()).collect();
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn a_body_that_nobody_reads_costs_its_connection_alone() {
    let huge = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n".to_owned();
    let endless = "HTTP/1.1 200 OK\r\n\r\n".to_owned();
    for head in [huge, endless] {
        let receiver = Receiver::start(move |_| Reply::Drip(head.clone())).await;
        let (client, url) = (local_client(&[]), url(&format!("http://{}/", receiver.address)));
        for count in 1..=2 {
            assert_eq!(send(&client, &url).await, AttemptOutcome::Delivered, "its status says so");
            assert_eq!(receiver.connections(), count);
        }
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_made_again() {
    // It closes after each answer, without a word before.
    let receiver = Receiver::start(|_| Reply::Close("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned())).await;
    let (client, to) = (local_client(&[]), url(&format!("http://{}/", receiver.address)));
    for _ in 0..5 {
        assert_eq!(send(&client, &to).await, AttemptOutcome::Delivered);
    }
    assert_eq!(receiver.connections(), 5);
    // It closes when the next request is there: that one comes again, by the same name.
    let receiver = Receiver::start(|index| if index == 1 { Reply::Close(String::new()) } else { answer("200 OK", "") });
    let receiver = receiver.await;
    let to = url(&format!("http://{}/", receiver.address));
    for _ in 0..2 {
        assert_eq!(send(&client, &to).await, AttemptOutcome::Delivered);
    }
    let ids: Vec<_> = receiver.seen().into_iter().map(|seen| seen.headers["webhook-id"].clone()).collect();
    assert!(ids.len() == 3 && ids[1] == ids[2] && ids[0] != ids[1], "{ids:?}");
    // A new connection that ends without an answer is not tried twice.
    let silent = Receiver::start(|_| Reply::Close(String::new())).await;
    let outcome = send(&client, &url(&format!("http://{}/", silent.address))).await;
    assert_eq!((outcome, silent.seen().len()), (AttemptOutcome::Unreachable(Unreachable::NoAnswer), 1));
}

#[tokio::test]
async fn connections_that_nobody_needs_are_ended() {
    let receiver = Receiver::willing().await;
    let (client, to) = (local_client(&[]), url(&format!("http://{}/", receiver.address)));
    let calls = (0..5).map(|_| send(&client, &to));
    futures_util::future::join_all(calls).await;
    assert!(receiver.open_connections() > 0);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    eventually("they are ended", async || (receiver.open_connections() == 0).then_some(())).await;
    tokio::time::resume();
    assert_eq!(send(&client, &to).await, AttemptOutcome::Delivered);
    drop(client);
    eventually("it is ended with its client", async || (receiver.open_connections() == 0).then_some(())).await;
}

#[tokio::test]
async fn connections_wait_in_a_limited_number() {
    let receiver = Receiver::willing().await;
    let (client, port) = (local_client(&[]), receiver.address.port());
    // More hosts than places.
    for host in 1..=300 {
        assert_eq!(
            send(&client, &url(&format!("http://127.0.{}.{}:{port}/", host / 200, host % 200 + 1))).await,
            AttemptOutcome::Delivered
        );
    }
    eventually("the oldest are ended", async || (receiver.open_connections() <= 256).then_some(())).await;
}

#[tokio::test]
async fn at_a_time_many_are_called() {
    let receiver = Receiver::willing().await;
    let (client, url) = (Arc::new(local_client(&[])), url(&format!("http://{}/", receiver.address)));
    let calls = (0..50).map(|_| send(&client, &url));
    let outcomes = futures_util::future::join_all(calls).await;
    assert!(outcomes.iter().all(|outcome| *outcome == AttemptOutcome::Delivered), "{outcomes:?}");
    assert!(receiver.connections() <= 50);
}

#[test]
fn an_operator_makes_keys_without_any_setting() {
    let make = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_management-api"));
        // Who makes keys may have none yet, or bad ones.
        command.args(["callbacks", "new-secret"]).env("CALLBACK_SIGNING_SECRET", "changeme");
        let output = command.output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        String::from_utf8(output.stdout).unwrap()
    };
    let (one, other) = (make(), make());
    assert_ne!(one, other);
    assert_eq!(config(&[("CALLBACK_SIGNING_SECRET", &one)]).rules().keys.len(), 1);
    assert_eq!(config(&[("CALLBACK_SIGNING_SECRET", &format!("{other}{one}"))]).rules().keys.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn web_server_is_told_what_callbacks_may_be() {
    let (kafka, folder, secret) = (Kafka::start(), tempfile::tempdir().unwrap(), new_secret());
    let off = Api::start(&kafka, &folder).await.ready().await;
    let told = off.get("/internal/callbacks").await.json();
    assert_eq!(told, serde_json::json!({ "enabled": false, "allow_http": false, "keys": [] }));
    assert!(off.stop().await);
    let settings = [("CALLBACK_SIGNING_SECRET", secret.expose().as_str()), ("CALLBACK_ALLOW_HTTP", "true")];
    let config = service_config(&kafka, &folder, &settings);
    let expected = config.callbacks.rules();
    let on = Api::build(|shutdown| management_api::app::Service::build(config, shutdown)).await.ready().await;
    let told = on.get("/internal/callbacks").await.json();
    assert_eq!(told, serde_json::to_value(expected).unwrap());
    assert_eq!((&told["enabled"], &told["keys"][0]["use"]), (&true.into(), &"sig".into()));
    assert!(on.stop().await);
}
