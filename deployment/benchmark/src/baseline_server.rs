//! What web-server is measured against: the same runtime, allocator and body, and no Kafka behind it.

use std::{io, net::SocketAddr};

use axum::{Json, Router, http::StatusCode, routing::post};
use serde::{Deserialize, Serialize};
use serde_json::Number;
use tokio::net::TcpListener;

/// A purchase as it comes in.
#[derive(Deserialize)]
struct Purchase {
    username: String,
    userid: String,
    price: Number,
}

/// An answer of web-server's shape and length; what web-server has to make anew each time is constant here.
#[derive(Serialize)]
struct Answer {
    status: &'static str,
    message: &'static str,
    purchase_id: &'static str,
    data: Data,
    receipt: Receipt,
}

#[derive(Serialize)]
struct Data {
    purchase_id: &'static str,
    userid: String,
    username: String,
    price: Number,
    timestamp: &'static str,
}

#[derive(Serialize)]
struct Receipt {
    topic: &'static str,
    partition: i32,
    offset: i64,
}

/// Serves until it is killed.
///
/// # Errors
/// When it cannot listen.
pub async fn serve(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    axum::serve(listener, Router::new().route("/buy", post(buy))).await
}

async fn buy(Json(purchase): Json<Purchase>) -> (StatusCode, Json<Answer>) {
    const PURCHASE_ID: &str = "01900000-0000-7000-8000-000000000000";
    let Purchase { username, userid, price } = purchase;
    let timestamp = "2026-01-31T12:00:00.000Z";
    let answer = Answer {
        status: "accepted",
        message: "purchase accepted",
        purchase_id: PURCHASE_ID,
        data: Data { purchase_id: PURCHASE_ID, userid, username, price, timestamp },
        receipt: Receipt { topic: "purchases", partition: 3, offset: 1_234_567 },
    };
    (StatusCode::ACCEPTED, Json(answer))
}
