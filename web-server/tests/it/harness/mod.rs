//! Starts servers and their surroundings, and talks to them.

mod broker;
mod client;
mod documented;
mod management;
mod publisher;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::config::Settings;
use shared::kafka::InProcessBroker;
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;
use shared::testing::show_logs;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use web_server::Config;
use web_server::app::{RunError, serve};
use web_server::metrics::{Metrics, TASKS};
use web_server::publisher::PurchasePublisher;
use web_server::routes;
use web_server::state::{App, AppState};

pub use self::broker::read_records;
pub use self::client::{Answer, Client};
pub use self::documented::DESCRIPTION;
pub use self::management::{FakeAnswer, FakeManagement, Seen};
pub use self::publisher::{BusyPublisher, PromptPublisher};

/// How long anything in a test may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A running web-server and what stands around it.
pub struct Server {
    pub client: Client,
    pub broker: InProcessBroker,
    pub management: FakeManagement,
    pub shutdown: Shutdown,
    running: JoinHandle<Result<(), RunError>>,
}

impl Server {
    /// A server that is ready.
    pub async fn start() -> Self {
        Self::with(&[], |_| {}).await
    }

    /// A server that is ready, with these settings and changes.
    pub async fn with(pairs: &[(&str, &str)], change: impl FnOnce(&mut Config)) -> Self {
        let server = Self::unready(pairs, change).await;
        server.until_ready().await;
        server
    }

    /// A server as it is a moment after its start.
    pub async fn unready(pairs: &[(&str, &str)], change: impl FnOnce(&mut Config)) -> Self {
        let broker = InProcessBroker::start(1).unwrap();
        broker.create_topic("purchases", 4).unwrap();
        broker.create_topic("purchases.dead-letter", 1).unwrap();
        let management = FakeManagement::start().await;
        show_logs();
        let bootstrap = broker.bootstrap_servers();
        let mut config = config(&[("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str())], pairs, &management);
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let running = tokio::spawn(web_server::run(config, listener, shutdown.clone()));
        Self { client, broker, management, shutdown, running }
    }

    /// Waits for `/readyz` to say yes; tells what it says instead.
    pub async fn until_ready(&self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = self.client.get("/readyz").await;
            if answer.status == 200 {
                return;
            }
            assert!(Instant::now() < deadline, "not ready in time: {}", answer.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The value of one line of `/metrics`, for example `up{a="b"}`.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        self.client.metric(series).await
    }

    /// Waits for the end of the run.
    pub async fn ended(self) -> Result<(), RunError> {
        tokio::time::timeout(DEADLINE, self.running).await.expect("the server ends in time").unwrap()
    }
}

/// A running web-server with a publisher of the test's own.
pub struct FakeServer {
    pub client: Client,
    pub shutdown: Shutdown,
    running: JoinHandle<Result<(), RunError>>,
}

impl FakeServer {
    pub async fn start(publisher: Arc<dyn PurchasePublisher>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), &[], publisher).await
    }

    /// A server at a place that others know already, with these settings.
    pub async fn on(listener: TcpListener, pairs: &[(&str, &str)], publisher: Arc<dyn PurchasePublisher>) -> Self {
        show_logs();
        let config = config(&[], pairs, &FakeManagement::start().await);
        let (metrics, shutdown) = (Metrics::new("", &routes::series()), Shutdown::new());
        let supervisor = Supervisor::new(&metrics.registry, &TASKS, &shutdown);
        let app = App::new(config, publisher, metrics, supervisor);
        let client = Client::new(listener.local_addr().unwrap());
        Self { client, shutdown, running: tokio::spawn(serve(app, listener)) }
    }

    pub async fn metric(&self, series: &str) -> Option<f64> {
        self.client.metric(series).await
    }
}

/// What the routes share, for what needs no connection. Whoever asks for it stops it.
pub fn app(pairs: &[(&str, &str)], management: &FakeManagement) -> AppState {
    let (metrics, shutdown) = (Metrics::new("", &routes::series()), Shutdown::new());
    let supervisor = Supervisor::new(&metrics.registry, &TASKS, &shutdown);
    App::new(config(&[], pairs, management), Arc::new(PromptPublisher), metrics, supervisor)
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.shutdown.stop();
        self.running.abort();
    }
}

/// The settings that tests share; `pairs` win. What a busy machine cannot serve in time is the concern of the tests of shedding alone.
fn config(kafka: &[(&str, &str)], pairs: &[(&str, &str)], management: &FakeManagement) -> Config {
    let url = format!("http://{}", management.address);
    let base = [
        ("CUSTOMER_MGMT_API_URL", url.as_str()),
        ("DRAIN_TIMEOUT_MS", "5000"),
        ("SHED_BUY_LATENCY_MS", "0"),
        ("SHED_READ_LATENCY_MS", "0"),
    ];
    let all = base.iter().chain(kafka).chain(pairs).copied();
    let mut settings = Settings::from_pairs(all);
    let config = Config::read(&mut settings);
    settings.finish().unwrap();
    config
}

/// Waits until `condition` holds; fails the test when it does not within [`DEADLINE`].
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
