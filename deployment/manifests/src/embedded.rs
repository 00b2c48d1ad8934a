//! Both services in one process, to be scraped.

use std::fs;
use std::path::Path;

use shared::testing::DEADLINE;
use stack::Service;
use stack::ports::free_port;
use stack::service::{Program, ServicePlan};

/// A running process; it ends with this value.
#[derive(Debug)]
pub struct Embedded {
    /// web-server, and the process.
    pub web: Service,
    /// Where management-api listens.
    pub management: String,
}

impl Embedded {
    /// Starts both with log and data in `folder`, and waits until they are ready.
    ///
    /// # Panics
    /// When the binary is not built, or is not ready in time.
    pub async fn start(folder: &Path, metrics_prefix: &str) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let management = format!("127.0.0.1:{}", free_port().expect("a free port"));
        let plan = ServicePlan::new(Program::Embedded, "embedded").expect("a free port");
        let address = plan.address;
        let plan = plan
            .with("WEB_LISTEN_ADDRESS", address)
            .with("MANAGEMENT_LISTEN_ADDRESS", &management)
            .with("DATA_DIR", folder.join("data").display())
            .with("METRICS_HTTP_PREFIX", metrics_prefix);
        let mut web = Service::start(folder, plan).unwrap_or_else(|error| panic!("{error}"));
        web.wait_ready(DEADLINE).await.unwrap_or_else(|error| panic!("{error}"));
        Self { web, management }
    }
}
