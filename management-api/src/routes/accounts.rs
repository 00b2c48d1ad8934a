//! Accounts and their tokens, on behalf of those who sign in at web-server.

mod fields;

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use shared::accounts::{
    ACCESS_TOKEN_LIFETIME, AccountAnswer, AccountPage, LoginBody, NewAccountBody, PasswordBody, RefreshBody, TokenKeys,
    TokensAnswer,
};
use shared::event::FieldError;
use shared::http::{Problem, Query, RequestContext, kinds};
use utoipa::IntoResponses;
use uuid::Uuid;

use self::fields::Fields;
pub(super) use self::fields::object;
use super::openapi::Unauthorized;
use crate::accounts::{
    AccountError, Accounts, Actor, By, Email, Password, PasswordWish, Registration, SessionTokens, Username,
};
use crate::state::App;
use crate::store::InvalidCursor;

/// Room for the longest fields, every character of them escaped.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// The most accounts of a page, and how many it has when the caller does not say.
const LIMIT: (u32, u32) = (1000, 100);
/// When who was refused may come again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What can go wrong with a path about accounts.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub(super) enum AccountProblems {
    /// Fields or parameters that are missing or wrong: `errors` names them.
    #[response(status = 400)]
    InvalidInput,
    /// `JWT_SIGNING_KEY` is not set: there are no accounts here.
    #[response(status = 404)]
    NotSetUp,
    /// The database does not answer, and a change may have been made all the same; or there is no room for the body.
    #[response(status = 503)]
    Unavailable,
}

/// What can go wrong with a body.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub(super) enum BodyProblems {
    /// The body was too slow.
    #[response(status = 408)]
    TooSlow,
    /// The body is too large.
    #[response(status = 413)]
    TooLarge,
    /// The body is not `application/json`.
    #[response(status = 415)]
    NotJson,
    /// Nothing was done: as many passwords as may be are being hashed, or the database does not answer.
    #[response(status = 429)]
    NothingDone,
}

/// Makes an account.
#[utoipa::path(
    post, path = "/internal/accounts", tag = "accounts", security((), ("token" = [])),
    request_body = NewAccountBody,
    responses(
        (status = 201, description = "It is made", body = AccountAnswer),
        (status = 409, description = "The e-mail address or the username is taken"),
        AccountProblems, BodyProblems, Unauthorized,
    )
)]
pub(super) async fn create_account(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<AccountAnswer>), Problem> {
    let accounts = accounts(&app)?;
    let body = read(&app, &headers, body).await?;
    let mut fields = Fields::parse(&body)?;
    let username = fields.parse_field("username", Username::parse);
    let password = fields.parse_field("password", Password::parse);
    let email = fields.parse_field("email", Email::parse);
    fields.finish()?;
    let (Some(username), Some(password), Some(email)) = (username, password, email) else {
        return Err(Problem::new(kinds::INTERNAL, "an internal error"));
    };
    let registration = Registration { username, email, password };
    let account = accounts.create(registration, context.request_id()).await.map_err(problem)?;
    let (account_id, username, email) = (account.account_id, account.username, account.email);
    Ok((StatusCode::CREATED, Json(AccountAnswer { account_id, username, email })))
}

/// Begins a session.
#[utoipa::path(
    post, path = "/internal/login", tag = "accounts", security((), ("token" = [])),
    request_body = LoginBody,
    responses(
        (status = 200, description = "It has begun", body = TokensAnswer),
        (status = 403, description = "No such account, or not its password"),
        AccountProblems, BodyProblems, Unauthorized,
    )
)]
pub(super) async fn login(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<TokensAnswer>, Problem> {
    let accounts = accounts(&app)?;
    let body = read(&app, &headers, body).await?;
    let mut fields = Fields::parse(&body)?;
    let (email, password) = (fields.text("email"), fields.text("password"));
    fields.finish()?;
    let password = Password::given(&password.unwrap_or_default());
    let tokens = accounts.login(&email.unwrap_or_default(), password, context.request_id()).await;
    tokens.map(answer).map_err(problem)
}

/// Goes on with a session: spends its token for the next ones.
#[utoipa::path(
    post, path = "/internal/refresh", tag = "accounts", security((), ("token" = [])),
    request_body = RefreshBody,
    responses(
        (status = 200, description = "It goes on", body = TokensAnswer),
        (status = 403, description = "Not a token, or one of a session that is over, also by this"),
        AccountProblems, BodyProblems, Unauthorized,
    )
)]
pub(super) async fn refresh(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<TokensAnswer>, Problem> {
    let accounts = accounts(&app)?;
    let token = refresh_token(&read(&app, &headers, body).await?)?;
    accounts.refresh(&token, context.request_id()).await.map(answer).map_err(problem)
}

/// Ends a session by a token of it, whatever has become of the token; also when there is no such session.
#[utoipa::path(
    post, path = "/internal/logout", tag = "accounts", security((), ("token" = [])),
    request_body = RefreshBody,
    responses((status = 204, description = "It is over"), AccountProblems, BodyProblems, Unauthorized)
)]
pub(super) async fn logout(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let accounts = accounts(&app)?;
    let token = refresh_token(&read(&app, &headers, body).await?)?;
    accounts.logout(&token, context.request_id()).await.map_err(problem)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes an account, its sessions with it; its access tokens are revoked. Also when it is not there any more.
#[utoipa::path(
    post, path = "/internal/accounts/{account_id}/delete", tag = "accounts", security((), ("token" = [])),
    params(("account_id" = Uuid, Path), ("actor" = Option<Uuid>, Query, nullable = false, description = "Who has signed in, and wants it")),
    responses((status = 204, description = "It is not there any more"), AccountProblems, Unauthorized)
)]
pub(super) async fn delete_account(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    account_id: Result<Path<Uuid>, PathRejection>,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    let (accounts, mut query) = (accounts(&app)?, Query::new(&uri));
    let actor = actor(&mut query);
    query.finish()?;
    let account_id = parse_account_id(account_id)?;
    accounts.delete(account_id, By { actor, request_id: context.request_id() }).await.map_err(problem)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives an account another password, for who knows the one that it has. All its sessions end but the one that asks.
#[utoipa::path(
    post, path = "/internal/accounts/{account_id}/password", tag = "accounts", security((), ("token" = [])),
    params(("account_id" = Uuid, Path), ("session_id" = Uuid, Query, description = "The session that goes on")),
    request_body = PasswordBody,
    responses(
        (status = 204, description = "The new one counts"),
        (status = 403, description = "Not the account's password"),
        AccountProblems, BodyProblems, Unauthorized,
    )
)]
pub(super) async fn change_password(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    account_id: Result<Path<Uuid>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let (accounts, (head, body)) = (accounts(&app)?, request.into_parts());
    let account_id = parse_account_id(account_id)?;
    let mut query = Query::new(&head.uri);
    let session_id = required_id(&mut query, "session_id");
    query.finish()?;
    let body = read(&app, &head.headers, body).await?;
    let mut fields = Fields::parse(&body)?;
    let old = fields.text("old_password");
    let new = fields.parse_field("new_password", Password::parse);
    fields.finish()?;
    let (Some(old), Some(new)) = (old, new) else {
        return Err(Problem::new(kinds::INTERNAL, "an internal error"));
    };
    let wish = PasswordWish { account_id, session_id, old: Password::given(&old), new };
    accounts.change_password(wish, context.request_id()).await.map_err(problem)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A page of all accounts, newest first.
#[utoipa::path(
    get, path = "/internal/accounts", tag = "accounts", security((), ("token" = [])),
    params(
        ("limit" = Option<u32>, Query, nullable = false, minimum = 1, maximum = 1000, description = "Accounts of the page, default 100"),
        ("cursor" = Option<Uuid>, Query, nullable = false, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = AccountPage), AccountProblems, Unauthorized)
)]
pub(super) async fn list_accounts(State(app): State<App>, uri: Uri) -> Result<Json<AccountPage>, Problem> {
    let (accounts, mut query) = (accounts(&app)?, Query::new(&uri));
    let limit = query.number("limit", LIMIT.1, 1..=LIMIT.0);
    let cursor = query.parsed("cursor", |text| Uuid::try_parse(text).map_err(|_| InvalidCursor));
    query.finish()?;
    accounts.list(cursor, limit).await.map(Json).map_err(problem)
}

/// What access tokens are checked with: the keys, and what counts no more.
#[utoipa::path(
    get, path = "/internal/token-keys", tag = "accounts", security((), ("token" = [])),
    responses((status = 200, description = "As of now", body = TokenKeys), AccountProblems, Unauthorized)
)]
pub(super) async fn token_keys(State(app): State<App>) -> Result<Json<TokenKeys>, Problem> {
    accounts(&app)?.token_keys().await.map(Json).map_err(problem)
}

/// 404 and not 503: this replica is well, and another attempt would be told the same.
pub(super) fn accounts(app: &App) -> Result<&Accounts, Problem> {
    app.accounts.as_deref().ok_or_else(|| Problem::new(kinds::NOT_FOUND, "accounts are not set up"))
}

/// Who wants something done: the caller of web-server that has signed in, or else the service itself.
pub(super) fn actor(query: &mut Query<'_>) -> Actor {
    query.id("actor").map_or(Actor::Service, Actor::Account)
}

pub(super) async fn read(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    app.read_body(headers, body, BODY_BYTES_MAX).await
}

fn parse_account_id(account_id: Result<Path<Uuid>, PathRejection>) -> Result<Uuid, Problem> {
    let bad_id = |_| Problem::invalid(vec![FieldError::new("account_id", "must be a UUID")]);
    account_id.map(|Path(id)| id).map_err(bad_id)
}

/// A parameter that must be there.
pub(super) fn required_id(query: &mut Query<'_>, name: &'static str) -> Uuid {
    query.id(name).unwrap_or_else(|| {
        query.refuse(FieldError::new(name, "is required"));
        Uuid::nil()
    })
}

fn refresh_token(body: &[u8]) -> Result<String, Problem> {
    let mut fields = Fields::parse(body)?;
    let token = fields.text("refresh_token");
    fields.finish()?;
    Ok(token.unwrap_or_default())
}

fn answer(SessionTokens { access_token, refresh_token }: SessionTokens) -> Json<TokensAnswer> {
    let expires_in = ACCESS_TOKEN_LIFETIME.as_secs();
    Json(TokensAnswer { access_token, refresh_token, token_type: "Bearer", expires_in })
}

/// Not 401, which is about the token of the service that asks, nor 503 for who comes too often: that one would not know that
/// nothing was done.
fn problem(error: AccountError) -> Problem {
    match error {
        AccountError::Taken => Problem::new(kinds::CONFLICT, "the e-mail address or the username is taken"),
        AccountError::Refused => Problem::new(kinds::FORBIDDEN, "not who it says"),
        AccountError::Busy => nothing_done("too many passwords are being checked: try again"),
        AccountError::NotRead(error) => {
            tracing::warn!(%error, "an account could not be served");
            nothing_done("the database does not answer, try again")
        }
        AccountError::Store(error) => {
            tracing::warn!(%error, "an account could not be served");
            Problem::unavailable("the database does not answer, try again", RETRY_AFTER_SECONDS)
        }
        AccountError::Broken(error) => {
            tracing::error!(error, "an account could not be served");
            Problem::new(kinds::INTERNAL, "an internal error")
        }
    }
}

fn nothing_done(advice: &str) -> Problem {
    Problem::new(kinds::TOO_MANY_REQUESTS, advice).with_retry_after(RETRY_AFTER_SECONDS)
}
