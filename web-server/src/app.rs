//! Wires the service together and runs it, from the first request to the last record.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use shared::http::{Certificate, Observer, OperationsListener, Server};
use shared::kafka::KafkaError;
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::metrics::{Metrics, TASKS};
use crate::publisher::KafkaPublisher;
use crate::routes;
use crate::state::{App, AppState};

/// How long the last requests of API keys may take to be told at the end, beside the producer's queue.
const USAGE_TIMEOUT: Duration = Duration::from_secs(2);

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
    let metrics = Metrics::new(&config.http.metrics_prefix, &routes::series());
    let supervisor = Supervisor::new(&metrics.registry, &TASKS, &shutdown);
    let publisher = KafkaPublisher::build(&config.publisher, Arc::clone(&metrics), &supervisor)?;
    let (topics, kafka) = (Arc::clone(&publisher), config.publisher.kafka.clone());
    let registry = metrics.registry.clone();
    let ending = shutdown.clone();
    tokio::spawn(supervisor.restart("metrics", move || registry.clone().keep_up(ending.clone())));
    // Looking at the topics again does no harm.
    let ensure_topics = move || Arc::clone(&topics).ensure_topics(kafka.clone(), shutdown.clone());
    tokio::spawn(supervisor.complete("topics", ensure_topics));
    serve(App::new(config, publisher, metrics, supervisor), listener).await
}

/// Serves until the shutdown says stop.
///
/// # Errors
/// When a vital task has died, or something was left behind.
pub async fn serve(app: AppState, listener: TcpListener) -> Result<(), RunError> {
    tracing::info!(address = %listener.local_addr()?, "listening");
    let _operations = listen_for_operations(&app).await?;
    let server = Server {
        router: router(&app),
        limits: app.config.http.limits,
        budget: app.budget.clone(),
        connections: app.metrics.http.connections.clone(),
        certificate: certificate(&app)?,
    };
    // The listener ends with its task: only a new process can open it again.
    let connections = app.supervisor.vital("http", server.serve(listener, &app.shutdown)).await;
    let (publisher, timeout) = (Arc::clone(&app.publisher), app.shutdown.patience(app.config.publisher.flush_timeout));
    let flush = tokio::task::spawn_blocking(move || publisher.flush(timeout));
    let usage = app.api_keys.usage.flush_last(app.shutdown.patience(USAGE_TIMEOUT));
    let (purchases, ()) = tokio::join!(flush, usage);
    let purchases = purchases.unwrap_or(0);
    if let Some(task) = app.shutdown.failure() {
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

/// The certificate, if there is to be TLS, and what keeps it up to date.
fn certificate(app: &AppState) -> Result<Option<Arc<Certificate>>, RunError> {
    let Some(config) = app.config.tls.clone() else { return Ok(None) };
    let certificate = Certificate::load(config, app.metrics.tls.clone())?;
    let (reloading, shutdown) = (Arc::clone(&certificate), app.shutdown.clone());
    tokio::spawn(app.supervisor.restart("certificate", move || Arc::clone(&reloading).keep_up(shutdown.clone())));
    Ok(Some(certificate))
}

fn router(app: &AppState) -> Router {
    let observer = Observer { metrics: Arc::clone(&app.metrics.http), budget: app.budget.clone() };
    routes::router(Arc::clone(app), observer)
}

async fn listen_for_operations(app: &AppState) -> Result<Option<OperationsListener>, RunError> {
    let address = app.config.http.operations_address.unwrap_or(app.config.http.listen_address);
    app.operations
        .listen_with(routes::peer_paths(app), &app.supervisor)
        .await
        .map_err(|error| RunError::Listen { address, error })
}
