//! `/openapi.json`: the description of the routes, generated from their code.

use std::sync::LazyLock;

use axum::response::IntoResponse;
use bytes::Bytes;
use http::header;
use shared::http::{CommonParts, ProblemBody};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi};

use super::{accounts, api_keys, callbacks, commits, purchases, recording, usage, wait};

/// The description of every route.
#[derive(OpenApi)]
#[openapi(
    info(title = "Recorded purchases", description = "Reads recorded purchases, waits for them, and keeps accounts."),
    paths(
        purchases::list_user_purchases,
        purchases::list_purchases,
        purchases::find_purchase,
        wait::wait_for_purchases,
        commits::follow_commits,
        wait::find_purchases,
        recording::recording_state,
        accounts::create_account,
        accounts::list_accounts,
        accounts::delete_account,
        accounts::login,
        accounts::refresh,
        accounts::logout,
        accounts::change_password,
        accounts::token_keys,
        api_keys::create_key,
        api_keys::list_keys,
        api_keys::rotate_key,
        api_keys::revoke_key,
        api_keys::find_key,
        usage::add_usage,
        usage::list_usage,
        callbacks::callback_rules,
        callbacks::list_dead,
        callbacks::resend,
        callbacks::list_hosts,
        callbacks::switch_on,
        document,
    ),
    components(schemas(ProblemBody)),
    modifiers(&CommonParts, &BearerToken),
    tags(
        (name = "reading", description = "Recorded purchases"),
        (name = "accounts", description = "Accounts and their tokens, for web-server"),
        (name = "api keys", description = "Keys that programs use, and how much they do"),
        (name = "callbacks", description = "Telling buyers that a purchase is recorded"),
        (name = "operations", description = "Health, metrics and this description"),
    )
)]
pub struct ApiDoc;

static JSON: LazyLock<Bytes> = LazyLock::new(|| serde_json::to_vec(&ApiDoc::openapi()).unwrap_or_default().into());

/// The OpenAPI 3.1 description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations", security((), ("token" = [])),
    responses((status = 200, description = "OpenAPI 3.1", body = Object), Unauthorized)
)]
pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], JSON.clone())
}

/// What can go wrong with a guarded path.
#[derive(IntoResponses)]
#[response(status = 401, description = "`MANAGEMENT_API_TOKEN` is set and was not presented")]
pub(super) struct Unauthorized;

/// What can go wrong with a read.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub(super) enum ReadProblems {
    /// Parameters that are out of range: `errors` names them.
    #[response(status = 400)]
    InvalidInput,
    /// The database does not answer.
    #[response(status = 503)]
    Unavailable,
}

/// Names the bearer token that the services share.
struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}
