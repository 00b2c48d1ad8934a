//! Every setting of web-server, and every limit it keeps.

use std::time::Duration;

use shared::config::{KafkaConfig, Secret, Settings};
use shared::health::Check;
use shared::http::{BodyLimits, HttpConfig, WAITING_BUYERS, WAITING_READERS};
use shared::kafka::{Codec, ProducerOptions};
use shared::telemetry::LogConfig;

use crate::management_client::ReplicaUrl;

/// The largest body of `POST /buy`, inclusive.
const BUY_BODY_BYTES_MAX: usize = 16 * 1024;
/// The largest body of `POST /buy/batch`, inclusive.
const BATCH_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The largest record: a body of 16 KiB and its headers are far smaller, and every broker's default takes this.
const RECORD_BYTES_MAX: usize = 1_000_000;
/// What the end may take beside what has a limit of its own.
const END_MARGIN: Duration = Duration::from_secs(2);
/// The least time between librdkafka giving a record up and the answer's deadline.
const PUBLISH_MARGIN_MIN: Duration = Duration::from_millis(200);

/// The configuration of one web-server.
#[derive(Clone)]
pub struct Config {
    /// Where and how to listen.
    pub http: HttpConfig,
    /// Kafka and its topics.
    pub kafka: KafkaConfig,
    /// How purchases are batched on their way to Kafka.
    pub producer: ProducerOptions,
    /// How long a caller waits for the delivery report at most.
    pub publish_deadline: Duration,
    /// Write requests handled at once; more are refused.
    pub in_flight_max: usize,
    /// Batches handled at once; each may hold 8 MiB.
    pub batches_in_flight_max: usize,
    /// How long the producer may take to empty its queue at the end.
    pub flush_timeout: Duration,
    /// Where reads go.
    pub management: ManagementConfig,
    /// The log.
    pub log: LogConfig,
    /// Whether a 2xx is only ever 201: for a broker that keeps records in memory only (embedded mode, not a setting).
    pub always_wait: bool,
    /// Asked before a purchase is sent; an error refuses it with 503 (embedded mode, not a setting).
    pub admission: Option<Check>,
}

/// How to reach management-api.
#[derive(Clone)]
pub struct ManagementConfig {
    /// Each name's every address is a replica.
    pub urls: Vec<ReplicaUrl>,
    /// The bearer token, when the replicas want one.
    pub token: Option<Secret<String>>,
    /// Requests of one kind to all replicas at once; more wait for their turn within their deadline.
    pub in_flight_max: usize,
    /// Purchases that buyers wait for at once; over it they are answered as if they had not asked.
    pub waiting_buyers_max: usize,
    /// Readers who wait for a purchase at once; over it they are answered with what is there.
    pub waiting_readers_max: usize,
}

impl Config {
    /// Reads every setting; mistakes are kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let http = HttpConfig::read(settings, "0.0.0.0:8080");
        let kafka = KafkaConfig::read(settings);
        let publish_deadline = settings.millis(
            "PUBLISH_DEADLINE_MS",
            10_000,
            1_000..=300_000,
            "ms until a purchase without a delivery report is answered with 504",
        );
        Self {
            http,
            kafka,
            producer: read_producer(settings, publish_deadline),
            publish_deadline,
            in_flight_max: settings.size("IN_FLIGHT_MAX", 4096, 1..=1_000_000, "purchase requests handled at once"),
            batches_in_flight_max: settings.size(
                "BATCHES_IN_FLIGHT_MAX",
                32,
                1..=10_000,
                "batch requests handled at once",
            ),
            flush_timeout: settings.millis(
                "FLUSH_TIMEOUT_MS",
                3_000,
                0..=600_000,
                "ms for the producer to empty its queue at the end",
            ),
            management: ManagementConfig::read(settings),
            log: LogConfig::read(settings),
            always_wait: false,
            admission: None,
        }
    }

    /// How long the end may take from the stop on: running requests, the producer's queue, and a little more.
    pub fn end_limit(&self) -> Duration {
        self.http.limits.drain_timeout + self.flush_timeout + END_MARGIN
    }

    /// The limits of `POST /buy`'s body.
    pub fn buy_body(&self) -> BodyLimits {
        BodyLimits { bytes: BUY_BODY_BYTES_MAX, timeout: self.http.body_timeout }
    }

    /// The limits of `POST /buy/batch`'s body.
    pub fn batch_body(&self) -> BodyLimits {
        BodyLimits { bytes: BATCH_BODY_BYTES_MAX, timeout: self.http.body_timeout }
    }
}

impl ManagementConfig {
    fn read(settings: &mut Settings) -> Self {
        let text = settings.text(
            "CUSTOMER_MGMT_API_URL",
            "http://127.0.0.1:8081",
            "URLs of management-api, comma-separated; each name's every address is a replica",
        );
        let mut urls = Vec::new();
        for url in text.split(',') {
            match ReplicaUrl::parse(url.trim()) {
                Ok(url) => urls.push(url),
                Err(message) => settings.mistake("CUSTOMER_MGMT_API_URL", message),
            }
        }
        let token = settings.secret("MANAGEMENT_API_TOKEN", "bearer token towards management-api (secret)");
        if token.as_ref().is_some_and(|token| !token.expose().bytes().all(|byte| byte.is_ascii_graphic())) {
            settings.mistake("MANAGEMENT_API_TOKEN", "must be visible ASCII characters, without spaces");
        }
        Self {
            urls,
            token,
            in_flight_max: settings.size(
                "MANAGEMENT_IN_FLIGHT_MAX",
                1024,
                1..=1_000_000,
                "requests of one kind to management-api at once; more wait for their turn",
            ),
            waiting_buyers_max: settings.size("WAITING_BUYERS_MAX", 768, 1..=1_000_000, WAITING_BUYERS),
            waiting_readers_max: settings.size("WAITING_READERS_MAX", 256, 1..=1_000_000, WAITING_READERS),
        }
    }
}

fn read_producer(settings: &mut Settings, publish_deadline: Duration) -> ProducerOptions {
    let linger_us = settings.number(
        "KAFKA_PRODUCER_LINGER_US",
        0,
        0..=1_000_000,
        "µs that a purchase waits for others when none is on its way to Kafka; batches clock themselves",
    );
    ProducerOptions {
        partition_by: settings.parsed(
            "KAFKA_PARTITION_BY",
            "balanced",
            "balanced (biggest batches) or userid (one user in one partition)",
        ),
        linger: Duration::from_micros(linger_us),
        // A report normally comes before the caller's deadline, so that 504 stays for what is truly unknown.
        message_timeout: publish_deadline.saturating_sub((publish_deadline / 10).max(PUBLISH_MARGIN_MIN)),
        queue_records: settings.size(
            "KAFKA_PRODUCER_QUEUE_RECORDS",
            50_000,
            1..=10_000_000,
            "records held for Kafka at most; more are refused",
        ),
        queue_kib: settings.size(
            "KAFKA_PRODUCER_QUEUE_KIB",
            65_536,
            1..=2_097_151,
            "KiB of records held for Kafka at most; more are refused",
        ),
        record_bytes: RECORD_BYTES_MAX,
        codec: Codec::default(),
    }
}
