//! Dead letters from both places where they are kept, in small portions.

use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::sync::Arc;

use serde_json::{Value, json};
use shared::config::KafkaConfig;
use shared::event::PoisonReason;
use shared::kafka::{ConsumedRecord, KafkaError, read_topic};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::letter::{DeadLetter, ERROR, Headers, ORIGINAL_TOPIC, Original, REASON, Sending, borrowed, is_own_header};
use crate::store::{KeptLetter, Mending, Redrives, StoreError};

/// Where dead letters stand that the database keeps: no topic has such a partition. Their number is the offset there.
pub const DATABASE_PARTITION: i32 = -1;

/// Records of the topic that are held at once, at most.
const PORTION_RECORDS: usize = 200;
/// Bytes of the topic that are held at once, at most, the last record not counted.
const PORTION_BYTES: usize = 4 * 1024 * 1024;

/// Why dead letters could not be listed or sent back.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// Kafka failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
    /// The reading ended early.
    #[error("the reading has ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
    /// There is no such dead letter.
    #[error("there is no dead letter at partition {0}, offset {1}")]
    NotFound(i32, i64),
    /// A record was not confirmed.
    #[error("the dead letter at partition {partition}, offset {offset} was not sent back: {reason}")]
    NotConfirmed {
        /// Its partition in the list.
        partition: i32,
        /// Its offset there.
        offset: i64,
        /// What the producer says.
        reason: String,
    },
    /// Some records are refused for good; all others were sent back.
    #[error("{0} dead letters were refused and not sent back")]
    Refused(usize),
}

/// A dead letter wherever it is kept.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Partition of the dead-letter topic, or [`DATABASE_PARTITION`].
    pub partition: i32,
    /// Offset there.
    pub offset: i64,
    pub original_topic: Option<String>,
    pub original: Original,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Those of the original.
    pub headers: Headers,
    pub reason: Option<String>,
    pub error: Option<String>,
    pub redrives: Redrives,
}

/// Prints every dead letter as one JSON object a line, as fast as they are taken: one that comes back meanwhile twice, as it
/// was and as it is. A reader that has gone has seen enough.
///
/// # Errors
/// When topic or database cannot be read, or the output not written.
pub async fn list(
    config: &KafkaConfig,
    store: Arc<dyn Mending>,
    mut out: impl Write + Send + 'static,
) -> Result<(), DeadLetterError> {
    let config = config.clone();
    let runtime = Handle::current();
    let printed = tokio::task::spawn_blocking(move || {
        for_each_in_topic(&config, &*store, &runtime, |mut portion| {
            // What the database keeps as well, because it came back, is listed from there.
            portion.retain(|entry| !entry.redrives.kept);
            print(&mut out, &config, portion)
        })?;
        let mut after = 0;
        while let Some((portion, last)) = runtime.block_on(next_in_database(&*store, after))? {
            after = last;
            print(&mut out, &config, portion)?;
        }
        Ok(())
    });
    match printed.await? {
        Err(DeadLetterError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Calls `each` with the dead letters of the topic, portion by portion, in the order of each partition.
pub(super) fn for_each_in_topic(
    config: &KafkaConfig,
    store: &dyn Mending,
    runtime: &Handle,
    mut each: impl FnMut(Vec<Entry>) -> Result<(), DeadLetterError>,
) -> Result<(), DeadLetterError> {
    let mut portion = Vec::new();
    let mut bytes = 0;
    let mut hand_over = |portion: Vec<Entry>| each(runtime.block_on(remember(store, portion))?);
    let read = read_topic::<DeadLetterError>(config, &config.dead_letter_topic, |record| {
        bytes += record.value().map_or(0, <[u8]>::len) + record.key().map_or(0, <[u8]>::len);
        record.for_each_header(|name, value| bytes += name.len() + value.map_or(0, <[u8]>::len));
        portion.push(Entry::of_record(&config.dead_letter_topic, record));
        if portion.len() < PORTION_RECORDS && bytes < PORTION_BYTES {
            return Ok(());
        }
        bytes = 0;
        hand_over(std::mem::take(&mut portion))
    });
    // What could be read counts also when not everything could.
    if matches!(read, Ok(()) | Err(DeadLetterError::Kafka(_))) {
        hand_over(portion)?;
    }
    read
}

/// Adds what the database remembers of them.
async fn remember(store: &dyn Mending, mut portion: Vec<Entry>) -> Result<Vec<Entry>, StoreError> {
    let ids: Vec<Uuid> = portion.iter().map(|entry| entry.redrives.id).collect();
    let known: HashMap<Uuid, Redrives> =
        store.find_redrives(&ids).await?.into_iter().map(|redrives| (redrives.id, redrives)).collect();
    for entry in &mut portion {
        if let Some(redrives) = known.get(&entry.redrives.id) {
            entry.redrives = redrives.clone();
        }
    }
    Ok(portion)
}

/// The dead letters that the database keeps, from the one after `after`, and the number of the last of them.
pub(super) async fn next_in_database(store: &dyn Mending, after: i64) -> Result<Option<(Vec<Entry>, i64)>, StoreError> {
    let page = store.list_dead_letters(after).await?;
    let last = page.last().map(|kept| kept.number);
    Ok(last.map(|last| (page.into_iter().map(Entry::of_kept).collect(), last)))
}

impl Entry {
    fn of_record(topic: &str, record: &ConsumedRecord<'_>) -> Self {
        // Put there by somebody else, it is the original itself.
        let here = || Original {
            incarnation: topic.into(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp_ms: record.timestamp_ms(),
        };
        let original = Original::of_dead_letter(record).unwrap_or_else(here);
        let headers = record.headers().into_iter();
        let headers = headers.filter(|(name, _)| !is_own_header(name));
        let text = |name: &str| record.header(name).map(str::to_owned);
        Self {
            partition: record.partition(),
            offset: record.offset(),
            original_topic: text(ORIGINAL_TOPIC),
            redrives: Redrives::none(original.id()),
            original,
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: headers.collect(),
            reason: text(REASON),
            error: text(ERROR),
        }
    }

    fn of_kept(kept: KeptLetter) -> Self {
        let KeptLetter { number, letter, redrives, .. } = kept;
        Self {
            partition: DATABASE_PARTITION,
            offset: number,
            original_topic: None,
            original: letter.original,
            key: letter.key,
            value: letter.value,
            headers: letter.headers,
            reason: Some(letter.reason.label().to_owned()),
            error: Some(letter.error),
            redrives,
        }
    }

    /// As it is kept in the database; `rejected_by_store` where nobody has said why it is dead.
    pub(super) fn letter(&self) -> DeadLetter {
        let reason = self.reason.as_deref().and_then(PoisonReason::parse);
        DeadLetter {
            original: self.original.clone(),
            redrive: self.redrives.returned,
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
            reason: reason.unwrap_or(PoisonReason::RejectedByStore),
            error: self.error.clone().unwrap_or_default(),
        }
    }

    /// Names what is sent when it is sent back as it is.
    pub(super) fn sending(&self) -> Sending {
        Sending::new(self.redrives.id, self.key.as_deref(), self.value.as_deref(), borrowed(&self.headers))
    }

    fn describe(&self, config: &KafkaConfig) -> Value {
        let in_database = self.partition == DATABASE_PARTITION;
        let headers = self.headers.iter().map(|(name, value)| json!([text(Some(name)), text(value.as_deref())]));
        json!({
            "topic": (!in_database).then_some(&config.dead_letter_topic),
            "partition": self.partition,
            "offset": self.offset,
            "kept_in": if in_database { "database" } else { "topic" },
            "state": if self.redrives.is_redriven() { "redriven" } else { "kept" },
            "redrives": self.redrives.sent,
            "reason": self.reason,
            "error": self.error,
            "key": text(self.key.as_deref()),
            "value": text(self.value.as_deref()),
            "headers": headers.collect::<Value>(),
            "original": {
                "topic": self.original_topic.as_ref().or(in_database.then_some(&config.topic)),
                "partition": self.original.partition,
                "offset": self.original.offset,
                "timestamp_ms": self.original.timestamp_ms,
            },
        })
    }
}

fn print(out: &mut impl Write, config: &KafkaConfig, portion: Vec<Entry>) -> Result<(), DeadLetterError> {
    for entry in portion {
        writeln!(out, "{}", entry.describe(config))?;
    }
    Ok(out.flush()?)
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
