//! Health and metrics; open to everybody who reaches the port.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use shared::health::HealthReport;

use crate::app::App;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
}

/// Whether the process answers. Looks at nothing else.
#[utoipa::path(
    get, path = "/livez", tag = "operations",
    responses((status = 200, description = "The process answers", body = HealthReport))
)]
pub(super) async fn livez() -> impl IntoResponse {
    shared::health::livez().await
}

/// Whether purchases can be recorded and read now.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, description = "Every check passes", body = HealthReport),
        (status = 503, description = "A check fails", body = HealthReport),
    )
)]
pub(super) async fn readyz(State(app): State<App>) -> Response {
    app.readiness.readyz()
}

/// As `/readyz`, in the words of older monitors.
#[utoipa::path(
    get, path = "/health", tag = "operations",
    responses(
        (status = 200, description = "Every check passes", body = HealthReport),
        (status = 503, description = "A check fails", body = HealthReport),
    )
)]
pub(super) async fn health(State(app): State<App>) -> Response {
    app.readiness.health()
}

/// Metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Prometheus text format 0.0.4", content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(State(app): State<App>) -> Response {
    shared::metrics::render(&app.registry)
}
