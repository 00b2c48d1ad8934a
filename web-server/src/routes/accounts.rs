//! Accounts: management-api keeps them, and is told what callers say as they said it.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use shared::accounts::{AccountAnswer, LoginBody, NewAccountBody, PasswordBody, RefreshBody, TokensAnswer};
use shared::http::{Problem, RequestContext, kinds, read_json_body};
use utoipa::{IntoParams, IntoResponses};

use super::limited::{charge_login, charge_password};
use super::session_cookie::SessionCookie;
use crate::management_client::{Answer, Route};
use crate::state::{App, AppState};
use crate::tokens::not_set_up;

/// How long management-api may take: a password is hashed on purpose slowly.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long it may take to tell what there is.
const READ_DEADLINE: Duration = Duration::from_secs(2);
/// When who found everybody busy may come again, if nobody says.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What can go wrong with what is sent.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub(super) enum BodyProblems {
    /// Fields that are missing or wrong: `errors` names them.
    #[response(status = 400)]
    InvalidInput,
    /// The body was too slow.
    #[response(status = 408)]
    TooSlow,
    /// The body is too large.
    #[response(status = 413)]
    TooLarge,
    /// The body is not `application/json`.
    #[response(status = 415)]
    NotJson,
    /// More than the address or the account may a minute (`Retry-After`, `RateLimit`): nothing was done.
    #[response(status = 429)]
    TooMany,
}

/// What can go wrong behind it.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub(super) enum AccountProblems {
    /// Nothing was done: accounts are not set up, as many passwords as may be are being checked, or nobody answers.
    #[response(status = 503)]
    Unavailable,
    /// Nobody answered in time, and it may have been done all the same: it is safe to repeat, but another password may count already.
    #[response(status = 504)]
    OutcomeUnknown,
}

/// Where a session's refresh token is kept.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub(super) struct SessionHeader {
    /// `cookie`: in a cookie that no script can read, for pages of this server; then it is not in the answer.
    #[param(rename = "X-Session", nullable = false)]
    x_session: Option<String>,
}

/// Makes an account.
#[utoipa::path(
    post, path = "/account", tag = "accounts", request_body = NewAccountBody,
    responses(
        (status = 201, description = "It is made", body = AccountAnswer),
        (status = 409, description = "The e-mail address or the username is taken"),
        BodyProblems, AccountProblems,
    )
)]
pub(super) async fn create_account(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let created = send(&app, "/internal/accounts", request).await?;
    Ok((StatusCode::CREATED, json(created)).into_response())
}

/// Begins a session: an access token for a quarter of an hour, and a refresh token for the next ones.
#[utoipa::path(
    post, path = "/login", tag = "accounts", request_body = LoginBody, params(SessionHeader),
    responses(
        (status = 200, description = "It has begun", body = TokensAnswer),
        (status = 401, description = "No such account, or not its password"),
        (status = 403, description = "A cookie was asked for by what is no page of this server"),
        BodyProblems, AccountProblems,
    )
)]
pub(super) async fn login(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let (head, context, body) = read(&app, request).await?;
    let cookie = SessionCookie::asked_for(&app, &head)?;
    // Before the password is looked at, and whether or not there is such an account.
    let login = match charge_login(&app, &head, &body) {
        Ok(login) => login,
        Err(refused) => return Ok(*refused),
    };
    let tokens = told(app.management.command("/internal/login".to_owned(), body, DEADLINE, &context).await?)?;
    if let Some(login) = login {
        app.limits.logins.remember(login).await;
    }
    match cookie {
        Some(cookie) => cookie.keep(&tokens),
        None => Ok(json(tokens)),
    }
}

/// Goes on with a session. The token is spent; the same again has the same answer for 30 s, for who has lost it. Used later, it
/// ends the session. Without a body (and `Content-Type`) the token is that of the cookie, which then has the next one.
#[utoipa::path(
    post, path = "/refresh", tag = "accounts", request_body = Option<RefreshBody>,
    responses(
        (status = 200, description = "It goes on", body = TokensAnswer),
        (status = 401, description = "Not a token, or one of a session that is over"),
        (status = 403, description = "Without a body, from what is no page of this server"),
        BodyProblems, AccountProblems,
    )
)]
pub(super) async fn refresh(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let Some(cookie) = SessionCookie::instead_of_body(&app, &head, &body)? else {
        return send(&app, "/internal/refresh", Request::from_parts(head, body)).await.map(json);
    };
    let Some(body) = cookie.body(&head.headers) else {
        return Err(Problem::new(kinds::UNAUTHORIZED, "nobody is signed in here"));
    };
    match pass_on(&app, "/internal/refresh", body, &head).await {
        Ok(tokens) => cookie.keep(&tokens),
        Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => Ok(cookie.forget(problem)),
        Err(problem) => Err(problem),
    }
}

/// Signs out: ends the session of a refresh token, also of one that is spent. Its access tokens count no more within five seconds,
/// everywhere. Who has no session is signed out already. Without a body (and `Content-Type`) the token is that of the cookie, which is
/// forgotten.
#[utoipa::path(
    post, path = "/logout", tag = "accounts", request_body = Option<RefreshBody>,
    responses(
        (status = 204, description = "The session is over"),
        (status = 403, description = "Without a body, from what is no page of this server"),
        BodyProblems, AccountProblems,
    )
)]
pub(super) async fn logout(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let (target, done) = ("/internal/logout", StatusCode::NO_CONTENT);
    let Some(cookie) = SessionCookie::instead_of_body(&app, &head, &body)? else {
        send(&app, target, Request::from_parts(head, body)).await?;
        app.tokens.expect_news();
        return Ok(done.into_response());
    };
    // Who has no cookie is signed out already.
    if let Some(body) = cookie.body(&head.headers) {
        pass_on(&app, target, body, &head).await?;
        app.tokens.expect_news();
    }
    Ok(cookie.forget(done))
}

/// Gives the account of who asks another password. All its sessions end but the one that asks; their tokens count no more within five
/// seconds, everywhere. Its API keys stay.
#[utoipa::path(
    post, path = "/account/password", tag = "accounts", security(("access_token" = [])), request_body = PasswordBody,
    responses(
        (status = 204, description = "The new one counts"),
        (status = 401, description = "No access token, or not a good one"),
        (status = 403, description = "Not the account's password, or an outside issuer's token: there is no account here"),
        BodyProblems, AccountProblems,
    )
)]
pub(super) async fn change_password(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let claims = app.tokens.check_account(request.headers()).await?;
    let (_, context, body) = read(&app, request).await?;
    if let Err(refused) = charge_password(&app, claims.sub) {
        return Ok(*refused);
    }
    let target = format!("/internal/accounts/{}/password?session_id={}", claims.sub, claims.sid);
    let answer = app.management.command(target, body, DEADLINE, &context).await?;
    told_or(answer, || Problem::new(kinds::FORBIDDEN, "not the account's password"))?;
    app.tokens.expect_news();
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Deletes the account of who asks, with all its sessions. Tokens of it count no more within five seconds, everywhere.
#[utoipa::path(
    delete, path = "/account", tag = "accounts", security(("access_token" = [])),
    responses(
        (status = 204, description = "It is not there any more"),
        (status = 401, description = "No access token, or not a good one"),
        (status = 403, description = "An outside issuer's token: there is no account here"),
        (status = 429, description = "Over the caller's rate"),
        AccountProblems,
    )
)]
pub(super) async fn delete_account(State(app): State<AppState>, request: Request) -> Result<StatusCode, Problem> {
    let claims = app.tokens.check_account(request.headers()).await?;
    let target = format!("/internal/accounts/{0}/delete?actor={0}", claims.sub);
    let context = RequestContext::of(request.extensions(), request.headers());
    told(app.management.command(target, Bytes::new(), DEADLINE, &context).await?)?;
    app.tokens.expect_news();
    Ok(StatusCode::NO_CONTENT)
}

/// Passes a body on as it came: what is wrong with it, management-api says.
async fn send(app: &App, target: &str, request: Request) -> Result<Bytes, Problem> {
    let (_, context, body) = read(app, request).await?;
    told(app.management.command(target.to_owned(), body, DEADLINE, &context).await?)
}

/// Passes on what a cookie holds, as if it had come as a body.
async fn pass_on(app: &App, target: &str, body: Bytes, head: &Parts) -> Result<Bytes, Problem> {
    let context = RequestContext::of(&head.extensions, &head.headers);
    told(app.management.command(target.to_owned(), body, DEADLINE, &context).await?)
}

/// A request's head and its JSON body.
pub(super) async fn read(app: &App, request: Request) -> Result<(Parts, RequestContext, Bytes), Problem> {
    let context = RequestContext::of(request.extensions(), request.headers());
    let (head, body) = request.into_parts();
    let body = read_json_body(&head.headers, body, app.config.account_body(), &app.budget).await?;
    Ok((head, context, body))
}

/// Reads what management-api tells of accounts and their keys.
pub(super) async fn read_told(app: &App, target: String, context: &RequestContext) -> Result<Bytes, Problem> {
    let told = app.read(Route::Other, target, READ_DEADLINE, context).await;
    told.map_err(|problem| if problem.status() == StatusCode::NOT_FOUND { not_set_up() } else { problem })
}

/// What management-api has told us, as it is told to our caller.
fn told(answer: Answer) -> Result<Bytes, Problem> {
    told_or(answer, || Problem::new(kinds::UNAUTHORIZED, "not the credentials of an account here"))
}

/// What management-api has told us, as it is told to our caller; `refusal` for what is not this caller's to ask.
pub(super) fn told_or(answer: Answer, refusal: impl FnOnce() -> Problem) -> Result<Bytes, Problem> {
    match answer.status {
        StatusCode::FORBIDDEN => Err(refusal()),
        StatusCode::UNAUTHORIZED => {
            tracing::error!("management-api does not take MANAGEMENT_API_TOKEN");
            Err(Problem::unavailable("accounts cannot be reached", RETRY_AFTER_SECONDS))
        }
        StatusCode::NOT_FOUND => Err(not_set_up()),
        StatusCode::TOO_MANY_REQUESTS => {
            let seconds = answer.retry_after_seconds.unwrap_or(RETRY_AFTER_SECONDS);
            answer.into_json().map_err(|problem| Problem::unavailable(problem.detail(), seconds))
        }
        _ => answer.into_json(),
    }
}

pub(super) fn json(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
