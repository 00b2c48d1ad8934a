//! Liveness, readiness and metrics.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use shared::health::HealthReport;

use crate::app::AppState;

/// Whether the process answers. Looks at nothing else.
#[utoipa::path(
    get, path = "/livez", tag = "operations",
    responses((status = 200, description = "The process answers", body = HealthReport))
)]
pub async fn livez() -> impl IntoResponse {
    shared::health::livez().await
}

/// Whether purchases can be taken now.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, description = "Every check passes", body = HealthReport),
        (status = 503, description = "A check fails", body = HealthReport),
    )
)]
pub async fn readyz(State(app): State<AppState>) -> Response {
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
pub async fn health(State(app): State<AppState>) -> Response {
    app.readiness.health()
}

/// Metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Prometheus text format 0.0.4", content_type = "text/plain", body = String))
)]
pub async fn metrics(State(app): State<AppState>) -> Response {
    shared::metrics::render(&app.metrics.registry)
}
