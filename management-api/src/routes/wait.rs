//! Waiting for purchases on behalf of buyers, and looking for them on behalf of who listens.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::event::{FieldError, Purchase, brief};
use shared::http::{Problem, WAIT_MAX, kinds};
use utoipa::ToSchema;
use uuid::Uuid;

use super::openapi::{ReadProblems, Unauthorized};
use super::unavailable;
use crate::state::App;
use crate::waiters::Waiting;

/// The most purchases to wait or look for at once: a whole batch.
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

/// Which purchases.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct FindRequest {
    /// 1 to 500 ids.
    #[schema(min_items = 1, max_items = 500)]
    purchase_ids: Vec<Uuid>,
}

/// Those that are recorded by now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecordedPurchases {
    /// In no particular order.
    purchases: Vec<Purchase>,
}

/// Waits for purchases: answers as soon as all are recorded, or with those that are when time is up.
#[utoipa::path(
    post, path = "/internal/purchases/wait", tag = "reading", security((), ("token" = [])),
    request_body = WaitRequest,
    responses(
        (status = 200, description = "Those that are recorded", body = RecordedPurchases),
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
) -> Result<Json<RecordedPurchases>, Problem> {
    let request: WaitRequest = read(&app, &headers, body).await?;
    let wait = Duration::from_millis(request.wait_ms);
    let mut errors: Vec<_> = check_ids(&request.purchase_ids).err().into_iter().collect();
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
    Ok(Json(RecordedPurchases { purchases }))
}

/// Recorded purchases by their ids.
#[utoipa::path(
    post, path = "/internal/purchases/find", tag = "reading", security((), ("token" = [])), request_body = FindRequest,
    responses(
        (status = 200, description = "Those that are recorded", body = RecordedPurchases),
        (status = 408, description = "The body was too slow"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The body is not `application/json`"),
        ReadProblems, Unauthorized,
    )
)]
pub(super) async fn find_purchases(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RecordedPurchases>, Problem> {
    let FindRequest { purchase_ids } = read(&app, &headers, body).await?;
    check_ids(&purchase_ids).map_err(|error| Problem::invalid(vec![error]))?;
    let purchases = app.store.find_purchases(&purchase_ids).await.map_err(|error| unavailable(&error))?;
    Ok(Json(RecordedPurchases { purchases: purchases.into_iter().map(Purchase::for_readers).collect() }))
}

async fn read<T: DeserializeOwned>(app: &App, headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let body = app.read_body(headers, body, BODY_BYTES_MAX).await?;
    serde_json::from_slice(&body).map_err(|error| Problem::new(kinds::INVALID_INPUT, brief(&error)))
}

fn check_ids(ids: &[Uuid]) -> Result<(), FieldError> {
    let is_within = (1..=IDS_MAX).contains(&ids.len());
    if is_within { Ok(()) } else { Err(FieldError::new("purchase_ids", "must be 1 to 500 ids")) }
}
