//! What is published, and what becomes of it.

use std::borrow::Cow;

use crate::kafka::Refused;

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

/// What became of a record that the producer took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
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
