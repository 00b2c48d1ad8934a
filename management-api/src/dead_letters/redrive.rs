//! Sending dead letters back to the topic they came from, each once.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use shared::config::KafkaConfig;
use shared::kafka::{Delivery, OutgoingRecord, PublishError, RecordProducer};
use tokio::runtime::Handle;

use super::list::{DATABASE_PARTITION, DeadLetterError, Entry, for_each_in_topic, next_in_database};
use crate::letter::{OutgoingHeaders, REDRIVE};
use crate::store::{Mending, Redriven};

/// Which dead letters to send back.
#[derive(Clone, Debug)]
pub enum Selection {
    /// All that were not sent back yet, or have come back.
    All,
    /// The one at this place of the list, with another value if one is given. It is sent even if it was before: as a
    /// purchase it still counts once.
    One {
        /// Its partition in the list.
        partition: i32,
        /// Its offset there.
        offset: i64,
        /// The mended value. From then on the database keeps the letter as it was.
        value: Option<Vec<u8>>,
    },
}

/// Sends dead letters back and remembers it; gives how many. Sent twice, each is still one purchase: it keeps the place
/// that names it.
///
/// # Errors
/// When topic or database cannot be read, the one asked for is not there, or a record is not confirmed.
pub async fn redrive(
    config: &KafkaConfig,
    store: Arc<dyn Mending>,
    producer: &Arc<RecordProducer>,
    selection: Selection,
) -> Result<usize, DeadLetterError> {
    let work = Redrive { config: config.clone(), store, producer: Arc::clone(producer) };
    match selection {
        Selection::All => work.all().await,
        Selection::One { partition, offset, value } => {
            let found = work.find(partition, offset).await?;
            let mut entry = found.ok_or(DeadLetterError::NotFound(partition, offset))?;
            if let Some(value) = value {
                // If that is poison as well, what comes back is not what was set aside, and that is what stays. What is of
                // another topic does not come back here, and the database knows of no topic but ours.
                if !entry.redrives.kept && work.topic_of(&entry) == work.config.topic {
                    work.store.keep(&entry.letter()).await?;
                }
                entry.value = Some(value);
            }
            work.store.announce(&[entry.sending()]).await?;
            let redriven = work.send_back(&entry).await.map_err(|failed| failed.error)?;
            work.store.mark_redriven(&[redriven]).await?;
            Ok(1)
        }
    }
}

#[derive(Clone)]
struct Redrive {
    config: KafkaConfig,
    store: Arc<dyn Mending>,
    producer: Arc<RecordProducer>,
}

/// A dead letter that was not sent back.
struct Failed {
    error: DeadLetterError,
    /// Whether it would fail again; if not, the others would fail as well.
    is_final: bool,
}

/// What became of several.
#[derive(Clone, Copy, Default)]
struct Count {
    sent: usize,
    refused: usize,
}

impl Redrive {
    async fn all(self) -> Result<usize, DeadLetterError> {
        let mut count = Count::default();
        // The database first: what comes back from the topic's while this runs is kept there, and is not for this run.
        let mut after = 0;
        while let Some((portion, last)) = next_in_database(&*self.store, after).await? {
            after = last;
            self.send_portion(portion, &mut count).await?;
        }
        let runtime = Handle::current();
        let read = tokio::task::spawn_blocking(move || {
            for_each_in_topic(&self.config, &*self.store, &runtime, |mut portion| {
                portion.retain(|entry| !entry.redrives.kept);
                runtime.block_on(self.send_portion(portion, &mut count))
            })?;
            Ok::<_, DeadLetterError>(count)
        });
        let count = read.await??;
        if count.refused == 0 { Ok(count.sent) } else { Err(DeadLetterError::Refused(count.refused)) }
    }

    async fn send_portion(&self, mut portion: Vec<Entry>, count: &mut Count) -> Result<(), DeadLetterError> {
        // Set aside twice, because a consumer was killed in between, it is still one.
        let mut sendings = HashSet::new();
        portion.retain(|entry| !entry.redrives.is_redriven() && sendings.insert(entry.sending()));
        // Before anything is sent: it may come back at once.
        self.store.announce(&Vec::from_iter(sendings)).await?;
        let (mut redriven, mut stopped) = (Vec::new(), None);
        for result in join_all(portion.iter().map(|entry| self.send_back(entry))).await {
            match result {
                Ok(sent) => redriven.push(sent),
                Err(Failed { error, is_final: true }) => {
                    eprintln!("{error}");
                    count.refused += 1;
                }
                Err(Failed { error, is_final: false }) => stopped = Some(error),
            }
        }
        count.sent += redriven.len();
        self.store.mark_redriven(&redriven).await?;
        stopped.map_or(Ok(()), Err)
    }

    async fn send_back(&self, entry: &Entry) -> Result<Redriven, Failed> {
        let number = entry.redrives.next();
        let mut headers = OutgoingHeaders::of_original(entry.headers.clone(), &entry.original, self.topic_of(entry));
        headers.set(REDRIVE, number.to_string());
        let outgoing = OutgoingRecord {
            topic: self.topic_of(entry),
            partition: None,
            key: entry.key.as_deref(),
            value: entry.value.as_deref(),
            headers: &headers.borrowed(),
            // Now, so that it does not expire before it is read; its own time is in a header.
            timestamp_ms: None,
        };
        let failed = |is_final: bool, reason: String| {
            let (partition, offset) = (entry.partition, entry.offset);
            Failed { error: DeadLetterError::NotConfirmed { partition, offset, reason }, is_final }
        };
        match self.producer.publish(&outgoing).await {
            Ok(Delivery::Delivered { .. }) => Ok(Redriven { original: entry.original.clone(), number }),
            Ok(Delivery::NotTaken(error)) => Err(failed(matches!(error, PublishError::Refused(_)), error.to_string())),
            Ok(Delivery::Refused(_, reason)) => Err(failed(true, reason)),
            Ok(Delivery::NotDelivered(reason) | Delivery::Unknown(reason)) => Err(failed(false, reason)),
            Err(_) => Err(failed(false, "the producer has ended".to_owned())),
        }
    }

    fn topic_of<'a>(&'a self, entry: &'a Entry) -> &'a str {
        entry.original_topic.as_deref().unwrap_or(&self.config.topic)
    }

    async fn find(&self, partition: i32, offset: i64) -> Result<Option<Entry>, DeadLetterError> {
        if partition == DATABASE_PARTITION {
            let page = next_in_database(&*self.store, offset - 1).await?;
            return Ok(page.and_then(|(page, _)| page.into_iter().find(|entry| entry.offset == offset)));
        }
        let (work, runtime) = (self.clone(), Handle::current());
        let found = tokio::task::spawn_blocking(move || {
            let mut found = None;
            for_each_in_topic(&work.config, &*work.store, &runtime, |portion| {
                found = portion
                    .into_iter()
                    .find(|entry| (entry.partition, entry.offset) == (partition, offset))
                    .or(found.take());
                Ok(())
            })?;
            Ok(found)
        });
        found.await?
    }
}
