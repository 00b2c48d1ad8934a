//! Wires the service together and runs it.

use std::sync::Arc;
use std::time::Duration;

use shared::config::KafkaConfig;
use shared::health::Readiness;
use shared::http::{ByteBudget, Operations, Server};
use shared::kafka::{ClientMetrics, KafkaError, RecordProducer};
use shared::metrics::{HttpMetrics, Registry};
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::accounts::{Accounts, AccountsConfig};
use crate::callbacks::sending::CallbackClient;
use crate::callbacks::{self, Callbacks};
use crate::commits::CommitFeed;
use crate::config::Config;
use crate::dead_letters::{DeadLetters, compare_limits, dead_letter_producer};
use crate::ingest::{Cluster, Ingest, Progress};
use crate::metrics::{CallbackMetrics, IngestMetrics, PasswordMetrics, TASKS};
use crate::routes;
use crate::state::App;
use crate::store::{self, Store};
use crate::waiters::Waiters;

/// How often the database is looked at.
const DATABASE_INTERVAL: Duration = Duration::from_secs(1);
/// How long dead letters may take to be confirmed at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long callbacks may take to end.
const CALLBACKS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the database's connections may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// What the end may take at most beside the requests that still run: the running transactions, and what is above.
pub const END_MARGIN: Duration = Duration::from_secs(12);

/// Why the service cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Kafka's settings are not taken.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

/// The service, built and not yet running.
pub struct Service {
    config: Config,
    app: App,
    store: Arc<dyn Store>,
    ingest: Ingest,
    producer: Arc<RecordProducer>,
    callback_metrics: Arc<CallbackMetrics>,
    supervisor: Supervisor,
}

impl Service {
    /// Builds every part. Nothing is connected yet: Kafka and the database may be away.
    ///
    /// # Errors
    /// When a setting is not taken by the part that it is for.
    pub fn build(config: Config, shutdown: &Shutdown) -> Result<Self, BuildError> {
        let store = store::connect(&config.store);
        Self::build_on(store, config, shutdown)
    }

    /// Builds every part on a database of the caller's.
    ///
    /// # Errors
    /// As [`Service::build`].
    pub fn build_on(store: Arc<dyn Store>, config: Config, shutdown: &Shutdown) -> Result<Self, BuildError> {
        let registry = registry(&config.http.metrics_prefix);
        let supervisor = Supervisor::new(&registry, &TASKS, shutdown);
        let prefix = &config.http.metrics_prefix;
        let http_metrics = Arc::new(HttpMetrics::register(&registry, prefix, &routes::successes()));
        // The only reason for which this service refuses; web-server has more.
        let refusals = registry.counter("http_requests_refused_total", "Requests refused.", &[("reason", "memory")]);
        let metrics = Arc::new(IngestMetrics::register(&registry, config.ingest.lanes));
        metrics.zero_partitions(usize::try_from(config.kafka.partitions).unwrap_or(0));
        let waiters = Waiters::new(store.clone(), config.waiters);
        let commits = CommitFeed::new(store.clone());
        let callback_metrics = Arc::new(CallbackMetrics::register(&registry));
        let callbacks = config.callbacks.sending.as_ref().map(|sending| {
            let (client, dispatch) = (Arc::new(CallbackClient::new(sending)), config.callbacks.dispatch.clone());
            Callbacks::new(store.clone(), client, dispatch, Arc::clone(&callback_metrics))
        });
        let producer = dead_letter_producer(&config.kafka, &supervisor)?;
        let progress = Progress::new(Arc::clone(&metrics));
        let (consumer, database, transactions) = (Arc::clone(&progress), Arc::clone(&progress), Arc::clone(&progress));
        let draining = shutdown.clone();
        let readiness = Readiness::default()
            .with("consumer", move || consumer.check_consumer())
            .with("database", move || database.check_database())
            .with(
                "draining",
                move || {
                    if draining.is_draining() { Err("the service is ending".to_owned()) } else { Ok(()) }
                },
            )
            // Nothing but waiting can be done here about others' transactions, and reads go on.
            .with_health("transactions", move || transactions.check_transactions());
        let app = App {
            store: store.clone(),
            accounts: Accounts::new(&config.accounts, store.clone(), PasswordMetrics::register(&registry)),
            waiters: Arc::clone(&waiters),
            commits: Arc::clone(&commits),
            callbacks: Arc::new(config.callbacks.rules()),
            outbox: store.clone(),
            progress: Arc::clone(&progress),
            token: config.token.clone(),
            body_timeout: config.http.body_timeout,
            budget: ByteBudget::new(config.http.memory_max, &http_metrics, refusals),
            operations: Operations {
                readiness,
                registry: registry.clone(),
                metrics: http_metrics,
                address: config.http.operations_address,
            },
        };
        let ingest = Ingest {
            config: config.ingest.clone(),
            kafka: Arc::new(Cluster::new(
                &config.kafka,
                &config.ingest.consumer,
                Arc::new(ClientMetrics::register(&registry, "consumer")),
            )?),
            store: store.clone(),
            dead_letters: Arc::new(DeadLetters::new(&config.kafka, Arc::clone(&producer), Arc::clone(&metrics))),
            waiters,
            committed: commits.committed(),
            callbacks,
            progress,
            metrics,
            supervisor: supervisor.clone(),
        };
        Ok(Self { config, app, store, ingest, producer, callback_metrics, supervisor })
    }

    /// How far the record path is.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.ingest.progress)
    }

    /// Serves and records until the shutdown says stop. Gives whether everything ended in good order.
    pub async fn run(self, listener: TcpListener) -> bool {
        let Self { config, app, store, ingest, producer, callback_metrics, supervisor } = self;
        let shutdown = supervisor.shutdown().clone();
        let _operations = match app.operations.listen(&supervisor).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "cannot listen on OPERATIONS_LISTEN_ADDRESS");
                return false;
            }
        };
        let mut background = start_background(&supervisor, &store, &ingest, config.kafka);
        let (commits, ending) = (Arc::clone(&app.commits), shutdown.clone());
        background.spawn(supervisor.restart("commits", move || Arc::clone(&commits).run(ending.clone())));
        start_accounts(&mut background, &supervisor, app.accounts.clone(), &config.accounts);
        let (outbox, kept, ending) = (store.clone(), config.callbacks.dispatch.dead_kept, shutdown.clone());
        background.spawn(supervisor.restart("callback_upkeep", move || {
            callbacks::keep_house(outbox.clone(), Arc::clone(&callback_metrics), kept, ending.clone())
        }));
        let calling_back = start_callbacks(&supervisor, ingest.callbacks.clone());
        let (recording, ending) = (supervisor.clone(), shutdown.clone());
        let recording = tokio::spawn(async move { recording.vital("ingest", ingest.run(ending)).await.is_some() });
        // The listener ends with its task: only a new process can open it again.
        let server = Server {
            limits: config.http.limits,
            budget: app.budget.clone(),
            connections: app.operations.metrics.connections.clone(),
            router: routes::router(app),
            certificate: None,
        };
        let cut_off = supervisor.vital("http", server.serve(listener, &shutdown)).await;
        let recorded = recording.await.unwrap_or(false);
        // What is on its way to a receiver still when this is over is taken up by others.
        let _ = tokio::time::timeout(CALLBACKS_TIMEOUT, calling_back).await;
        drop(background);
        let flush = shutdown.patience(FLUSH_TIMEOUT);
        let left = tokio::task::spawn_blocking(move || producer.flush(flush)).await.unwrap_or(0);
        // A connection that hangs in the middle of a query is not waited for: the database ends what it holds.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, store.close()).await;
        if let Some(task) = shutdown.failure() {
            tracing::error!(task, "a task has died that the service cannot do without");
            return false;
        }
        let good = cut_off == Some(0) && left == 0 && recorded;
        if !good {
            tracing::error!(connections = cut_off, dead_letters = left, "not everything ended in time");
        }
        good
    }
}

fn registry(http_prefix: &str) -> Registry {
    let (http_times, http_bounds) = HttpMetrics::buckets(http_prefix);
    let [batch, delay, records, transaction] = IngestMetrics::BUCKETS;
    let [attempt, callback] = CallbackMetrics::BUCKETS;
    Registry::new(&[(&http_times, http_bounds), batch, delay, records, transaction, attempt, callback])
}

/// Starts what may start anew whenever it dies, because all that it knows is kept beside it. It ends when the set is dropped.
fn start_background(
    supervisor: &Supervisor,
    store: &Arc<dyn Store>,
    ingest: &Ingest,
    kafka: KafkaConfig,
) -> JoinSet<()> {
    let shutdown = supervisor.shutdown();
    let (waiters, ending) = (Arc::clone(&ingest.waiters), shutdown.clone());
    let (store, progress, metrics) = (Arc::clone(store), Arc::clone(&ingest.progress), Arc::clone(&ingest.metrics));
    let (watching, upkeep, registry) = (shutdown.clone(), shutdown.clone(), supervisor.registry().clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(supervisor.restart("metrics", move || registry.clone().keep_up(upkeep.clone())));
    tasks.spawn(supervisor.complete("dead_letter_limits", move || compare_limits(kafka.clone())));
    tasks.spawn(supervisor.restart("waiters", move || Arc::clone(&waiters).run(ending.clone())));
    tasks.spawn(supervisor.restart("database_watch", move || {
        watch_database(Arc::clone(&store), Arc::clone(&progress), Arc::clone(&metrics), watching.clone())
    }));
    tasks
}

/// Starts calling back, if it is done here.
fn start_callbacks(supervisor: &Supervisor, callbacks: Option<Arc<Callbacks>>) -> JoinHandle<()> {
    let (supervisor, shutdown) = (supervisor.clone(), supervisor.shutdown().clone());
    tokio::spawn(async move {
        if let Some(callbacks) = callbacks {
            supervisor.restart("callbacks", move || Arc::clone(&callbacks).run(shutdown.clone())).await;
        }
    })
}

/// Sees to it that there is somebody who may look after accounts.
fn start_accounts(
    tasks: &mut JoinSet<()>,
    supervisor: &Supervisor,
    accounts: Option<Arc<Accounts>>,
    config: &AccountsConfig,
) {
    let Some(admin) = config.first_admin.clone() else { return };
    let Some(accounts) = accounts else {
        tracing::warn!("ADMIN_EMAIL is set, but accounts are not set up: JWT_SIGNING_KEY is missing");
        return;
    };
    tasks.spawn(supervisor.complete("first_admin", move || {
        let (accounts, admin) = (Arc::clone(&accounts), admin.clone());
        async move { accounts.ensure_first_admin(&admin).await }
    }));
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
        let connections = store.connections();
        metrics.set_connections(connections.idle, connections.used);
        tokio::time::sleep(DATABASE_INTERVAL).await;
    }
}
