//! What a cluster looks like before anything is started.

use crate::{error::Result, ports::free_port, process::Lifetime};

/// The two ports of one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerPorts {
    /// Where clients connect.
    pub client: u16,
    /// Where the controllers talk to each other.
    pub controller: u16,
}

/// What a cluster looks like before anything is started.
#[derive(Debug, Clone)]
pub struct KafkaPlan {
    /// One entry for each broker: 1 or 3.
    pub ports: Vec<BrokerPorts>,
    /// Lines added to every broker's settings.
    pub extra_settings: Vec<(String, String)>,
    /// Whether the brokers end with this program.
    pub lifetime: Lifetime,
}

impl KafkaPlan {
    /// `brokers` brokers on free ports that end with this program.
    ///
    /// # Errors
    /// When no port is free.
    pub fn on_free_ports(brokers: usize) -> Result<Self> {
        let pair = |_| Ok(BrokerPorts { client: free_port()?, controller: free_port()? });
        let ports = (0..brokers).map(pair).collect::<Result<Vec<_>>>()?;
        Ok(Self { ports, extra_settings: Vec::new(), lifetime: Lifetime::WithParent })
    }

    /// The replication factor of every topic.
    pub fn replication(&self) -> usize {
        self.ports.len()
    }

    /// How many replicas must have a record before it is acknowledged.
    pub fn min_in_sync(&self) -> usize {
        self.ports.len().saturating_sub(1).max(1)
    }
}
