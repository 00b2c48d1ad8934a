//! What web-server needs to know of callbacks, and what administrators see of them and do to them.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode, Uri};
use serde::de::DeserializeOwned;
use shared::callbacks::{CallbackRules, DeadCallbackPage, FailingHosts, HostBody, ResendAnswer, ResendBody};
use shared::event::{FieldError, Timestamp, brief};
use shared::http::{Problem, Query, kinds};

use super::accounts::BodyProblems;
use super::openapi::{ReadProblems, Unauthorized};
use super::unavailable;
use crate::callbacks::{self, OperatorError};
use crate::state::App;
use crate::store::{Cursor, DeadCallbacks, InvalidCursor};

/// Room for the longest host.
const BODY_BYTES_MAX: usize = 8 * 1024;
/// The most callbacks of a page, and how many it has when the caller does not say.
const LIMIT: (u32, u32) = (1000, 100);
/// The most hosts of an answer.
const HOSTS_MAX: usize = 1_000;

/// Whether there are callbacks, where they may go, and what verifies them.
#[utoipa::path(
    get, path = "/internal/callbacks", tag = "callbacks", security((), ("token" = [])),
    responses((status = 200, description = "As the settings have it", body = CallbackRules), Unauthorized)
)]
pub(super) async fn callback_rules(State(app): State<App>) -> Json<CallbackRules> {
    Json(CallbackRules::clone(&app.callbacks))
}

/// Callbacks that are not tried any more, in the order in which their purchases were recorded.
#[utoipa::path(
    get, path = "/internal/callbacks/dead", tag = "callbacks", security((), ("token" = [])),
    params(
        ("since" = Option<Timestamp>, Query, nullable = false, description = "Of purchases recorded from then on"),
        ("until" = Option<Timestamp>, Query, nullable = false, description = "Of purchases recorded before then"),
        ("host" = Option<String>, Query, nullable = false, description = "For this host alone"),
        ("limit" = Option<u32>, Query, nullable = false, description = "1 to 1000; 100 when not given"),
        ("cursor" = Option<String>, Query, nullable = false, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = DeadCallbackPage), ReadProblems, Unauthorized)
)]
pub(super) async fn list_dead(State(app): State<App>, uri: Uri) -> Result<Json<DeadCallbackPage>, Problem> {
    let mut query = Query::new(&uri);
    let limit = query.number("limit", LIMIT.1, 1..=LIMIT.0);
    let (since, until) = (query.parsed("since", Timestamp::parse), query.parsed("until", Timestamp::parse));
    let (host, after) = (query.text("host"), query.parsed("cursor", Cursor::parse));
    // One more than asked for tells whether there is a next page.
    let which = DeadCallbacks { after, ..DeadCallbacks::recorded(since, until, host, limit + 1) };
    query.finish()?;
    let mut callbacks = app.outbox.list_dead_callbacks(&which).await.map_err(|error| unavailable(&error))?;
    let is_last = callbacks.len() <= limit as usize;
    callbacks.truncate(limit as usize);
    let last = callbacks.last().filter(|_| !is_last);
    let next_cursor = last.map(|last| Cursor::after_dead(last).to_string());
    Ok(Json(DeadCallbackPage { callbacks, next_cursor }))
}

/// Sends callbacks again: one purchase's, whatever became of it, or those of a time that are dead, twenty thousand at a time.
#[utoipa::path(
    post, path = "/internal/callbacks/resend", tag = "callbacks", security((), ("token" = [])), request_body = ResendBody,
    responses(
        (status = 200, description = "They are due", body = ResendAnswer),
        (status = 400, description = "Fields that are missing or wrong: `errors` names them"),
        (status = 403, description = "No such purchase is recorded, or it asks for no callback"),
        (status = 503, description = "The database does not answer, and some may be due all the same"),
        BodyProblems, Unauthorized,
    )
)]
pub(super) async fn resend(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ResendAnswer>, Problem> {
    let wish: ResendBody = read(&app, &headers, body).await?;
    let is_of_time = wish.since.is_some() || wish.until.is_some() || wish.host.is_some();
    match (wish.purchase_id, wish.since, wish.until) {
        (Some(purchase_id), ..) if !is_of_time => {
            callbacks::resend_one(&*app.store, &*app.outbox, purchase_id).await.map_err(|error| problem(&error))?;
            Ok(Json(ResendAnswer { resent: 1, next_cursor: None }))
        }
        (None, Some(since), Some(until)) => {
            let after = wish.cursor.as_deref().map(Cursor::parse).transpose();
            let bad = |error: InvalidCursor| Problem::invalid(vec![FieldError::new("cursor", error.to_string())]);
            let which = DeadCallbacks { since, until, host: wish.host, after: after.map_err(bad)?, limit: LIMIT.0 };
            let resent = callbacks::resend_dead(&*app.outbox, &which).await;
            let (resent, next) = resent.map_err(|error| unavailable(&error))?;
            Ok(Json(ResendAnswer { resent, next_cursor: next.map(|next| next.to_string()) }))
        }
        _ => {
            let message = "must be purchase_id, or since and until";
            Err(Problem::invalid(vec![FieldError::new("body", message)]))
        }
    }
}

/// Hosts of which nothing was delivered since they failed first, by name.
#[utoipa::path(
    get, path = "/internal/callbacks/hosts", tag = "callbacks", security((), ("token" = [])),
    responses((status = 200, description = "At most a thousand", body = FailingHosts), ReadProblems, Unauthorized)
)]
pub(super) async fn list_hosts(State(app): State<App>) -> Result<Json<FailingHosts>, Problem> {
    let mut hosts = callbacks::list_hosts(&*app.outbox).await.map_err(|error| unavailable(&error))?;
    // Those that somebody has to do something about come first.
    hosts.sort_by_key(|host| host.switched_off_at.is_none());
    hosts.truncate(HOSTS_MAX);
    Ok(Json(FailingHosts { hosts }))
}

/// Switches a host on, and forgets that it has failed.
#[utoipa::path(
    post, path = "/internal/callbacks/hosts/switch-on", tag = "callbacks", security((), ("token" = [])),
    request_body = HostBody,
    responses(
        (status = 204, description = "It gets what waits for it from now on"),
        (status = 400, description = "Fields that are missing or wrong"),
        (status = 403, description = "The host does not fail"),
        (status = 503, description = "The database does not answer"),
        BodyProblems, Unauthorized,
    )
)]
pub(super) async fn switch_on(State(app): State<App>, headers: HeaderMap, body: Body) -> Result<StatusCode, Problem> {
    let HostBody { host } = read(&app, &headers, body).await?;
    callbacks::switch_on(&*app.outbox, &host).await.map_err(|error| problem(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn read<T: DeserializeOwned>(app: &App, headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let body = app.read_body(headers, body, BODY_BYTES_MAX).await?;
    serde_json::from_slice(&body).map_err(|error| Problem::invalid(vec![FieldError::new("body", brief(&error))]))
}

fn problem(error: &OperatorError) -> Problem {
    match error {
        OperatorError::NotFound(what) => Problem::new(kinds::FORBIDDEN, *what),
        OperatorError::Store(error) => unavailable(error),
    }
}
