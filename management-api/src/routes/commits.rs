//! Following the log of commits, on behalf of web-server.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use shared::commits::{CommitPage, CommitPosition};
use shared::event::{FieldError, Purchase, brief};
use shared::http::{BodyLimits, PreferWait, Problem, Query, kinds, parse_wait, read_json_body};
use utoipa::ToSchema;
use uuid::Uuid;

use super::openapi::{ReadProblems, Unauthorized};
use super::unavailable;
use crate::state::App;

/// The most purchases to look for at once.
const IDS_MAX: usize = 500;
/// Room for as many ids.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Which purchases.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct FindRequest {
    /// 1 to 500 ids.
    #[schema(min_items = 1, max_items = 500)]
    purchase_ids: Vec<Uuid>,
}

/// Those that are recorded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FoundPurchases {
    /// In no particular order.
    purchases: Vec<Purchase>,
}

/// What was committed after a position, by whichever replica; with `Prefer: wait` as soon as there is something.
#[utoipa::path(
    get, path = "/internal/commits", tag = "reading", security((), ("token" = [])),
    params(
        ("after" = Option<String>, Query, nullable = false, description = "A position; without it, the answer is that of now"),
        ("Prefer" = inline(Option<PreferWait>), Header, nullable = false, description = "`wait=SECONDS`, 0 to 30"),
    ),
    responses(
        (status = 200, description = "What comes next, or that the position is unknown or no longer served", body = CommitPage),
        ReadProblems, Unauthorized,
    )
)]
pub(super) async fn follow_commits(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<CommitPage>, Problem> {
    let wait = parse_wait(&headers).map_err(|error| Problem::invalid(vec![error]))?.unwrap_or_default();
    let mut query = Query::new(&uri);
    let after: Option<Result<CommitPosition, _>> = query.text("after").map(|text| text.parse());
    if matches!(after, Some(Err(_))) {
        query.refuse(FieldError::new("after", "must be a position in the log of commits"));
    }
    query.finish()?;
    let page = match after.and_then(Result::ok) {
        Some(after) => app.commits.follow(&after, wait).await,
        None => app.commits.begin().await,
    };
    page.map(Json).map_err(|error| unavailable(&error))
}

/// Recorded purchases by their ids.
#[utoipa::path(
    post, path = "/internal/purchases/find", tag = "reading", security((), ("token" = [])), request_body = FindRequest,
    responses(
        (status = 200, description = "Those that are recorded", body = FoundPurchases),
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
) -> Result<Json<FoundPurchases>, Problem> {
    let limits = BodyLimits { bytes: BODY_BYTES_MAX, timeout: app.body_timeout };
    let body = read_json_body(&headers, body, limits, &app.budget).await?;
    let FindRequest { purchase_ids } =
        serde_json::from_slice(&body).map_err(|error| Problem::new(kinds::INVALID_INPUT, brief(&error)))?;
    if !(1..=IDS_MAX).contains(&purchase_ids.len()) {
        return Err(Problem::invalid(vec![FieldError::new("purchase_ids", "must be 1 to 500 ids")]));
    }
    let purchases = app.store.find_purchases(&purchase_ids).await.map_err(|error| unavailable(&error))?;
    Ok(Json(FoundPurchases { purchases }))
}
