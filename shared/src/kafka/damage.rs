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
    /// From a client's error; a wrong checksum is told from other bad messages in words alone.
    pub(super) fn of(code: RDKafkaErrorCode, text: &str) -> Self {
        match code {
            RDKafkaErrorCode::BadCompression
            | RDKafkaErrorCode::NotImplemented
            | RDKafkaErrorCode::UnsupportedCompressionType => Self::Codec,
            RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::InvalidMessage if text.contains("CRC") => Self::Checksum,
            _ => Self::Other,
        }
    }
}
