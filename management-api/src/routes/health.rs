//! Health and metrics; open to everybody who reaches the port.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use shared::health::livez;

use crate::app::App;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
}

async fn readyz(State(app): State<App>) -> Response {
    app.readiness.readyz()
}

async fn health(State(app): State<App>) -> Response {
    app.readiness.health()
}

async fn metrics(State(app): State<App>) -> Response {
    shared::metrics::render(&app.registry)
}
