//! What the record path asks of Kafka: one seam, so that the very same code runs on a simulated broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use shared::config::KafkaConfig;
use shared::kafka::{
    ClientMetrics, ConsumerOptions, KafkaError, Membership, PartitionBounds, Polled, ReadPosition, RecordConsumer,
    TopicAdmin,
};
use tokio::task::spawn_blocking;

/// What we call ourselves towards Kafka.
const CLIENT_ID: &str = "management-api";
/// How long the brokers may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The topics and the way into the consumer group.
#[async_trait]
pub trait Kafka: Send + Sync + 'static {
    /// Sees to it that both topics are there with a leader for each partition; gives how many partitions purchases have.
    async fn prepare(&self) -> Result<usize, KafkaError>;

    /// Names this life of the topic of purchases.
    async fn incarnation(&self) -> Result<String, KafkaError>;

    /// Joins the group, in the background. The group is left when the consumer is dropped.
    ///
    /// # Errors
    /// When the settings are not taken.
    fn join(&self) -> Result<Arc<dyn Consumer>, KafkaError>;
}

/// A member of the consumer group. Each method says what [`RecordConsumer`]'s of the same name says.
#[async_trait]
#[expect(missing_docs, clippy::missing_errors_doc, reason = "the methods are described where they are implemented")]
pub trait Consumer: Send + Sync + 'static {
    async fn poll(&self, timeout: Duration) -> Polled<'_>;
    fn assign(&self, positions: &[ReadPosition]) -> Result<(), KafkaError>;
    fn unassign(&self, partitions: &[i32]) -> Result<(), KafkaError>;
    fn seek(&self, positions: &[ReadPosition]) -> Result<(), KafkaError>;
    fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError>;
    fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError>;
    fn commit(&self, offsets: &[(i32, i64)]) -> Result<(), KafkaError>;
    fn is_committing(&self) -> bool;
    fn take_commit_failure(&self) -> bool {
        false
    }
    fn membership(&self) -> Membership;
    async fn bounds(&self, partitions: &[i32]) -> Result<Vec<PartitionBounds>, KafkaError>;
    async fn stable_ends(&self, partitions: &[i32]) -> Result<Vec<ReadPosition>, KafkaError>;
    async fn committed(&self, partitions: &[i32]) -> Result<Vec<(i32, i64)>, KafkaError>;
    async fn partitions_of_group(&self) -> Result<usize, KafkaError>;
}

/// The real thing.
pub struct Cluster {
    config: KafkaConfig,
    consumer: ConsumerOptions,
    /// Topics and their incarnations.
    admin: Arc<TopicAdmin>,
    /// What the consumer says of itself.
    metrics: Arc<ClientMetrics>,
    /// After so many milliseconds of silence a member loses its partitions; the brokers are asked what they allow.
    session_ms: AtomicU64,
}

impl Cluster {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// When the settings are not taken.
    pub fn new(
        config: &KafkaConfig,
        consumer: &ConsumerOptions,
        metrics: Arc<ClientMetrics>,
    ) -> Result<Self, KafkaError> {
        let admin = TopicAdmin::new(config, CLIENT_ID)?;
        let session_ms = millis(consumer.session(None)).into();
        Ok(Self { config: config.clone(), consumer: consumer.clone(), admin, metrics, session_ms })
    }

    async fn choose_session(&self) {
        let shortest = self.admin.shortest_session().await;
        let shortest = shortest.inspect_err(|error| tracing::debug!(%error, "the shortest session is not told")).ok();
        self.session_ms.store(millis(self.consumer.session(shortest)), Ordering::Relaxed);
    }
}

#[async_trait]
impl Kafka for Cluster {
    async fn prepare(&self) -> Result<usize, KafkaError> {
        self.admin.ensure().await?;
        self.choose_session().await;
        let admin = Arc::clone(&self.admin);
        blocking(move || admin.partition_count()).await
    }

    async fn incarnation(&self) -> Result<String, KafkaError> {
        let admin = Arc::clone(&self.admin);
        blocking(move || admin.incarnation()).await
    }

    fn join(&self) -> Result<Arc<dyn Consumer>, KafkaError> {
        let session = Duration::from_millis(self.session_ms.load(Ordering::Relaxed));
        let options = ConsumerOptions { session_timeout: Some(session), ..self.consumer.clone() };
        let consumer = RecordConsumer::join(&self.config, CLIENT_ID, &options, Arc::clone(&self.metrics))?;
        Ok(Arc::new(GroupMember(Arc::new(consumer))))
    }
}

/// Shares the consumer with the threads that its questions block.
struct GroupMember(Arc<RecordConsumer>);

#[async_trait]
impl Consumer for GroupMember {
    /// Blocks the thread that polls: the reader has one of its own.
    async fn poll(&self, timeout: Duration) -> Polled<'_> {
        self.0.poll(timeout)
    }

    fn assign(&self, positions: &[ReadPosition]) -> Result<(), KafkaError> {
        self.0.assign(positions)
    }

    fn unassign(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.0.unassign(partitions)
    }

    fn seek(&self, positions: &[ReadPosition]) -> Result<(), KafkaError> {
        self.0.seek(positions)
    }

    fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.0.pause(partitions)
    }

    fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.0.resume(partitions)
    }

    fn commit(&self, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        self.0.commit(offsets)
    }

    fn is_committing(&self) -> bool {
        self.0.is_committing()
    }

    fn take_commit_failure(&self) -> bool {
        self.0.take_commit_failure()
    }

    fn membership(&self) -> Membership {
        self.0.membership()
    }

    async fn bounds(&self, partitions: &[i32]) -> Result<Vec<PartitionBounds>, KafkaError> {
        let (consumer, partitions) = (Arc::clone(&self.0), partitions.to_vec());
        blocking(move || consumer.bounds(&partitions, TIMEOUT)).await
    }

    async fn stable_ends(&self, partitions: &[i32]) -> Result<Vec<ReadPosition>, KafkaError> {
        let (consumer, partitions) = (Arc::clone(&self.0), partitions.to_vec());
        blocking(move || consumer.stable_ends(&partitions, TIMEOUT)).await
    }

    async fn committed(&self, partitions: &[i32]) -> Result<Vec<(i32, i64)>, KafkaError> {
        let (consumer, partitions) = (Arc::clone(&self.0), partitions.to_vec());
        blocking(move || consumer.committed(&partitions, TIMEOUT)).await
    }

    async fn partitions_of_group(&self) -> Result<usize, KafkaError> {
        let consumer = Arc::clone(&self.0);
        blocking(move || consumer.partitions_of_group(TIMEOUT)).await
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Asks Kafka on a thread that may be blocked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(KafkaError::Admin(error.to_string())))
}
