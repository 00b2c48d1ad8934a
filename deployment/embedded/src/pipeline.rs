//! Broker, database and both services in one process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use management_api::app::{BuildError, END_MARGIN, Service};
use management_api::ingest::Progress;
use shared::config::BadSettings;
use shared::kafka::{InProcessBroker, KafkaError};
use shared::shutdown::Shutdown;
use tokio::net::TcpListener;

use crate::settings::{EmbeddedConfig, PARTITIONS, ServiceConfigs};
use crate::signing_key;

/// Records that may wait for the database. The in-process broker drops the oldest ones of a full partition
/// without a word, so purchases are refused long before that.
const LAG_MAX: i64 = 2_000;

/// Why the pipeline cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Bad settings.
    #[error(transparent)]
    Settings(#[from] BadSettings),
    /// The in-process broker cannot be made.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A service cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A port is taken, or the folder cannot be made.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// How it went wrong.
        error: io::Error,
    },
}

/// The pipeline, listening and ready to run.
pub struct Pipeline {
    broker: InProcessBroker,
    configs: ServiceConfigs,
    service: Service,
    recording: Shutdown,
    web: TcpListener,
    management: TcpListener,
}

impl Pipeline {
    /// Starts the broker and opens both ports.
    ///
    /// # Errors
    /// When a setting is bad, a port is taken, or the data folder cannot be made.
    pub async fn start(config: &EmbeddedConfig) -> Result<Self, StartError> {
        let data_dir = config.data_dir.display();
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|error| StartError::Io { what: format!("cannot make the folder {data_dir}"), error })?;
        let web = listen(config.web_address, "WEB_LISTEN_ADDRESS").await?;
        let management = listen(config.management_address, "MANAGEMENT_LISTEN_ADDRESS").await?;
        let broker = InProcessBroker::start(1)?;
        let mut configs = ServiceConfigs::read(config, &broker.bootstrap_servers(), local(&management)?)?;
        if configs.management.accounts.keys.is_none() {
            let keys = signing_key::load_or_make(&config.data_dir);
            let keys = keys.map_err(|error| StartError::Io { what: format!("the signing key in {data_dir}"), error });
            configs.management.accounts.keys = Some(keys?);
        }
        for topic in [&configs.web.publisher.kafka.topic, &configs.web.publisher.kafka.dead_letter_topic] {
            broker.create_topic(topic, PARTITIONS)?;
        }
        let recording = Shutdown::new();
        let service = Service::build(configs.management.clone(), &recording)?;
        // The broker forgets when the process ends: only a committed purchase may be acknowledged.
        configs.web.always_wait = true;
        let progress = service.progress();
        configs.web.admission = Some(Arc::new(move || admit(&progress)));
        Ok(Self { broker, configs, service, recording, web, management })
    }

    /// Where web-server, management-api and the broker listen.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn addresses(&self) -> Result<(SocketAddr, SocketAddr, String), StartError> {
        Ok((local(&self.web)?, local(&self.management)?, self.broker.bootstrap_servers()))
    }

    /// What ends recording; tests kill its tasks through it.
    #[must_use]
    pub fn recording(&self) -> &Shutdown {
        &self.recording
    }

    /// The log's settings.
    pub fn start_log(&self) {
        self.configs.web.log.start();
    }

    /// Has SIGTERM and SIGINT stop what `accepting` stops, and the process end when all limits are over.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub fn end_on_signals(&self, accepting: &Shutdown) -> Result<(), StartError> {
        let (web, management) = (&self.configs.web, &self.configs.management);
        let end_limit = web.end_limit() + management.http.limits.drain_timeout + END_MARGIN;
        let signals = accepting.on_signals(web.http.drain_delay, end_limit);
        signals.map_err(|error| StartError::Io { what: "signals".to_owned(), error })
    }

    /// Runs until `accepting` stops. Gives whether everything ended in good order.
    pub async fn run(self, accepting: Shutdown) -> bool {
        let Self { broker, configs, service, recording, web, management } = self;
        let management_api = tokio::spawn(service.run(management));
        let (failed, accepted) = (recording.clone(), accepting.clone());
        tokio::spawn(async move {
            failed.stopped().await;
            // Not by us, who stop it last: what recorded has died, and nothing more can be accepted.
            if let Some(task) = failed.failure() {
                accepted.fail(task);
            }
        });
        let served = web_server::run(configs.web, web, accepting).await;
        if let Err(error) = &served {
            tracing::error!(%error, "web-server ended");
        }
        // Recording ends last: requests that wait for it have had their answers by now.
        recording.stop();
        let recorded = management_api.await.unwrap_or(false);
        drop(broker);
        served.is_ok() && recorded
    }
}

fn admit(progress: &Progress) -> Result<(), String> {
    progress.check_consumer()?;
    progress.check_database()?;
    let lag = progress.total_lag();
    if lag > LAG_MAX { Err(format!("{lag} purchases wait for the database")) } else { Ok(()) }
}

async fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| StartError::Io { what: format!("cannot listen on {address} ({setting})"), error })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|error| StartError::Io { what: "listener".to_owned(), error })
}
