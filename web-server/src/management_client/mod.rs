//! Calls to management-api: balanced over its replicas, with a deadline for the whole call, and hedged where that does no harm,
//! by the rules of `calls`.

mod answer;
mod attempt;
mod balancing;
pub mod calls;
mod config;
mod connector;
mod hedging;
mod lookup;
mod probe;
mod race;
mod replica;
mod replica_url;
mod replicas;
mod survey;
mod trial;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http::HeaderValue;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::commits::{CommitPage, CommitPosition};
use shared::config::Secret;
use shared::event::Purchase;
use shared::http::{ByteBudget, Problem, RequestContext, kinds};
use shared::supervise::Supervisor;
use uuid::Uuid;

pub use self::answer::Answer;
use self::attempt::{Call, Connections, Failure, Way};
pub use self::balancing::Balancing;
use self::calls::{Budgets, CallKind, Place};
pub use self::config::ManagementConfig;
use self::connector::Connector;
use self::hedging::Hedging;
pub use self::hedging::Route;
pub use self::lookup::Lookup;
use self::probe::Prober;
use self::race::Race;
pub use self::replica::ReplicaState;
pub use self::replica_url::ReplicaUrl;
use self::replicas::Replicas;
use crate::metrics::Metrics;

/// Idle connections kept to each replica, and for how long: less than the replica itself keeps them.
const IDLE_CONNECTIONS: (usize, Duration) = (64, Duration::from_secs(20));
/// What a connection reads ahead of an answer: every call may have one of its own.
const READ_BUFFER_BYTES_MAX: usize = 32 * 1024;
/// What answers to the service's own questions may take in memory.
const OWN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a replica may take to say that the wait is over.
const WAIT_MARGIN: Duration = Duration::from_secs(1);
/// How long looking for purchases by their ids may take.
const FIND_DEADLINE: Duration = Duration::from_secs(5);
/// When a caller may come again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Reads purchases from management-api.
pub struct ManagementClient {
    replicas: Arc<Replicas>,
    balancing: Balancing,
    way: Arc<Way>,
    budgets: Budgets,
    hedging: Hedging,
    metrics: Arc<Metrics>,
}

#[derive(Serialize)]
struct FindRequest<'a> {
    purchase_ids: &'a [Uuid],
}

#[derive(Serialize)]
struct WaitRequest<'a> {
    purchase_ids: &'a [Uuid],
    wait_ms: u64,
}

#[derive(Deserialize)]
struct RecordedPurchases {
    purchases: Vec<Purchase>,
}

impl ManagementClient {
    /// A client of the configured replicas; their names are resolved in the background until the service stops.
    pub fn start(
        config: &ManagementConfig,
        budget: ByteBudget,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Self {
        let replicas = Arc::new(Replicas::new(config.urls.clone(), config.lookup.clone()));
        let (resolving, shutdown) = (Arc::clone(&replicas), supervisor.shutdown().clone());
        // What was resolved is kept beside the task.
        let keep_resolving = move || Arc::clone(&resolving).keep_resolving(shutdown.clone());
        tokio::spawn(supervisor.restart("replicas", keep_resolving));
        let token = config.token.as_ref().and_then(bearer);
        let own_budget = ByteBudget::unseen(OWN_BYTES_MAX);
        let way = Arc::new(Way { connections: connections(), budget, own_budget, token });
        let prober = Prober { replicas: Arc::clone(&replicas), way: Arc::clone(&way), metrics: Arc::clone(&metrics) };
        let (prober, shutdown) = (Arc::new(prober), supervisor.shutdown().clone());
        tokio::spawn(supervisor.restart("probes", move || Arc::clone(&prober).keep_probing(shutdown.clone())));
        let (budgets, hedging) = (Budgets::new(config), Hedging::default());
        Self { replicas, balancing: config.balancing, way, budgets, hedging, metrics }
    }

    /// Reads `target` (path and query, escaped) within `deadline`. Gives the JSON as it came. Hedged by the times of `route`.
    ///
    /// # Errors
    /// 400 and 404 as management-api says, 503 when no replica answers in time.
    pub async fn get(
        &self,
        route: Route,
        target: String,
        deadline: Duration,
        context: &RequestContext,
    ) -> Result<Bytes, Problem> {
        let call = Call { kind: CallKind::Read, route: Some(route), ..Call::get(target, context) };
        self.call(&call, deadline).await?.into_json()
    }

    /// Reads what the service itself must know, as [`ManagementClient::get`]; callers' reads take nothing of what this needs.
    ///
    /// # Errors
    /// As there.
    pub async fn ask(&self, kind: CallKind, target: String, deadline: Duration) -> Result<Bytes, Problem> {
        let context = RequestContext::own();
        let call = Call { kind, route: Some(Route::Other), ..Call::get(target, &context) };
        self.call(&call, deadline).await?.into_json()
    }

    /// What was committed after a position, as soon as there is something or `wait` is over; without one, where the log of commits
    /// stands now.
    ///
    /// # Errors
    /// As [`ManagementClient::get`].
    pub async fn commits(&self, after: Option<&CommitPosition>, wait: Duration) -> Result<CommitPage, Problem> {
        // A position is written with characters that need no escape.
        let query = after.map_or_else(String::new, |after| format!("?after={after}"));
        let context = RequestContext::own();
        let call = Call {
            kind: CallKind::Stream,
            wait: Some(wait),
            ..Call::get(format!("/internal/commits{query}"), &context)
        };
        understood(&self.call(&call, wait + WAIT_MARGIN).await?.into_json()?)
    }

    /// The recorded purchases among `ids`, at most 500, in no particular order.
    ///
    /// # Errors
    /// As [`ManagementClient::get`].
    pub async fn find(&self, purchase_ids: &[Uuid]) -> Result<Vec<Purchase>, Problem> {
        let body = serde_json::to_vec(&FindRequest { purchase_ids }).unwrap_or_default().into();
        let context = RequestContext::own();
        let call = Call { kind: CallKind::Stream, ..Call::post("/internal/purchases/find".to_owned(), body, &context) };
        let RecordedPurchases { purchases } = understood(&self.call(&call, FIND_DEADLINE).await?.into_json()?)?;
        Ok(purchases)
    }

    /// Every replica that is known, and how it does.
    pub fn replicas(&self) -> Vec<ReplicaState> {
        let (known, now) = (self.replicas.known(), Instant::now());
        known.iter().map(|replica| replica.state(now)).collect()
    }

    /// A place among the readers who wait for a purchase, if one is free.
    pub fn reader_place(&self) -> Option<Place<'_>> {
        self.budgets.enter(CallKind::ReaderWait, 1)
    }

    /// As [`ManagementClient::get`], with the replica waiting up to `wait` for what is not there yet.
    ///
    /// # Errors
    /// As there.
    pub async fn get_waiting(
        &self,
        target: String,
        wait: Duration,
        _place: Place<'_>,
        context: &RequestContext,
    ) -> Result<Bytes, Problem> {
        let call = Call { kind: CallKind::ReaderWait, wait: Some(wait), ..Call::get(target, context) };
        self.call(&call, wait + WAIT_MARGIN).await?.into_json()
    }

    /// Places among the buyers who wait, one for each of so many purchases, if they are free.
    pub fn buyer_places(&self, purchases: usize) -> Option<Place<'_>> {
        self.budgets.enter(CallKind::BuyerWait, purchases)
    }

    /// Waits until the purchases are recorded, at most `wait`. Gives those that are; none when nobody can tell.
    pub async fn wait(
        &self,
        purchase_ids: &[Uuid],
        wait: Duration,
        _places: &Place<'_>,
        context: &RequestContext,
    ) -> Vec<Purchase> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let body = serde_json::to_vec(&WaitRequest { purchase_ids, wait_ms }).unwrap_or_default().into();
        let target = "/internal/purchases/wait".to_owned();
        let call = Call { kind: CallKind::BuyerWait, ..Call::post(target, body, context) };
        let answer = self.call(&call, wait + WAIT_MARGIN).await;
        let recorded = answer.and_then(Answer::into_json).and_then(|json| understood(&json));
        recorded.map_or_else(|_| Vec::new(), |RecordedPurchases { purchases }| purchases)
    }

    /// Posts `body` to `target`, to one replica and once: another is asked only if nothing was sent. Any answer that settles
    /// the command is given back.
    ///
    /// # Errors
    /// 503 when nothing was done, 504 when nobody knows.
    pub async fn command(
        &self,
        target: String,
        body: Bytes,
        deadline: Duration,
        context: &RequestContext,
    ) -> Result<Answer, Problem> {
        let call = Call { kind: CallKind::Command, ..Call::post(target, body, context) };
        self.call(&call, deadline).await
    }

    async fn call(&self, call: &Call<'_>, time: Duration) -> Result<Answer, Problem> {
        let deadline = Instant::now() + time;
        let _turn = match call.kind {
            // Who reads or waits has taken a place before.
            CallKind::Read | CallKind::ReaderWait | CallKind::BuyerWait => None,
            kind => Some(self.budgets.wait_for_turn(kind, time).await.ok_or_else(no_turn)?),
        };
        let failures = match Race::new(self, call, deadline).run().await {
            Ok(answer) => return Ok(answer),
            Err(failures) => failures,
        };
        if failures.contains(&Failure::NoRoom) && call.kind != CallKind::Command {
            return Err(self.way.budget.refuse());
        }
        let problem = no_answer(call.kind, &failures);
        tracing::warn!(
            request_id = call.context.request_id(),
            detail = problem.detail(),
            "call to management-api failed"
        );
        Err(problem)
    }

    /// Who waits is no work for a replica, however many wait there: they are spread evenly.
    fn balancing_of(&self, kind: CallKind) -> Balancing {
        if kind.is_work() { self.balancing } else { Balancing::RoundRobin }
    }
}

/// What an answer says.
fn understood<T: DeserializeOwned>(json: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(json).map_err(|error| {
        tracing::error!(%error, "an answer of management-api is not understood");
        Problem::new(kinds::INTERNAL, "an internal error")
    })
}

fn connections() -> Connections {
    let (idle_max, idle_timeout) = IDLE_CONNECTIONS;
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(idle_max)
        .pool_idle_timeout(idle_timeout)
        .http1_max_buf_size(READ_BUFFER_BYTES_MAX)
        .build(Connector::new())
}

fn bearer(token: &Secret<String>) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn no_turn() -> Problem {
    Problem::unavailable("too many requests to management-api are under way: try again", RETRY_AFTER_SECONDS)
}

fn no_answer(kind: CallKind, failures: &[Failure]) -> Problem {
    let mut detail = "management-api did not answer".to_owned();
    for (index, failure) in failures.iter().enumerate() {
        let separator = if index == 0 { ':' } else { ';' };
        let _ = write!(detail, "{separator} attempt {}: {failure}", index + 1);
    }
    if failures.is_empty() {
        detail.push_str(": no replica is known");
    }
    let sent = failures.iter().any(|failure| *failure != Failure::Unreachable);
    if kind == CallKind::Command && sent {
        return Problem::new(kinds::OUTCOME_UNKNOWN, format!("{detail}; it may have been done all the same"));
    }
    Problem::unavailable(detail, RETRY_AFTER_SECONDS)
}
