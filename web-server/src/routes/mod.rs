//! Every path, and what answers it.

mod batch;
mod buy;
mod intake;
pub mod openapi;
mod purchases;
mod schemas;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use shared::http::{Observer, method_not_allowed, not_found, observe};
use shared::metrics::RouteSeries;

use crate::state::AppState;

/// Each route's method, path and success status.
pub const ROUTES: [RouteSeries; 12] = [
    ("POST", "/buy", 202),
    ("POST", "/buy/batch", 202),
    ("GET", "/getAllUserBuys/{userid}", 200),
    ("GET", "/purchases", 200),
    ("GET", "/purchases/{purchase_id}", 200),
    ("GET", "/livez", 200),
    ("GET", "/readyz", 200),
    ("GET", "/health", 200),
    ("GET", "/metrics", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/docs", 303),
    ("GET", "/docs/{file}", 200),
];

/// What a service level counts, or leaves out. A series that begins with its first failure has no rate then, and an alert would
/// miss it. 499: the caller's connection broke.
pub const WATCHED_FAILURES: [RouteSeries; 3] = [("POST", "/buy", 499), ("POST", "/buy", 503), ("POST", "/buy", 504)];

/// The series that are there from the start.
pub fn series() -> Vec<RouteSeries> {
    ROUTES.into_iter().chain(WATCHED_FAILURES).collect()
}

/// All routes behind the one middleware.
pub fn router(app: AppState, observer: Observer) -> Router {
    Router::new()
        .route("/buy", post(buy::buy))
        .route("/buy/batch", post(batch::buy_batch))
        .route("/getAllUserBuys/{userid}", get(purchases::list_user_purchases))
        .route("/purchases", get(purchases::list_purchases))
        .route("/purchases/{purchase_id}", get(purchases::find_purchase))
        .route("/openapi.json", get(openapi::openapi_json))
        .route("/docs", get(openapi::docs))
        .route("/docs/{file}", get(openapi::docs_file))
        .merge(app.operations.paths())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(from_fn_with_state(observer, observe))
        .with_state(app)
}
