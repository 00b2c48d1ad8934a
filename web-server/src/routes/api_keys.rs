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
use utoipa::IntoParams;
use uuid::Uuid;

use super::accounts::{AccountProblems, BodyProblems, json, read_told, told_or};
use crate::state::{App, AppState};

/// How long management-api may take.
const DEADLINE: Duration = Duration::from_secs(2);

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
        (status = 409, description = "The account has as many keys as it may have"),
        BodyProblems, AccountProblems,
    )
)]
pub(super) async fn create_key(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let asked = asked(&app, request.headers(), request.uri()).await?;
    let target = format!("/internal/api-keys?account_id={}&may_serve={}", asked.account_id, asked.is_admin);
    let why = "the scope service and a rate of its own are for administrators to give";
    let forbidden = || Problem::new(kinds::FORBIDDEN, why);
    let made = send(&app, target, request, forbidden).await?;
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
        (status = 503, description = "Nobody answers, or accounts are not set up"),
    )
)]
pub(super) async fn list_keys(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let asked = asked(&app, &parts.headers, &parts.uri).await?;
    read(&app, &parts, format!("/internal/api-keys?account_id={}", asked.account_id)).await
}

/// Gives a key a new secret, which counts at once. The old one counts on for `overlap_seconds`; the one before it, no more.
#[utoipa::path(
    post, path = "/api-keys/{key_id}/rotate", tag = "api keys", security(("access_token" = [])),
    params(("key_id" = Uuid, Path)),
    request_body(content = RotationBody, description = "May be left out"),
    responses(
        (status = 200, description = "It counts from now on", body = SecretAnswer),
        (status = 401, description = "No access token, or not a good one"),
        (status = 403, description = "An outside issuer's token: there is no account here"),
        (status = 404, description = "No such key of this account, or it counts no more"),
        BodyProblems, AccountProblems,
    )
)]
pub(super) async fn rotate_key(
    State(app): State<AppState>,
    key_id: Result<Path<Uuid>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let target = target_of(&app, key_id, request.headers(), "rotate").await?;
    let rotated = send(&app, target, request, no_such_key).await?;
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
        AccountProblems,
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
    Ok(Asked { account_id, is_admin })
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
    let owner = if claims.is_admin() { String::new() } else { format!("?account_id={}", claims.sub) };
    Ok(format!("/internal/api-keys/{key_id}/{what}{owner}"))
}

fn no_such_key() -> Problem {
    Problem::new(kinds::NOT_FOUND, "no such API key")
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
