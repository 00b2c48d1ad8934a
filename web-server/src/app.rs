//! What the routes share, and the run from the first request to the last record.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use shared::health::Readiness;
use shared::http::{ByteBudget, Observer, Operations, OperationsListener, Problem, Server, WAIT_MAX};
use shared::kafka::KafkaError;
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::in_flight::{InFlightLimit, Slot};
use crate::management_client::ManagementClient;
use crate::metrics::{Metrics, Refusal, TASKS};
use crate::publisher::{KafkaPublisher, PurchasePublisher};
use crate::routes;

/// When a refused caller may come again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What handlers get.
pub type AppState = Arc<App>;

/// What the routes share.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The way to Kafka.
    pub publisher: Arc<dyn PurchasePublisher>,
    /// The way to management-api.
    pub management: ManagementClient,
    /// What operators can ask about.
    pub operations: Operations,
    /// What callers may make the service hold.
    pub budget: ByteBudget,
    /// What is counted, and what `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// How far the end has come.
    pub shutdown: Shutdown,
    supervisor: Supervisor,
    purchases_in_flight: InFlightLimit,
    batches_in_flight: InFlightLimit,
}

/// A request that found a free place as it came.
pub struct Admission<'a> {
    app: &'a App,
    limit: &'a InFlightLimit,
}

/// Why the service has not ended well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The listener or the signals failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The port cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The Kafka client cannot be built.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A task that the service cannot do without has died.
    #[error("the task {0} has died, and the service cannot do without it")]
    Died(&'static str),
    /// The time to drain was too short.
    #[error("{connections} connections and {purchases} purchases were left when the time to drain was over")]
    LeftBehind {
        /// Connections cut off with a request running.
        connections: usize,
        /// Purchases neither delivered nor given up.
        purchases: usize,
    },
}

/// Opens the listener for [`run`].
///
/// # Errors
/// When the port cannot be had.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|error| RunError::Listen { address, error })
}

/// Serves on `listener` until `shutdown` says stop, ends what is running, and empties the producer.
///
/// # Errors
/// When Kafka's settings are not taken, a vital task has died, or something was left behind at the end.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) -> Result<(), RunError> {
    let metrics = Metrics::new(&config.http.metrics_prefix);
    let supervisor = Supervisor::new(&metrics.registry, &TASKS, &shutdown);
    let publisher = KafkaPublisher::build(&config, Arc::clone(&metrics), &supervisor)?;
    let (topics, kafka) = (Arc::clone(&publisher), config.kafka.clone());
    let registry = metrics.registry.clone();
    supervisor.restart("metrics", move || registry.clone().keep_up());
    // Looking at the topics again does no harm.
    supervisor.complete("topics", move || Arc::clone(&topics).ensure_topics(kafka.clone(), shutdown.clone()));
    App::new(config, publisher, metrics, supervisor).serve(listener).await
}

impl App {
    /// Brings the parts together; the publisher may be a fake.
    pub fn new(
        config: Config,
        publisher: Arc<dyn PurchasePublisher>,
        metrics: Arc<Metrics>,
        supervisor: Supervisor,
    ) -> AppState {
        let shutdown = supervisor.shutdown().clone();
        let (start, kafka, draining) = (Arc::clone(&publisher), Arc::clone(&publisher), shutdown.clone());
        // Without Kafka reads go on, and buyers are told to come again: better than no server to connect to.
        let mut readiness =
            Readiness::default()
                .with_readiness("kafka", move || start.check_start())
                .with_health("kafka", move || kafka.check())
                .with("draining", move || {
                    if draining.is_draining() { Err("the service is ending".to_owned()) } else { Ok(()) }
                });
        if let Some(admission) = config.admission.clone() {
            readiness = readiness.with_start("recording", move || admission());
        }
        let operations = Operations {
            readiness,
            registry: metrics.registry.clone(),
            metrics: Arc::clone(&metrics.http),
            address: config.http.operations_address,
        };
        let refusals = metrics.refusals(Refusal::Memory);
        let budget = ByteBudget::new(config.http.memory_max, &metrics.http, refusals);
        Arc::new(Self {
            operations,
            budget: budget.clone(),
            management: ManagementClient::start(&config.management, budget, Arc::clone(&metrics), &supervisor),
            purchases_in_flight: InFlightLimit::new(config.in_flight_max),
            batches_in_flight: InFlightLimit::new(config.batches_in_flight_max),
            config,
            publisher,
            metrics,
            shutdown,
            supervisor,
        })
    }

    /// Serves until the shutdown says stop.
    ///
    /// # Errors
    /// When a vital task has died, or something was left behind.
    pub async fn serve(self: AppState, listener: TcpListener) -> Result<(), RunError> {
        tracing::info!(address = %listener.local_addr()?, "listening");
        let _operations = self.listen_for_operations().await?;
        let server = Server {
            router: self.router(),
            limits: self.config.http.limits,
            budget: self.budget.clone(),
            connections: self.metrics.http.connections.clone(),
        };
        // The listener ends with its task: only a new process can open it again.
        let connections = self.supervisor.vital("http", server.serve(listener, &self.shutdown)).await;
        let (publisher, timeout) = (Arc::clone(&self.publisher), self.shutdown.patience(self.config.flush_timeout));
        let flush = tokio::task::spawn_blocking(move || publisher.flush(timeout));
        let purchases = flush.await.unwrap_or(0);
        if let Some(task) = self.shutdown.failure() {
            return Err(RunError::Died(task));
        }
        // A listener that has died while it drained was not able to count.
        let connections = connections.ok_or(RunError::Died("http"))?;
        if connections > 0 || purchases > 0 {
            return Err(RunError::LeftBehind { connections, purchases });
        }
        tracing::info!("ended with nothing left");
        Ok(())
    }

    fn router(self: &AppState) -> Router {
        let observer = Observer { metrics: Arc::clone(&self.metrics.http), budget: self.budget.clone() };
        routes::router(Arc::clone(self), observer)
    }

    async fn listen_for_operations(&self) -> Result<Option<OperationsListener>, RunError> {
        let address = self.config.http.operations_address.unwrap_or(self.config.http.listen_address);
        self.operations.listen(&self.supervisor).await.map_err(|error| RunError::Listen { address, error })
    }

    /// Lets a purchase request in, or refuses it before its body is read.
    ///
    /// # Errors
    /// 503 when too many are in flight or the service is ending.
    pub fn admit_purchase(&self) -> Result<Admission<'_>, Problem> {
        self.admit(&self.purchases_in_flight)
    }

    /// Lets a batch in, or refuses it before its body is read.
    ///
    /// # Errors
    /// 503 when too many are in flight or the service is ending.
    pub fn admit_batch(&self) -> Result<Admission<'_>, Problem> {
        self.admit(&self.batches_in_flight)
    }

    fn admit<'a>(&'a self, limit: &'a InFlightLimit) -> Result<Admission<'a>, Problem> {
        // Only a request that comes after the listener has closed, on a connection not yet ended.
        if self.shutdown.is_stopped() {
            return Err(self.refuse(Refusal::Draining));
        }
        if limit.has_room() { Ok(Admission { app: self, limit }) } else { Err(self.refuse(Refusal::InFlight)) }
    }

    /// Asks, before anything is sent, whether what comes after Kafka can take purchases.
    ///
    /// # Errors
    /// 503 when it cannot.
    pub fn check_admission(&self) -> Result<(), Problem> {
        let Some(Err(reason)) = self.config.admission.as_ref().map(|check| check()) else { return Ok(()) };
        tracing::debug!(reason, "purchase refused");
        Err(self.refuse(Refusal::Shedding))
    }

    /// Counts a refused request and makes its answer.
    pub fn refuse(&self, reason: Refusal) -> Problem {
        self.metrics.refused(reason);
        Problem::unavailable(reason.advice(), RETRY_AFTER_SECONDS)
    }

    /// How long a caller who asked for `wait` is kept waiting for the record; nothing for not at all.
    pub fn recording_wait(&self, wait: Option<Duration>) -> Option<Duration> {
        let asked = wait.filter(|wait| !wait.is_zero());
        if self.config.always_wait { Some(asked.unwrap_or(self.config.publish_deadline.min(WAIT_MAX))) } else { asked }
    }
}

impl Admission<'_> {
    /// Takes the request's place, once its body is here: who is slow to send it keeps nobody else out.
    ///
    /// # Errors
    /// 503 when others have taken the last place meanwhile.
    pub fn enter(self) -> Result<Slot, Problem> {
        self.limit.enter().ok_or_else(|| self.app.refuse(Refusal::InFlight))
    }
}
