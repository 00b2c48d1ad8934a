//! `POST /internal/demand`: another web-server tells what its callers ask for, and is told the same of this one.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

use crate::limits::report::BYTES_MAX;
use crate::limits::{Limits, PEER_PATH};

/// How long a report may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// The path, for the listener.
pub(super) fn paths(limits: &Arc<Limits>) -> Router {
    Router::new().route(PEER_PATH, post(tell_demand)).with_state(Arc::clone(limits))
}

async fn tell_demand(State(limits): State<Arc<Limits>>, request: Request) -> Response {
    if !token(request.headers()).is_some_and(|token| limits.is_peer(token)) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BYTES_MAX)).await;
    match body.map_or_else(|_| Err("it came too slowly"), |body| hear(&limits, body)) {
        Ok(speech) => ([(header::CONTENT_TYPE, "application/json")], speech).into_response(),
        Err(reason) => {
            tracing::debug!(reason, "a web-server's report is refused");
            StatusCode::BAD_REQUEST.into_response()
        }
    }
}

fn hear(limits: &Limits, body: Result<Bytes, axum::Error>) -> Result<Bytes, &'static str> {
    limits.hear(&body.map_err(|_| "it is too large, or broke off")?)
}

fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
