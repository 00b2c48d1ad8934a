//! Reads, answered by management-api; its JSON is passed on as it came, with every digit.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use shared::api_keys::RequestClass;
use shared::event::{FieldError, Purchase, PurchasePage, UserPurchases, check_name};
use shared::http::{Cursor, Name, PreferWait, Problem, Query, RequestContext, kinds, parse_wait};
use utoipa::{IntoParams, IntoResponses};
use uuid::Uuid;

use super::conditional::{IfNoneMatch, Keep, NotModified, answer};
use super::recent_purchase::wants_fresh;
use crate::access::{Asker, AuthMode};
use crate::management_client::Route;
use crate::metrics::Refusal;
use crate::read_cache::UserRead;
use crate::state::AppState;

/// Default and limits of `timeout`, in milliseconds.
const TIMEOUT_MS: (u32, std::ops::RangeInclusive<u32>) = (2_000, 50..=30_000);
/// The most purchases of one answer.
const LIMIT_MAX: u32 = 1_000;

/// The longest cursor that is passed on; management-api knows what a cursor is, and says so.
const CURSOR_BYTES_MAX: usize = 256;

/// Waiting for what is not there yet.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct PreferHeader {
    /// Seconds to wait for the purchase to be recorded, 0 to 30; sets the deadline instead of `timeout`.
    #[param(rename = "Prefer", inline, nullable = false)]
    prefer: Option<PreferWait>,
}

/// How many.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct LimitParameter {
    /// The most purchases of the answer.
    #[param(minimum = 1, maximum = 1000, default = 1000, nullable = false)]
    limit: Option<u32>,
}

/// How long.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct TimeoutParameter {
    /// Milliseconds that the whole call may take.
    #[param(minimum = 50, maximum = 30_000, default = 2_000, nullable = false)]
    timeout: Option<u32>,
}

/// Which page.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct PageParameters {
    /// Only this user's purchases.
    #[param(inline, nullable = false)]
    userid: Option<Name>,
    /// The most purchases of the page.
    #[param(minimum = 1, maximum = 1000, default = 100, nullable = false)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(inline, nullable = false)]
    cursor: Option<Cursor>,
}

/// What can go wrong with every read.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub enum ReadProblems {
    /// Parameters that are out of range: `errors` names them.
    #[response(status = 400)]
    InvalidInput,
    /// No access token or API key where `AUTH` asks for one, or not a good one.
    #[response(status = 401)]
    Unauthorized,
    /// The userid is another's than the token's or key's, or the key's scopes are other ones.
    #[response(status = 403)]
    Forbidden,
    /// Over the caller's rate: `violated-policies` names it.
    #[response(status = 429)]
    TooManyRequests,
    /// No replica of management-api answered in time: `detail` says how each attempt failed.
    #[response(status = 503)]
    Unavailable,
}

/// A user's purchases, newest first, with the count and sum of all of them.
#[utoipa::path(
    get, path = "/getAllUserBuys/{userid}", tag = "reading", security((), ("access_token" = []), ("api_key" = [])),
    params(("userid" = inline(Name), Path), LimitParameter, TimeoutParameter, IfNoneMatch),
    responses(
        (status = 200, description = "Also for a user without purchases", body = UserPurchases), NotModified, ReadProblems
    )
)]
pub async fn list_user_purchases(
    State(app): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut query = Query::new(&parts.uri);
    let Ok(Path(userid)) = path else {
        return Err(Problem::invalid(vec![FieldError::new("userid", "must be UTF-8")]));
    };
    check_userid(&userid, &mut query);
    let limit = query.number("limit", LIMIT_MAX, 1..=LIMIT_MAX);
    let timeout = timeout(&mut query);
    query.finish()?;
    app.asker_for(RequestClass::Read, &parts.extensions)?.require(&userid)?;
    let (target, context) = (
        format!("/users/{}/purchases?limit={limit}", escape(&userid)),
        RequestContext::of(&parts.extensions, &parts.headers),
    );
    let call = |time| {
        // Others may wait for it when this caller has left.
        let (app, target, context) = (Arc::clone(&app), target.clone(), context.clone());
        async move { app.read_shared(Route::UserPurchases, target, time, &context).await }
    };
    let read = if wants_fresh(&parts.headers) {
        call(timeout).await
    } else {
        app.read_cache.get(UserRead { userid, limit, timeout }, call).await
    };
    let body = read.map_err(|reason| app.not_read(reason))?;
    Ok(answer(&parts.headers, body, Keep::AndAsk))
}

/// A page of purchases, newest first; stable while new ones arrive.
#[utoipa::path(
    get, path = "/purchases", tag = "reading", security((), ("access_token" = []), ("api_key" = [])),
    params(PageParameters, TimeoutParameter, IfNoneMatch),
    responses((status = 200, description = "One page", body = PurchasePage), NotModified, ReadProblems)
)]
pub async fn list_purchases(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut query = Query::new(&parts.uri);
    let mut target = format!("/purchases?limit={}", query.number("limit", 100, 1..=LIMIT_MAX));
    let userid = query.text("userid").inspect(|userid| check_userid(userid, &mut query));
    if let Some(cursor) = query.text("cursor") {
        // What is longer could not even be passed on: a URL has its limits, too.
        if cursor.len() > CURSOR_BYTES_MAX {
            query.refuse(FieldError::new("cursor", "must be a next_cursor of an earlier answer"));
        }
        target = format!("{target}&cursor={}", escape(&cursor));
    }
    let timeout = timeout(&mut query);
    query.finish()?;
    let asker = app.asker_for(RequestClass::Read, &parts.extensions)?;
    // Who may read its own alone and names nobody reads its own.
    if let Some(userid) = userid.or_else(|| Some(asker.own_userid()?.to_string())) {
        asker.require(&userid)?;
        target = format!("{target}&userid={}", escape(&userid));
    }
    let context = RequestContext::of(&parts.extensions, &parts.headers);
    let body = app.read(Route::Purchases, target, timeout, &context).await?;
    Ok(answer(&parts.headers, body, Keep::AndAsk))
}

/// One purchase; with `Prefer: wait` as soon as it is recorded.
#[utoipa::path(
    get, path = "/purchases/{purchase_id}", tag = "reading", security((), ("access_token" = []), ("api_key" = [])),
    params(("purchase_id" = Uuid, Path), PreferHeader, TimeoutParameter, IfNoneMatch),
    responses(
        (status = 200, description = "Recorded", body = Purchase),
        NotModified,
        ReadProblems,
        (status = 404, description = "Not recorded (yet), unknown, or no UUID"),
    )
)]
pub async fn find_purchase(
    State(app): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut query = Query::new(&parts.uri);
    let timeout = timeout(&mut query);
    let wait = parse_wait(&parts.headers).unwrap_or_else(|error| {
        query.refuse(error);
        None
    });
    query.finish()?;
    let purchase_id = path.ok().and_then(|Path(text)| Uuid::try_parse(&text).ok());
    let asker = app.asker_for(RequestClass::Read, &parts.extensions)?;
    let Some(purchase_id) = purchase_id else { return Err(no_such_purchase()) };
    let (target, context) =
        (format!("/purchases/{purchase_id}"), RequestContext::of(&parts.extensions, &parts.headers));
    // Over the share of those who wait, a reader is told what there is now.
    let wait = wait.filter(|wait| !wait.is_zero()).and_then(|wait| Some((wait, app.management.reader_place()?)));
    let body = match wait {
        None => app.read(Route::Purchase, target, timeout, &context).await?,
        Some((wait, place)) => tokio::select! {
            found = app.management.get_waiting(target, wait, place, &context) => found?,
            () = app.shutdown.stopped() => return Err(app.refuse(Refusal::Draining)),
        },
    };
    // Another's purchase is told of no more than one that is not there.
    if asker.own_userid().is_some() && !is_of(&asker, &body) {
        return Err(no_such_purchase());
    }
    // Where it matters who reads, a browser's own cache must not answer the next one who uses it.
    let keep = if app.config.auth == AuthMode::Off { Keep::Unchanged } else { Keep::AndAsk };
    Ok(answer(&parts.headers, body, keep))
}

pub(super) fn no_such_purchase() -> Problem {
    Problem::new(kinds::NOT_FOUND, "no such purchase")
}

fn is_of(asker: &Asker, purchase: &[u8]) -> bool {
    serde_json::from_slice(purchase).is_ok_and(|purchase: Purchase| asker.may_act_for(&purchase.userid))
}

fn check_userid(userid: &str, query: &mut Query<'_>) {
    if let Err(message) = check_name(userid) {
        query.refuse(FieldError::new("userid", message));
    }
}

fn timeout(query: &mut Query<'_>) -> Duration {
    let (default, range) = TIMEOUT_MS;
    Duration::from_millis(query.number("timeout", default, range).into())
}

fn escape(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}
