//! The brokers' folders: settings, and data that is formatted once.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::{KafkaCluster, START_DEADLINE, config};
use crate::{
    error::{Doing, Result},
    install,
    process::{Lifetime, Process},
};

const LOG4J: &str = include_str!("../../kafka/log4j2.xml");

impl KafkaCluster {
    pub(super) fn write_files(&self) -> Result<()> {
        for number in 1..=self.brokers.len() {
            let folder = broker_folder(&self.folder, number);
            fs::create_dir_all(&folder).doing(format!("making {}", folder.display()))?;
            let settings = config::server_properties(&self.plan, number, &folder.join("data"));
            for (name, text) in [("server.properties", settings.as_str()), ("log4j2.xml", LOG4J)] {
                let path = folder.join(name);
                fs::write(&path, text).doing(format!("writing {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Gives all brokers one new cluster id, unless they have data already.
    pub(super) async fn format(&self) -> Result<()> {
        let cluster_id = new_cluster_id();
        let mut running = Vec::new();
        for number in 1..=self.brokers.len() {
            let folder = broker_folder(&self.folder, number);
            if folder.join("data/meta.properties").exists() {
                continue;
            }
            let mut command = install::java(&self.jars);
            command.args(["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format"]);
            command.args(["--cluster-id", &cluster_id, "--config"]).arg(folder.join("server.properties"));
            let log = folder.join("format.log");
            running.push(Process::spawn("kafka.tools.StorageTool", command, &log, Lifetime::WithParent)?);
        }
        for tool in &mut running {
            if !tool.wait_exit(START_DEADLINE).await?.success() {
                return Err(tool.failure("could not format the data folder"));
            }
        }
        Ok(())
    }
}

pub(super) fn broker_folder(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("broker-{number}"))
}

/// A cluster id as Kafka's own tool makes them: 128 bits in URL-safe base64 without padding.
fn new_cluster_id() -> String {
    let mut bytes = Uuid::new_v4().into_bytes();
    // An id that begins with `-` would be taken for an option.
    bytes[0] &= 0x7f;
    URL_SAFE_NO_PAD.encode(bytes)
}
