//! What `/livez`, `/readyz` and `/health` answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// One dependency's state: fine, or why not. Must answer from memory, at once.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The checks of a service. `/readyz` says whether callers should be sent here, `/health` all that is known as of now.
#[derive(Clone, Default)]
pub struct Readiness {
    readiness: Vec<(&'static str, Check)>,
    health: Vec<(&'static str, Check)>,
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
    /// Adds a check to both, asked anew each time.
    #[must_use]
    pub fn with(self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        let check: Check = Arc::new(check);
        let both = Arc::clone(&check);
        self.with_readiness(name, move || check()).with_health(name, move || both())
    }

    /// Adds a check that `/readyz` asks until it has passed once, and `/health` always.
    #[must_use]
    pub fn with_start(
        self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let check: Check = Arc::new(check);
        let (always, passed) = (Arc::clone(&check), AtomicBool::new(false));
        let until_passed = move || {
            if !passed.load(Ordering::Relaxed) {
                check()?;
                passed.store(true, Ordering::Relaxed);
            }
            Ok(())
        };
        self.with_readiness(name, until_passed).with_health(name, move || always())
    }

    /// Adds a check to `/readyz` alone.
    #[must_use]
    pub fn with_readiness(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.readiness.push((name, Arc::new(check)));
        self
    }

    /// Adds a check to `/health` alone: for what a caller is better told here than not at all.
    #[must_use]
    pub fn with_health(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.health.push((name, Arc::new(check)));
        self
    }

    /// Whether `/readyz` says yes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readiness.iter().all(|(_, check)| check().is_ok())
    }

    /// The answer of `/readyz`.
    #[must_use]
    pub fn readyz(&self) -> Response {
        report(&self.readiness, "ready", "not ready")
    }

    /// The answer of `/health`.
    #[must_use]
    pub fn health(&self) -> Response {
        report(&self.health, "healthy", "unhealthy")
    }
}

fn report(checks: &[(&'static str, Check)], good: &'static str, bad: &'static str) -> Response {
    let checks: BTreeMap<_, _> = checks.iter().map(|(name, check)| (*name, CheckReport::new(&check()))).collect();
    let passes = checks.values().all(|check| check.status == "ok");
    let (code, status) = if passes { (StatusCode::OK, good) } else { (StatusCode::SERVICE_UNAVAILABLE, bad) };
    (code, Json(HealthReport { status, checks })).into_response()
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
