//! Purchases on their way to Kafka. Here the guarantee is made that a 2xx gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use shared::event::{Purchase, record_headers};
use shared::http::Traceparent;
use shared::kafka::{Delivery, KafkaError, OutgoingRecord, PublishError, RecordProducer, TopicAdmin, text_headers};
use shared::shutdown::Shutdown;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::metrics::{Label, Metrics, PublishOutcome, Refusal};

/// What we call ourselves towards Kafka, and the CloudEvents source of our records.
const CLIENT_ID: &str = "web-server";
/// The first and the longest pause between two looks at the topics.
const ENSURE_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A purchase as it goes to Kafka.
#[derive(Clone, Copy)]
pub struct PurchaseRecord<'a> {
    /// The purchase; its userid is the record's key.
    pub purchase: &'a Purchase,
    /// Its JSON: the record's value.
    pub value: &'a [u8],
    /// The trace of the request that brought it.
    pub trace: Traceparent,
}

/// Where Kafka has put a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The partition.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
}

/// Why there is no receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotPublished {
    /// Nothing was sent.
    Refused(Refusal),
    /// It was tried, and the purchase is certainly not in Kafka.
    Failed(String),
    /// It was sent, and nobody knows.
    Unknown(String),
}

/// Publishes purchases.
#[async_trait]
pub trait PurchasePublisher: Send + Sync {
    /// Publishes one purchase; a receipt means that every in-sync replica has it. Ends within the publish deadline.
    async fn publish(&self, record: PurchaseRecord<'_>) -> Result<Receipt, NotPublished>;

    /// Whether purchases can be published now, from memory.
    ///
    /// # Errors
    /// Why not, for the operator.
    fn check(&self) -> Result<(), String>;

    /// Waits until nothing is on its way, at most `deadline`. Blocks. Gives how many purchases are left.
    fn flush(&self, deadline: Duration) -> usize;
}

/// Publishes to the Kafka topic of purchases.
pub struct KafkaPublisher {
    producer: Arc<RecordProducer>,
    topic: String,
    deadline: Duration,
    topics_ensured: AtomicBool,
    metrics: Arc<Metrics>,
}

impl KafkaPublisher {
    /// Builds the producer. Kafka may be away: then nothing is ready yet.
    ///
    /// # Errors
    /// When the settings are not taken.
    pub fn build(config: &Config, metrics: Arc<Metrics>) -> Result<Arc<Self>, KafkaError> {
        Ok(Arc::new(Self {
            producer: RecordProducer::new(&config.kafka, CLIENT_ID, config.producer.clone(), &metrics.registry)?,
            topic: config.kafka.topic.clone(),
            deadline: config.publish_deadline,
            topics_ensured: AtomicBool::new(false),
            metrics,
        }))
    }

    /// Sees to it that the topics are there with a leader for each partition; tries until they are.
    pub async fn ensure_topics(self: Arc<Self>, admin: Arc<TopicAdmin>, shutdown: Shutdown) {
        let (mut backoff, backoff_max) = ENSURE_BACKOFF;
        let mut told = String::new();
        while let Err(error) = admin.ensure().await {
            let error = error.to_string();
            if told != error {
                tracing::warn!(error, "topics are not ready; trying on");
                told = error;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(backoff_max),
                () = shutdown.stopped() => return,
            }
        }
        tracing::info!(topic = self.topic, "topics are ready");
        self.topics_ensured.store(true, Ordering::Relaxed);
        // Closing its connections takes a while, and blocks.
        tokio::task::spawn_blocking(move || drop(admin));
    }

    async fn deliver(&self, record: PurchaseRecord<'_>) -> Result<Receipt, NotPublished> {
        if self.check().is_err() {
            return Err(NotPublished::Refused(Refusal::Broker));
        }
        let report = self.send(record)?;
        // Nothing above this line proves anything: only the report does, and only with an offset.
        match tokio::time::timeout(self.deadline, report).await {
            Ok(Ok(Delivery::Delivered { partition, offset })) => Ok(Receipt { partition, offset }),
            Ok(Ok(Delivery::NotDelivered(reason))) => Err(NotPublished::Failed(reason)),
            Ok(Ok(Delivery::Unknown(reason))) => Err(NotPublished::Unknown(reason)),
            Ok(Err(_)) => Err(NotPublished::Unknown("the producer ended without a report".to_owned())),
            Err(_) => Err(NotPublished::Unknown("no delivery report before the deadline".to_owned())),
        }
    }

    fn send(&self, record: PurchaseRecord<'_>) -> Result<oneshot::Receiver<Delivery>, NotPublished> {
        let trace = record.trace.to_string();
        let headers = record_headers(record.purchase, CLIENT_ID, &trace);
        let sent = self.producer.publish(&OutgoingRecord {
            topic: &self.topic,
            partition: None,
            key: Some(record.purchase.userid.as_bytes()),
            value: Some(record.value),
            headers: &text_headers(&headers),
            timestamp_ms: Some(record.purchase.timestamp.millis()),
        });
        sent.map_err(|error| match error {
            PublishError::QueueFull => NotPublished::Refused(Refusal::QueueFull),
            PublishError::Dead => NotPublished::Refused(Refusal::Broker),
            PublishError::Refused(reason) => {
                tracing::error!(purchase_id = %record.purchase.purchase_id, reason, "the producer refuses a purchase");
                NotPublished::Refused(Refusal::Broker)
            }
        })
    }
}

#[async_trait]
impl PurchasePublisher for KafkaPublisher {
    async fn publish(&self, record: PurchaseRecord<'_>) -> Result<Receipt, NotPublished> {
        let started = Instant::now();
        let published = self.deliver(record).await;
        if let Err(error) = &published {
            error.log(&record);
        }
        self.metrics.published(NotPublished::outcome(&published), started.elapsed());
        published
    }

    fn check(&self) -> Result<(), String> {
        if !self.topics_ensured.load(Ordering::Relaxed) {
            return Err("the topics are not ready".to_owned());
        }
        if !self.producer.is_connected() {
            return Err("no broker is connected".to_owned());
        }
        Ok(())
    }

    fn flush(&self, deadline: Duration) -> usize {
        self.producer.flush(deadline)
    }
}

impl NotPublished {
    fn outcome(published: &Result<Receipt, Self>) -> PublishOutcome {
        match published {
            Ok(_) => PublishOutcome::Delivered,
            Err(Self::Refused(_)) => PublishOutcome::Refused,
            Err(Self::Failed(_)) => PublishOutcome::Failed,
            Err(Self::Unknown(_)) => PublishOutcome::Unknown,
        }
    }

    /// Tells the operator what the caller is not told. Refusals are counted, and there may be thousands a second.
    fn log(&self, record: &PurchaseRecord<'_>) {
        let (purchase_id, trace) = (record.purchase.purchase_id, record.trace);
        match self {
            Self::Refused(reason) => {
                tracing::debug!(%purchase_id, trace_id = trace.trace_id(), reason = reason.text(), "purchase refused");
            }
            Self::Failed(reason) => {
                tracing::warn!(%purchase_id, trace_id = trace.trace_id(), reason, "purchase not delivered");
            }
            Self::Unknown(reason) => {
                tracing::warn!(%purchase_id, trace_id = trace.trace_id(), reason, "purchase may or may not be delivered");
            }
        }
    }
}
