//! Waiting for purchases on behalf of buyers.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use shared::event::{FieldError, Purchase, brief};
use shared::http::{BodyLimits, Problem, WAIT_MAX, kinds, read_json_body};
use utoipa::ToSchema;
use uuid::Uuid;

use super::openapi::Unauthorized;
use super::unavailable;
use crate::state::App;
use crate::waiters::Waiting;

/// The most purchases to wait for at once: a whole batch.
const IDS_MAX: usize = 500;
/// Room for as many ids.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Which purchases, and how long.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct WaitRequest {
    /// 1 to 500 ids.
    #[schema(min_items = 1, max_items = 500)]
    purchase_ids: Vec<Uuid>,
    /// At most 30,000.
    #[schema(maximum = 30_000)]
    wait_ms: u64,
}

/// Those that are recorded by now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WaitAnswer {
    /// In no particular order.
    purchases: Vec<Purchase>,
}

/// Waits for purchases: answers as soon as all are recorded, or with those that are when time is up.
#[utoipa::path(
    post, path = "/internal/purchases/wait", tag = "reading", security((), ("token" = [])),
    request_body = WaitRequest,
    responses(
        (status = 200, description = "Those that are recorded", body = WaitAnswer),
        (status = 400, description = "Not JSON, too many ids, or too long a wait"),
        (status = 408, description = "The body was too slow"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The body is not `application/json`"),
        (status = 503, description = "Too many wait and the database does not answer, or there is no room for the answer"),
        Unauthorized,
    )
)]
pub(super) async fn wait_for_purchases(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<WaitAnswer>, Problem> {
    let limits = BodyLimits { bytes: BODY_BYTES_MAX, timeout: app.body_timeout };
    let body = read_json_body(&headers, body, limits, &app.budget).await?;
    let request: WaitRequest =
        serde_json::from_slice(&body).map_err(|error| Problem::new(kinds::INVALID_INPUT, brief(&error)))?;
    let wait = Duration::from_millis(request.wait_ms);
    let mut errors = Vec::new();
    if !(1..=IDS_MAX).contains(&request.purchase_ids.len()) {
        errors.push(FieldError::new("purchase_ids", "must be 1 to 500 ids"));
    }
    if wait > WAIT_MAX {
        errors.push(FieldError::new("wait_ms", "must be at most 30000"));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let ids = &request.purchase_ids;
    let purchases = match app.waiters.wait(Waiting::Buyer, ids, wait).await {
        Some(recorded) => recorded,
        // No place to wait: what is recorded now is told at once.
        None => app.store.find_purchases(ids).await.map_err(|error| unavailable(&error))?,
    };
    Ok(Json(WaitAnswer { purchases }))
}
