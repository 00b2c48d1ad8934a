//! Dead letters on their way into their topic; what it does not take is kept in the database.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::backoff::Backoff;
use shared::config::KafkaConfig;
use shared::kafka::{Delivery, OutgoingRecord, PublishError, RecordProducer, Refused};

use crate::letter::{DeadLetter, ERROR, OutgoingHeaders, REASON};
use crate::metrics::IngestMetrics;

/// The longest error text in a header, in bytes.
const ERROR_BYTES_MAX: usize = 1024;
/// So many attempts in a row fail, with a broker connected all the time, before the topic counts as one that takes nothing.
const ATTEMPTS: u32 = 2;
/// How long a topic that takes nothing is left alone. Meanwhile nobody waits for it.
const CLOSED: Duration = Duration::from_secs(30);
/// How long a batch of dead letters may keep its lane for sending those once more that were refused with others.
const ALONE_MAX: Duration = Duration::from_secs(2);

/// Publishes dead letters.
pub struct DeadLetters {
    producer: Arc<RecordProducer>,
    topic: String,
    original_topic: String,
    metrics: Arc<IngestMetrics>,
    closed_until: Mutex<Option<Instant>>,
}

/// What became of a dead letter.
enum Outcome {
    /// The topic has it.
    Confirmed,
    /// It was sent back and is still poison: the topic has it from the first time.
    CameBack,
    /// The topic refuses this one, or those that were sent with it.
    Refused(String),
    /// The topic takes nothing for now.
    Closed,
}

/// Why an attempt failed.
enum Failure {
    /// Our own queue is full: that says nothing of the topic.
    Busy,
    Passing(String),
    Final(Refused, String),
}

impl DeadLetters {
    /// Publishes to the dead-letter topic of `config`.
    #[must_use]
    pub fn new(config: &KafkaConfig, producer: Arc<RecordProducer>, metrics: Arc<IngestMetrics>) -> Self {
        Self {
            producer,
            topic: config.dead_letter_topic.clone(),
            original_topic: config.topic.clone(),
            metrics,
            closed_until: Mutex::new(None),
        }
    }

    /// Publishes dead letters, and gives the indexes of those that are to be kept in the database instead, with the very
    /// move of their offsets. While no broker can be reached it waits, as everything does; the topic alone holds nobody up.
    pub async fn publish_all(&self, letters: &[DeadLetter]) -> Vec<usize> {
        let alone_until = Instant::now() + ALONE_MAX;
        let outcomes = join_all(letters.iter().map(|letter| self.publish(letter))).await;
        let mut kept = Vec::new();
        for (index, (letter, mut outcome)) in letters.iter().zip(outcomes).enumerate() {
            // One that is too large takes with it what was sent in one batch with it.
            if matches!(outcome, Outcome::Refused(_)) && letters.len() > 1 && Instant::now() < alone_until {
                outcome = self.publish(letter).await;
            }
            if !matches!(outcome, Outcome::Confirmed) {
                kept.push(index);
            }
            self.tell(letter, &outcome);
        }
        kept
    }

    async fn publish(&self, letter: &DeadLetter) -> Outcome {
        if letter.redrive > 0 {
            return Outcome::CameBack;
        }
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut failed = 0;
        while !self.is_closed() {
            let connected = self.producer.is_connected();
            match self.attempt(letter).await {
                Ok(()) => return Outcome::Confirmed,
                Err(Failure::Busy) => backoff.sleep().await,
                Err(Failure::Final(Refused::Record, reason)) => return Outcome::Refused(reason),
                Err(Failure::Final(Refused::Topic, reason)) => self.close(&reason),
                Err(Failure::Passing(error)) => {
                    tracing::warn!(error, "dead letter not confirmed, trying again");
                    failed = if connected && self.producer.is_connected() { failed + 1 } else { 0 };
                    if failed == ATTEMPTS {
                        self.close(&error);
                    } else {
                        backoff.sleep().await;
                    }
                }
            }
        }
        Outcome::Closed
    }

    async fn attempt(&self, letter: &DeadLetter) -> Result<(), Failure> {
        let mut headers = OutgoingHeaders::of(letter, &self.original_topic);
        headers.set(REASON, letter.reason.label().to_owned());
        headers.set(ERROR, cut(&letter.error).to_owned());
        let outgoing = OutgoingRecord {
            topic: &self.topic,
            partition: None,
            key: letter.key.as_deref(),
            value: letter.value.as_deref(),
            headers: &headers.borrowed(),
            // Now: the retention of the topic counts from here, however old the original is.
            timestamp_ms: None,
        };
        match self.producer.publish(&outgoing).await {
            Ok(Delivery::Delivered { .. }) => Ok(()),
            Ok(Delivery::NotTaken(PublishError::QueueFull)) => Err(Failure::Busy),
            Ok(Delivery::NotTaken(PublishError::Refused(reason))) => Err(Failure::Final(Refused::Record, reason)),
            Ok(Delivery::NotTaken(error @ PublishError::Dead)) => Err(Failure::Passing(error.to_string())),
            Ok(Delivery::Refused(refused, reason)) => Err(Failure::Final(refused, reason)),
            Ok(Delivery::NotDelivered(reason) | Delivery::Unknown(reason)) => Err(Failure::Passing(reason)),
            Err(_) => Err(Failure::Passing("the producer has ended".to_owned())),
        }
    }

    fn is_closed(&self) -> bool {
        let closed_until = *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        closed_until.is_some_and(|until| Instant::now() < until)
    }

    fn close(&self, reason: &str) {
        let mut closed_until = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // All letters of a batch find out at once: it is told once.
        if closed_until.is_none_or(|until| until <= now) {
            let topic = &self.topic;
            tracing::error!(topic, reason, "the dead-letter topic takes nothing, the database keeps dead letters");
        }
        *closed_until = Some(now + CLOSED);
    }

    fn tell(&self, letter: &DeadLetter, outcome: &Outcome) {
        self.metrics.dead_letter();
        let (partition, offset) = (letter.original.partition, letter.original.offset);
        let (reason, error) = (letter.reason.label(), cut(&letter.error));
        match outcome {
            Outcome::Confirmed => tracing::warn!(partition, offset, reason, error, "dead letter"),
            Outcome::CameBack => tracing::warn!(partition, offset, reason, error, "dead letter came back"),
            Outcome::Refused(refusal) => {
                self.metrics.dead_letter_refused();
                tracing::warn!(partition, offset, reason, error, refusal, "dead letter refused, the database keeps it");
            }
            Outcome::Closed => {
                self.metrics.dead_letter_refused();
                tracing::warn!(partition, offset, reason, error, "dead letter, the database keeps it");
            }
        }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(ERROR_BYTES_MAX)]
}
