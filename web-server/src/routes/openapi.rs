//! `/openapi.json` and `/docs`: the description of the routes, generated from their code.

use std::sync::{Arc, LazyLock};

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use http::header;
use shared::http::{CommonParts, Problem, ProblemBody, kinds};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::Config;

use super::{
    accounts, accounts_page, api_keys, backends, batch, buy, callbacks, events, page, purchases, status, usage,
    webhook_keys,
};

/// The description of every route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Purchases",
        description = "Buys and reads purchases. A 2xx to a purchase means that it is stored on every in-sync Kafka \
                       replica (202) or in the database (201).",
    ),
    paths(
        page::page,
        page::page_file,
        status::pipeline_status,
        buy::buy,
        batch::buy_batch,
        purchases::list_user_purchases,
        purchases::list_purchases,
        purchases::find_purchase,
        events::purchase_events,
        events::user_events,
        accounts::create_account,
        accounts::login,
        accounts::refresh,
        accounts::logout,
        accounts::change_password,
        accounts::delete_account,
        accounts_page::accounts_page,
        api_keys::create_key,
        api_keys::list_keys,
        api_keys::rotate_key,
        api_keys::revoke_key,
        usage::list_usage,
        backends::list_backends,
        callbacks::list_dead,
        callbacks::resend,
        callbacks::list_hosts,
        callbacks::switch_on,
        webhook_keys::webhook_keys,
        openapi_json,
        docs,
        docs_file,
    ),
    components(schemas(ProblemBody)),
    modifiers(&CommonParts, &Credentials),
    tags(
        (name = "buying", description = "Purchases into the pipeline"),
        (name = "reading", description = "Recorded purchases"),
        (name = "accounts", description = "Who may sign in"),
        (name = "api keys", description = "Keys that programs use, and how much they do"),
        (name = "callbacks", description = "Telling buyers that a purchase is recorded"),
        (name = "operations", description = "Health, metrics and this description"),
    )
)]
pub struct ApiDoc;

/// The description as JSON; it never changes while the server runs.
static OPENAPI_JSON: LazyLock<Bytes> =
    LazyLock::new(|| serde_json::to_vec(&ApiDoc::openapi()).unwrap_or_default().into());
/// Without the validator, whose badge would come from an outside host.
static SWAGGER: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/openapi.json").validator_url("none")));

/// The OpenAPI 3.1 description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub(super) async fn openapi_json() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI_JSON.clone())
}

/// The API reference for the browser.
#[utoipa::path(
    get, path = "/docs", tag = "operations",
    responses((status = 303, description = "To the reference's first page", headers(("Location" = String))))
)]
pub(super) async fn docs() -> Redirect {
    Redirect::to("/docs/index.html")
}

/// One file of the API reference; no other host is needed.
#[utoipa::path(
    get, path = "/docs/{file}", tag = "operations",
    params(("file" = String, Path, example = "index.html")),
    responses(
        (status = 200, description = "The file", content_type = "text/html", body = String),
        (status = 404, description = "No such file"),
    )
)]
pub(super) async fn docs_file(file: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let found = file.ok().and_then(|Path(file)| utoipa_swagger_ui::serve(&file, Arc::clone(&SWAGGER)).ok().flatten());
    let found = found.ok_or_else(|| Problem::new(kinds::NOT_FOUND, "no such path"))?;
    Ok(([(header::CONTENT_TYPE, found.content_type)], found.bytes.into_owned()).into_response())
}

/// Names the token of who has signed in, and the key of a program. A key may come as a bearer token, too.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build());
        let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("access_token", scheme);
        components.add_security_scheme("api_key", key);
    }
}
