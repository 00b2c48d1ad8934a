//! `GET /status`: how the pipeline stands, for whoever buys. No host, no replica and no partition is named.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::state::AppState;

/// How the pipeline stands.
#[derive(Serialize, ToSchema)]
pub(super) struct PipelineStatus {
    /// Whether Kafka takes purchases now.
    is_kafka_reachable: bool,
    /// Purchases that Kafka has and the database has not yet; null while nobody can tell.
    consumer_lag_records: Option<u64>,
    /// The age of the oldest of them in seconds; null as above.
    consumer_lag_seconds: Option<f64>,
    /// Replicas of management-api that are ready.
    replicas_ready: usize,
    /// Replicas of management-api that are known.
    replicas_total: usize,
    /// Who may buy and read: `off` (everybody), or who shows a token or key (`jwt`, `api_key`, `any`).
    #[schema(example = "off")]
    auth: &'static str,
}

/// How the pipeline stands: a second ago at most, whoever asks and however often.
#[utoipa::path(
    get, path = "/status", tag = "operations",
    responses((status = 200, description = "As far as it is known", body = PipelineStatus))
)]
pub(super) async fn pipeline_status(State(app): State<AppState>) -> Json<PipelineStatus> {
    let recording = app.status.recording().await;
    let lag = recording.and_then(|recording| recording.lag);
    Json(PipelineStatus {
        is_kafka_reachable: app.publisher.check().is_ok(),
        consumer_lag_records: lag.map(|lag| lag.records),
        consumer_lag_seconds: lag.map(|lag| lag.seconds),
        replicas_ready: recording.map_or(0, |recording| recording.replicas_ready),
        replicas_total: recording.map_or_else(|| app.management.replicas().len(), |recording| recording.replicas_total),
        auth: app.config.auth.label(),
    })
}
