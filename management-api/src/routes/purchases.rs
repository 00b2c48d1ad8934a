//! Reading purchases back.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::{HeaderMap, Uri};
use shared::event::{FieldError, Purchase, PurchasePage, UserPurchases, check_name};
use shared::http::{Cursor as PageCursor, Name, PreferWait, Problem, Query, kinds, parse_wait};
use uuid::Uuid;

use super::openapi::{ReadProblems, Unauthorized};
use super::unavailable;
use crate::state::App;
use crate::store::{Cursor, PageQuery};
use crate::waiters::Waiting;

/// The most purchases in one answer.
const LIMIT_MAX: u32 = 1000;
/// How many purchases a page has when the caller does not say.
const PAGE_LIMIT: u32 = 100;

/// The newest purchases of a user, with count and total of all of them.
#[utoipa::path(
    get, path = "/users/{userid}/purchases", tag = "reading", security((), ("token" = [])),
    params(
        ("userid" = inline(Name), Path),
        ("limit" = Option<u32>, Query, nullable = false, minimum = 1, maximum = 1000, description = "Purchases of the answer, default 1000"),
    ),
    responses(
        (status = 200, description = "Also for a user without purchases", body = UserPurchases),
        ReadProblems, Unauthorized,
    )
)]
pub(super) async fn list_user_purchases(
    State(app): State<App>,
    userid: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<UserPurchases>, Problem> {
    let Path(userid) = userid.map_err(|_| bad_path("userid"))?;
    let mut query = Query::new(&uri);
    check_userid(&userid, &mut query);
    let limit = query.number("limit", LIMIT_MAX, 1..=LIMIT_MAX);
    query.finish()?;
    let purchases = app.store.list_user_purchases(&userid, limit).await;
    purchases.map(Json).map_err(|error| unavailable(&error))
}

/// A page of all purchases, or of one user's, newest first.
#[utoipa::path(
    get, path = "/purchases", tag = "reading", security((), ("token" = [])),
    params(
        ("userid" = inline(Option<Name>), Query, nullable = false, description = "Only this user's purchases"),
        ("limit" = Option<u32>, Query, nullable = false, minimum = 1, maximum = 1000, description = "Purchases of the page, default 100"),
        ("cursor" = inline(Option<PageCursor>), Query, nullable = false, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = PurchasePage), ReadProblems, Unauthorized)
)]
pub(super) async fn list_purchases(State(app): State<App>, uri: Uri) -> Result<Json<PurchasePage>, Problem> {
    let mut query = Query::new(&uri);
    let limit = query.number("limit", PAGE_LIMIT, 1..=LIMIT_MAX);
    let userid = query.text("userid").inspect(|userid| check_userid(userid, &mut query));
    let cursor = query.parsed("cursor", Cursor::parse);
    query.finish()?;
    let page = app.store.list_purchases(&PageQuery { userid, limit, cursor }).await;
    page.map(Json).map_err(|error| unavailable(&error))
}

/// One purchase; with `Prefer: wait` as soon as it is recorded.
#[utoipa::path(
    get, path = "/purchases/{purchase_id}", tag = "reading", security((), ("token" = [])),
    params(
        ("purchase_id" = String, Path),
        ("Prefer" = inline(Option<PreferWait>), Header, nullable = false, description = "`wait=SECONDS`, 0 to 30"),
    ),
    responses(
        (status = 200, description = "The purchase", body = Purchase),
        (status = 404, description = "Not recorded, unknown, or not a UUID"),
        ReadProblems, Unauthorized,
    )
)]
pub(super) async fn find_purchase(
    State(app): State<App>,
    purchase_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Purchase>, Problem> {
    let wait = parse_wait(&headers).map_err(|error| Problem::invalid(vec![error]))?.unwrap_or_default();
    let not_recorded = || Problem::new(kinds::NOT_FOUND, "no purchase with this id is recorded");
    let id = purchase_id.ok().and_then(|Path(text)| Uuid::try_parse(&text).ok()).ok_or_else(not_recorded)?;
    let mut found = app.store.find_purchases(&[id]).await.map_err(|error| unavailable(&error))?;
    if found.is_empty() && wait > Duration::ZERO {
        found = app.waiters.wait(Waiting::Reader, &[id], wait).await.unwrap_or_default();
    }
    found.pop().map(|found| Json(found.for_readers())).ok_or_else(not_recorded)
}

/// Nobody else can have a purchase, and not every text can be asked for: no database takes a NUL.
fn check_userid(userid: &str, query: &mut Query<'_>) {
    if let Err(message) = check_name(userid) {
        query.refuse(FieldError::new("userid", message));
    }
}

fn bad_path(field: &'static str) -> Problem {
    Problem::invalid(vec![FieldError::new(field, "must be UTF-8")])
}
