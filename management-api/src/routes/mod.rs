//! The read API and what web-server needs besides.

mod accounts;
mod api_keys;
mod callbacks;
mod commits;
mod deadline;
pub mod openapi;
mod purchases;
mod recording;
mod token;
mod usage;
mod wait;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use shared::http::{Observer, Operations, Problem, Routes, method_not_allowed, not_found, observe};
use shared::metrics::RouteSeries;

use crate::state::App;
use crate::store::StoreError;

fn routes() -> Routes<App> {
    Routes::default()
        .get("/users/{userid}/purchases", 200, purchases::list_user_purchases)
        .get("/purchases", 200, purchases::list_purchases)
        .get("/purchases/{purchase_id}", 200, purchases::find_purchase)
        .post("/internal/purchases/wait", 200, wait::wait_for_purchases)
        .post("/internal/purchases/find", 200, wait::find_purchases)
        .get("/internal/commits", 200, commits::follow_commits)
        .get("/internal/recording", 200, recording::recording_state)
        .post("/internal/accounts", 201, accounts::create_account)
        .get("/internal/accounts", 200, accounts::list_accounts)
        .post("/internal/accounts/{account_id}/delete", 204, accounts::delete_account)
        .post("/internal/login", 200, accounts::login)
        .post("/internal/refresh", 200, accounts::refresh)
        .post("/internal/logout", 204, accounts::logout)
        .post("/internal/accounts/{account_id}/password", 204, accounts::change_password)
        .get("/internal/token-keys", 200, accounts::token_keys)
        .post("/internal/api-keys", 201, api_keys::create_key)
        .get("/internal/api-keys", 200, api_keys::list_keys)
        .post("/internal/api-keys/{key_id}/rotate", 200, api_keys::rotate_key)
        .post("/internal/api-keys/{key_id}/revoke", 204, api_keys::revoke_key)
        .get("/internal/known-keys/{hash}", 200, api_keys::find_key)
        .post("/internal/usage", 204, usage::add_usage)
        .get("/internal/usage", 200, usage::list_usage)
        .get("/internal/callbacks", 200, callbacks::callback_rules)
        .get("/internal/callbacks/dead", 200, callbacks::list_dead)
        .post("/internal/callbacks/resend", 200, callbacks::resend)
        .get("/internal/callbacks/hosts", 200, callbacks::list_hosts)
        .post("/internal/callbacks/hosts/switch-on", 204, callbacks::switch_on)
        .get("/openapi.json", 200, openapi::document)
}

/// Each route's method, path and success status, for metrics that are there from the start.
#[must_use]
pub fn successes() -> Vec<RouteSeries> {
    routes().series().chain(Operations::SERIES).collect()
}

/// The whole HTTP interface. Who asks for anything but health and metrics must have the token.
pub fn router(app: App) -> Router {
    let observer = Observer { metrics: app.operations.metrics.clone(), budget: app.budget.clone() };
    routes()
        .into_router()
        .route_layer(from_fn(deadline::keep))
        .route_layer(from_fn_with_state(app.clone(), token::require))
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
