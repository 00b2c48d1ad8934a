//! How far this replica is with recording, on behalf of web-server's `/status`.

use axum::Json;
use axum::extract::State;
use shared::recording::RecordingState;

use super::openapi::Unauthorized;
use crate::state::App;

/// How far this replica is with recording: what it has of the topic, and how much of that is not recorded yet.
#[utoipa::path(
    get, path = "/internal/recording", tag = "operations", security((), ("token" = [])),
    responses((status = 200, description = "As of now", body = RecordingState), Unauthorized)
)]
pub(super) async fn recording_state(State(app): State<App>) -> Json<RecordingState> {
    Json(app.progress.recording_state(app.operations.readiness.is_ready()))
}
