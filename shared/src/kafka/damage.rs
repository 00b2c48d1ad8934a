//! What is wrong with a batch that cannot be read.

use rdkafka::error::RDKafkaErrorCode;

use crate::metrics::Label;

/// Why a batch cannot be read, as a metric may tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It is compressed in a way that nobody here knows, or what is compressed is no such thing.
    Codec,
    /// Its bytes are not those that were written.
    Checksum,
    /// Whatever else the brokers or the client say.
    Other,
}

impl Label for Damage {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &[Self::Codec, Self::Checksum, Self::Other];

    fn text(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::Checksum => "checksum",
            Self::Other => "other",
        }
    }
}

impl Damage {
    /// From an error. The broker has a code for what it finds itself (`InvalidMessage`); of the client's bad messages those with
    /// a wrong checksum are told from others in words alone.
    pub(super) fn of(code: RDKafkaErrorCode, text: &str) -> Self {
        match code {
            RDKafkaErrorCode::BadCompression
            | RDKafkaErrorCode::NotImplemented
            | RDKafkaErrorCode::UnsupportedCompressionType => Self::Codec,
            RDKafkaErrorCode::InvalidMessage => Self::Checksum,
            RDKafkaErrorCode::BadMessage if text.contains("CRC") => Self::Checksum,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_by_code_and_words() {
        let table = [
            (RDKafkaErrorCode::BadCompression, "Fetch: Broker: inflating failed", Damage::Codec),
            (RDKafkaErrorCode::NotImplemented, "unsupported", Damage::Codec),
            (RDKafkaErrorCode::UnsupportedCompressionType, "", Damage::Codec),
            (RDKafkaErrorCode::BadMessage, "MessageSet at offset 4 failed CRC32C check", Damage::Checksum),
            (RDKafkaErrorCode::InvalidMessage, "Broker: Invalid message", Damage::Checksum),
            (RDKafkaErrorCode::BadMessage, "Message at offset 4 has an invalid size", Damage::Other),
            (RDKafkaErrorCode::MessageSizeTooLarge, "", Damage::Other),
        ];
        for (code, text, damage) in table {
            assert_eq!(Damage::of(code, text), damage, "{code}: {text}");
        }
    }
}
