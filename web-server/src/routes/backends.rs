//! `GET /backends`: the replicas of management-api, as this web-server sees them.

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use shared::http::Problem;
use utoipa::ToSchema;

use crate::state::AppState;

/// All replicas that are known.
#[derive(Serialize, ToSchema)]
pub(super) struct Backends {
    replicas: Vec<Backend>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
pub(super) struct Backend {
    /// Where it listens.
    #[schema(example = "10.1.2.3:8081")]
    address: String,
    /// `in_use`, or `left_out` while it does not answer.
    #[schema(example = "in_use")]
    state: &'static str,
    /// Peak of its recent answers' times, which fades, in milliseconds.
    latency_ms: f64,
    /// Reads and commands of this web-server that it has not answered yet.
    in_flight: usize,
}

/// The replicas of management-api, as this web-server sees them.
#[utoipa::path(
    get, path = "/backends", tag = "operations", security(("access_token" = [])),
    responses(
        (status = 200, description = "All that are known", body = Backends),
        (status = 401, description = "No access token, or not a good one"),
        (status = 403, description = "Not an administrator's"),
        (status = 429, description = "Over the caller's rate"),
        (status = 503, description = "Nobody can tell whose the token is, or accounts are not set up"),
    )
)]
pub(super) async fn list_backends(State(app): State<AppState>, request: Request) -> Result<Json<Backends>, Problem> {
    app.tokens.check_admin(request.headers(), "the replicas are for administrators").await?;
    let replicas = app.management.replicas().into_iter().map(|replica| Backend {
        address: replica.address.to_string(),
        state: if replica.is_left_out { "left_out" } else { "in_use" },
        latency_ms: replica.latency.as_secs_f64() * 1000.0,
        in_flight: replica.in_flight,
    });
    Ok(Json(Backends { replicas: replicas.collect() }))
}
