//! API keys: an account looks after its own, an administrator after anybody's. management-api keeps them.

use std::time::Duration;

use axum::body::{Bytes, HttpBody as _};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri};
use shared::api_keys::{ApiKeysAnswer, NewApiKeyBody, RotationBody, SecretAnswer};
use shared::http::{Problem, Query, RequestContext, kinds, read_json_body};
use utoipa::{IntoParams, IntoResponses};
use uuid::Uuid;

use super::accounts::{BodyProblems, json, read_told, told_or};
use crate::state::{App, AppState};

/// How long management-api may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// What to do when nobody knows whether a key was made, or has another secret.
const MAYBE_MADE: &str = "the key may be there, and its secret cannot be shown again: list the keys, and revoke it";
const MAYBE_ROTATED: &str = "the key may have a new secret, which cannot be shown again: rotate it with an overlap of 0, or make \
    another key and revoke this one";

/// What can go wrong with what is done to keys.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub(super) enum KeyProblems {
    /// Over the caller's rate (`Retry-After`, `RateLimit`): nothing was done.
    #[response(status = 429)]
    TooMany,
    /// Nothing was done: accounts are not set up, or nobody answers.
    #[response(status = 503)]
    Unavailable,
    /// Nobody answered in time, and it may have been done all the same: `detail` says what to do then. Revoking is safe to repeat.
    #[response(status = 504)]
    OutcomeUnknown,
}

/// Whose keys.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub(super) struct OwnerParameter {
    /// Whose; one's own when not given. Another's is for administrators.
    #[param(nullable = false)]
    account_id: Option<Uuid>,
}

/// Who asks, and for whom.
pub(super) struct Asked {
    /// Whose keys it is about.
    pub account_id: Uuid,
    /// Who asks.
    pub actor: Uuid,
    /// Whether an administrator asks.
    pub is_admin: bool,
}

/// Makes a key. Its secret is in this answer and never again.
#[utoipa::path(
    post, path = "/api-keys", tag = "api keys", security(("access_token" = [])),
    params(OwnerParameter),
    request_body = NewApiKeyBody,
    responses(
        (status = 201, description = "It counts from now on", body = SecretAnswer),
        (status = 401, description = "No access token, or not a good one"),
        (status = 403, description = "The scope `service`, or another's account, and not an administrator's token"),
        (status = 409, description = "The account has as many keys as it may have, or with those that were revoked lately"),
        BodyProblems, KeyProblems,
    )
)]
pub(super) async fn create_key(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let asked = asked(&app, request.headers(), request.uri()).await?;
    let Asked { account_id, actor, is_admin } = asked;
    let target = format!("/internal/api-keys?account_id={account_id}&may_serve={is_admin}&actor={actor}");
    let why = "the scope service and a rate of its own are for administrators to give";
    let forbidden = || Problem::new(kinds::FORBIDDEN, why);
    let made = send(&app, target, request, forbidden).await.map_err(|problem| advise(problem, MAYBE_MADE))?;
    Ok((StatusCode::CREATED, json(made)).into_response())
}

/// The keys of an account, newest first, revoked ones too. Secrets are not among what is told.
#[utoipa::path(
    get, path = "/api-keys", tag = "api keys", security(("access_token" = [])),
    params(OwnerParameter),
    responses(
        (status = 200, description = "All of them", body = ApiKeysAnswer),
        (status = 400, description = "Parameters that are wrong: `errors` names them"),
        (status = 401, description = "No access token, or not a good one"),
        (status = 403, description = "Another's account, and not an administrator's token"),
        (status = 429, description = "Over the caller's rate"),
        (status = 503, description = "Nobody answers, or accounts are not set up"),
    )
)]
pub(super) async fn list_keys(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let asked = asked(&app, &parts.headers, &parts.uri).await?;
    read(&app, &parts, format!("/internal/api-keys?account_id={}", asked.account_id)).await
}

/// Gives a key a new secret, which counts at once. The old one counts on for `overlap_seconds`, and until it is over there is no
/// other rotation than one without overlap, which ends all secrets before.
#[utoipa::path(
    post, path = "/api-keys/{key_id}/rotate", tag = "api keys", security(("access_token" = [])),
    params(("key_id" = Uuid, Path)),
    request_body(content = RotationBody, description = "May be left out"),
    responses(
        (status = 200, description = "It counts from now on", body = SecretAnswer),
        (status = 401, description = "No access token, or not a good one"),
        (status = 403, description = "An outside issuer's token: there is no account here"),
        (status = 404, description = "No such key of this account, or it counts no more"),
        (status = 409, description = "An earlier secret than the present one still counts, and there is to be an overlap"),
        BodyProblems, KeyProblems,
    )
)]
pub(super) async fn rotate_key(
    State(app): State<AppState>,
    key_id: Result<Path<Uuid>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let target = target_of(&app, key_id, request.headers(), "rotate").await?;
    let rotated = send(&app, target, request, no_such_key).await;
    let rotated = rotated.map_err(|problem| advise(problem, MAYBE_ROTATED))?;
    app.tokens.expect_news();
    Ok(json(rotated))
}

/// Revokes a key, for good: within five seconds it counts nowhere.
#[utoipa::path(
    delete, path = "/api-keys/{key_id}", tag = "api keys", security(("access_token" = [])),
    params(("key_id" = Uuid, Path)),
    responses(
        (status = 204, description = "It counts no more"),
        (status = 401, description = "No access token, or not a good one"),
        (status = 403, description = "An outside issuer's token: there is no account here"),
        (status = 404, description = "No such key of this account"),
        KeyProblems,
    )
)]
pub(super) async fn revoke_key(
    State(app): State<AppState>,
    key_id: Result<Path<Uuid>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let target = target_of(&app, key_id, request.headers(), "revoke").await?;
    let context = RequestContext::of(request.extensions(), request.headers());
    told_or(app.management.command(target, Bytes::new(), DEADLINE, &context).await?, no_such_key)?;
    app.tokens.expect_news();
    Ok(StatusCode::NO_CONTENT)
}

/// Who asks, by its access token, and whose keys its `account_id` names.
pub(super) async fn asked(app: &App, headers: &HeaderMap, uri: &Uri) -> Result<Asked, Problem> {
    let claims = app.tokens.check_account(headers).await?;
    let (mut query, is_admin) = (Query::new(uri), claims.is_admin());
    let named = query.id("account_id");
    query.finish()?;
    let account_id = named.unwrap_or(claims.sub);
    if account_id != claims.sub && !is_admin {
        return Err(Problem::new(kinds::FORBIDDEN, "account_id is not your own"));
    }
    Ok(Asked { account_id, actor: claims.sub, is_admin })
}

/// Reads what management-api tells of keys.
pub(super) async fn read(app: &App, head: &Parts, target: String) -> Result<Response, Problem> {
    let context = RequestContext::of(&head.extensions, &head.headers);
    read_told(app, target, &context).await.map(json)
}

/// Where something is done to a key: an administrator does it to anybody's.
async fn target_of(
    app: &App,
    key_id: Result<Path<Uuid>, PathRejection>,
    headers: &HeaderMap,
    what: &str,
) -> Result<String, Problem> {
    let claims = app.tokens.check_account(headers).await?;
    let Path(key_id) = key_id.map_err(|_| no_such_key())?;
    let owner = if claims.is_admin() { String::new() } else { format!("&account_id={}", claims.sub) };
    Ok(format!("/internal/api-keys/{key_id}/{what}?actor={}{owner}", claims.sub))
}

fn no_such_key() -> Problem {
    Problem::new(kinds::NOT_FOUND, "no such API key")
}

/// Adds what to do where nobody knows whether it was done.
fn advise(problem: Problem, advice: &str) -> Problem {
    if problem.status() == StatusCode::GATEWAY_TIMEOUT {
        Problem::new(kinds::OUTCOME_UNKNOWN, format!("{}; {advice}", problem.detail()))
    } else {
        problem
    }
}

/// Passes a body on as it came; where there is none, one that says nothing.
async fn send(
    app: &App,
    target: String,
    request: Request,
    refusal: impl FnOnce() -> Problem,
) -> Result<Bytes, Problem> {
    let context = RequestContext::of(request.extensions(), request.headers());
    let (parts, body) = request.into_parts();
    let body = if body.is_end_stream() {
        Bytes::from_static(b"{}")
    } else {
        read_json_body(&parts.headers, body, app.config.account_body(), &app.budget).await?
    };
    told_or(app.management.command(target, body, DEADLINE, &context).await?, refusal)
}
