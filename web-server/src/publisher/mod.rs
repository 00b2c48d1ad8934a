//! Purchases on their way to Kafka. Here the guarantee is made that a 2xx gives.

mod config;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use shared::api_keys::API_KEY_HEADER;
use shared::backoff::Backoff;
use shared::config::KafkaConfig;
use shared::event::{Purchase, record_headers};
use shared::http::Traceparent;
use shared::kafka::{
    Delivery, KafkaError, OutgoingRecord, PublishError, RecordProducer, Report, TopicAdmin, text_headers,
};
use shared::metrics::Label;
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;
use uuid::Uuid;

pub use self::config::PublisherConfig;
use crate::metrics::{Metrics, PublishOutcome, Refusal};

/// What we call ourselves towards Kafka, and the CloudEvents source of our records.
const CLIENT_ID: &str = "web-server";
/// The first and the longest pause between two looks at the topics.
const ENSURE_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How often is looked whether the producer has found its first broker.
const CONNECT_INTERVAL: Duration = Duration::from_millis(20);

/// A purchase as it goes to Kafka.
#[derive(Clone, Copy)]
pub struct PurchaseRecord<'a> {
    /// The purchase; its userid is the record's key.
    pub purchase: &'a Purchase,
    /// Its JSON: the record's value.
    pub value: &'a [u8],
    /// The trace of the request that brought it.
    pub trace: Traceparent,
    /// The API key that buys it, if one does.
    pub key_id: Option<Uuid>,
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

/// A purchase on its way. It borrows nothing, so that it can be seen through when its buyer is gone.
pub type Publishing = BoxFuture<'static, Result<Receipt, NotPublished>>;

/// Publishes purchases.
pub trait PurchasePublisher: Send + Sync {
    /// Sends one purchase at once; what is given back ends within the publish deadline, and counts the outcome then. A
    /// receipt means that every in-sync replica has the purchase.
    fn publish(&self, record: PurchaseRecord<'_>) -> Publishing;

    /// Whether purchases can be published now, from memory.
    ///
    /// # Errors
    /// Why not, for the operator.
    fn check(&self) -> Result<(), String>;

    /// Whether purchases could ever be published since the start, from memory.
    ///
    /// # Errors
    /// Why not, for the operator.
    fn check_start(&self) -> Result<(), String>;

    /// Waits until nothing is on its way, at most `deadline`. Blocks. Gives how many purchases are left.
    fn flush(&self, deadline: Duration) -> usize;
}

/// Publishes to the Kafka topic of purchases.
pub struct KafkaPublisher {
    producer: Arc<RecordProducer>,
    topic: String,
    deadline: Duration,
    /// Whether the topics were ready once, and a broker connected.
    started: AtomicBool,
    metrics: Arc<Metrics>,
}

impl KafkaPublisher {
    /// Builds the producer. Kafka may be away: then nothing is ready yet.
    ///
    /// # Errors
    /// When the settings are not taken.
    pub fn build(
        config: &PublisherConfig,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<Arc<Self>, KafkaError> {
        Ok(Arc::new(Self {
            producer: RecordProducer::new(&config.kafka, CLIENT_ID, config.producer.clone(), supervisor)?,
            topic: config.kafka.topic.clone(),
            deadline: config.deadline,
            started: AtomicBool::new(false),
            metrics,
        }))
    }

    /// Sees to it that the topics are there with a leader for each partition, and waits for a broker; tries until they are.
    ///
    /// # Panics
    /// When the settings are not taken, which the producer has taken.
    pub async fn ensure_topics(self: Arc<Self>, config: KafkaConfig, shutdown: Shutdown) {
        let admin = TopicAdmin::new(&config, "web-server-admin").expect("settings that the producer has taken");
        tokio::select! {
            () = self.until_started(&admin) => {}
            () = shutdown.stopped() => return,
        }
        tracing::info!(topic = self.topic, "topics are ready");
        self.started.store(true, Ordering::Relaxed);
        // Closing its connections takes a while, and blocks.
        tokio::task::spawn_blocking(move || drop(admin));
    }

    async fn until_started(&self, admin: &Arc<TopicAdmin>) {
        let mut backoff = Backoff::new(ENSURE_PAUSES.0, ENSURE_PAUSES.1);
        let mut told = String::new();
        while let Err(error) = admin.ensure().await {
            let error = error.to_string();
            if told != error {
                tracing::warn!(error, "topics are not ready; trying on");
                told = error;
            }
            backoff.sleep().await;
        }
        while !self.producer.is_connected() {
            tokio::time::sleep(CONNECT_INTERVAL).await;
        }
    }

    fn check_broker(&self) -> Result<(), String> {
        if self.producer.is_connected() { Ok(()) } else { Err("no broker is connected".to_owned()) }
    }

    fn send(&self, record: PurchaseRecord<'_>) -> Report {
        let trace = record.trace.to_string();
        let headers = record_headers(record.purchase, CLIENT_ID, &trace);
        let headers = text_headers(&headers);
        let key_id = record.key_id.map(|id| id.to_string());
        let key_header = key_id.as_ref().map(|id| (API_KEY_HEADER.as_bytes(), Some(id.as_bytes())));
        let with_key;
        let headers = match key_header {
            None => headers.as_slice(),
            Some(header) => {
                with_key = [headers.as_slice(), &[header]].concat();
                &with_key
            }
        };
        self.producer.publish(&OutgoingRecord {
            topic: &self.topic,
            partition: None,
            key: Some(record.purchase.userid.as_bytes()),
            value: Some(record.value),
            headers,
            timestamp_ms: Some(record.purchase.timestamp.millis()),
        })
    }
}

impl PurchasePublisher for KafkaPublisher {
    fn publish(&self, record: PurchaseRecord<'_>) -> Publishing {
        let started = Instant::now();
        let reachable = self.check_start().and_then(|()| self.check_broker());
        let sent = reachable.map_err(|_| NotPublished::Refused(Refusal::Broker)).map(|()| self.send(record));
        let (deadline, metrics) = (self.deadline, Arc::clone(&self.metrics));
        let (purchase_id, trace) = (record.purchase.purchase_id, record.trace);
        Box::pin(async move {
            let published = match sent {
                Ok(report) => confirm(report, deadline).await,
                Err(refused) => Err(refused),
            };
            if let Err(error) = &published {
                error.log(purchase_id, trace);
            }
            metrics.published(NotPublished::outcome(&published), started.elapsed());
            published
        })
    }

    fn check(&self) -> Result<(), String> {
        self.check_start()?;
        self.check_broker()?;
        self.producer.check()
    }

    fn check_start(&self) -> Result<(), String> {
        if self.started.load(Ordering::Relaxed) { Ok(()) } else { Err("the topics are not ready".to_owned()) }
    }

    fn flush(&self, deadline: Duration) -> usize {
        self.producer.flush(deadline)
    }
}

/// Nothing proves anything but the report, and only with an offset.
async fn confirm(report: Report, deadline: Duration) -> Result<Receipt, NotPublished> {
    match tokio::time::timeout(deadline, report).await {
        Ok(Ok(Delivery::Delivered { partition, offset })) => Ok(Receipt { partition, offset }),
        Ok(Ok(Delivery::NotTaken(PublishError::QueueFull))) => Err(NotPublished::Refused(Refusal::QueueFull)),
        Ok(Ok(Delivery::NotTaken(reason))) => {
            // Thousands a second; the producer has told it once.
            tracing::debug!(%reason, "the producer refuses a purchase");
            Err(NotPublished::Refused(Refusal::Broker))
        }
        Ok(Ok(Delivery::NotDelivered(reason) | Delivery::Refused(_, reason))) => Err(NotPublished::Failed(reason)),
        Ok(Ok(Delivery::Unknown(reason))) => Err(NotPublished::Unknown(reason)),
        Ok(Err(_)) => Err(NotPublished::Unknown("the producer ended without a report".to_owned())),
        Err(_) => Err(NotPublished::Unknown("no delivery report before the deadline".to_owned())),
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
    fn log(&self, purchase_id: Uuid, trace: Traceparent) {
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
