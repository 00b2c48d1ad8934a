//! The settings of this service.

use shared::config::{KafkaConfig, Secret, Settings};
use shared::http::{HttpConfig, ServerLimits};
use shared::telemetry::LogConfig;

use crate::accounts::AccountsConfig;
use crate::callbacks::CallbackConfig;
use crate::ingest::IngestConfig;
use crate::store::StoreConfig;
use crate::waiters::WaitersConfig;

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where and how to listen.
    pub http: HttpConfig,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// The database.
    pub store: StoreConfig,
    /// The record path.
    pub ingest: IngestConfig,
    /// Who may wait.
    pub waiters: WaitersConfig,
    /// Who may sign in.
    pub accounts: AccountsConfig,
    /// Calling buyers back.
    pub callbacks: CallbackConfig,
    /// What callers must present; nothing means that the network keeps them out.
    pub token: Option<Secret<String>>,
    /// The log.
    pub log: LogConfig,
}

impl Config {
    /// Reads the settings; mistakes are noted in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let http = HttpConfig::read(settings, "0.0.0.0:8081");
        // web-server cancels by closing: a read that another replica has answered must not go on here, down to its SQL.
        let http = HttpConfig { limits: ServerLimits { half_close: false, ..http.limits }, ..http };
        let kafka = KafkaConfig::read(settings);
        let ingest = IngestConfig::read(settings);
        let accounts = AccountsConfig::read(settings);
        let token = settings.secret("MANAGEMENT_API_TOKEN", "bearer token of callers (secret)");
        if accounts.keys.is_some() && token.is_none() && !http.listen_address.ip().is_loopback() {
            let why = "is needed beside JWT_SIGNING_KEY, unless LISTEN_ADDRESS is a loopback address: \
                whoever reaches this service could list and delete accounts";
            settings.mistake("MANAGEMENT_API_TOKEN", why);
        }
        Self {
            http,
            kafka,
            store: StoreConfig::read(settings, ingest.lanes),
            ingest,
            waiters: WaitersConfig::read(settings),
            accounts,
            callbacks: CallbackConfig::read(settings),
            token,
            log: LogConfig::read(settings),
        }
    }
}
