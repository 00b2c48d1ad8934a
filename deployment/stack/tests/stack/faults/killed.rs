//! Services that are killed, again and again.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use shared::testing::{HttpClient, eventually};
use stack::ledger::Fate;
use stack::load::{Load, LoadPlan};
use stack::service::{Service, make_signing_key};

use crate::deployment::{Deployment, Plan, READY, kill_and_start};
use crate::infra::infra_alone;

/// How long management-api may take to make an account, or a key.
const MADE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn management_api_killed_again_and_again_records_each_purchase_once() {
    let infra = infra_alone().await;
    let mut stack = Plan::new("kill_api").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    let load = Load::start(stack.load(400.0));
    for round in 0..5 {
        stack.wait_recording(&infra.postgres, 50).await;
        kill_and_start(&mut stack.api[round % 2]).await;
        // Odd rounds kill the other one while the group still counts the first one among its members.
        if round % 2 == 1 {
            stack.wait_assigned(2).await;
        }
    }
    // Both at once.
    for service in &mut stack.api {
        service.kill_9();
        service.start_again().expect("it starts");
    }
    stack.wait_assigned(1).await;
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "accepting does not depend on management-api: {:?}", report.statuses);
    assert_eq!(report.statuses.keys().collect::<Vec<_>>(), [&202], "{:?}", report.failures);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_server_killed_under_load_loses_nothing_for_clients_that_repeat_their_key() {
    let infra = infra_alone().await;
    let mut stack = Plan::new("kill_web").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    let load = Load::start(stack.load(800.0));
    let progress = load.progress().clone();
    for round in 0..8 {
        let before = progress.acknowledged();
        eventually("purchases are accepted", async || (progress.acknowledged() > before + 200).then_some(())).await;
        let victim = &mut stack.web[round % 2];
        victim.kill_9();
        // Long enough that both were seen dead by some client.
        tokio::time::sleep(Duration::from_millis(100)).await;
        victim.start_again().expect("it starts");
        victim.wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
    }
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "{:?} {:?}", report.statuses, report.failures);
    assert!(!report.failures.is_empty(), "some attempts were cut off");
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keys_have_bought_is_counted_once_whoever_of_management_api_is_killed() {
    let infra = infra_alone().await;
    let signing_key = infra.folder.path().join("killed-signing-key.pem");
    make_signing_key(&signing_key).unwrap_or_else(|error| panic!("{error}"));
    let plan = Plan::new("kill_counts").with("AUTH", "api_key").with("JWT_SIGNING_KEY_FILE", signing_key.display());
    let mut stack = plan.start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    let api_key = service_key(&stack.api[0]).await;
    // Each web-server has asked about the key: from now on nobody need answer.
    for web in 0..stack.web.len() {
        eventually("the key is known", async || counted(&stack, web, &api_key).await).await;
    }
    let load = Load::start(LoadPlan { api_key: Some(api_key.clone()), ..stack.load(400.0) });
    for round in 0..4 {
        stack.wait_recording(&infra.postgres, 50).await;
        kill_and_start(&mut stack.api[round % 2]).await;
    }
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "{:?} {:?}", report.statuses, report.failures);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
    let rows = u64::try_from(stack.rows(&infra.postgres).await).expect("a count");
    assert_eq!(report.ledger.count(Fate::Acknowledged) as u64, rows, "accepted, and recorded");
    for web in 0..stack.web.len() {
        let purchases = eventually("its use is told", async || counted(&stack, web, &api_key).await).await;
        assert_eq!(purchases, rows, "counted for the key");
    }
}

/// A key that buys for all users.
async fn service_key(api: &Service) -> String {
    let account = json!({ "username": "shop", "email": "shop@example.com", "password": "correct horse" });
    let account = made(api, "/internal/accounts", &account).await;
    let account_id = account["account_id"].as_str().expect("an id");
    let path = format!("/internal/api-keys?account_id={account_id}&may_serve=true");
    let key = made(api, &path, &json!({ "name": "till 7", "scopes": ["buy", "service"] })).await;
    key["api_key"].as_str().expect("a key").to_owned()
}

async fn made(api: &Service, path: &str, body: &Value) -> Value {
    let answer = stack::http::post_json(&api.address(), path, None, &body.to_string(), MADE).await;
    let answer = answer.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    serde_json::from_str(&answer.body).expect("JSON")
}

/// What a web-server says that a key has bought, on whatever days.
async fn counted(stack: &Deployment, web: usize, api_key: &str) -> Option<u64> {
    let url = format!("{}/usage", stack.web[web].base_url());
    let answer = HttpClient::default().request(Method::GET, &url, &[("x-api-key", api_key)], "").await;
    let usage = (answer.status == StatusCode::OK).then(|| answer.json()["usage"].clone())?;
    Some(usage.as_array()?.iter().filter_map(|day| day["purchases"].as_u64()).sum())
}
