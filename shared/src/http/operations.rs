//! What operators and monitors ask every service: liveness, readiness and metrics. Open to who reaches the port, on the service's
//! own port or on one for operations, which is never full whatever the other is.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;

use super::{ByteBudget, Observer, Server, ServerLimits, method_not_allowed, not_found, observe};
use crate::health::{HealthReport, Readiness};
use crate::metrics::{Gauge, HttpMetrics, Registry, RouteSeries};
use crate::shutdown::Shutdown;
use crate::supervise::Supervisor;

/// Limits of the listener for operations. A monitor asks briefly and reads at once.
pub(super) const LIMITS: ServerLimits = ServerLimits {
    connections: 256,
    header_timeout: Duration::from_secs(5),
    keep_alive_timeout: Duration::from_secs(90),
    answer_timeout: Duration::from_secs(5),
    max_age: None,
    drain_timeout: Duration::from_secs(1),
    half_close: true,
};
/// What its callers may make it hold: with all its connections in use.
const MEMORY_MAX: usize = 16 * 1024 * 1024;

/// What operators can ask about.
#[derive(Clone)]
pub struct Operations {
    /// What health looks at.
    pub readiness: Readiness,
    /// All metrics.
    pub registry: Registry,
    /// Where requests are counted.
    pub metrics: Arc<HttpMetrics>,
    /// Where else than on the service's own port this is served; metrics are only there then.
    pub address: Option<SocketAddr>,
}

/// The listener for operations; it ends when this is dropped, so that health is told to the very end of a shutdown.
pub struct OperationsListener(Shutdown);

impl Operations {
    /// Every path, with its method and the status of its success.
    pub const SERIES: [RouteSeries; 4] =
        [("GET", "/livez", 200), ("GET", "/readyz", 200), ("GET", "/health", 200), ("GET", "/metrics", 200)];

    /// The paths for the router on the service's own port.
    pub fn paths<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let health = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/health", get(health))
            .with_state(self.readiness.clone());
        if self.address.is_some() { health } else { health.merge(self.metrics_path()) }
    }

    fn metrics_path<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        Router::new().route("/metrics", get(render_metrics)).with_state(self.registry.clone())
    }

    /// Serves all paths on the address for operations, if there is one.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn listen(&self, supervisor: &Supervisor) -> io::Result<Option<OperationsListener>> {
        self.listen_with(Router::new(), supervisor).await
    }

    /// As [`Operations::listen`], and serves `paths` there too, which count as no requests.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn listen_with(&self, paths: Router, supervisor: &Supervisor) -> io::Result<Option<OperationsListener>> {
        let Some(address) = self.address else { return Ok(None) };
        let listener = TcpListener::bind(address).await?;
        let (budget, shutdown) = (ByteBudget::unseen(MEMORY_MAX), Shutdown::new());
        let observer = Observer { metrics: Arc::clone(&self.metrics), budget: budget.clone() };
        let own = Self { address: None, ..self.clone() };
        let router = own
            .paths()
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(from_fn_with_state(observer, observe))
            .merge(paths);
        // The gauge shows the connections of the service's own port.
        let server = Server { router, limits: LIMITS, budget, connections: Gauge::noop(), certificate: None };
        let (supervisor, ending) = (supervisor.clone(), shutdown.clone());
        // Unseen and unasked is as bad as gone: only a new process can open the port again.
        tokio::spawn(async move { supervisor.vital("operations", server.serve(listener, &ending)).await });
        Ok(Some(OperationsListener(shutdown)))
    }
}

impl Drop for OperationsListener {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Whether a path is one of these.
pub(super) fn is_operations(path: &str) -> bool {
    Operations::SERIES.iter().any(|(_, known, _)| *known == path)
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
async fn readyz(State(readiness): State<Readiness>) -> Response {
    readiness.readyz()
}

/// Whether the service can do all of its work now.
#[utoipa::path(
    get, path = "/health", tag = "operations",
    responses(
        (status = 200, description = "Every check passes", body = HealthReport),
        (status = 503, description = "A check fails", body = HealthReport),
    )
)]
async fn health(State(readiness): State<Readiness>) -> Response {
    readiness.health()
}

/// Metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "metrics",
    responses(
        (status = 200, description = "Prometheus text format 0.0.4", content_type = "text/plain", body = String),
        (status = 404, description = "Metrics are on the port for operations alone"),
    )
)]
async fn render_metrics(State(registry): State<Registry>) -> Response {
    registry.answer()
}

/// The description of the paths.
#[derive(utoipa::OpenApi)]
#[openapi(paths(livez, readyz, health, render_metrics))]
pub(super) struct OperationsApi;
