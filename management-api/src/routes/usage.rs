//! How much keys are used: what web-server has counted, and what it all comes to.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode, Uri};
use shared::api_keys::{Day, UsageAnswer, UsageFlush};
use shared::event::{FieldError, Timestamp};
use shared::http::{Problem, Query};

use super::accounts::{AccountProblems, BodyProblems};
use super::api_keys::{keys, problem};
use super::openapi::Unauthorized;
use crate::state::App;
use crate::store::UsageQuery;

/// Room for the most counts.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// The most days of an answer, how many it has when nobody says, and the most rows.
const DAYS: (i64, u32) = (366, 30);
const ROWS_MAX: u32 = 1000;

/// Adds what was counted. The same id again adds nothing.
#[utoipa::path(
    post, path = "/internal/usage", tag = "api keys", security((), ("token" = [])),
    request_body = UsageFlush,
    responses((status = 204, description = "It is added, now or before"), AccountProblems, BodyProblems, Unauthorized)
)]
pub(super) async fn add_usage(State(app): State<App>, headers: HeaderMap, body: Body) -> Result<StatusCode, Problem> {
    let body = app.read_body(&headers, body, BODY_BYTES_MAX).await?;
    let bad = || Problem::invalid(vec![FieldError::new("body", "must be a flush of each key, day and class once")]);
    let flush: UsageFlush = serde_json::from_slice(&body).map_err(|_| bad())?;
    let mut places: Vec<_> = flush.counts.iter().map(|count| (count.key_id, count.day, count.class)).collect();
    places.sort_unstable();
    places.dedup();
    if places.len() < flush.counts.len() || places.len() > UsageFlush::COUNTS_MAX {
        return Err(bad());
    }
    keys(&app)?.add_usage(&flush).await.map_err(problem)?;
    Ok(StatusCode::NO_CONTENT)
}

/// How much keys were used, by day.
#[utoipa::path(
    get, path = "/internal/usage", tag = "api keys", security((), ("token" = [])),
    params(
        ("account_id" = Option<Uuid>, Query, nullable = false, description = "Of this account's keys alone"),
        ("key_id" = Option<Uuid>, Query, nullable = false, description = "Of this key alone"),
        ("from" = Option<Day>, Query, nullable = false, description = "The first day; 30 days up to the last when not given"),
        ("to" = Option<Day>, Query, nullable = false, description = "The last day; today when not given"),
    ),
    responses((status = 200, description = "At most 1000 rows", body = UsageAnswer), AccountProblems, Unauthorized)
)]
pub(super) async fn list_usage(State(app): State<App>, uri: Uri) -> Result<Json<UsageAnswer>, Problem> {
    let mut query = Query::new(&uri);
    let (account_id, key_id) = (query.id("account_id"), query.id("key_id"));
    let to = query.parsed("to", str::parse::<Day>).unwrap_or_else(|| Day::of(Timestamp::now()));
    let from = query.parsed("from", str::parse::<Day>).unwrap_or_else(|| to.before(DAYS.1 - 1));
    if !(0..DAYS.0).contains(&to.since(from)) {
        query.refuse(FieldError::new("from", format!("must be at most {} days, with the last one, before to", DAYS.0)));
    }
    query.finish()?;
    let query = UsageQuery { account_id, key_id, from, to, limit: ROWS_MAX };
    keys(&app)?.usage(query).await.map(Json).map_err(problem)
}
