//! Every setting of web-server, and every limit it keeps.

use std::time::Duration;

use shared::config::Settings;
use shared::health::Check;
use shared::http::{BodyLimits, HttpConfig, TlsConfig};
use shared::telemetry::LogConfig;

use crate::access::AuthMode;
use crate::cors::CorsConfig;
use crate::events::EventsConfig;
use crate::limits::LimitsConfig;
use crate::management_client::ManagementConfig;
use crate::publisher::PublisherConfig;
use crate::read_cache::ReadCacheConfig;
use crate::shedding::SheddingConfig;
use crate::tokens::TokensConfig;

/// The largest body of `POST /buy`, inclusive.
const BUY_BODY_BYTES_MAX: usize = 16 * 1024;
/// The largest body about accounts: room for the longest fields, every character of them escaped.
const ACCOUNT_BODY_BYTES_MAX: usize = 16 * 1024;
/// The largest body of `POST /buy/batch`, inclusive.
const BATCH_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What the end may take beside what has a limit of its own.
const END_MARGIN: Duration = Duration::from_secs(2);

/// The configuration of one web-server.
#[derive(Clone)]
pub struct Config {
    /// Where and how to listen.
    pub http: HttpConfig,
    /// HTTPS instead of HTTP.
    pub tls: Option<TlsConfig>,
    /// How purchases come to Kafka.
    pub publisher: PublisherConfig,
    /// How many requests are handled at once.
    pub shedding: SheddingConfig,
    /// How many may listen to events.
    pub events: EventsConfig,
    /// How often callers may come.
    pub limits: LimitsConfig,
    /// Where reads go.
    pub management: ManagementConfig,
    /// Which other sites' pages may call us.
    pub cors: CorsConfig,
    /// How old answers to reads may get.
    pub read_cache: ReadCacheConfig,
    /// Which access tokens count.
    pub tokens: TokensConfig,
    /// Who is asked to say who it is.
    pub auth: AuthMode,
    /// The log.
    pub log: LogConfig,
    /// Whether a 2xx is only ever 201: for a broker that keeps records in memory only (embedded mode, not a setting).
    pub always_wait: bool,
    /// Asked before a purchase is sent; an error refuses it with 503 (embedded mode, not a setting).
    pub admission: Option<Check>,
}

impl Config {
    /// Reads every setting; mistakes are kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let config = Self {
            http: HttpConfig::read(settings, "0.0.0.0:8080"),
            tls: TlsConfig::read(settings),
            publisher: PublisherConfig::read(settings),
            shedding: SheddingConfig::read(settings),
            events: EventsConfig::read(settings),
            limits: LimitsConfig::read(settings),
            management: ManagementConfig::read(settings),
            cors: CorsConfig::read(settings),
            read_cache: ReadCacheConfig::read(settings),
            tokens: TokensConfig::read(settings),
            auth: AuthMode::read(settings),
            log: LogConfig::read(settings),
            always_wait: false,
            admission: None,
        };
        if config.tls.is_some() && !config.limits.peers.is_empty() && config.http.operations_address.is_none() {
            // Replicas tell each other in plain HTTP, which that port speaks.
            settings.mistake("RATE_LIMIT_PEERS", "needs OPERATIONS_LISTEN_ADDRESS where the service speaks HTTPS");
        }
        config
    }

    /// How long the end may take from the stop on: running requests, the producer's queue, and a little more.
    pub fn end_limit(&self) -> Duration {
        self.http.limits.drain_timeout + self.publisher.flush_timeout + END_MARGIN
    }

    /// The limits of `POST /buy`'s body.
    pub fn buy_body(&self) -> BodyLimits {
        BodyLimits { bytes: BUY_BODY_BYTES_MAX, timeout: self.http.body_timeout }
    }

    /// The limits of a body about accounts.
    pub fn account_body(&self) -> BodyLimits {
        BodyLimits { bytes: ACCOUNT_BODY_BYTES_MAX, timeout: self.http.body_timeout }
    }

    /// The limits of `POST /buy/batch`'s body.
    pub fn batch_body(&self) -> BodyLimits {
        BodyLimits { bytes: BATCH_BODY_BYTES_MAX, timeout: self.http.body_timeout }
    }
}
