//! What web-server needs to know of callbacks.

use axum::Json;
use axum::extract::State;
use shared::callbacks::CallbackRules;

use super::openapi::Unauthorized;
use crate::state::App;

/// Whether there are callbacks, where they may go, and what verifies them.
#[utoipa::path(
    get, path = "/internal/callbacks", tag = "callbacks", security((), ("token" = [])),
    responses((status = 200, description = "As the settings have it", body = CallbackRules), Unauthorized)
)]
pub(super) async fn callback_rules(State(app): State<App>) -> Json<CallbackRules> {
    Json(CallbackRules::clone(&app.callbacks))
}
