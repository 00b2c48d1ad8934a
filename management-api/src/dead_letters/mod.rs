//! Records that can never be stored: kept in a topic of their own, listed, and sent back when mended.

mod letter;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::config::KafkaConfig;
use shared::kafka::{ConsumedRecord, Delivery, KafkaError, OutgoingRecord, RecordProducer, read_topic, text_headers};

pub use self::letter::{
    DeadLetter, ERROR, Headers, ORIGINAL_INCARNATION, ORIGINAL_OFFSET, ORIGINAL_PARTITION, ORIGINAL_TIMESTAMP,
    ORIGINAL_TOPIC, Original, REASON, REDRIVE, is_own_header,
};
use crate::backoff::Backoff;
use crate::metrics::IngestMetrics;

/// The longest error text in a header, in bytes.
const ERROR_BYTES_MAX: usize = 1024;

/// Publishes dead letters.
pub struct DeadLetters {
    producer: Arc<RecordProducer>,
    topic: String,
    original_topic: String,
    metrics: Arc<IngestMetrics>,
}

impl DeadLetters {
    /// Publishes to the dead-letter topic of `config`.
    #[must_use]
    pub fn new(config: &KafkaConfig, producer: Arc<RecordProducer>, metrics: Arc<IngestMetrics>) -> Self {
        Self { producer, topic: config.dead_letter_topic.clone(), original_topic: config.topic.clone(), metrics }
    }

    /// Publishes dead letters, and gives the indexes of those that are to be kept in the database instead.
    pub async fn publish_all(&self, letters: &[DeadLetter]) -> Vec<usize> {
        join_all(letters.iter().map(|letter| self.publish(letter))).await;
        Vec::new()
    }

    async fn publish(&self, record: &DeadLetter) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        while let Err(error) = self.attempt(record).await {
            tracing::warn!(error, "dead letter not confirmed, trying again");
            backoff.sleep().await;
        }
        self.metrics.dead_letter();
        let Original { partition, offset, .. } = record.original;
        tracing::warn!(partition, offset, reason = record.reason.label(), error = cut(&record.error), "dead letter");
    }

    async fn attempt(&self, record: &DeadLetter) -> Result<(), String> {
        let headers: [(&str, Cow<'_, str>); 6] = [
            (REASON, record.reason.label().into()),
            (ERROR, cut(&record.error).into()),
            (ORIGINAL_TOPIC, self.original_topic.as_str().into()),
            (ORIGINAL_PARTITION, record.original.partition.to_string().into()),
            (ORIGINAL_OFFSET, record.original.offset.to_string().into()),
            (ORIGINAL_INCARNATION, record.original.incarnation.as_ref().into()),
        ];
        let outgoing = OutgoingRecord {
            topic: &self.topic,
            partition: None,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &text_headers(&headers),
            // Sent back, a record without a timestamp of its own is still as old as it was.
            timestamp_ms: record.original.timestamp_ms,
        };
        send(&self.producer, &outgoing).await
    }
}

async fn send(producer: &RecordProducer, record: &OutgoingRecord<'_>) -> Result<(), String> {
    let delivery = producer.publish(record).map_err(|error| error.to_string())?;
    match delivery.await {
        Ok(Delivery::Delivered { .. }) => Ok(()),
        Ok(Delivery::NotDelivered(reason) | Delivery::Unknown(reason)) => Err(reason),
        Err(_) => Err("the producer has ended".to_owned()),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(ERROR_BYTES_MAX)]
}

/// Prints every dead letter as one JSON object a line. Blocks.
///
/// # Errors
/// When the topic cannot be read or the output is closed.
pub fn list(config: &KafkaConfig, mut out: impl std::io::Write) -> Result<(), DeadLetterError> {
    read_topic(config, &config.dead_letter_topic, |record| {
        writeln!(out, "{}", describe(&config.dead_letter_topic, record)).map_err(DeadLetterError::Output)
    })
}

fn describe(topic: &str, record: &ConsumedRecord<'_>) -> Value {
    let number = |name: &str| record.header(name).and_then(|text| text.parse::<i64>().ok());
    json!({
        "topic": topic,
        "partition": record.partition(),
        "offset": record.offset(),
        "reason": record.header(REASON),
        "error": record.header(ERROR),
        "key": text(record.key()),
        "value": text(record.value()),
        "original": {
            "topic": record.header(ORIGINAL_TOPIC),
            "partition": number(ORIGINAL_PARTITION),
            "offset": number(ORIGINAL_OFFSET),
        },
    })
}

/// Bytes as text where they are text, else as `{"base64": …}`.
fn text(bytes: Option<&[u8]>) -> Value {
    use base64::Engine;
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => text.into(),
        Some((bytes, Err(_))) => json!({ "base64": base64::engine::general_purpose::STANDARD.encode(bytes) }),
    }
}

/// Which dead letters to send back.
#[derive(Clone, Debug)]
pub enum Selection {
    /// All that there are.
    All,
    /// The one at this place of the dead-letter topic, with another value if one is given.
    One {
        /// Partition of the dead-letter topic.
        partition: i32,
        /// Offset there.
        offset: i64,
        /// The mended value.
        value: Option<Vec<u8>>,
    },
}

/// Why dead letters could not be listed or sent back.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// Kafka failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The output is closed.
    #[error("cannot write: {0}")]
    Output(std::io::Error),
    /// There is no such dead letter.
    #[error("there is no dead letter at partition {0}, offset {1}")]
    NotFound(i32, i64),
    /// A record was not confirmed.
    #[error("the dead letter at partition {partition}, offset {offset} was not confirmed: {reason}")]
    NotConfirmed {
        /// Partition of the dead-letter topic.
        partition: i32,
        /// Offset there.
        offset: i64,
        /// What the producer says.
        reason: String,
    },
}

/// A dead letter taken into memory to be sent back.
struct Redriven {
    partition: i32,
    offset: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
    timestamp_ms: Option<i64>,
}

/// Sends dead letters back to the topic they came from; gives how many. Sent twice, each is still one purchase:
/// it keeps the position that names it.
///
/// # Errors
/// When the topic cannot be read, the one asked for is not there, or a record is not confirmed.
pub async fn redrive(
    config: &KafkaConfig,
    producer: &RecordProducer,
    selection: Selection,
) -> Result<usize, DeadLetterError> {
    let config = config.clone();
    let wanted = selection.clone();
    let records = tokio::task::spawn_blocking(move || collect(&config, &wanted)).await;
    let records = records.map_err(|error| KafkaError::Admin(error.to_string()))??;
    if let (Selection::One { partition, offset, .. }, true) = (&selection, records.is_empty()) {
        return Err(DeadLetterError::NotFound(*partition, *offset));
    }
    for record in &records {
        let original =
            |name: &str| record.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str());
        let headers: Vec<_> =
            record.headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
        let outgoing = OutgoingRecord {
            topic: original(ORIGINAL_TOPIC).unwrap_or_default(),
            partition: None,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
            timestamp_ms: record.timestamp_ms,
        };
        send(producer, &outgoing).await.map_err(|reason| DeadLetterError::NotConfirmed {
            partition: record.partition,
            offset: record.offset,
            reason,
        })?;
    }
    Ok(records.len())
}

fn collect(config: &KafkaConfig, selection: &Selection) -> Result<Vec<Redriven>, DeadLetterError> {
    let mut found = Vec::new();
    read_topic::<DeadLetterError>(config, &config.dead_letter_topic, |record| {
        let mended = match selection {
            Selection::All => None,
            Selection::One { partition, offset, value } => {
                if (record.partition(), record.offset()) != (*partition, *offset) {
                    return Ok(());
                }
                value.clone()
            }
        };
        let keep = [ORIGINAL_TOPIC, ORIGINAL_PARTITION, ORIGINAL_OFFSET, ORIGINAL_INCARNATION];
        let headers = keep.iter().filter_map(|name| Some(((*name).to_owned(), record.header(name)?.to_owned())));
        found.push(Redriven {
            partition: record.partition(),
            offset: record.offset(),
            key: record.key().map(<[u8]>::to_vec),
            value: mended.or_else(|| record.value().map(<[u8]>::to_vec)),
            headers: headers.collect(),
            timestamp_ms: record.timestamp_ms(),
        });
        Ok(())
    })?;
    Ok(found)
}
