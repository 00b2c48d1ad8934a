//! The settings of the embedded mode: a few of its own, and those of the services that still make sense.

use std::net::SocketAddr;
use std::path::PathBuf;

use shared::config::{BadSettings, SettingRow, Settings};

/// Settings that the embedded mode fixes, because it brings the parts itself.
const FIXED: [&str; 22] = [
    "LISTEN_ADDRESS",
    "OPERATIONS_LISTEN_ADDRESS",
    "DATABASE_URL",
    "CUSTOMER_MGMT_API_URL",
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_CREATE_TOPICS",
    "KAFKA_TOPIC_PARTITIONS",
    "KAFKA_TOPIC_REPLICATION",
    "KAFKA_FETCH_WAIT_MS",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_CA_FILE",
    "KAFKA_SSL_CERTIFICATE_FILE",
    "KAFKA_SSL_KEY_FILE",
    "KAFKA_SSL_KEY_PASSWORD",
    "RECORD_LANES",
    "KAFKA_GROUP_PROTOCOL",
    "KAFKA_SESSION_TIMEOUT_MS",
    "RATE_LIMIT_PEERS",
    "RATE_LIMIT_PEER_TOKEN",
];

/// What can be set of the embedded mode itself.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Where web-server listens.
    pub web_address: SocketAddr,
    /// Where management-api listens.
    pub management_address: SocketAddr,
    /// Where the database file is kept.
    pub data_dir: PathBuf,
}

impl EmbeddedConfig {
    /// Reads the environment, the services' settings too: every mistake is told at once, before anything is opened.
    ///
    /// # Errors
    /// All mistakes.
    pub fn from_environment() -> Result<Self, BadSettings> {
        let mut settings = Settings::from_environment();
        let config = Self::read(&mut settings);
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let services = ServiceConfigs::read(&config, &anywhere.to_string(), anywhere).err();
        let own = settings.finish().err();
        let mistakes: Vec<_> = own.into_iter().chain(services).flat_map(|BadSettings(mistakes)| mistakes).collect();
        if mistakes.is_empty() { Ok(config) } else { Err(BadSettings(mistakes)) }
    }

    /// Reads the embedded mode's own settings.
    pub fn read(settings: &mut Settings) -> Self {
        let data_dir = settings.text("DATA_DIR", "./data", "folder of the database, kept between runs");
        if data_dir.contains(['?', '#', '%']) {
            // The path becomes part of the database's URL.
            settings.mistake("DATA_DIR", "must not contain ?, # or %");
        }
        Self {
            web_address: settings.parsed("WEB_LISTEN_ADDRESS", "127.0.0.1:30080", "address and port of web-server"),
            management_address: settings.parsed(
                "MANAGEMENT_LISTEN_ADDRESS",
                "127.0.0.1:30081",
                "address and port of management-api",
            ),
            data_dir: data_dir.into(),
        }
    }
}

/// Both services' settings, made to fit the parts in this process.
pub struct ServiceConfigs {
    /// web-server.
    pub web: web_server::Config,
    /// management-api.
    pub management: management_api::config::Config,
}

impl ServiceConfigs {
    /// Reads both services' settings from the environment, with the in-process parts in their places.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn read(
        config: &EmbeddedConfig,
        bootstrap_servers: &str,
        management_address: SocketAddr,
    ) -> Result<Self, BadSettings> {
        let (mut web_settings, mut management_settings) = (
            environment(config, bootstrap_servers, management_address),
            environment(config, bootstrap_servers, management_address),
        );
        let configs = Self {
            web: web_server::Config::read(&mut web_settings),
            management: management_api::config::Config::read(&mut management_settings),
        };
        let mut mistakes = Vec::new();
        if !config.management_address.ip().is_loopback() && configs.management.token.is_none() {
            // There are always accounts here.
            let why = "MANAGEMENT_API_TOKEN: is needed unless MANAGEMENT_LISTEN_ADDRESS is a loopback address";
            mistakes.push(why.to_owned());
        }
        for settings in [web_settings, management_settings] {
            if let Err(BadSettings(found)) = settings.finish() {
                mistakes.extend(found.into_iter().filter(|mistake| !mistakes.contains(mistake)).collect::<Vec<_>>());
            }
        }
        if mistakes.is_empty() { Ok(configs) } else { Err(BadSettings(mistakes)) }
    }
}

fn environment(config: &EmbeddedConfig, bootstrap_servers: &str, management_address: SocketAddr) -> Settings {
    let database = config.data_dir.join("purchases.db");
    let mut fixed: Vec<(&str, String)> = FIXED.iter().map(|name| (*name, String::new())).collect();
    for (name, value) in [
        ("LISTEN_ADDRESS", "127.0.0.1:0".to_owned()),
        ("DATABASE_URL", format!("sqlite:{}", database.display())),
        ("CUSTOMER_MGMT_API_URL", format!("http://{management_address}")),
        ("KAFKA_BOOTSTRAP_SERVERS", bootstrap_servers.to_owned()),
        ("KAFKA_CREATE_TOPICS", "false".to_owned()),
        ("KAFKA_TOPIC_PARTITIONS", PARTITIONS.to_string()),
        ("KAFKA_SECURITY_PROTOCOL", "plaintext".to_owned()),
        // The in-process broker holds every empty fetch for all of this time.
        ("KAFKA_FETCH_WAIT_MS", "5".to_owned()),
        // SQLite has one writer.
        ("RECORD_LANES", "1".to_owned()),
        ("KAFKA_GROUP_PROTOCOL", "classic".to_owned()),
        ("KAFKA_SESSION_TIMEOUT_MS", "10000".to_owned()),
    ] {
        fixed.retain(|(other, _)| *other != name);
        fixed.push((name, value));
    }
    // The in-process broker keeps 5 MiB a partition and drops the oldest: what is in flight must stay far below.
    Settings::from_environment().with_fixed(&fixed).with_defaults(&[
        ("IN_FLIGHT_MAX", "1024"),
        ("BATCHES_IN_FLIGHT_MAX", "2"),
        ("DRAIN_DELAY_MS", "0"),
    ])
}

/// Partitions of the in-process topic. Few, because the broker keeps 5 MiB of each in memory.
pub const PARTITIONS: i32 = 4;

/// The rows of `--help`.
#[must_use]
pub fn rows() -> Vec<SettingRow> {
    let mut settings = Settings::from_pairs::<String, String>([]);
    EmbeddedConfig::read(&mut settings);
    web_server::Config::read(&mut settings);
    management_api::config::Config::read(&mut settings);
    settings.rows().iter().filter(|row| !FIXED.contains(&row.name)).cloned().collect()
}
