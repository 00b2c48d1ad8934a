//! Callbacks through all of it: from `POST /buy` to the receiver, and what happens when that is not well.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use shared::testing::{CallbackAnswer, CallbackReceiver, eventually};
use tempfile::TempDir;

use crate::accounts::{ADMIN, Program};

/// Keys of `management-api callbacks new-secret`, of no use but here.
const SECRET: &str = "whsec_bm90IGEgc2VjcmV0IG9mIGFueWJvZHksIGp1c3QgYSB0ZXN0";

/// Retries come soon, and a second is for ever.
async fn start(data: &Path, more: &[(&str, &str)]) -> Program {
    let settings = [
        ("CALLBACK_SIGNING_SECRET", SECRET),
        ("CALLBACK_ALLOW_HTTP", "true"),
        ("CALLBACK_ALLOW_PRIVATE", "true"),
        ("CALLBACK_RETRY_FIRST_MS", "50"),
        ("CALLBACK_TIMEOUT_MS", "1000"),
    ];
    Program::start_set(data, &[&settings, more].concat()).await
}

fn purchase(number: u32, url: &str) -> Value {
    json!({ "username": "ann", "userid": format!("user-{number}"), "price": 19.9, "callback_url": url })
}

/// Buys, and gives the purchase's id.
async fn buy(program: &Program, number: u32, url: &str) -> String {
    let answer = program.post("/buy", &purchase(number, url)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["purchase_id"].as_str().unwrap().to_owned()
}

/// Waits until the receiver has so many callbacks of different ids.
async fn received(receiver: &CallbackReceiver, count: usize) {
    eventually("the callbacks are there", async || (receiver.times_by_id().len() >= count).then_some(())).await;
}

async fn metric(program: &Program, series: &str) -> f64 {
    program.http.get(&format!("{}/metrics", program.management_url)).await.metric(series).unwrap_or_default()
}

async fn metric_reaches(program: &Program, series: &str, least: f64) {
    let reaches = async || (metric(program, series).await >= least).then_some(());
    eventually(&format!("{series} is {least}"), reaches).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_is_called_back_once_with_what_was_recorded() {
    let (folder, receiver) = (TempDir::new().unwrap(), CallbackReceiver::start(|_| CallbackAnswer::Status(200)).await);
    let program = start(folder.path(), &[]).await;
    let id = buy(&program, 1, &receiver.url("/paid?order=7")).await;
    received(&receiver, 1).await;
    let told = &receiver.received()[0];
    assert_eq!((told.id.as_str(), told.path.as_str()), (id.as_str(), "/paid"));
    let body = told.json();
    assert_eq!((&body["type"], &body["data"]["purchase_id"]), (&json!("purchase.recorded"), &json!(id)));
    assert_eq!(body["timestamp"], body["data"]["recorded_at"]);
    assert!(body["data"].get("callback_url").is_none(), "{body}");
    assert!(told.headers["webhook-signature"].to_str().unwrap().starts_with("v1,"));
    // Who reads it is not told where its buyer is called back.
    let read = program.http.get(&format!("{}/purchases/{id}", program.url)).await;
    assert!(read.status == 200 && !read.text().contains("callback"), "{}", read.text());
    metric_reaches(&program, r#"callbacks_total{outcome="delivered"}"#, 1.0).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_calls_nobody_back_and_another_url_under_the_same_key_is_refused() {
    let (folder, receiver) = (TempDir::new().unwrap(), CallbackReceiver::start(|_| CallbackAnswer::Status(204)).await);
    let program = start(folder.path(), &[]).await;
    let (url, headers) =
        (format!("{}/buy", program.url), [("content-type", "application/json"), ("idempotency-key", "k")]);
    let send = async |body: Value| program.http.request(Method::POST, &url, &headers, body.to_string()).await.status;
    assert_eq!(send(purchase(1, &receiver.url("/a"))).await, 201);
    assert_eq!(send(purchase(1, &receiver.url("/a"))).await, 201);
    assert_eq!(send(purchase(1, &receiver.url("/b"))).await, 422);
    let without = json!({ "username": "ann", "userid": "user-1", "price": 19.9 });
    assert_eq!(send(without).await, 422);
    buy(&program, 2, &receiver.url("/last")).await;
    received(&receiver, 2).await;
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_called_back_is_refused_before_it_is_bought() {
    let folder = TempDir::new().unwrap();
    let program = Program::start_set(folder.path(), &[("CALLBACK_SIGNING_SECRET", SECRET)]).await;
    for url in ["http://shop.example/", "https://user@shop.example/", "ftp://shop.example/", "nothing", "https:///x"] {
        let answer = program.post("/buy", &purchase(1, url)).await;
        assert_eq!(answer.status, 400, "{url}: {}", answer.text());
        assert_eq!(answer.json()["errors"][0]["field"], "callback_url", "{url}");
    }
    let escaped = r#"{"username":"n","userid":"u","price":1,"callback\u005furl":"http://shop.example/"}"#;
    let answer = program.http.post_json(&format!("{}/buy", program.url), escaped).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let batch = json!([purchase(1, "https://shop.example/"), purchase(2, "gopher://shop.example/")]);
    let answer = program.post("/buy/batch", &batch).await;
    let statuses: Vec<_> =
        answer.json()["results"].as_array().unwrap().iter().map(|item| item["status"].clone()).collect();
    assert_eq!(statuses, [201, 400], "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_is_tried_again_under_the_same_id_and_one_that_is_gone_is_not() {
    let folder = TempDir::new().unwrap();
    let seen = AtomicUsize::new(0);
    let receiver = CallbackReceiver::start(move |callback| match callback.path.as_str() {
        "/gone" => CallbackAnswer::Status(410),
        "/moved" => CallbackAnswer::Status(307),
        _ if seen.fetch_add(1, Ordering::Relaxed) < 2 => CallbackAnswer::Status(503),
        _ => CallbackAnswer::Status(200),
    })
    .await;
    let program = start(folder.path(), &[]).await;
    let gone = buy(&program, 1, &receiver.url("/gone")).await;
    let failing = buy(&program, 2, &receiver.url("/failing")).await;
    metric_reaches(&program, r#"callbacks_total{outcome="delivered"}"#, 1.0).await;
    metric_reaches(&program, r#"callbacks_total{outcome="dead"}"#, 1.0).await;
    let times = receiver.times_by_id();
    assert_eq!((times[&gone], times[&failing]), (1, 3));
    let attempts: Vec<_> = receiver.received().into_iter().filter(|callback| callback.id == failing).collect();
    assert!(attempts.windows(2).all(|pair| pair[0].body == pair[1].body));
    buy(&program, 3, &receiver.url("/moved")).await;
    metric_reaches(&program, r#"callback_attempts_total{outcome="refused"}"#, 4.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_holds_up_no_other() {
    let folder = TempDir::new().unwrap();
    let hanging = CallbackReceiver::start(|_| CallbackAnswer::Never).await;
    let well = CallbackReceiver::start(|_| CallbackAnswer::Status(200)).await;
    let program = start(folder.path(), &[("CALLBACK_TIMEOUT_MS", "60000"), ("CALLBACKS_IN_FLIGHT_MAX", "8")]).await;
    let items: Vec<Value> = (0..100).map(|number| purchase(number, &hanging.url("/"))).collect();
    assert_eq!(program.post("/buy/batch", &json!(items)).await.status, 201);
    received(&hanging, 1).await;
    for number in 0..50 {
        buy(&program, number, &well.url("/")).await;
    }
    received(&well, 50).await;
    assert!(hanging.times_by_id().len() < 8, "{:?}", hanging.times_by_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_every_callback_is_delivered_at_least_once() {
    let folder = TempDir::new().unwrap();
    let receiver = CallbackReceiver::start(|_| CallbackAnswer::Later(Duration::from_millis(20))).await;
    let (mut bought, mut program) = (Vec::new(), start(folder.path(), &[]).await);
    for round in 0..2 {
        let items: Vec<Value> = (0..100).map(|number| purchase(number, &receiver.url("/"))).collect();
        let answer = program.post("/buy/batch", &json!(items)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let results = answer.json();
        let ids = results["results"].as_array().unwrap().iter();
        bought.extend(ids.map(|item| item["purchase_id"].as_str().unwrap().to_owned()));
        received(&receiver, round * 100 + 20).await;
        // kill -9, with attempts on their way.
        drop(program);
        program = start(folder.path(), &[]).await;
    }
    received(&receiver, 200).await;
    bought.sort_unstable();
    let times = receiver.times_by_id();
    assert_eq!(times.keys().cloned().collect::<Vec<_>>(), bought);
    let settled = async || (metric(&program, "callbacks_waiting").await == 0.0).then_some(());
    eventually("nothing is left", settled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_listed_and_sent_again_by_administrators() {
    let folder = TempDir::new().unwrap();
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let receiver =
        CallbackReceiver::start(move |_| CallbackAnswer::Status(if well.load(Ordering::Relaxed) { 200 } else { 500 }))
            .await;
    let program = start(folder.path(), &[("CALLBACK_GIVE_UP_MS", "300")]).await;
    let host = receiver.address.to_string();
    let bought = buy(&program, 1, &receiver.url("/")).await;
    metric_reaches(&program, r#"callbacks_total{outcome="dead"}"#, 1.0).await;
    let login = program.login(ADMIN).await.json();
    let token = &login["access_token"];
    let listed = program.with_token(Method::GET, "/callbacks", token).await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    assert_eq!(listed.json()["callbacks"][0]["purchase_id"], json!(bought));
    assert_eq!(listed.json()["callbacks"][0]["host"], json!(host));
    assert_eq!(program.http.get(&format!("{}/callbacks", program.url)).await.status, 401);
    // Its host has failed for as long as it may: what comes now is not even tried.
    eventually("the host is switched off", async || {
        buy(&program, 2, &receiver.url("/")).await;
        let hosts = program.with_token(Method::GET, "/callbacks/hosts", token).await.json();
        hosts["hosts"][0]["switched_off_at"].is_string().then_some(())
    })
    .await;
    is_well.store(true, Ordering::Relaxed);
    let before = receiver.times_by_id().len();
    let post = async |path: &str, body: Value| {
        let authorization = format!("Bearer {}", token.as_str().unwrap());
        let headers = [("content-type", "application/json"), ("authorization", authorization.as_str())];
        program.http.request(Method::POST, &format!("{}{path}", program.url), &headers, body.to_string()).await
    };
    let switched = post("/callbacks/hosts/switch-on", json!({ "host": host })).await;
    assert_eq!(switched.status, 204, "{}", switched.text());
    assert_eq!(post("/callbacks/hosts/switch-on", json!({ "host": host })).await.status, 404);
    assert_eq!(post("/callbacks/resend", json!({})).await.status, 400);
    let everything = json!({ "since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z", "host": host });
    eventually("all of them are delivered", async || {
        let resent = post("/callbacks/resend", everything.clone()).await;
        assert_eq!(resent.status, 200, "{}", resent.text());
        let left = program.with_token(Method::GET, "/callbacks", token).await.json();
        let is_empty = left["callbacks"].as_array().unwrap().is_empty();
        (is_empty && metric(&program, r#"callbacks_total{outcome="delivered"}"#).await >= 1.0).then_some(())
    })
    .await;
    assert!(receiver.times_by_id().len() >= before);
    // A delivered one can be sent again, too.
    let times = receiver.times_by_id()[&bought];
    assert_eq!(post("/callbacks/resend", json!({ "purchase_id": bought })).await.json()["resent"], 1);
    eventually("it is sent again", async || (receiver.times_by_id()[&bought] > times).then_some(())).await;
}
