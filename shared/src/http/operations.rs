//! What operators and monitors ask every service: liveness, readiness and metrics. Open to who reaches the port.

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use prometheus::Registry;

use crate::health::{HealthReport, Readiness};
use crate::metrics;

/// What the paths look at.
#[derive(Clone)]
struct Operations {
    readiness: Readiness,
    registry: Registry,
}

/// The paths, for any service's router.
pub fn operations<S>(readiness: Readiness, registry: Registry) -> Router<S> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/health", get(health))
        .route("/metrics", get(render_metrics))
        .with_state(Operations { readiness, registry })
}

/// Whether the process answers. It has no state, so that it can look at nothing else.
#[utoipa::path(
    get, path = "/livez", tag = "operations",
    responses((status = 200, description = "The process answers", body = HealthReport))
)]
async fn livez() -> Json<HealthReport> {
    Json(HealthReport::alive())
}

/// Whether callers should be sent here. What they are better told here than not at all stands in `/health` only.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, description = "Every check passes", body = HealthReport),
        (status = 503, description = "A check fails", body = HealthReport),
    )
)]
async fn readyz(State(operations): State<Operations>) -> Response {
    operations.readiness.readyz()
}

/// Whether the service can do all of its work now.
#[utoipa::path(
    get, path = "/health", tag = "operations",
    responses(
        (status = 200, description = "Every check passes", body = HealthReport),
        (status = 503, description = "A check fails", body = HealthReport),
    )
)]
async fn health(State(operations): State<Operations>) -> Response {
    operations.readiness.health()
}

/// Metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "metrics",
    responses((status = 200, description = "Prometheus text format 0.0.4", content_type = "text/plain", body = String))
)]
async fn render_metrics(State(operations): State<Operations>) -> Response {
    metrics::render(&operations.registry)
}

/// The description of the paths.
#[derive(utoipa::OpenApi)]
#[openapi(paths(livez, readyz, health, render_metrics))]
pub(super) struct OperationsApi;
