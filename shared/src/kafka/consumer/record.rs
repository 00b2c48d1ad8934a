//! A record as the consumer gives it.

use std::str;

use rdkafka::message::{BorrowedMessage, Headers, Message};

/// A record as polled, borrowed from the client.
pub struct ConsumedRecord<'a>(BorrowedMessage<'a>);

impl<'a> ConsumedRecord<'a> {
    pub(in crate::kafka) fn new(message: BorrowedMessage<'a>) -> Self {
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
