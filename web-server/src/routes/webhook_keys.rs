//! `GET /.well-known/webhook-keys.json`: what receivers of callbacks verify them with.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CACHE_CONTROL;
use serde::Serialize;
use shared::callbacks::WebhookKey;
use shared::http::{Problem, kinds};
use utoipa::ToSchema;

use crate::state::AppState;

/// A key that is new signs beside the one before it, so nobody needs it at once.
const CACHING: &str = "public, max-age=300";

/// A set of JSON Web Keys (RFC 7517, 5).
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookKeys {
    /// Every key that signs by `v1a`, newest first; none where only `v1` is sent.
    keys: Vec<WebhookKey>,
}

/// The public keys of callbacks.
#[utoipa::path(
    get, path = "/.well-known/webhook-keys.json", tag = "callbacks",
    responses(
        (status = 200, description = "A set of JSON Web Keys, each also as `whpk_…`", body = WebhookKeys,
         headers(("Cache-Control" = String))),
        (status = 404, description = "Callbacks are not switched on"),
        (status = 503, description = "Nobody can tell now"),
    )
)]
pub(super) async fn webhook_keys(State(app): State<AppState>) -> Result<impl IntoResponse, Problem> {
    let rules = app.callbacks.rules().await?;
    if !rules.enabled {
        return Err(Problem::new(kinds::NOT_FOUND, "callbacks are not switched on here"));
    }
    Ok(([(CACHE_CONTROL, CACHING)], Json(WebhookKeys { keys: rules.keys.clone() })))
}
