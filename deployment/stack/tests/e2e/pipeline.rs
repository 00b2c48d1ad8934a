//! The embedded pipeline as one process with a folder of its own.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use shared::testing::{DEADLINE, kafka_config};
use stack::process::at_exit;
use stack::service::{Program, Service, ServicePlan};
use stack::{RunFolder, ports::free_port};
use tokio::sync::Mutex;

use crate::doors::Doors;

/// The pipeline of all cases that need none of their own. It ends, with its folder, when the tests do.
static SHARED: Mutex<Option<Arc<Embedded>>> = Mutex::const_new(None);
static FAILED: AtomicBool = AtomicBool::new(false);

/// The doors of a pipeline while a case uses them.
pub struct Open {
    doors: Doors,
    embedded: Arc<Embedded>,
}

/// The doors of the shared pipeline, which other cases use at the same time.
pub async fn open() -> Open {
    let mut shared = SHARED.lock().await;
    if shared.is_none() {
        at_exit(end);
        *shared = Some(Arc::new(Embedded::start("e2e").await));
    }
    let embedded = Arc::clone(shared.as_ref().expect("started above"));
    Open { doors: embedded.doors(), embedded }
}

/// The doors of a new pipeline that nobody else uses.
pub async fn open_alone(name: &str) -> Open {
    let embedded = Arc::new(Embedded::start(name).await);
    Open { doors: embedded.doors(), embedded }
}

impl Deref for Open {
    type Target = Doors;

    fn deref(&self) -> &Doors {
        &self.doors
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if thread::panicking() {
            FAILED.store(true, Ordering::Relaxed);
            self.embedded.folder.keep();
        }
    }
}

extern "C" fn end() {
    if let Ok(mut shared) = SHARED.try_lock() {
        shared.take();
    }
}

/// `make run` in a folder of its own, on free ports.
pub struct Embedded {
    // Before the folder: a process is ended before its files are removed.
    pub service: Service,
    pub folder: RunFolder,
    management: u16,
}

impl Embedded {
    pub async fn start(name: &str) -> Self {
        let folder = RunFolder::new(name).expect("a folder");
        let data = folder.path().join("data");
        let (plan, management) = plan(&data);
        let mut service = Service::start(folder.path(), plan).expect("the binary is built");
        service.wait_ready(DEADLINE).await.expect("it becomes ready");
        Self { service, folder, management }
    }

    /// The front doors as they are now: a restart gives the in-process broker another port.
    pub fn doors(&self) -> Doors {
        doors_of(&self.service.address(), self.management, self.service.log(), self.folder.path())
    }
}

/// The doors of an embedded pipeline by its addresses and its log.
pub fn doors_of(web: &str, management: u16, log: &Path, folder: &Path) -> Doors {
    let kafka = kafka_config(&broker_address(log));
    let mut operator = ServicePlan::new(Program::ManagementApi, "operator").expect("a free port");
    operator.settings = BTreeMap::from([
        ("KAFKA_BOOTSTRAP_SERVERS".to_owned(), kafka.bootstrap_servers.clone()),
        ("DATABASE_URL".to_owned(), database_of(folder)),
    ]);
    let operator = Service::prepare(folder, operator);
    let replicas = (vec![format!("http://{web}")], vec![format!("http://127.0.0.1:{management}")]);
    Doors::new(201, kafka, replicas, operator)
}

/// The URL of the database of an embedded pipeline in this folder.
pub fn database_of(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("data").join("purchases.db").display())
}

/// What starts the embedded pipeline with its data in this folder, and the port of management-api.
pub fn plan(data: &Path) -> (ServicePlan, u16) {
    let plan = ServicePlan::new(Program::Embedded, "embedded").expect("a free port");
    let (web, management) = (plan.address, free_port().expect("a free port"));
    let plan = plan
        .with("WEB_LISTEN_ADDRESS", web)
        .with("MANAGEMENT_LISTEN_ADDRESS", format!("127.0.0.1:{management}"))
        .with("DATA_DIR", data.display())
        // What a busy machine cannot serve in time is no concern of these cases.
        .with("SHED_BUY_LATENCY_MS", 0)
        .with("SHED_READ_LATENCY_MS", 0);
    (plan, management)
}

/// The in-process broker's address, as the last start printed it.
fn broker_address(log: &Path) -> String {
    let text = fs::read_to_string(log).expect("a log");
    let line = text.lines().rev().find_map(|line| line.trim().strip_prefix("kafka protocol")).expect("an address");
    line.split_whitespace().next().expect("an address").to_owned()
}
