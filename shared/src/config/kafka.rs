//! Settings of Kafka, the same for both services.

use std::path::PathBuf;
use std::str::FromStr;

use super::{Secret, Settings};

/// How to reach Kafka and what is there.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// The topic of purchases.
    pub topic: String,
    /// The topic of records that can never be stored.
    pub dead_letter_topic: String,
    /// Whether missing topics are created at start.
    pub create_topics: bool,
    /// Partitions of a topic created by us.
    pub partitions: i32,
    /// Replicas of a topic created by us; nothing means the broker's default.
    pub replication: Option<i32>,
    /// Encryption and authentication.
    pub security: Security,
}

/// Encryption and authentication towards Kafka. TLS always verifies the broker's name and certificate.
#[derive(Clone, Debug)]
pub struct Security {
    /// plaintext, ssl, `sasl_plaintext` or `sasl_ssl`.
    pub protocol: String,
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    pub sasl_mechanism: Option<String>,
    /// The user.
    pub sasl_username: Option<String>,
    /// The user's password.
    pub sasl_password: Option<Secret<String>>,
    /// Certificate authorities to trust instead of the system's.
    pub ssl_ca: Option<PathBuf>,
    /// Our certificate, for mutual TLS.
    pub ssl_certificate: Option<PathBuf>,
    /// Our certificate's key.
    pub ssl_key: Option<PathBuf>,
    /// The key's password.
    pub ssl_key_password: Option<Secret<String>>,
}

/// How a purchase finds its partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartitionBy {
    /// Short runs to one available partition after the other: the biggest batches and an even load.
    #[default]
    Balanced,
    /// murmur2 of the userid, as the Java client does: one user in one partition.
    Userid,
}

impl FromStr for PartitionBy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "balanced" => Ok(Self::Balanced),
            "userid" => Ok(Self::Userid),
            _ => Err("must be balanced or userid"),
        }
    }
}

impl KafkaConfig {
    /// Reads the settings that both services share.
    pub fn read(settings: &mut Settings) -> Self {
        let config = Self {
            bootstrap_servers: settings.text(
                "KAFKA_BOOTSTRAP_SERVERS",
                "127.0.0.1:9092",
                "brokers to begin with, host:port, comma-separated",
            ),
            topic: settings.text("KAFKA_TOPIC", "purchases", "topic of purchases"),
            dead_letter_topic: settings.text(
                "KAFKA_DEAD_LETTER_TOPIC",
                "purchases.dead-letter",
                "topic of records that can never be stored",
            ),
            create_topics: settings.parsed("KAFKA_CREATE_TOPICS", "true", "create missing topics at start"),
            partitions: i32::try_from(settings.number(
                "KAFKA_TOPIC_PARTITIONS",
                10,
                1..=10_000,
                "partitions of a topic that is created",
            ))
            .unwrap_or(i32::MAX),
            replication: read_replication(settings),
            security: Security::read(settings),
        };
        if config.topic == config.dead_letter_topic {
            // Each dead letter would be read again, and make another one, for ever.
            settings.mistake("KAFKA_DEAD_LETTER_TOPIC", "must be another topic than KAFKA_TOPIC");
        }
        config
    }
}

fn read_replication(settings: &mut Settings) -> Option<i32> {
    let text = settings.optional(
        "KAFKA_TOPIC_REPLICATION",
        "replicas of a topic that is created, 1 to 100; the broker's default when unset",
    )?;
    let replication = text.trim().parse().ok().filter(|count| (1..=100).contains(count));
    if replication.is_none() {
        settings.mistake("KAFKA_TOPIC_REPLICATION", "must be a whole number from 1 to 100");
    }
    replication
}

impl Security {
    fn read(settings: &mut Settings) -> Self {
        let security = Self {
            protocol: settings
                .text("KAFKA_SECURITY_PROTOCOL", "plaintext", "plaintext, ssl, sasl_plaintext or sasl_ssl")
                .to_lowercase(),
            sasl_mechanism: settings.optional("KAFKA_SASL_MECHANISM", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
            sasl_username: settings.optional("KAFKA_SASL_USERNAME", "user towards Kafka"),
            sasl_password: settings.secret("KAFKA_SASL_PASSWORD", "password towards Kafka (secret)"),
            ssl_ca: settings.file("KAFKA_SSL_CA_FILE", "certificate authorities (PEM) instead of the system's"),
            ssl_certificate: settings.file("KAFKA_SSL_CERTIFICATE_FILE", "own certificate (PEM) for mutual TLS"),
            ssl_key: settings.file("KAFKA_SSL_KEY_FILE", "own certificate's key (PEM)"),
            ssl_key_password: settings.secret("KAFKA_SSL_KEY_PASSWORD", "password of that key (secret)"),
        };
        security.check(settings);
        security
    }

    fn check(&self, settings: &mut Settings) {
        let protocol = self.protocol.as_str();
        if !["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].contains(&protocol) {
            settings.mistake("KAFKA_SECURITY_PROTOCOL", "must be plaintext, ssl, sasl_plaintext or sasl_ssl");
        }
        if protocol.ends_with("ssl") && !cfg!(feature = "tls") {
            settings.mistake("KAFKA_SECURITY_PROTOCOL", "TLS needs a binary built with the cargo feature tls");
        }
        let tls = [&self.ssl_ca, &self.ssl_certificate, &self.ssl_key];
        if !protocol.ends_with("ssl") && (tls.iter().any(|file| file.is_some()) || self.ssl_key_password.is_some()) {
            settings.mistake("KAFKA_SECURITY_PROTOCOL", "must be ssl or sasl_ssl when KAFKA_SSL_* is set");
        }
        if protocol.starts_with("sasl") {
            self.check_sasl(settings);
        } else if self.sasl_mechanism.is_some() || self.sasl_username.is_some() || self.sasl_password.is_some() {
            settings.mistake("KAFKA_SECURITY_PROTOCOL", "must be sasl_plaintext or sasl_ssl when KAFKA_SASL_* is set");
        }
    }

    fn check_sasl(&self, settings: &mut Settings) {
        match self.sasl_mechanism.as_deref() {
            Some("PLAIN") => {}
            Some("SCRAM-SHA-256" | "SCRAM-SHA-512") if cfg!(feature = "tls") => {}
            Some("SCRAM-SHA-256" | "SCRAM-SHA-512") => {
                settings.mistake("KAFKA_SASL_MECHANISM", "SCRAM needs a binary built with the cargo feature tls");
            }
            _ => settings.mistake("KAFKA_SASL_MECHANISM", "must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
        }
        if self.sasl_username.is_none() {
            settings.mistake("KAFKA_SASL_USERNAME", "is required with SASL");
        }
        if self.sasl_password.is_none() {
            settings.mistake("KAFKA_SASL_PASSWORD", "is required with SASL");
        }
    }
}
