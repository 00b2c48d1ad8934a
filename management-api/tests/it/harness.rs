//! A whole management-api on the in-process broker.

use std::sync::Arc;

use management_api::app::{BuildError, Service};
use management_api::config::Config;
use management_api::store::Store;
use serde_json::Value;
use shared::config::{KafkaConfig, Settings};
use shared::kafka::InProcessBroker;
use shared::shutdown::Shutdown;
use shared::testing::{Answer, HttpClient, RawProducer, RawRecord, eventually, kafka_config, read_all, show_logs};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The topic of purchases.
pub const TOPIC: &str = "purchases";
/// The topic of dead letters.
pub const DEAD_LETTERS: &str = "purchases.dead-letter";

/// A broker with both topics, and a producer of raw records.
pub struct Kafka {
    pub broker: InProcessBroker,
    pub config: KafkaConfig,
    pub producer: RawProducer,
}

impl Kafka {
    pub fn start() -> Self {
        let broker = InProcessBroker::start(1).unwrap();
        broker.create_topic(TOPIC, 3).unwrap();
        broker.create_topic(DEAD_LETTERS, 1).unwrap();
        let config = kafka_config(&broker.bootstrap_servers());
        let producer = RawProducer::new(&config);
        Self { broker, config, producer }
    }

    /// Sends a value without a key to partition 0.
    pub async fn send(&self, value: &str) -> (i32, i64) {
        self.producer.send(TOPIC, 0, Some(b"key"), Some(value.as_bytes())).await
    }

    pub async fn dead_letters(&self, count: usize) -> Vec<RawRecord> {
        eventually("dead letters", async || {
            let letters = read_all(&self.config, DEAD_LETTERS).await;
            (letters.len() >= count).then_some(letters)
        })
        .await
    }
}

/// A running service.
pub struct Api {
    pub url: String,
    pub http: HttpClient,
    pub shutdown: Shutdown,
    run: JoinHandle<bool>,
}

impl Api {
    /// Starts the service on SQLite in `folder`.
    pub async fn start(kafka: &Kafka, folder: &tempfile::TempDir) -> Self {
        Self::build(|shutdown| Service::build(config(kafka, folder, &[]), shutdown)).await
    }

    /// Starts the service on a database of the test's.
    pub async fn start_on(store: Arc<dyn Store>, kafka: &Kafka, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::build(|shutdown| Service::build_on(store, config(kafka, &folder, settings), shutdown)).await
    }

    pub async fn build(build: impl FnOnce(&Shutdown) -> Result<Service, BuildError>) -> Self {
        show_logs();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let run = tokio::spawn(build(&shutdown).unwrap().run(listener));
        Self { url, http: HttpClient::default(), shutdown, run }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.http.get(&format!("{}{path}", self.url)).await
    }

    pub async fn ready(self) -> Self {
        eventually("ready", async || (self.get("/readyz").await.status == 200).then_some(())).await;
        self
    }

    /// Waits until a user has so many purchases, and gives the answer.
    pub async fn user_with(&self, userid: &str, count: u64) -> Value {
        eventually("recorded", async || {
            let answer = self.get(&format!("/users/{userid}/purchases")).await;
            (answer.status == 200 && answer.json()["count"] == count).then(|| answer.json())
        })
        .await
    }

    pub async fn metric(&self, series: &str) -> f64 {
        self.get("/metrics").await.metric(series).unwrap_or_else(|| panic!("no metric {series}"))
    }

    /// A metric that counts whole things.
    pub async fn count(&self, series: &str) -> i64 {
        self.metric(series).await.to_string().parse().unwrap()
    }

    /// Ends the service and gives whether it ended in good order.
    pub async fn stop(self) -> bool {
        self.shutdown.stop();
        self.ended().await
    }

    /// Waits for the end of the service and gives whether it was in good order.
    pub async fn ended(mut self) -> bool {
        (&mut self.run).await.unwrap()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // A failed test must not leave the consumer running.
        self.shutdown.stop();
    }
}

/// Settings for a test, with `more` of them.
pub fn config(kafka: &Kafka, folder: &tempfile::TempDir, more: &[(&str, &str)]) -> Config {
    let database = format!("sqlite:{}", folder.path().join("purchases.db").display());
    let mut settings = Settings::from_pairs([
        ("LISTEN_ADDRESS", "127.0.0.1:0"),
        ("KAFKA_BOOTSTRAP_SERVERS", kafka.config.bootstrap_servers.as_str()),
        ("KAFKA_CREATE_TOPICS", "false"),
        ("KAFKA_FETCH_WAIT_MS", "10"),
        // For so long the in-process broker keeps a new member waiting for one that has left.
        ("KAFKA_SESSION_TIMEOUT_MS", "3000"),
        ("DATABASE_URL", &database),
    ]);
    let more: Vec<_> = more.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    settings = settings.with_fixed(&more);
    let config = Config::read(&mut settings);
    settings.finish().unwrap();
    config
}

/// A record's value.
pub fn value(userid: &str, price: &str) -> String {
    format!(r#"{{"userid":"{userid}","username":"n","price":{price}}}"#)
}

/// A record's value with an id.
pub fn value_with_id(id: &str, userid: &str, username: &str, price: &str) -> String {
    format!(
        r#"{{"purchase_id":"{id}","userid":"{userid}","username":"{username}","price":{price},"timestamp":"2026-01-31T12:00:00.000Z"}}"#
    )
}
