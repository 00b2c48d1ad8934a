//! Calls to management-api: a list of replicas, a deadline for the whole call, one attempt at a time.

mod attempt;
mod replicas;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http::{HeaderValue, Method, StatusCode};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::{Deserialize, Serialize};
use shared::event::{FieldError, Purchase};
use shared::http::{Problem, RequestContext, kinds};
use shared::shutdown::Shutdown;
use tokio::sync::Semaphore;
use uuid::Uuid;

pub use self::attempt::Call;
use self::attempt::{Answer, Connections, Failure, attempt};
pub use self::replicas::ReplicaUrl;
use self::replicas::{Replica, Replicas};
use crate::config::ManagementConfig;
use crate::metrics::{ManagementOutcome, Metrics};

/// Replicas tried one after the other within one call's deadline.
const ATTEMPTS_MAX: usize = 3;
/// Idle connections kept to each replica, and for how long: less than the replica itself keeps them.
const IDLE_CONNECTIONS: (usize, Duration) = (64, Duration::from_secs(20));
/// What a replica may take to say that the wait is over.
const WAIT_MARGIN: Duration = Duration::from_secs(1);
/// When a caller may come again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Reads purchases from management-api.
pub struct ManagementClient {
    replicas: Arc<Replicas>,
    connections: Connections,
    /// Reads under way.
    reads: Semaphore,
    /// Calls that wait for a record: they take long, and must not keep reads from their turn.
    waits: Semaphore,
    token: Option<HeaderValue>,
    metrics: Arc<Metrics>,
}

#[derive(Serialize)]
struct WaitRequest<'a> {
    purchase_ids: &'a [Uuid],
    wait_ms: u64,
}

#[derive(Deserialize)]
struct WaitAnswer {
    purchases: Vec<Purchase>,
}

/// What we read of a replica's problem, to make it anew for our own caller.
#[derive(Deserialize)]
struct ForeignProblem {
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<ForeignError>,
}

#[derive(Deserialize)]
struct ForeignError {
    field: String,
    message: String,
}

impl ManagementClient {
    /// A client of the configured replicas; their names are resolved in the background until the service stops.
    pub fn start(config: &ManagementConfig, metrics: Arc<Metrics>, shutdown: &Shutdown) -> Self {
        let replicas = Arc::new(Replicas::new(config.urls.clone()));
        tokio::spawn(Arc::clone(&replicas).keep_resolving(shutdown.clone()));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let (idle_max, idle_timeout) = IDLE_CONNECTIONS;
        let connections = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(idle_max)
            .pool_idle_timeout(idle_timeout)
            .build(connector);
        let token = config.token.as_ref().and_then(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let [reads, waits] = [(); 2].map(|()| Semaphore::new(config.in_flight_max));
        Self { replicas, connections, reads, waits, token, metrics }
    }

    /// Reads `target` (path and query, escaped) within `deadline`. Gives the JSON as it came.
    ///
    /// # Errors
    /// 400 and 404 as management-api says, 503 when no replica answers in time.
    pub async fn get(&self, target: String, deadline: Duration, context: &RequestContext) -> Result<Bytes, Problem> {
        let call = Call { method: Method::GET, target, body: Bytes::new(), wait: None, context };
        self.call(&call, deadline).await.and_then(Answer::into_json)
    }

    /// As [`ManagementClient::get`], with the replica waiting up to `wait` for what is not there yet.
    ///
    /// # Errors
    /// As there.
    pub async fn get_waiting(
        &self,
        target: String,
        wait: Duration,
        context: &RequestContext,
    ) -> Result<Bytes, Problem> {
        let call = Call { method: Method::GET, target, body: Bytes::new(), wait: Some(wait), context };
        self.call(&call, wait + WAIT_MARGIN).await.and_then(Answer::into_json)
    }

    /// Waits until the purchases are recorded, at most `wait`. Gives those that are; none when nobody can tell.
    pub async fn wait(&self, purchase_ids: &[Uuid], wait: Duration, context: &RequestContext) -> Vec<Purchase> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let body = serde_json::to_vec(&WaitRequest { purchase_ids, wait_ms }).unwrap_or_default();
        let target = "/internal/purchases/wait".to_owned();
        let call = Call { method: Method::POST, target, body: body.into(), wait: None, context };
        let answer = self.call(&call, wait + WAIT_MARGIN).await.and_then(Answer::into_json);
        let purchases = match &answer {
            Ok(json) => serde_json::from_slice(json).map(|WaitAnswer { purchases }| purchases),
            Err(_) => return Vec::new(),
        };
        purchases.unwrap_or_else(|error| {
            tracing::error!(%error, "management-api's answer to a wait is not understood");
            Vec::new()
        })
    }

    /// The seam for balancing and hedging: which replicas are asked, and when.
    async fn call(&self, call: &Call<'_>, deadline: Duration) -> Result<Answer, Problem> {
        let deadline = Instant::now() + deadline;
        let mut failures = Vec::new();
        for replica in self.replicas.pick(ATTEMPTS_MAX) {
            match self.observed_attempt(&replica, call, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failures.push(failure),
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        let problem = unavailable(&failures);
        tracing::warn!(
            request_id = call.context.request_id(),
            detail = problem.detail(),
            "call to management-api failed"
        );
        Err(problem)
    }

    async fn observed_attempt(&self, replica: &Replica, call: &Call<'_>, deadline: Instant) -> Result<Answer, Failure> {
        let started = Instant::now();
        let time = deadline.saturating_duration_since(started);
        let turns = if call.waits() { &self.waits } else { &self.reads };
        let result = match tokio::time::timeout(time, turns.acquire()).await {
            Ok(_turn) => attempt(&self.connections, replica, call, self.token.as_ref(), deadline).await,
            Err(_) => Err(Failure::Timeout(time)),
        };
        let outcome = result.as_ref().map_or_else(|failure| failure.outcome(), |_| ManagementOutcome::Success);
        self.metrics.management_request(outcome, started.elapsed());
        if let Err(failure) = &result {
            let request_id = call.context.request_id();
            tracing::debug!(replica = %replica.address, request_id, %failure, "attempt failed");
        }
        result
    }
}

impl Answer {
    fn into_json(self) -> Result<Bytes, Problem> {
        if self.status == StatusCode::OK {
            return Ok(self.body);
        }
        let kind = if self.status == StatusCode::NOT_FOUND { kinds::NOT_FOUND } else { kinds::INVALID_INPUT };
        let foreign = serde_json::from_slice(&self.body)
            .unwrap_or(ForeignProblem { detail: kind.title.to_lowercase(), errors: Vec::new() });
        if foreign.errors.is_empty() {
            return Err(Problem::new(kind, foreign.detail));
        }
        let errors = foreign.errors.into_iter().map(|error| FieldError::new(error.field, error.message));
        Err(Problem::invalid(errors.collect()))
    }
}

fn unavailable(failures: &[Failure]) -> Problem {
    let mut detail = "management-api did not answer".to_owned();
    for (index, failure) in failures.iter().enumerate() {
        let separator = if index == 0 { ':' } else { ';' };
        let _ = write!(detail, "{separator} attempt {}: {failure}", index + 1);
    }
    if failures.is_empty() {
        detail.push_str(": no replica is known");
    }
    Problem::unavailable(detail, RETRY_AFTER_SECONDS)
}
