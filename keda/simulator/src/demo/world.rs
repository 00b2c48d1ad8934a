//! What runs for real: Kafka, PostgreSQL, web-server, and as many consumers as the autoscaler wants.

use std::{iter, time::Duration};

use stack::{
    KafkaCluster, Load, LoadPlan, Postgres, Result, RunFolder, Service, StackError,
    error::Doing,
    http,
    load::{Pace, Purchases},
    metrics,
    service::{Program, ServicePlan},
};
use tokio::time::{Instant, sleep};

use crate::kafka_scaler::KafkaTrigger;

/// Of the guide's purchase: one user sends everything.
const USERID: &str = "loadtest";
const PRICE: u64 = 10;

/// One consumer records so many in a transaction, one after the other, each after a pause that stands for a remote
/// database: 500 a second. That is little, so that a load for which consumers must come leaves the cores alone.
const BATCH_RECORDS: u64 = 200;
const BATCH_DELAY: Duration = Duration::from_millis(400);

const READY_DEADLINE: Duration = Duration::from_mins(1);
const END_DEADLINE: Duration = Duration::from_secs(30);
/// As deployed: from the end signal on, a replica serves on for so long.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// Everything but the consumers. Ends with this program.
pub(super) struct World {
    web: Service,
    /// The broker, of which KEDA asks the lag.
    pub kafka: KafkaCluster,
    postgres: Postgres,
    // Last: its files are removed when nothing runs in it any more.
    folder: RunFolder,
}

/// The consumers: those that are to run, and those that were told to end.
pub(super) struct Fleet {
    plan: ServicePlan,
    running: Vec<Service>,
    leaving: Vec<Service>,
    started: usize,
    /// When CPU was looked at, and what each consumer had used.
    cpu: Option<(Instant, Vec<Duration>)>,
}

/// What is recorded, by SQL and by the read API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Rows.
    pub rows: u64,
    /// The user's count and sum in the read API are those of the rows.
    pub totals_agree: bool,
}

impl World {
    /// Starts Kafka, PostgreSQL and web-server.
    pub(super) async fn start(trigger: &KafkaTrigger) -> Result<Self> {
        let folder = RunFolder::new("scale-demo")?;
        let kafka = KafkaCluster::start(&folder.subfolder("kafka")?, 1).await?;
        let postgres = Postgres::start(&folder.subfolder("postgres")?).await?;
        let plan = ServicePlan::new(Program::WebServer, "web-server")?
            .with("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers())
            .with("KAFKA_TOPIC", &trigger.topic)
            .with("KAFKA_PARTITION_BY", "balanced");
        let mut web = Service::start(folder.path(), plan)?;
        web.wait_ready(READY_DEADLINE).await?;
        Ok(Self { web, kafka, postgres, folder })
    }

    /// The first consumers, with partitions.
    pub(super) async fn fleet(&self, trigger: &KafkaTrigger, count: i32, speed: f64) -> Result<Fleet> {
        let plan = ServicePlan::new(Program::ManagementApi, "consumer")?
            .with("KAFKA_BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers())
            .with("KAFKA_TOPIC", &trigger.topic)
            .with("KAFKA_CONSUMER_GROUP", &trigger.group)
            .with("DATABASE_URL", self.postgres.database_url())
            .with("RECORD_LANES", 1)
            .with("RECORD_BATCH_MAX_RECORDS", BATCH_RECORDS)
            .with("RECORD_BATCH_DELAY_MS", BATCH_DELAY.as_millis())
            .with("DRAIN_DELAY_MS", DRAIN_DELAY.div_f64(speed).as_millis());
        let mut fleet = Fleet { plan, running: Vec::new(), leaving: Vec::new(), started: 0, cpu: None };
        fleet.scale_to(count, self)?;
        let end = Instant::now() + READY_DEADLINE;
        // Until then the group has no coordinator that could be asked for its offsets.
        while fleet.look().await.0 < count {
            if Instant::now() >= end {
                return Err(StackError::Refused(format!("consumers without partitions after {READY_DEADLINE:?}")));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(fleet)
    }

    /// The guide's purchase at a rate, for some time or until it is stopped.
    pub(super) fn load(&self, per_second: f64, time_max: Option<Duration>) -> Load {
        let plan = LoadPlan::new(vec![self.web.address()], 16);
        let purchases = Purchases::of_the_guide();
        Load::start(LoadPlan { pace: Pace::PerSecond(per_second), purchases, time_max, ..plan })
    }

    /// Waits until so many purchases are recorded, or as many as come within half a minute, and looks at what is there.
    pub(super) async fn recorded(&self, fleet: &Fleet, count: u64) -> Result<Recorded> {
        let client = self.postgres.client().await?;
        let end = Instant::now() + END_DEADLINE;
        let rows = loop {
            let row = client.query_one("SELECT count(*) FROM purchases", &[]).await.doing("counting purchases")?;
            let rows = u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
            if rows >= count || Instant::now() >= end {
                break rows;
            }
            sleep(Duration::from_millis(100)).await;
        };
        let api = fleet.running.first().ok_or_else(|| StackError::Refused("no consumer runs".to_owned()))?;
        let answer = api.get(&format!("/users/{USERID}/purchases?limit=1")).await?;
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let totals_agree = body["count"] == rows && body["total_spent"] == rows * PRICE;
        Ok(Recorded { rows, totals_agree })
    }

    /// Keeps the logs for their reader.
    pub(super) fn keep(&self) {
        self.folder.keep();
    }
}

impl Fleet {
    /// Starts what is missing and tells the youngest to end of what is too many.
    pub(super) fn scale_to(&mut self, count: i32, world: &World) -> Result<()> {
        let count = usize::try_from(count).unwrap_or(0);
        while self.running.len() < count {
            self.started += 1;
            let own = ServicePlan::new(self.plan.program, &format!("consumer-{}", self.started))?;
            let plan = ServicePlan { settings: self.plan.settings.clone(), ..own };
            self.running.push(Service::start(world.folder.path(), plan)?);
        }
        for service in self.running.drain(count..) {
            service.sigterm();
            self.leaving.push(service);
        }
        Ok(())
    }

    /// How many are to run.
    pub(super) fn count(&self) -> i32 {
        i32::try_from(self.running.len()).unwrap_or(i32::MAX)
    }

    /// How many consumers have partitions, and the age of the oldest record of all that is not recorded.
    pub(super) async fn look(&self) -> (i32, f64) {
        let (mut recording, mut delay) = (0, 0.0_f64);
        for service in self.running.iter().chain(&self.leaving) {
            // One that has ended, or does not listen yet, has no partitions.
            let Ok(answer) = http::get(&service.address(), "/metrics", Duration::from_secs(1)).await else { continue };
            for sample in metrics::samples(&answer.body) {
                match sample.name {
                    "kafka_consumer_assigned_partitions" if sample.value > 0.0 => recording += 1,
                    "kafka_consumer_lag_seconds" => delay = delay.max(sample.value),
                    _ => {}
                }
            }
        }
        (recording, delay)
    }

    /// CPU since the last look in percent of what as many pods request; none at the first look.
    pub(super) fn cpu_percent(&mut self, request_millis: u32) -> Option<i32> {
        let used: Vec<Duration> = self.running.iter().map(Service::cpu_time).collect();
        let now = Instant::now();
        let (then, before) = self.cpu.replace((now, used.clone()))?;
        // The oldest are first in both; one that has come since had used nothing.
        let before = before.into_iter().chain(iter::repeat(Duration::ZERO));
        let spent: Duration = used.iter().zip(before).map(|(used, before)| used.saturating_sub(before)).sum();
        let requested = (now - then).as_millis() * u128::from(request_millis) * u128::try_from(used.len()).ok()?;
        i32::try_from((spent.as_millis() * 100_000).checked_div(requested)?).ok()
    }

    /// Waits until all that were told to end have; how many did not end in good order.
    pub(super) async fn failed_ends(&mut self) -> Result<usize> {
        let mut failed = 0;
        for mut service in self.leaving.drain(..) {
            failed += usize::from(service.wait_exit(END_DEADLINE).await? != Some(0));
        }
        Ok(failed)
    }
}
