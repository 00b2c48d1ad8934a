//! What an operator can do with a partition that cannot be read on: step over it, on purpose and on record.

use std::sync::Arc;

use serde_json::json;
use shared::config::KafkaConfig;
use shared::kafka::{KafkaError, TopicAdmin, find_unreadable_batch};

use crate::ingest::blocking;
use crate::store::{OffsetMove, RecordError, Skipped, Store, StoreError};

/// What is to be stepped over.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The partition.
    pub partition: i32,
    /// The next offset that the database has: the first one to skip.
    pub offset: i64,
    /// The first one not to skip; unless given, the first behind the batch that cannot be read.
    pub to: Option<i64>,
}

/// Why nothing was stepped over.
#[derive(Debug, thiserror::Error)]
pub enum SkipError {
    /// Kafka failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The partition is elsewhere.
    #[error("partition {partition} is at offset {found}, not {given}: nothing was skipped")]
    Elsewhere {
        /// The partition.
        partition: i32,
        /// Where the database says it is.
        found: i64,
        /// Where the operator says it is.
        given: i64,
    },
    /// There is no need.
    #[error(
        "partition {0} can be read at offset {1}: nothing was skipped; to skip all the same, say how far with --to"
    )]
    Readable(i32, i64),
    /// The end lies before the beginning.
    #[error("--to must be greater than --offset")]
    Backwards,
    /// A consumer moved the offset meanwhile.
    #[error("a consumer has moved the offset meanwhile: nothing was skipped")]
    Moved,
}

/// Moves the partition's next offset and writes down what was skipped and why, in one transaction; gives that. Consumers
/// notice by themselves.
///
/// # Errors
/// When the partition is elsewhere, can be read after all, or Kafka or the database fail.
pub async fn skip(config: &KafkaConfig, store: &Arc<dyn Store>, step: Step) -> Result<serde_json::Value, SkipError> {
    let Step { partition, offset, to } = step;
    store.migrate().await?;
    let admin = TopicAdmin::new(config, "partition-skip")?;
    // What is skipped may be of any leader up to now; with its epoch a later cut is noticed.
    let (incarnation, leader_epoch) =
        blocking(move || Ok((admin.incarnation()?, admin.leader_epoch(partition)?))).await?;
    let found = store.next_offsets(&incarnation, &[partition]).await?.first().map_or(0, |stored| stored.next_offset);
    if found != offset {
        return Err(SkipError::Elsewhere { partition, found, given: offset });
    }
    let kafka = config.clone();
    let batch = blocking(move || find_unreadable_batch(&kafka, partition, offset)).await?;
    let reason = batch.as_ref().map_or_else(|| "an operator's decision".to_owned(), |batch| batch.reason.clone());
    let to = to.or(batch.map(|batch| batch.end)).ok_or(SkipError::Readable(partition, offset))?;
    if to <= offset {
        return Err(SkipError::Backwards);
    }
    let step = OffsetMove { partition, expected: offset, expected_epoch: None, next: to, leader_epoch };
    match store.skip(&incarnation, &step, &reason).await {
        Ok(()) => Ok(json!({ "partition": partition, "from": offset, "to": to, "reason": reason })),
        Err(RecordError::Fenced) => Err(SkipError::Moved),
        Err(error) => Err(StoreError(error.to_string()).into()),
    }
}

/// What was ever skipped, as one JSON object a line.
///
/// # Errors
/// When the database fails.
pub async fn list_skipped(store: &Arc<dyn Store>) -> Result<String, SkipError> {
    store.migrate().await?;
    let lines = store.list_skipped().await?.into_iter().map(|skipped| {
        let Skipped { incarnation, partition, from_offset, to_offset, reason, skipped_at } = skipped;
        let line = json!({
            "topic": incarnation, "partition": partition, "from": from_offset, "to": to_offset,
            "reason": reason, "skipped_at": skipped_at,
        });
        format!("{line}\n")
    });
    Ok(lines.collect())
}
