//! Replicas of both services with a topic, a group and a database of their own, and what must be true of them at the end.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shared::config::KafkaConfig;
use shared::testing::{eventually, kafka_config, read_all};
use stack::ledger::{Fate, Ledger, Report, verify_totals};
use stack::load::{LoadPlan, LoadReport, Pace};
use stack::metrics::{samples, sum};
use stack::service::{Program, Service, ServicePlan};
use stack::{KafkaCluster, Postgres};

/// How long a service may take to be ready, on a machine that is busy with everything else.
pub const READY: Duration = Duration::from_mins(1);
/// How long everything acknowledged may take to be recorded once all faults are over.
const RECORDED: Duration = Duration::from_mins(1);
/// After so long a silent consumer loses its partitions: the default, where the brokers allow it.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(3);

/// What to start.
#[derive(Clone)]
pub struct Plan {
    name: String,
    /// Replicas of web-server and management-api.
    replicas: (usize, usize),
    settings: BTreeMap<String, String>,
}

/// Whether a gauge of whole numbers says this.
pub fn is(value: f64, expected: f64) -> bool {
    (value - expected).abs() < 0.5
}

/// Every purchase was acknowledged in the end, by whichever replica.
pub fn assert_none_given_up(report: &LoadReport) {
    let given_up = report.ledger.entries().iter().filter(|entry| entry.fate() != Fate::Acknowledged);
    let shown: Vec<String> = given_up.take(3).map(|entry| format!("{entry:#?}")).collect();
    let (statuses, failures) = (&report.statuses, &report.failures);
    assert_eq!(report.given_up, 0, "{statuses:?} {failures:?}\n{}", shown.join("\n"));
}

/// Kills a service, starts it again, and waits until it is ready.
pub async fn kill_and_start(service: &mut Service) {
    service.kill_9();
    service.start_again().expect("it starts");
    service.wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
}

/// Running replicas. Dropping it kills them.
pub struct Deployment {
    pub web: Vec<Service>,
    pub api: Vec<Service>,
    pub kafka: KafkaConfig,
    pub database: String,
}

impl Plan {
    /// Two replicas of each service, with names in Kafka and PostgreSQL that no other test has.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{name}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let plan = Self { name: name.clone(), replicas: (2, 2), settings: BTreeMap::new() };
        plan.with("KAFKA_TOPIC", format!("purchases-{name}"))
            .with("KAFKA_DEAD_LETTER_TOPIC", format!("purchases-{name}.dead-letter"))
            .with("KAFKA_CONSUMER_GROUP", format!("group-{name}"))
            .with("DRAIN_DELAY_MS", 500)
    }

    /// Other numbers of replicas of web-server and management-api.
    pub fn replicas(mut self, web: usize, api: usize) -> Self {
        self.replicas = (web, api);
        self
    }

    /// Adds or replaces a setting of both services.
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// Makes the database and prepares the replicas; starts none.
    pub async fn prepare(self, kafka: &KafkaCluster, postgres: &Postgres, folder: &Path) -> Deployment {
        postgres.create_database(&self.name).await.expect("a database");
        let database_url = postgres.database_url_of(&self.name);
        self.prepare_blind(&kafka.bootstrap_servers(), &database_url, folder)
    }

    /// Prepares the replicas for servers that may not run yet.
    pub fn prepare_blind(self, bootstrap_servers: &str, database_url: &str, folder: &Path) -> Deployment {
        let plan = self.with("KAFKA_BOOTSTRAP_SERVERS", bootstrap_servers).with("DATABASE_URL", database_url);
        let api: Vec<Service> = (1..=plan.replicas.1).map(|number| plan.api(number, folder)).collect();
        let urls: Vec<String> = api.iter().map(Service::base_url).collect();
        let plan = if urls.is_empty() { plan } else { plan.with("CUSTOMER_MGMT_API_URL", urls.join(",")) };
        let web = (1..=plan.replicas.0).map(|number| plan.service(Program::WebServer, number, folder)).collect();
        let mut kafka = kafka_config(bootstrap_servers);
        kafka.topic.clone_from(&plan.settings["KAFKA_TOPIC"]);
        kafka.dead_letter_topic.clone_from(&plan.settings["KAFKA_DEAD_LETTER_TOPIC"]);
        Deployment { web, api, kafka, database: plan.name }
    }

    /// Starts all replicas and waits until they are ready.
    pub async fn start(self, kafka: &KafkaCluster, postgres: &Postgres, folder: &Path) -> Deployment {
        let mut deployment = self.prepare(kafka, postgres, folder).await;
        deployment.start().await;
        deployment
    }

    /// One more replica of management-api.
    pub fn api(&self, number: usize, folder: &Path) -> Service {
        self.service(Program::ManagementApi, number, folder)
    }

    fn service(&self, program: Program, number: usize, folder: &Path) -> Service {
        let mut plan = ServicePlan::new(program, &format!("{}-{program}-{number}", self.name)).expect("a free port");
        plan.settings.clone_from(&self.settings);
        Service::prepare(folder, plan)
    }
}

impl Deployment {
    /// Starts every replica and waits until all are ready.
    pub async fn start(&mut self) {
        for service in self.api.iter_mut().chain(&mut self.web) {
            service.start_again().expect("it starts");
        }
        for service in self.api.iter_mut().chain(&mut self.web) {
            service.wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
        }
        self.wait_assigned(self.api.len().min(1)).await;
    }

    /// Waits until the group has given out its 10 partitions, among at least so many replicas.
    pub async fn wait_assigned(&self, owners: usize) {
        eventually("every partition has its one owner", async || {
            let assigned = self.assigned().await;
            let owning = assigned.iter().filter(|count| **count > 0.0).count();
            (is(assigned.iter().sum(), 10.0) && owning >= owners).then_some(())
        })
        .await;
    }

    /// How many partitions each replica of management-api has; 0 for one that does not answer.
    pub async fn assigned(&self) -> Vec<f64> {
        self.api_metric("kafka_consumer_assigned_partitions").await
    }

    /// Records not recorded yet, over all replicas that answer.
    pub async fn lag(&self) -> f64 {
        self.lags().await.values().sum()
    }

    /// The same by partition: the largest that is shown, as two replicas may while a partition goes from one to the other.
    pub async fn lags(&self) -> BTreeMap<i32, f64> {
        let mut lags = BTreeMap::new();
        for service in &self.api {
            let page = service.metrics().await.unwrap_or_default();
            for sample in samples(&page).filter(|sample| sample.name == "kafka_consumer_lag") {
                let partition = sample.label("partition").and_then(|text| text.parse().ok()).expect("a partition");
                let lag = lags.entry(partition).or_default();
                *lag = sample.value.max(*lag);
            }
        }
        lags
    }

    async fn api_metric(&self, name: &str) -> Vec<f64> {
        let mut values = Vec::new();
        for service in &self.api {
            let page = service.metrics().await.unwrap_or_default();
            values.push(sum(&page, name, "").unwrap_or(0.0));
        }
        values
    }

    /// A load of unique purchases with keys on all web-servers, at a rate, repeated for a minute when an attempt fails.
    pub fn load(&self, per_second: f64) -> LoadPlan {
        let targets = self.web.iter().map(Service::address).collect();
        LoadPlan {
            pace: Pace::PerSecond(per_second),
            attempt_deadline: Duration::from_secs(20),
            retry_for: Duration::from_mins(1),
            ..LoadPlan::new(targets, 32)
        }
    }

    /// A connection to the services' database.
    pub async fn sql(&self, postgres: &Postgres) -> tokio_postgres::Client {
        postgres.client_of(&self.database).await.expect("PostgreSQL answers")
    }

    /// How many purchases are recorded.
    pub async fn rows(&self, postgres: &Postgres) -> i64 {
        let row = self.sql(postgres).await.query_one("SELECT count(*) FROM purchases", &[]).await;
        row.expect("the table is there").get(0)
    }

    /// Waits until so many more purchases are recorded.
    pub async fn wait_recording(&self, postgres: &Postgres, more: i64) {
        let rows = self.rows(postgres).await;
        let is_recording = async || (self.rows(postgres).await > rows + more).then_some(());
        eventually("purchases are being recorded", is_recording).await;
    }

    /// The end of every fault: each 2xx recorded exactly once with its content, nothing that nobody sent, exact totals, no
    /// lag, no dead letter.
    pub async fn assert_exact(&self, postgres: &Postgres, ledger: &Ledger) -> Report {
        let client = self.sql(postgres).await;
        let report = ledger.verify_when_recorded(&client, RECORDED).await.expect("the table can be read");
        report.assert_clean();
        self.wait_no_lag(postgres).await;
        // Once more: with no record left, nothing can come to what is there now.
        let mut report = ledger.verify(&client).await.expect("the table can be read");
        let api = self.api.first().expect("a replica").address();
        verify_totals(&client, &api, &mut report).await.expect("the read API answers");
        report.assert_clean();
        assert!(report.acknowledged > 0 && report.users_compared > 0, "{report}");
        let dead = read_all(&self.kafka, &self.kafka.dead_letter_topic).await;
        assert!(dead.is_empty(), "{} dead letters, the first: {:?}", dead.len(), dead[0]);
        eprint!("{report}");
        report
    }

    /// Waits until the database has the end of every partition, and the replicas say so too.
    pub async fn wait_no_lag(&self, postgres: &Postgres) {
        let client = self.sql(postgres).await;
        eventually("nothing is left to record", async || {
            let records = read_all(&self.kafka, &self.kafka.topic).await;
            let sum = "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offsets";
            let recorded: i64 = client.query_one(sum, &[]).await.expect("the table is there").get(0);
            let is_recorded = i64::try_from(records.len()) == Ok(recorded);
            (is_recorded && is(self.lag().await, 0.0)).then_some(())
        })
        .await;
    }
}
