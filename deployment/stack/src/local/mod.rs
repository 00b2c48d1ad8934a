//! The development stack of `make stack-up`: everything on fixed ports, kept running in the background.

mod down;
mod state;
mod status;
mod up;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use down::down;
pub use status::status;
pub use up::up;

use crate::kafka::BrokerPorts;

/// What the stack is made of. Each has an environment variable, so that `make stack-up BROKERS=3` works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
pub struct Options {
    /// Kafka brokers: 1, or 3 with replication 3 and min.insync.replicas 2
    #[arg(long, env = "BROKERS", default_value_t = 1, value_parser = parse_brokers)]
    pub brokers: u16,
    /// The first broker's port; the others take the next ones
    #[arg(long, env = "KAFKA_PORT", default_value_t = 9092)]
    pub kafka_port: u16,
    /// The first controller's port; the others take the next ones
    #[arg(long, env = "KAFKA_CONTROLLER_PORT", default_value_t = 19092)]
    pub kafka_controller_port: u16,
    /// PostgreSQL's port
    #[arg(long, env = "POSTGRES_PORT", default_value_t = 15432)]
    pub postgres_port: u16,
    /// One web-server replica for each port, on every address of this machine
    #[arg(long, env = "WEB_SERVER_PORTS", value_delimiter = ',', default_value = "30080,30082")]
    pub web_server_ports: Vec<u16>,
    /// One management-api replica for each port, on 127.0.0.1
    #[arg(long, env = "MANAGEMENT_API_PORTS", value_delimiter = ',', default_value = "30081,30083")]
    pub management_api_ports: Vec<u16>,
    /// A further setting of both services; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub settings: Vec<(String, String)>,
}

impl Options {
    fn broker_ports(&self) -> Vec<BrokerPorts> {
        let broker = |index| BrokerPorts {
            client: self.kafka_port.saturating_add(index),
            controller: self.kafka_controller_port.saturating_add(index),
        };
        (0..self.brokers).map(broker).collect()
    }

    fn bootstrap_servers(&self) -> String {
        let addresses: Vec<_> = self.broker_ports().iter().map(|ports| format!("127.0.0.1:{}", ports.client)).collect();
        addresses.join(",")
    }
}

/// Where the stack's data, logs and state are: `.stack` in the workspace's root, unless told otherwise.
pub fn default_folder() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).join(".stack")
}

fn parse_brokers(text: &str) -> Result<u16, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1 or 3".to_owned()),
    }
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
