//! What `/livez`, `/readyz` and `/health` answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// One dependency's state: fine, or why not. Must answer from memory, at once.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The checks of a service's readiness.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
}

/// The answer of a health path.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthReport {
    /// `ready` or `not ready`; on `/health` `healthy` or `unhealthy`, on `/livez` `alive`.
    #[schema(example = "ready")]
    pub status: &'static str,
    /// Each check by its name.
    pub checks: BTreeMap<&'static str, CheckReport>,
}

/// One check's result.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckReport {
    /// `ok` or `failing`.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// What is wrong.
    pub detail: String,
}

impl Readiness {
    /// Adds a check.
    #[must_use]
    pub fn with(mut self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.checks.push((name, Arc::new(check)));
        self
    }

    /// The answer of `/readyz`.
    #[must_use]
    pub fn readyz(&self) -> Response {
        self.report("ready", "not ready")
    }

    /// The answer of `/health`: the same in the words of older monitors.
    #[must_use]
    pub fn health(&self) -> Response {
        self.report("healthy", "unhealthy")
    }

    fn report(&self, good: &'static str, bad: &'static str) -> Response {
        let checks: BTreeMap<_, _> =
            self.checks.iter().map(|(name, check)| (*name, CheckReport::new(&check()))).collect();
        let ready = checks.values().all(|check| check.status == "ok");
        let (code, status) = if ready { (StatusCode::OK, good) } else { (StatusCode::SERVICE_UNAVAILABLE, bad) };
        (code, Json(HealthReport { status, checks })).into_response()
    }
}

impl HealthReport {
    /// The answer of `/livez`.
    #[must_use]
    pub fn alive() -> Self {
        Self { status: "alive", checks: BTreeMap::new() }
    }
}

impl CheckReport {
    fn new(result: &Result<(), String>) -> Self {
        match result {
            Ok(()) => Self { status: "ok", detail: String::new() },
            Err(detail) => Self { status: "failing", detail: detail.clone() },
        }
    }
}
