//! What is published, and what becomes of it.

use std::borrow::Cow;

use rdkafka::message::OwnedHeaders;
use tokio::sync::oneshot;

use crate::kafka::{Refused, sys};

/// A record's header: its name, and its value if it has one. Neither need be text.
pub type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// Headers that are text, as bytes.
pub fn text_headers<'a, const N: usize>(headers: &'a [(&str, Cow<'_, str>); N]) -> [HeaderRef<'a>; N] {
    headers.each_ref().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())))
}

/// A record to publish.
pub struct OutgoingRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition, or nothing to let the producer choose.
    pub partition: Option<i32>,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value, if any.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: &'a [HeaderRef<'a>],
    /// Milliseconds since 1970; nothing means now.
    pub timestamp_ms: Option<i64>,
}

/// Tells what became of a record, once that is known.
pub type Report = oneshot::Receiver<Delivery>;

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The producer did not take it; nothing was sent.
    NotTaken(PublishError),
    /// Every in-sync replica has it.
    Delivered {
        /// The partition.
        partition: i32,
        /// The offset there.
        offset: i64,
    },
    /// It never reached a broker.
    NotDelivered(String),
    /// It was refused for good: what is refused, and why.
    Refused(Refused, String),
    /// It was sent, and nobody knows.
    Unknown(String),
}

/// A record that waits for its turn.
pub(super) struct WaitingRecord {
    pub topic: String,
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: OwnedHeaders,
    pub timestamp_ms: Option<i64>,
    pub sender: oneshot::Sender<Delivery>,
}

impl WaitingRecord {
    pub fn new(record: &OutgoingRecord<'_>, sender: oneshot::Sender<Delivery>) -> Self {
        Self {
            topic: record.topic.to_owned(),
            partition: record.partition,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: sys::owned_headers(record.headers),
            timestamp_ms: record.timestamp_ms,
            sender,
        }
    }

    /// Tells that it was not taken.
    pub fn refuse(self, reason: PublishError) {
        let _ = self.sender.send(Delivery::NotTaken(reason));
    }
}

/// Why the producer did not take a record; nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The queue is full.
    #[error("the producer's queue is full")]
    QueueFull,
    /// The producer has had a fatal error, and the next one is not built yet.
    #[error("the producer has failed")]
    Dead,
    /// Anything else, such as a record that is too large, or a topic that must not be written to.
    #[error("{0}")]
    Refused(String),
}
