//! The whole pipeline, started for one test.

use std::net::SocketAddr;

use embedded::pipeline::Pipeline;
use embedded::settings::EmbeddedConfig;
use shared::shutdown::Shutdown;
use shared::testing::{HttpClient, eventually};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A running pipeline; it ends with the test.
pub struct Running {
    pub web: SocketAddr,
    pub management: SocketAddr,
    pub http: HttpClient,
    pub recording: Shutdown,
    pub task: JoinHandle<bool>,
    _folder: TempDir,
}

impl Running {
    /// Starts one and waits until it is ready.
    pub async fn start() -> Self {
        let (folder, local) = (tempfile::tempdir().unwrap(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let config =
            EmbeddedConfig { web_address: local, management_address: local, data_dir: folder.path().to_owned() };
        let pipeline = Pipeline::start(&config).await.unwrap();
        let (web, management, _) = pipeline.addresses().unwrap();
        let recording = pipeline.recording().clone();
        let task = tokio::spawn(pipeline.run(Shutdown::new()));
        let http = HttpClient::default();
        let ready = format!("http://{web}/readyz");
        eventually("ready", async || (http.get(&ready).await.status == 200).then_some(())).await;
        Self { web, management, http, recording, task, _folder: folder }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}
