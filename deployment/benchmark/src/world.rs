//! The stack that is measured: one broker, one PostgreSQL, and services started as each part needs them.

use std::{fmt, path::Path, time::Duration};

use shared::testing;
use tokio::time::{Instant, sleep};

use crate::{Size, spread::float};
use stack::{
    KafkaCluster, Postgres, Result, RunFolder, Service, StackError,
    error::Doing,
    metrics,
    process::ProcessId,
    service::{Program, ServicePlan},
};

/// How long a service may take to be ready.
const READY_DEADLINE: Duration = Duration::from_mins(1);

/// Partitions of every topic.
pub const PARTITIONS: i32 = 10;

/// The stack of one run. Everything in it ends with this program.
pub struct World {
    // Dropped in this order: nothing may write into the folder when it is removed.
    /// The broker.
    pub kafka: KafkaCluster,
    /// The database server.
    pub postgres: Postgres,
    folder: RunFolder,
    /// How much to do.
    pub size: Size,
}

impl World {
    /// Starts Kafka and PostgreSQL.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn begin(size: Size) -> Result<Self> {
        let folder = RunFolder::new("bench")?;
        let kafka = KafkaCluster::start(&folder.subfolder("kafka")?, 1).await?;
        let postgres = Postgres::start(&folder.subfolder("postgres")?).await?;
        Ok(Self { kafka, postgres, folder, size })
    }

    /// Where logs and scripts go.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Settings that make a service use this topic.
    fn with_kafka(&self, plan: ServicePlan, topic: &str) -> ServicePlan {
        plan.with("KAFKA_BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers())
            .with("KAFKA_TOPIC", topic)
            .with("KAFKA_DEAD_LETTER_TOPIC", format!("{topic}.dead-letter"))
            .with("KAFKA_TOPIC_PARTITIONS", PARTITIONS)
            .with("DRAIN_DELAY_MS", 0)
    }

    /// A web-server that publishes to `topic` and reads from `management`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn web_server_plan(&self, topic: &str, management: Option<&Service>) -> Result<ServicePlan> {
        let plan = self.with_kafka(ServicePlan::new(Program::WebServer, "web-server")?, topic);
        Ok(match management {
            Some(management) => plan.with("CUSTOMER_MGMT_API_URL", management.base_url()),
            None => plan,
        })
    }

    /// A management-api that records `topic` into `database`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn management_api_plan(&self, topic: &str, database: &str) -> Result<ServicePlan> {
        let plan = self.with_kafka(ServicePlan::new(Program::ManagementApi, "management-api")?, topic);
        // Each measurement reads the topic from its beginning, so each is a group of its own.
        Ok(plan
            .with("KAFKA_CONSUMER_GROUP", format!("{topic}-{database}"))
            .with("DATABASE_URL", self.postgres.database_url_of(database)))
    }

    /// Starts a web-server and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn web_server(&self, topic: &str, management: Option<&Service>) -> Result<Service> {
        self.start(self.web_server_plan(topic, management)?).await
    }

    /// Starts a management-api on a database that is made when there is none, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn management_api(&self, topic: &str, database: &str) -> Result<Service> {
        self.postgres.create_database(database).await?;
        self.start(self.management_api_plan(topic, database)?).await
    }

    /// An empty database with management-api's tables: it makes them itself, and is stopped again.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn empty_tables(&self, database: &str) -> Result<()> {
        self.management_api("bench-nothing", database).await.map(drop)
    }

    /// Removes a database, and writes out what the last measurement has left to do.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn clear(&self, database: &str) -> Result<()> {
        let client = self.postgres.client_of("postgres").await?;
        let drop_database = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
        client.batch_execute(&drop_database).await.doing(&drop_database)?;
        client.batch_execute("CHECKPOINT").await.doing("CHECKPOINT")
    }

    /// How many purchases are stored.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn count(&self, database: &str) -> Result<u64> {
        let client = self.postgres.client_of(database).await?;
        let row = client.query_one("SELECT count(*) FROM purchases", &[]).await.doing("counting purchases")?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }

    /// Starts a service and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(&self, plan: ServicePlan) -> Result<Service> {
        let mut service = Service::start(self.folder(), plan)?;
        service.wait_ready(READY_DEADLINE).await?;
        Ok(service)
    }
}

/// Waits until a management-api has dealt with so many records.
///
/// # Errors
/// When it has not after `deadline`.
pub async fn wait_recorded(service: &mut Service, count: u64, deadline: Duration) -> Result<()> {
    const INTERVAL: Duration = Duration::from_millis(50);
    let end = Instant::now() + deadline;
    loop {
        // It does not answer before it listens.
        let page = service.metrics().await.unwrap_or_default();
        let done = metrics::sum(&page, "kafka_messages_processed_total", "").unwrap_or(0.0);
        if done >= float(count) {
            return Ok(());
        }
        if Instant::now() >= end {
            let log = service.log().display();
            return Err(StackError::Refused(format!(
                "{done} of {count} records dealt with after {deadline:?}, see {log}"
            )));
        }
        sleep(INTERVAL).await;
    }
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("World").field("folder", &self.folder.path()).finish_non_exhaustive()
    }
}

/// The most memory that a process has had so far, in bytes; zero if it is gone.
pub fn peak_rss_bytes(process: Option<ProcessId>) -> u64 {
    let peak = process.and_then(|process| testing::peak_rss_bytes(process.pid));
    peak.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}
