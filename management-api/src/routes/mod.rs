//! The read API and what web-server needs besides.

pub mod openapi;
mod purchases;
mod token;
mod wait;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use shared::http::{Observer, Problem, method_not_allowed, not_found, observe};
use shared::metrics::RouteSeries;

use crate::state::App;
use crate::store::StoreError;

/// Every route with the status of its success, for metrics that are there from the start.
pub const ROUTES: &[RouteSeries] = &[
    ("GET", "/users/{userid}/purchases", 200),
    ("GET", "/purchases", 200),
    ("GET", "/purchases/{purchase_id}", 200),
    ("POST", "/internal/purchases/wait", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/livez", 200),
    ("GET", "/readyz", 200),
    ("GET", "/health", 200),
    ("GET", "/metrics", 200),
];

/// The whole HTTP interface.
pub fn router(app: App) -> Router {
    let guarded = Router::new()
        .route("/users/{userid}/purchases", get(purchases::list_user_purchases))
        .route("/purchases", get(purchases::list_purchases))
        .route("/purchases/{purchase_id}", get(purchases::find_purchase))
        .route("/internal/purchases/wait", post(wait::wait_for_purchases))
        .route("/openapi.json", get(openapi::document))
        .route_layer(from_fn_with_state(app.clone(), token::require));
    let observer = Observer { metrics: app.operations.metrics.clone(), budget: app.budget.clone() };
    guarded
        .merge(app.operations.paths())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(observer, observe))
        .with_state(app)
}

/// What a caller is told when the database fails; the log has the rest.
fn unavailable(error: &StoreError) -> Problem {
    tracing::warn!(%error, "a read failed");
    Problem::unavailable("the database does not answer, try again", 1)
}
