//! The consumer: one thread polls it, and the caller answers every rebalance itself.
//!
//! librdkafka lets an application answer a rebalance after its callback has returned. That is used here: a
//! partition is assigned only once its first offset is known from the database, so that no record is ever
//! fetched from a wrong place, and given back only once its running transaction has ended.

use std::collections::VecDeque;
use std::str;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::Offset;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::util::Timeout;

use super::{ClientMetrics, KafkaError, client_config};
use crate::config::KafkaConfig;

/// The longest pause between two polls; the polling thread stays far below it.
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(15);

/// How a consumer joins its group and how much it holds.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// The consumer group.
    pub group: String,
    /// `classic` or `consumer` (KIP-848).
    pub group_protocol: GroupProtocol,
    /// A member silent for so long is thrown out; with `consumer` the broker decides.
    pub session_timeout: Duration,
    /// Bytes fetched ahead of the application at most, in KiB, over all partitions.
    pub fetch_ahead_kib: usize,
    /// How long a broker may hold a fetch that finds nothing.
    pub fetch_wait: Duration,
}

/// How members of a group agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// Members agree among themselves, cooperatively.
    #[default]
    Classic,
    /// The broker decides (KIP-848, Kafka 4).
    Consumer,
}

impl str::FromStr for GroupProtocol {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "classic" => Ok(Self::Classic),
            "consumer" => Ok(Self::Consumer),
            _ => Err("must be classic or consumer"),
        }
    }
}

/// Partition numbers of the one topic.
pub type Partitions = Vec<i32>;

/// What one poll brought.
pub enum Polled<'a> {
    /// Nothing in time.
    Nothing,
    /// A record.
    Record(ConsumedRecord<'a>),
    /// The group gives these partitions: answer with [`RecordConsumer::assign`].
    Assigned(Partitions),
    /// The group takes these partitions: answer with [`RecordConsumer::unassign`].
    Revoked(Partitions),
    /// A position lies outside of what the broker has: look at the offsets of all partitions again.
    OffsetOutOfRange,
    /// The client goes on by itself.
    Trouble(String),
    /// The client is dead: build another.
    Fatal(String),
}

/// A record as polled, borrowed from the client.
pub struct ConsumedRecord<'a>(BorrowedMessage<'a>);

impl<'a> ConsumedRecord<'a> {
    pub(super) fn new(message: BorrowedMessage<'a>) -> Self {
        Self(message)
    }
}

impl ConsumedRecord<'_> {
    /// The partition.
    pub fn partition(&self) -> i32 {
        self.0.partition()
    }

    /// The offset.
    pub fn offset(&self) -> i64 {
        self.0.offset()
    }

    /// The key, if any.
    pub fn key(&self) -> Option<&[u8]> {
        self.0.key()
    }

    /// The value; nothing is a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.0.payload()
    }

    /// Milliseconds since 1970, if the record has a time.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.0.timestamp().to_millis()
    }

    /// A header's text, the last one of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.0.headers()?;
        let found = headers.iter().filter(|header| header.key == name).last()?;
        str::from_utf8(found.value?).ok()
    }

    /// All headers, in order.
    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        let Some(headers) = self.0.headers() else { return Vec::new() };
        headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
    }
}

/// A member of the consumer group.
pub struct RecordConsumer {
    topic: String,
    client: BaseConsumer<Context>,
}

impl RecordConsumer {
    /// Joins the group, in the background.
    ///
    /// # Errors
    /// When the settings are not taken.
    pub fn join(
        config: &KafkaConfig,
        client_id: &str,
        options: &ConsumerOptions,
        metrics: Arc<ClientMetrics>,
    ) -> Result<Self, KafkaError> {
        let mut client = client_config(config, client_id);
        client
            .set("group.id", &options.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A position that the broker does not have is an error to look at, never a silent jump.
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", options.fetch_wait.as_millis().to_string())
            .set("fetch.error.backoff.ms", "100")
            .set("queued.min.messages", "5000")
            .set("queued.max.messages.kbytes", options.fetch_ahead_kib.to_string())
            // A full queue is looked at again soon: at the default of a second it would run empty in between.
            .set("fetch.queue.backoff.ms", "10")
            // Counted as compressed: what is fetched at once may be ten times as large in memory.
            .set("fetch.message.max.bytes", "65536")
            .set("fetch.max.bytes", "1048576");
        match options.group_protocol {
            GroupProtocol::Classic => client
                .set("partition.assignment.strategy", "cooperative-sticky")
                // Also how long a rebalance waits for a member: one frozen in its middle must not hold up the others.
                .set("max.poll.interval.ms", options.session_timeout.max(POLL_INTERVAL_MAX).as_millis().to_string())
                .set("session.timeout.ms", options.session_timeout.as_millis().to_string())
                .set("heartbeat.interval.ms", (options.session_timeout.as_millis() / 5).clamp(100, 2000).to_string()),
            GroupProtocol::Consumer => client.set("group.protocol", "consumer"),
        };
        let context = Context { metrics, rebalances: Mutex::default(), leaving: AtomicBool::new(false) };
        let client = BaseConsumer::from_config_and_context(&client, context)?;
        client.subscribe(&[&config.topic])?;
        Ok(Self { topic: config.topic.clone(), client })
    }

    /// Waits for the next thing to happen. Must be called at least every few seconds, by one thread.
    pub fn poll(&self, timeout: Duration) -> Polled<'_> {
        let message = self.client.poll(timeout);
        match message {
            Some(Ok(message)) => Polled::Record(ConsumedRecord(message)),
            Some(Err(error)) => Self::classify(&error),
            None => self.client.context().next_rebalance().unwrap_or(Polled::Nothing),
        }
    }

    fn classify(error: &ClientError) -> Polled<'static> {
        match error {
            ClientError::MessageConsumptionFatal(code) => Polled::Fatal(code.to_string()),
            ClientError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                Polled::OffsetOutOfRange
            }
            error => Polled::Trouble(error.to_string()),
        }
    }

    /// Takes partitions over, each from the given offset.
    ///
    /// # Errors
    /// When the client refuses.
    pub fn assign(&self, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        let list = self.list(offsets)?;
        match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.client.incremental_assign(&list)?,
            _ => self.client.assign(&list)?,
        }
        Ok(())
    }

    /// Gives partitions back.
    ///
    /// # Errors
    /// When the client refuses.
    pub fn unassign(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                let offsets: Vec<_> = partitions.iter().map(|partition| (*partition, 0)).collect();
                self.client.incremental_unassign(&self.list(&offsets)?)?;
            }
            _ => self.client.unassign()?,
        }
        Ok(())
    }

    /// Goes on reading assigned partitions from other offsets; nothing polled afterwards is from before.
    ///
    /// # Errors
    /// When a partition is not being fetched, or the client refuses.
    pub fn seek(&self, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        for (partition, offset) in offsets {
            self.client.seek(&self.topic, *partition, Offset::Offset(*offset), Duration::from_secs(3))?;
        }
        Ok(())
    }

    /// Stops fetching partitions, without giving them back.
    ///
    /// # Errors
    /// When one is not assigned.
    pub fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        Ok(self.client.pause(&self.list_any(partitions)?)?)
    }

    /// Fetches paused partitions again.
    ///
    /// # Errors
    /// When one is not assigned.
    pub fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        Ok(self.client.resume(&self.list_any(partitions)?)?)
    }

    /// Commits offsets to Kafka in the background, for lag tools; the truth is in the database.
    ///
    /// # Errors
    /// When the client refuses; a partition that was just taken away is no error.
    pub fn commit(&self, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        match self.client.commit(&self.list(offsets)?, CommitMode::Async) {
            Err(ClientError::ConsumerCommit(RDKafkaErrorCode::State | RDKafkaErrorCode::NoOffset)) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Prepares to leave the group: from now on rebalances answer themselves. `unanswered` are partitions that the
    /// group gave and that were not taken over. The group is left when the last owner drops the consumer.
    pub fn leave(&self, unanswered: &[i32]) {
        self.client.context().leaving.store(true, Ordering::Relaxed);
        if !unanswered.is_empty() {
            // librdkafka cannot leave while it waits for an answer; nothing of it will be read.
            let offsets: Vec<_> = unanswered.iter().map(|partition| (*partition, 0)).collect();
            let _ = self.assign(&offsets);
        }
    }

    /// The first and the next offset of each partition on the broker, by two requests for all of them. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer in time.
    pub fn watermarks(&self, partitions: &[i32], timeout: Duration) -> Result<Vec<(i32, i64, i64)>, KafkaError> {
        let lows = self.offsets_at(partitions, Offset::Beginning, timeout)?;
        let highs = self.offsets_at(partitions, Offset::End, timeout)?;
        let found = |offsets: &[(i32, i64)], partition: i32| {
            offsets.iter().find(|(other, _)| *other == partition).map(|(_, offset)| *offset)
        };
        let complete = partitions
            .iter()
            .map(|partition| Some((*partition, found(&lows, *partition)?, found(&highs, *partition)?)));
        complete
            .collect::<Option<_>>()
            .ok_or_else(|| KafkaError::Admin("not every partition told its offsets".to_owned()))
    }

    /// The next offset of each partition on the broker, by one request. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer in time.
    pub fn end_offsets(&self, partitions: &[i32], timeout: Duration) -> Result<Vec<(i32, i64)>, KafkaError> {
        self.offsets_at(partitions, Offset::End, timeout)
    }

    fn offsets_at(&self, partitions: &[i32], at: Offset, timeout: Duration) -> Result<Vec<(i32, i64)>, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            // A logical offset in the place of a time asks for that end of the log.
            list.add_partition_offset(&self.topic, *partition, at)?;
        }
        let found = self.client.offsets_for_times(list, timeout)?;
        let offsets = found.elements().into_iter().filter(|element| element.error().is_ok());
        Ok(offsets.filter_map(|element| Some((element.partition(), element.offset().to_raw()?))).collect())
    }

    fn list(&self, offsets: &[(i32, i64)]) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        Ok(list)
    }

    fn list_any(&self, partitions: &[i32]) -> Result<TopicPartitionList, KafkaError> {
        let offsets: Vec<_> = partitions.iter().map(|partition| (*partition, 0)).collect();
        self.list(&offsets)
    }
}

struct Context {
    metrics: Arc<ClientMetrics>,
    rebalances: Mutex<VecDeque<Polled<'static>>>,
    leaving: AtomicBool,
}

impl Context {
    fn next_rebalance(&self) -> Option<Polled<'static>> {
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        super::admin::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.metrics.update(&statistics);
    }

    fn error(&self, error: ClientError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.metrics.set_connected(false);
        }
        tracing::warn!(%error, reason, "kafka consumer error");
    }
}

impl ConsumerContext for Context {
    /// Only takes note: the polling thread answers, outside of the callback.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.leaving.load(Ordering::Relaxed) {
            let _ = match (code, consumer.rebalance_protocol()) {
                (RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS, RebalanceProtocol::Cooperative) => {
                    consumer.incremental_assign(list)
                }
                (_, RebalanceProtocol::Cooperative) => consumer.incremental_unassign(list),
                _ => consumer.unassign(),
            };
            return;
        }
        let partitions = list.elements().iter().map(TopicPartitionListElem::partition).collect();
        let event = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Polled::Assigned(partitions),
            _ => Polled::Revoked(partitions),
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
    }

    fn commit_callback(&self, result: Result<(), ClientError>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "offsets not committed to kafka");
        }
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(Duration::from_millis(500))
    }
}
