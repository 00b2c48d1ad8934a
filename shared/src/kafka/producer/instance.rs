//! One librdkafka producer; it ends with its first fatal error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::statistics::Statistics;
use tokio::sync::oneshot;

use super::record::WaitingRecord;
use super::trouble::Trouble;
use super::{Delivery, ProducerOptions, PublishError};
use crate::config::{KafkaConfig, PartitionBy};
use crate::kafka::partitioner::BalancedPartitioner;
use crate::kafka::{ClientMetrics, KafkaError, Refused, admin, sys};

/// A producer that has lived for so long was of use, even if nothing was sent.
const LONG_LIFE: Duration = Duration::from_mins(1);
/// The state of librdkafka's idempotent producer that has its id.
const WITH_ID: &str = "Assigned";

/// How long records gather at most while others are not answered. A near broker answers sooner; to a far one several batches
/// are on their way at once, and callers who were answered together need not wait for the first of them to be answered again.
/// With 5 ms, 512 callers of a broker 5 ms away bought 29,000 a second instead of 35,000.
const PATIENCE: Duration = Duration::from_millis(2);

/// One client, and whether it still lives.
pub(super) struct Instance {
    client: BaseProducer<Context, BalancedPartitioner>,
    life: Arc<Life>,
}

/// What is known of one client.
struct Life {
    began: Instant,
    dead: AtomicBool,
    /// A record was delivered.
    of_use: AtomicBool,
    /// A record was refused, and none delivered since.
    refused: AtomicBool,
    trouble: Arc<Trouble>,
}

impl Instance {
    pub fn new(
        config: &KafkaConfig,
        client_id: &str,
        options: &ProducerOptions,
        metrics: &Arc<ClientMetrics>,
        trouble: &Arc<Trouble>,
    ) -> Result<Self, KafkaError> {
        let life = Arc::new(Life {
            began: Instant::now(),
            dead: AtomicBool::new(false),
            of_use: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            trouble: Arc::clone(trouble),
        });
        let context = Context {
            partitioner: (options.partition_by == PartitionBy::Balanced).then(BalancedPartitioner::new),
            metrics: Arc::clone(metrics),
            life: Arc::clone(&life),
        };
        let client = options.client_config(config, client_id);
        Ok(Self { client: BaseProducer::from_config_and_context(&client, context)?, life })
    }

    /// Sends records; they leave together, as one batch if the producer chooses their partition.
    pub fn send(&self, records: &mut Vec<WaitingRecord>) {
        if let Some(partitioner) = &self.client.context().partitioner {
            partitioner.turn();
        }
        for record in records.drain(..) {
            self.hand_over(record);
        }
    }

    /// Has what was sent leave as it is, and waits until it is answered; when that is long in coming, only for a while.
    pub fn wait_for_answers(&self) {
        sys::flush(self.client.client(), PATIENCE);
    }

    fn hand_over(&self, record: WaitingRecord) {
        if self.is_dead() {
            return record.refuse(PublishError::Dead);
        }
        let base = BaseRecord {
            topic: &record.topic,
            partition: record.partition,
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: record.timestamp_ms,
            headers: Some(record.headers),
            delivery_opaque: Box::new(record.sender),
        };
        let Err((error, base)) = self.client.send(base) else { return };
        let refusal = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => PublishError::QueueFull,
            Some(RDKafkaErrorCode::Fatal) => {
                self.look_for_death();
                PublishError::Dead
            }
            code => {
                self.life.note_refusal(code);
                PublishError::Refused(error.to_string())
            }
        };
        let _ = base.delivery_opaque.send(Delivery::NotTaken(refusal));
    }

    fn look_for_death(&self) {
        // The event of a fatal error looks like any other, and rdkafka does not tell them apart.
        if !self.is_dead()
            && let Some((_, reason)) = self.client.client().fatal_error()
        {
            self.life.die(&reason);
        }
    }

    /// Serves reports and statistics for about this long, and sees whether the client still lives.
    pub fn poll(&self, time: Duration) {
        self.client.poll(time);
        self.look_for_death();
    }

    /// Waits until every record was delivered or given up, at most `deadline`. Gives how many are left.
    pub fn flush(&self, deadline: Duration) -> usize {
        // What is counted afterwards may be an event that has just come, and no record.
        match self.client.flush(deadline) {
            Ok(()) => 0,
            Err(_) => usize::try_from(self.client.in_flight_count()).unwrap_or(0),
        }
    }

    pub fn is_dead(&self) -> bool {
        self.life.dead.load(Ordering::Relaxed)
    }

    /// Whether it has delivered something, or has lived long.
    pub fn was_well(&self) -> bool {
        self.life.of_use.load(Ordering::Relaxed) || self.life.began.elapsed() > LONG_LIFE
    }
}

impl Life {
    fn die(&self, reason: &str) {
        // Both threads may find it out; it is told once.
        if !self.dead.swap(true, Ordering::Relaxed) {
            tracing::error!(reason, "kafka producer failed for good");
            self.trouble.died(reason);
        }
    }

    /// Takes note of what no second try can change.
    fn note_refusal(&self, code: Option<RDKafkaErrorCode>) {
        if let (Some(code), Some(_)) = (code, Refused::by(code)) {
            self.refused.store(true, Ordering::Relaxed);
            self.trouble.refused(code);
        }
    }

    fn note_delivery(&self) {
        // Only looked at for all records but the first after trouble.
        if !self.of_use.load(Ordering::Relaxed) {
            self.of_use.store(true, Ordering::Relaxed);
        }
        if self.refused.load(Ordering::Relaxed) {
            self.refused.store(false, Ordering::Relaxed);
            self.trouble.delivered();
        }
    }
}

struct Context {
    partitioner: Option<BalancedPartitioner>,
    metrics: Arc<ClientMetrics>,
    life: Arc<Life>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        admin::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        // The next client tells by now.
        if self.life.dead.load(Ordering::Relaxed) {
            return;
        }
        self.metrics.update(&statistics);
        if let Some(partitioner) = &self.partitioner {
            partitioner.update(&statistics);
        }
        let with_id = statistics.eos.as_ref().is_some_and(|idempotence| idempotence.idemp_state == WITH_ID);
        if with_id {
            self.life.trouble.revived();
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.metrics.set_connected(false);
        }
        // librdkafka's own log line tells the same, and repeats it less often.
        tracing::debug!(%error, reason, "kafka producer error");
    }
}

impl ProducerContext<BalancedPartitioner> for Context {
    type DeliveryOpaque = Box<oneshot::Sender<Delivery>>;

    fn delivery(&self, result: &DeliveryResult<'_>, sender: Self::DeliveryOpaque) {
        // A receiver that is gone has passed its deadline and was answered "outcome unknown".
        let _ = sender.send(self.delivered(result));
    }

    fn get_custom_partitioner(&self) -> Option<&BalancedPartitioner> {
        self.partitioner.as_ref()
    }
}

impl Context {
    fn delivered(&self, result: &DeliveryResult<'_>) -> Delivery {
        match result {
            Ok(message) if message.offset() >= 0 => {
                self.life.note_delivery();
                Delivery::Delivered { partition: message.partition(), offset: message.offset() }
            }
            // A duplicate sequence number is reported as success without an offset: it proves nothing.
            Ok(_) => Delivery::Unknown("reported as delivered, without an offset".to_owned()),
            Err((error, message)) => {
                let code = error.rdkafka_error_code();
                self.life.note_refusal(code);
                let reason = code.map_or_else(|| error.to_string(), |code| code.to_string());
                match Refused::by(code) {
                    _ if !sys::never_persisted(message) => Delivery::Unknown(reason),
                    Some(refused) => Delivery::Refused(refused, reason),
                    None => Delivery::NotDelivered(reason),
                }
            }
        }
    }
}
