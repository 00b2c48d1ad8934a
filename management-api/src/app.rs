//! Wires the service together and runs it.

use std::sync::Arc;
use std::time::Duration;

use shared::config::Secret;
use shared::health::Readiness;
use shared::http::{ByteBudget, Operations, Server};
use shared::kafka::{ClientMetrics, KafkaError, RecordProducer, TopicAdmin};
use shared::metrics::{HttpMetrics, new_registry};
use shared::shutdown::Shutdown;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::dead_letters::{DeadLetters, compare_limits, dead_letter_producer};
use crate::ingest::{Cluster, Ingest, Progress};
use crate::metrics::IngestMetrics;
use crate::routes::{self, ROUTES};
use crate::store::{self, Store};
use crate::waiters::Waiters;

/// How often the database is looked at.
const DATABASE_INTERVAL: Duration = Duration::from_secs(1);

/// What the routes work with.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub store: Arc<dyn Store>,
    /// Who waits for a purchase.
    pub waiters: Arc<Waiters>,
    /// What callers must present.
    pub token: Option<Secret<String>>,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// What operators can ask about.
    pub operations: Operations,
    /// What callers may make the service hold.
    pub budget: ByteBudget,
}

/// Why the service cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Kafka's settings are not taken.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A metric's name is taken or malformed.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// The service, built and not yet running.
pub struct Service {
    config: Config,
    app: App,
    ingest: Ingest,
    producer: Arc<RecordProducer>,
}

impl Service {
    /// Builds every part. Nothing is connected yet: Kafka and the database may be away.
    ///
    /// # Errors
    /// When a setting is not taken by the part that it is for.
    pub fn build(config: Config) -> Result<Self, BuildError> {
        let store = store::connect(&config.store);
        Self::build_on(store, config)
    }

    /// Builds every part on a database of the caller's.
    ///
    /// # Errors
    /// As [`Service::build`].
    pub fn build_on(store: Arc<dyn Store>, config: Config) -> Result<Self, BuildError> {
        let registry = new_registry();
        let http_metrics = Arc::new(HttpMetrics::register(&registry, &config.http.metrics_prefix, ROUTES)?);
        let metrics = Arc::new(IngestMetrics::register(&registry, config.ingest.lanes)?);
        metrics.zero_partitions(usize::try_from(config.kafka.partitions).unwrap_or(0));
        let waiters = Waiters::new(Arc::clone(&store), config.waiters);
        let producer = dead_letter_producer(&config.kafka, &registry)?;
        let progress = Progress::new(Arc::clone(&metrics));
        let (consumer, database, transactions) = (Arc::clone(&progress), Arc::clone(&progress), Arc::clone(&progress));
        let readiness = Readiness::default()
            .with("consumer", move || consumer.check_consumer())
            .with("database", move || database.check_database())
            // Nothing but waiting can be done here about others' transactions, and reads go on.
            .with_health("transactions", move || transactions.check_transactions());
        let app = App {
            store: Arc::clone(&store),
            waiters: Arc::clone(&waiters),
            token: config.token.clone(),
            body_timeout: config.http.body_timeout,
            budget: ByteBudget::new(config.http.memory_max, &http_metrics, None),
            operations: Operations {
                readiness,
                registry: registry.clone(),
                metrics: http_metrics,
                address: config.http.operations_address,
            },
        };
        let ingest = Ingest {
            config: config.ingest.clone(),
            kafka: Arc::new(Cluster {
                config: config.kafka.clone(),
                consumer: config.ingest.consumer.clone(),
                admin: TopicAdmin::new(&config.kafka, "management-api")?,
                metrics: Arc::new(ClientMetrics::register(&registry, "consumer")?),
            }),
            store,
            dead_letters: Arc::new(DeadLetters::new(&config.kafka, Arc::clone(&producer), Arc::clone(&metrics))),
            waiters,
            progress,
            metrics,
        };
        Ok(Self { config, app, ingest, producer })
    }

    /// How far the record path is.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.ingest.progress)
    }

    /// Serves and records until `shutdown` says stop. Gives whether everything ended in good order.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown) -> bool {
        let Self { config, app, ingest, producer } = self;
        let draining = shutdown.clone();
        let ending = move || if draining.is_draining() { Err("draining".to_owned()) } else { Ok(()) };
        let operations =
            Operations { readiness: app.operations.readiness.clone().with("shutdown", ending), ..app.operations };
        let _operations = match operations.listen().await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "cannot listen on OPERATIONS_LISTEN_ADDRESS");
                return false;
            }
        };
        let app = App { operations, ..app };
        let store = Arc::clone(&app.store);
        let waiters = tokio::spawn(Arc::clone(&app.waiters).run(shutdown.clone()));
        let database = tokio::spawn(watch_database(
            Arc::clone(&store),
            Arc::clone(&ingest.progress),
            Arc::clone(&ingest.metrics),
            shutdown.clone(),
        ));
        let limits = tokio::spawn(compare_limits(config.kafka));
        let recording = tokio::spawn(ingest.run(shutdown.clone()));
        let server = Server {
            limits: config.http.limits,
            budget: app.budget.clone(),
            connections: app.operations.metrics.connections.clone(),
            router: routes::router(app),
        };
        let cut_off = server.serve(listener, &shutdown).await;
        let recorded = recording.await.is_ok();
        waiters.abort();
        database.abort();
        limits.abort();
        let left = tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(5))).await.unwrap_or(0);
        store.close().await;
        if cut_off > 0 || left > 0 || !recorded {
            tracing::error!(connections = cut_off, dead_letters = left, "not everything ended in time");
        }
        cut_off == 0 && left == 0 && recorded
    }
}

async fn watch_database(
    store: Arc<dyn Store>,
    progress: Arc<Progress>,
    metrics: Arc<IngestMetrics>,
    shutdown: Shutdown,
) {
    while !shutdown.is_stopped() {
        progress.set_reachable(store.check().await.map_err(|unfit| unfit.to_string()));
        if let Ok(count) = store.count_dead_letters().await {
            metrics.set_dead_letters_kept(count);
        }
        metrics.set_connections(store.connections());
        tokio::time::sleep(DATABASE_INTERVAL).await;
    }
}
