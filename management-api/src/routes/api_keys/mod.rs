//! API keys, on behalf of their owners and of whoever checks them.

mod fields;

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode, Uri};
use shared::api_keys::{ApiKeysAnswer, FoundKey, NewApiKeyBody, RotationBody, Scope, SecretAnswer, SecretHash};
use shared::event::FieldError;
use shared::http::{Problem, Query, RequestContext, kinds};
use uuid::Uuid;

use self::fields::{parse_overlap, parse_wish};
use super::accounts::{AccountProblems, BodyProblems, accounts, actor, read, required_id};
use super::openapi::Unauthorized;
use crate::accounts::{Actor, ApiKeys, By, KeyError};
use crate::state::App;
use crate::store::WhichKey;

/// When who was refused may come again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Makes a key for an account.
#[utoipa::path(
    post, path = "/internal/api-keys", tag = "api keys", security((), ("token" = [])),
    params(
        ("account_id" = Uuid, Query, description = "Whose it is to be"),
        ("may_serve" = Option<bool>, Query, nullable = false, description = "Whether who asks may give the scope `service` and a rate"),
        ("actor" = Option<Uuid>, Query, nullable = false, description = "Who has signed in, and wants it"),
    ),
    request_body = NewApiKeyBody,
    responses(
        (status = 201, description = "It is made", body = SecretAnswer),
        (status = 403, description = "A scope or a rate that who asks may not give"),
        (status = 409, description = "The account has too many, or too many with those that were revoked lately"),
        AccountProblems, BodyProblems, Unauthorized,
    )
)]
pub(super) async fn create_key(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<SecretAnswer>), Problem> {
    let keys = keys(&app)?;
    let mut query = Query::new(&uri);
    let account_id = required_id(&mut query, "account_id");
    let may_serve = query.text("may_serve").is_some_and(|text| text == "true");
    let actor = actor(&mut query);
    query.finish()?;
    let wish = parse_wish(account_id, &read(&app, &headers, body).await?)?;
    if !may_serve && (wish.scopes.contains(&Scope::Service) || wish.rate_per_second.is_some()) {
        let why = "the scope service and a rate of its own are for administrators to give";
        return Err(Problem::new(kinds::FORBIDDEN, why));
    }
    let made = keys.create(wish, By { actor, request_id: context.request_id() }).await.map_err(problem)?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// The keys of an account.
#[utoipa::path(
    get, path = "/internal/api-keys", tag = "api keys", security((), ("token" = [])),
    params(("account_id" = Uuid, Query, description = "Whose")),
    responses((status = 200, description = "All of them", body = ApiKeysAnswer), AccountProblems, Unauthorized)
)]
pub(super) async fn list_keys(State(app): State<App>, uri: Uri) -> Result<Json<ApiKeysAnswer>, Problem> {
    let mut query = Query::new(&uri);
    let account_id = required_id(&mut query, "account_id");
    query.finish()?;
    let api_keys = keys(&app)?.list(account_id).await.map_err(problem)?;
    Ok(Json(ApiKeysAnswer { api_keys }))
}

/// The key whose secret has this hash.
#[utoipa::path(
    get, path = "/internal/known-keys/{hash}", tag = "api keys", security((), ("token" = [])),
    params(("hash" = String, Path, description = "SHA-256, in hexadecimal digits")),
    responses((status = 200, description = "It, if it counts", body = FoundKey), AccountProblems, Unauthorized)
)]
pub(super) async fn find_key(
    State(app): State<App>,
    hash: Result<Path<String>, PathRejection>,
) -> Result<Json<FoundKey>, Problem> {
    let hash = hash.ok().and_then(|Path(text)| SecretHash::parse(&text));
    let bad_hash = || Problem::invalid(vec![FieldError::new("hash", "must be 64 hexadecimal digits")]);
    let key = keys(&app)?.find(&hash.ok_or_else(bad_hash)?).await.map_err(problem)?;
    Ok(Json(FoundKey { key }))
}

/// Gives a key a new secret.
#[utoipa::path(
    post, path = "/internal/api-keys/{key_id}/rotate", tag = "api keys", security((), ("token" = [])),
    params(
        ("key_id" = Uuid, Path),
        ("account_id" = Option<Uuid>, Query, nullable = false, description = "Whose it must be"),
        ("actor" = Option<Uuid>, Query, nullable = false, description = "Who has signed in, and wants it"),
    ),
    request_body = RotationBody,
    responses(
        (status = 200, description = "It counts from now on", body = SecretAnswer),
        (status = 403, description = "No such key, or it counts no more"),
        (status = 409, description = "An earlier secret than the present one still counts, and there is to be an overlap"),
        AccountProblems, BodyProblems, Unauthorized,
    )
)]
pub(super) async fn rotate_key(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    key_id: Result<Path<Uuid>, PathRejection>,
    request: Request,
) -> Result<Json<SecretAnswer>, Problem> {
    let (keys, (which, actor)) = (keys(&app)?, which(&key_id, request.uri())?);
    let (parts, body) = request.into_parts();
    let overlap = Duration::from_secs(parse_overlap(&read(&app, &parts.headers, body).await?)?.into());
    let by = By { actor, request_id: context.request_id() };
    keys.rotate(which, overlap, by).await.map(Json).map_err(problem)
}

/// Revokes a key. Also when it is revoked already.
#[utoipa::path(
    post, path = "/internal/api-keys/{key_id}/revoke", tag = "api keys", security((), ("token" = [])),
    params(
        ("key_id" = Uuid, Path),
        ("account_id" = Option<Uuid>, Query, nullable = false, description = "Whose it must be"),
        ("actor" = Option<Uuid>, Query, nullable = false, description = "Who has signed in, and wants it"),
    ),
    responses(
        (status = 204, description = "It counts no more"),
        (status = 403, description = "No such key"),
        AccountProblems, Unauthorized,
    )
)]
pub(super) async fn revoke_key(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    key_id: Result<Path<Uuid>, PathRejection>,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    let (keys, (which, actor)) = (keys(&app)?, which(&key_id, &uri)?);
    keys.revoke(which, By { actor, request_id: context.request_id() }).await.map_err(problem)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn keys(app: &App) -> Result<&ApiKeys, Problem> {
    accounts(app).map(|accounts| &accounts.api_keys)
}

/// Which key it is about, and who wants it.
fn which(key_id: &Result<Path<Uuid>, PathRejection>, uri: &Uri) -> Result<(WhichKey, Actor), Problem> {
    let mut query = Query::new(uri);
    let (account_id, actor) = (query.id("account_id"), actor(&mut query));
    match key_id {
        Ok(Path(key_id)) => query.finish().map(|()| (WhichKey { key_id: *key_id, account_id }, actor)),
        Err(_) => Err(Problem::invalid(vec![FieldError::new("key_id", "must be a UUID")])),
    }
}

/// Not 404, which is about accounts that are not set up here.
pub(super) fn problem(error: KeyError) -> Problem {
    match error {
        KeyError::NoAccount => Problem::invalid(vec![FieldError::new("account_id", "must be that of an account")]),
        KeyError::Over => Problem::invalid(vec![FieldError::new("expires_at", "must be in the future")]),
        KeyError::NoKey => Problem::new(kinds::FORBIDDEN, error.to_string()),
        KeyError::TooMany | KeyError::TooManyChanged | KeyError::EarlierCounts(_) => {
            Problem::new(kinds::CONFLICT, error.to_string())
        }
        KeyError::Store(error) => {
            tracing::warn!(%error, "an API key could not be served");
            Problem::unavailable("the database does not answer, try again", RETRY_AFTER_SECONDS)
        }
    }
}
