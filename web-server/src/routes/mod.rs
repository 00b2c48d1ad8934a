//! Every path, and what answers it.

mod accounts;
mod accounts_page;
mod api_keys;
mod backends;
mod batch;
mod buy;
mod callbacks;
mod conditional;
mod demand;
mod events;
mod input;
mod intake;
mod limited;
pub mod openapi;
mod page;
mod purchases;
mod recent_purchase;
mod session_cookie;
mod status;
mod usage;
mod webhook_keys;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use shared::http::{Observer, Operations, Routes, method_not_allowed, not_found, observe};
use shared::metrics::RouteSeries;

use crate::state::{App, AppState};

/// What a service level counts, or leaves out. A series that begins with its first failure has no rate then, and an alert would
/// miss it. 499: the caller's connection broke.
pub const WATCHED_FAILURES: [RouteSeries; 3] = [("POST", "/buy", 499), ("POST", "/buy", 503), ("POST", "/buy", 504)];

fn routes() -> Routes<AppState> {
    Routes::default()
        .get("/", 200, page::page)
        .get("/page/{file}", 200, page::page_file)
        .get("/status", 200, status::pipeline_status)
        .post("/buy", 202, buy::buy)
        .post("/buy/batch", 202, batch::buy_batch)
        .get("/getAllUserBuys/{userid}", 200, purchases::list_user_purchases)
        .get("/purchases", 200, purchases::list_purchases)
        .get("/purchases/{purchase_id}", 200, purchases::find_purchase)
        .get("/purchases/{purchase_id}/events", 200, events::purchase_events)
        .get("/users/{userid}/events", 200, events::user_events)
        .post("/account", 201, accounts::create_account)
        .post("/login", 200, accounts::login)
        .post("/refresh", 200, accounts::refresh)
        .post("/logout", 204, accounts::logout)
        .post("/account/password", 204, accounts::change_password)
        .delete("/account", 204, accounts::delete_account)
        .get("/accounts_page", 200, accounts_page::accounts_page)
        .post("/api-keys", 201, api_keys::create_key)
        .get("/api-keys", 200, api_keys::list_keys)
        .post("/api-keys/{key_id}/rotate", 200, api_keys::rotate_key)
        .delete("/api-keys/{key_id}", 204, api_keys::revoke_key)
        .get("/usage", 200, usage::list_usage)
        .get("/backends", 200, backends::list_backends)
        .get("/callbacks", 200, callbacks::list_dead)
        .post("/callbacks/resend", 200, callbacks::resend)
        .get("/callbacks/hosts", 200, callbacks::list_hosts)
        .post("/callbacks/hosts/switch-on", 204, callbacks::switch_on)
        .get("/.well-known/webhook-keys.json", 200, webhook_keys::webhook_keys)
        .get("/openapi.json", 200, openapi::openapi_json)
        .get("/docs", 303, openapi::docs)
        .get("/docs/{file}", 200, openapi::docs_file)
}

/// Each route's method, path and success status.
#[must_use]
pub fn successes() -> Vec<RouteSeries> {
    routes().series().chain(Operations::SERIES).collect()
}

/// The series that are there from the start.
#[must_use]
pub fn series() -> Vec<RouteSeries> {
    successes().into_iter().chain(WATCHED_FAILURES).collect()
}

/// All routes behind the one middleware.
pub fn router(app: AppState, observer: Observer) -> Router {
    let mut router = routes()
        .into_router()
        .merge(app.operations.paths())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(from_fn_with_state(Arc::clone(&app), limited::limit));
    if let Some(cors) = app.config.cors.layer() {
        router = router.layer(cors);
    }
    let peers = if app.operations.address.is_none() { peer_paths(&app) } else { Router::new() };
    router.layer(from_fn_with_state(observer, observe)).with_state(app).merge(peers)
}

/// What other web-servers ask, on the port for operations if there is one: nothing that counts as a request.
pub fn peer_paths(app: &App) -> Router {
    if app.limits.has_peers() { demand::paths(&app.limits) } else { Router::new() }
}
