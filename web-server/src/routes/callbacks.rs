//! Callbacks that were given up, and hosts that fail: for administrators. management-api keeps them.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use shared::callbacks::{DeadCallbackPage, FailingHosts, HostBody, ResendAnswer, ResendBody};
use shared::event::Timestamp;
use shared::http::{Problem, RequestContext, kinds};
use utoipa::IntoResponses;

use super::accounts::{BodyProblems, json, read, read_told, told_or};
use crate::state::{App, AppState};

/// How long management-api may take: it may send twenty thousand again.
const DEADLINE: Duration = Duration::from_secs(10);

/// What can go wrong with what is for administrators.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub(super) enum AdminProblems {
    /// No access token, or not a good one.
    #[response(status = 401)]
    Unauthorized,
    /// Not an administrator's.
    #[response(status = 403)]
    Forbidden,
    /// Over the caller's rate.
    #[response(status = 429)]
    TooMany,
    /// Nobody answers, or accounts are not set up.
    #[response(status = 503)]
    Unavailable,
    /// Nobody answered in time, and it may have been done all the same; to do it again is safe.
    #[response(status = 504)]
    OutcomeUnknown,
}

/// Callbacks that are not tried any more, in the order in which their purchases were recorded.
#[utoipa::path(
    get, path = "/callbacks", tag = "callbacks", security(("access_token" = [])),
    params(
        ("since" = Option<Timestamp>, Query, nullable = false, description = "Of purchases recorded from then on"),
        ("until" = Option<Timestamp>, Query, nullable = false, description = "Of purchases recorded before then"),
        ("host" = Option<String>, Query, nullable = false, description = "For this host alone"),
        ("limit" = Option<u32>, Query, nullable = false, minimum = 1, maximum = 1000, description = "100 when not given"),
        ("cursor" = Option<String>, Query, nullable = false, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "One page", body = DeadCallbackPage),
        (status = 400, description = "Parameters that are wrong: `errors` names them"),
        AdminProblems,
    )
)]
pub(super) async fn list_dead(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    check_admin(&app, request.headers()).await?;
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let context = RequestContext::of(request.extensions(), request.headers());
    read_told(&app, format!("/internal/callbacks/dead{query}"), &context).await.map(json)
}

/// Sends callbacks again: one purchase's, whatever became of it, or those of a time that are dead, twenty thousand at a time.
#[utoipa::path(
    post, path = "/callbacks/resend", tag = "callbacks", security(("access_token" = [])), request_body = ResendBody,
    responses(
        (status = 200, description = "They are due", body = ResendAnswer),
        (status = 404, description = "No such purchase is recorded, or it asks for no callback"),
        BodyProblems, AdminProblems,
    )
)]
pub(super) async fn resend(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let not_found = || Problem::new(kinds::NOT_FOUND, "no such purchase is recorded, or it asks for no callback");
    send(&app, "/internal/callbacks/resend", request, not_found).await.map(json)
}

/// Hosts of which nothing was delivered since they failed first; those that are switched off come first.
#[utoipa::path(
    get, path = "/callbacks/hosts", tag = "callbacks", security(("access_token" = [])),
    responses((status = 200, description = "At most a thousand", body = FailingHosts), AdminProblems)
)]
pub(super) async fn list_hosts(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    check_admin(&app, request.headers()).await?;
    let context = RequestContext::of(request.extensions(), request.headers());
    read_told(&app, "/internal/callbacks/hosts".to_owned(), &context).await.map(json)
}

/// Switches a host on that has failed for too long: it gets what waits for it from now on.
#[utoipa::path(
    post, path = "/callbacks/hosts/switch-on", tag = "callbacks", security(("access_token" = [])),
    request_body = HostBody,
    responses(
        (status = 204, description = "It is on"),
        (status = 404, description = "The host does not fail"),
        BodyProblems, AdminProblems,
    )
)]
pub(super) async fn switch_on(State(app): State<AppState>, request: Request) -> Result<StatusCode, Problem> {
    let not_found = || Problem::new(kinds::NOT_FOUND, "this host does not fail");
    send(&app, "/internal/callbacks/hosts/switch-on", request, not_found).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn check_admin(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    app.tokens.check_admin(headers, "callbacks are for administrators to look after").await
}

/// Passes a body on as it came.
async fn send(
    app: &App,
    target: &str,
    request: Request,
    not_found: impl FnOnce() -> Problem,
) -> Result<Bytes, Problem> {
    check_admin(app, request.headers()).await?;
    let (_, context, body) = read(app, request).await?;
    told_or(app.management.command(target.to_owned(), body, DEADLINE, &context).await?, not_found)
}
