//! One Kafka broker and one PostgreSQL server for all tests that leave them as they were. One test at a time has them.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use stack::kafka::KafkaPlan;
use stack::process::at_exit;
use stack::{KafkaCluster, Postgres, RunFolder};
use tokio::sync::{Mutex, MutexGuard};

use crate::deployment::Deployment;

static SHARED: Mutex<Option<Infra>> = Mutex::const_new(None);
static FAILED: AtomicBool = AtomicBool::new(false);

/// What the services need, running.
pub struct Infra {
    /// Both services, for the cases that need none of their own.
    pub pipeline: Option<Deployment>,
    pub kafka: KafkaCluster,
    pub postgres: Postgres,
    // Last: its files are removed when nothing runs in it any more.
    pub folder: RunFolder,
}

/// The right to use it, and to stop and start its parts.
pub struct Guard(MutexGuard<'static, Option<Infra>>);

/// Kafka and PostgreSQL, as a failed test may have left them, started again.
pub async fn infra() -> Guard {
    let mut shared = SHARED.lock().await;
    if let Some(infra) = shared.as_mut() {
        infra.kafka.start_all().await.expect("Kafka starts");
        infra.postgres.start_again().await.expect("PostgreSQL starts");
    } else {
        at_exit(end);
        *shared = Some(Infra::start(1).await);
    }
    Guard(shared)
}

/// The same without anything else on top: for tests that look at what single processes do.
pub async fn infra_alone() -> Guard {
    let mut guard = infra().await;
    guard.pipeline = None;
    guard
}

impl Infra {
    pub async fn start(brokers: usize) -> Self {
        let folder = RunFolder::new("stack").expect("a folder");
        let kafka = folder.subfolder("kafka").expect("a folder");
        let postgres = folder.subfolder("postgres").expect("a folder");
        let (kafka, postgres) = tokio::join!(start_kafka(&kafka, brokers), Postgres::start(&postgres));
        Self {
            pipeline: None,
            kafka: kafka.expect("Kafka starts"),
            postgres: postgres.expect("PostgreSQL starts"),
            folder,
        }
    }
}

/// A cluster whose own group protocol notices a silent member as soon as the classic one can.
async fn start_kafka(folder: &Path, brokers: usize) -> stack::Result<KafkaCluster> {
    let mut plan = KafkaPlan::on_free_ports(brokers)?;
    let session = [("group.consumer.min.session.timeout.ms", "3000"), ("group.consumer.session.timeout.ms", "3000")];
    let heartbeat =
        [("group.consumer.min.heartbeat.interval.ms", "500"), ("group.consumer.heartbeat.interval.ms", "500")];
    plan.extra_settings =
        session.into_iter().chain(heartbeat).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut cluster = KafkaCluster::prepare(folder, plan).await?;
    cluster.start_all().await?;
    Ok(cluster)
}

impl Deref for Guard {
    type Target = Infra;

    fn deref(&self) -> &Infra {
        self.0.as_ref().expect("started")
    }
}

impl DerefMut for Guard {
    fn deref_mut(&mut self) -> &mut Infra {
        self.0.as_mut().expect("started")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            FAILED.store(true, Ordering::Relaxed);
        }
    }
}

extern "C" fn end() {
    if let Ok(mut shared) = SHARED.try_lock()
        && let Some(infra) = shared.take()
        && FAILED.load(Ordering::Relaxed)
    {
        infra.folder.keep();
    }
}
