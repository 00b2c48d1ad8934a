//! A record as it arrives: where it stood, and what it says.

use shared::event::{Decoded, Poison, Timestamp, decode_record};
use shared::kafka::ConsumedRecord;

use super::origin::Origin;

/// A record that was read and decoded.
pub(super) struct Arrival {
    pub(super) origin: Origin,
    /// A purchase, or why it is none.
    pub(super) decoded: Result<Decoded, Poison>,
}

impl Arrival {
    /// Reads a record of this life of the topic; its bytes are kept in `payloads`.
    pub(super) fn read(record: &ConsumedRecord<'_>, incarnation: &str, payloads: &mut Vec<u8>) -> Self {
        let sent_at = record.timestamp_ms().and_then(Timestamp::from_millis).unwrap_or_else(Timestamp::now);
        let origin = Origin::keep(record, sent_at, payloads);
        let position = origin.position(incarnation);
        let original_time = position.timestamp_ms.and_then(Timestamp::from_millis).unwrap_or(sent_at);
        let decoded = decode_record(record.value(), position, original_time);
        Self { origin, decoded }
    }
}
