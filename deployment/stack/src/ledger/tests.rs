//! The ledger finds what is wrong, and a load against an unreliable server keeps a true one.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use chrono::{SubsecRound, Utc};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Attempt, Difference, Entry, Fate, Ledger, Outcome, verify::Row};
use crate::load::{Load, LoadPlan, Pace};

/// A server that stores purchases and fails in every way: 503 before storing, 504 and a cut connection after it.
#[derive(Debug, Clone, Default)]
struct Shop {
    rows: Arc<Mutex<Vec<Row>>>,
    requests: Arc<AtomicU64>,
}

impl Shop {
    async fn open(self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().route("/buy", post(Self::buy)).with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    async fn buy(State(shop): State<Self>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
        let number = shop.requests.fetch_add(1, Ordering::Relaxed);
        if number % 11 == 3 {
            return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({}))).into_response();
        }
        let row = shop.store(&headers, &body);
        let data = json!({ "timestamp": row.purchased_at });
        match number % 11 {
            5 => (StatusCode::GATEWAY_TIMEOUT, Json(json!({ "purchase_id": row.purchase_id }))).into_response(),
            // The head promises more than the body holds: the client sees the connection end in the middle.
            7 => Response::builder().header("content-length", 1000).body(Body::from_stream(cut())).unwrap(),
            _ => (StatusCode::ACCEPTED, Json(json!({ "purchase_id": row.purchase_id, "data": data }))).into_response(),
        }
    }

    fn store(&self, headers: &HeaderMap, body: &Value) -> Row {
        let key = headers.get("idempotency-key").expect("every purchase has a key").as_bytes();
        // Any id that depends on nothing but the key will do.
        let purchase_id = Uuid::from_u128(key.iter().fold(7, |sum: u128, byte| {
            sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(u128::from(*byte)).rotate_left(13)
        }));
        let mut rows = self.rows.lock().unwrap();
        if let Some(first) = rows.iter().find(|row| row.purchase_id == purchase_id) {
            return first.clone();
        }
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let price = body["price"].to_string().parse().unwrap();
        let purchased_at = Utc::now().trunc_subsecs(3);
        let row = Row { purchase_id, userid: text("userid"), username: text("username"), price, purchased_at };
        rows.push(row.clone());
        row
    }
}

fn cut() -> impl futures_util::Stream<Item = std::io::Result<&'static str>> {
    futures_util::stream::iter([Ok("{"), Err(std::io::Error::other("cut"))])
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_with_the_same_key_end_in_one_row_each() {
    let shop = Shop::default();
    let mut plan = LoadPlan::new(vec![shop.clone().open().await, "127.0.0.1:1".to_owned()], 4);
    plan.purchases_max = Some(300);
    plan.retry_for = Duration::from_mins(1);
    let report = Load::run(plan).await;

    assert_eq!((report.latencies.count(), report.given_up), (300, 0), "{report:?}");
    assert!(report.statuses[&503] > 0 && report.statuses[&504] > 0 && !report.failures.is_empty(), "{report:?}");
    let rows = shop.rows.lock().unwrap().clone();
    let verified = report.ledger.compare(&rows);
    verified.assert_clean();
    assert_eq!((verified.rows, verified.acknowledged), (300, 300));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retries_the_unknown_may_be_recorded_and_the_refused_may_not() {
    let shop = Shop::default();
    let mut plan = LoadPlan::new(vec![shop.clone().open().await], 4);
    plan.pace = Pace::PerSecond(2000.0);
    plan.purchases_max = Some(400);
    let report = Load::run(plan).await;

    let rows = shop.rows.lock().unwrap().clone();
    let verified = report.ledger.compare(&rows);
    verified.assert_clean();
    assert!(verified.unknown_recorded > 0, "{verified}");
    assert_eq!(verified.acknowledged + verified.unknown + report.ledger.count(Fate::Refused), 400);
    assert!(report.elapsed >= Duration::from_millis(199), "400 at 2000 a second: {:?}", report.elapsed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_without_a_limit_ends_when_it_is_stopped() {
    let load = Load::start(LoadPlan::new(vec![Shop::default().open().await], 2));
    while load.progress().acknowledged() < 10 {
        tokio::task::yield_now().await;
    }
    let report = load.stop().await;
    assert!(report.ledger.count(Fate::Acknowledged) >= 10);
}

fn row(username: &str) -> Row {
    let userid = "user".to_owned();
    Row {
        purchase_id: Uuid::new_v4(),
        userid,
        username: username.to_owned(),
        price: Decimal::TEN,
        purchased_at: Utc::now(),
    }
}

fn entry(row: &Row, status: u16) -> Entry {
    let outcome = Outcome::Answered { status, purchase_id: Some(row.purchase_id), timestamp: None };
    let attempt = Attempt { target: 0, begun: Duration::ZERO, took: Duration::ZERO, outcome };
    let (username, userid) = (row.username.clone(), row.userid.clone());
    Entry { username, userid, price: row.price, key: None, attempts: vec![attempt] }
}

#[test]
fn every_kind_of_difference_is_found() {
    let rows = ["kept", "missing", "refused", "dearer", "stranger", "kept"].map(row);
    let mut ledger = Ledger::default();
    ledger.add(entry(&rows[0], 202));
    ledger.add(entry(&rows[1], 201));
    ledger.add(entry(&rows[2], 503));
    ledger.add(Entry { price: Decimal::ONE, ..entry(&rows[3], 202) });

    let stored: Vec<Row> = rows.iter().filter(|row| row.username != "missing").cloned().collect();
    let report = ledger.compare(&stored);
    let has = |wanted: &dyn Fn(&Difference) -> bool| report.differences.iter().any(wanted);
    assert!(has(&|it| matches!(it, Difference::Missing { username } if username == "missing")), "{report}");
    assert!(has(&|it| matches!(it, Difference::RecordedTwice { username, .. } if username == "kept")), "{report}");
    assert!(has(&|it| matches!(it, Difference::RefusedButRecorded { username } if username == "refused")), "{report}");
    assert!(has(&|it| matches!(it, Difference::OtherContent { username, .. } if username == "dearer")), "{report}");
    assert!(has(&|it| matches!(it, Difference::NobodySent { username, .. } if username == "stranger")), "{report}");
    // The second row of "kept" also has another id than the one that was answered.
    assert_eq!(report.differences.len(), 6, "{report}");
    assert!(!report.is_only_incomplete());
}
