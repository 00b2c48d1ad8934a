//! `/openapi.json` and `/docs`: the description of the routes, generated from their code.

use std::sync::{Arc, LazyLock};

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use http::header;
use shared::http::{Problem, ProblemBody, kinds};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{HeaderBuilder, ObjectBuilder, Ref, RefOr, Response as ResponseDoc, ResponseBuilder, Type};
use utoipa::{IntoResponses, Modify, OpenApi};
use utoipa_swagger_ui::Config;

use super::{batch, buy, health, purchases};

/// The description of every route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Purchases",
        description = "Buys and reads purchases. A 2xx to a purchase means that it is stored on every in-sync Kafka \
                       replica (202) or in the database (201).",
    ),
    paths(
        buy::buy,
        batch::buy_batch,
        purchases::list_user_purchases,
        purchases::list_purchases,
        purchases::find_purchase,
        health::livez,
        health::readyz,
        health::health,
        health::metrics,
        openapi_json,
        docs,
        docs_file,
    ),
    components(schemas(ProblemBody)),
    modifiers(&CommonParts),
    tags(
        (name = "buying", description = "Purchases into the pipeline"),
        (name = "reading", description = "Recorded purchases"),
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

/// What can go wrong with every purchase request.
#[derive(IntoResponses)]
pub(super) enum BuyProblems {
    /// Not JSON, or fields, `Prefer` or `Idempotency-Key` that are missing, wrong or out of range: `errors` names them.
    #[response(status = 400)]
    InvalidInput,
    /// The body was too slow.
    #[response(status = 408)]
    BodyTooSlow,
    /// The body is too large.
    #[response(status = 413)]
    BodyTooLarge,
    /// The body is not `application/json`.
    #[response(status = 415)]
    UnsupportedMediaType,
    /// Refused before anything was sent, or certainly not stored: try again.
    #[response(status = 503)]
    Unavailable,
}

/// What can go wrong with every read.
#[derive(IntoResponses)]
pub(super) enum ReadProblems {
    /// Parameters that are out of range: `errors` names them.
    #[response(status = 400)]
    InvalidInput,
    /// No replica of management-api answered in time: `detail` says how each attempt failed.
    #[response(status = 503)]
    Unavailable,
}

/// Adds what every answer has: its request id, and the shape of problems.
struct CommonParts;

impl Modify for CommonParts {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for item in openapi.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                complete(operation);
            }
        }
    }
}

fn complete(operation: &mut Operation) {
    let every_path =
        [("405", "The path does not take this method; `Allow` names those it takes."), ("500", "An internal error.")];
    let responses = &mut operation.responses.responses;
    for (status, description) in every_path {
        let response = ResponseBuilder::new().description(description).build();
        responses.insert(status.to_owned(), RefOr::T(response));
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response {
            describe(status, response);
        }
    }
}

fn describe(status: &str, response: &mut ResponseDoc) {
    let header = |description: &str, kind: Type| {
        let schema = ObjectBuilder::new().schema_type(kind).build();
        RefOr::T(HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build())
    };
    response.headers.insert("X-Request-Id".to_owned(), header("Names the request in logs.", Type::String));
    if status == "405" {
        response.headers.insert("Allow".to_owned(), header("The methods that the path takes.", Type::String));
    }
    // Health reports have a shape of their own, also when they say no.
    if status < "400" || !response.content.is_empty() {
        return;
    }
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    response.content.insert("application/problem+json".to_owned(), RefOr::T(problem));
    if status == "503" {
        response.headers.insert("Retry-After".to_owned(), header("Seconds until a retry makes sense.", Type::Integer));
    }
}
