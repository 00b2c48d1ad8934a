//! A load generator that remembers everything: each purchase it sent, each attempt, each answer.

mod connection;
mod latencies;
mod pace;
mod purchases;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};

pub use latencies::Latencies;
pub use pace::Pace;
pub(crate) use purchases::path_part;
pub use purchases::{GUIDE_BODY, Purchases};

use crate::ledger::Ledger;
use pace::Turns;

/// What to send, where, how fast and for how long.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// `HOST:PORT` of every replica. Each connection begins at another one and moves on when it fails.
    pub targets: Vec<String>,
    /// How many connections are open at the same time.
    pub connections: usize,
    /// Closed loop, or a rate.
    pub pace: Pace,
    /// What is bought.
    pub purchases: Purchases,
    /// How many purchases to send; none: until [`Load::stop`].
    pub purchases_max: Option<u64>,
    /// How long to send; none: until [`Load::stop`].
    pub time_max: Option<Duration>,
    /// How long one attempt may take.
    pub attempt_deadline: Duration,
    /// How long a purchase that failed or got a 5xx or 429 is repeated, with its key, on the next replica; zero: never.
    pub retry_for: Duration,
    /// `Prefer: wait=SECONDS`.
    pub prefer_wait_seconds: Option<u32>,
    /// `X-API-Key`.
    pub api_key: Option<String>,
    /// Where unique purchases are called back.
    pub callback_url: Option<String>,
}

impl LoadPlan {
    /// A closed loop of unique purchases with keys, without retries, until it is stopped.
    pub fn new(targets: Vec<String>, connections: usize) -> Self {
        Self {
            targets,
            connections,
            pace: Pace::ClosedLoop,
            purchases: Purchases::unique(20),
            purchases_max: None,
            time_max: None,
            attempt_deadline: Duration::from_secs(15),
            retry_for: Duration::ZERO,
            prefer_wait_seconds: None,
            api_key: None,
            callback_url: None,
        }
    }
}

/// Numbers that can be watched while the load runs.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicU64,
    acknowledged: AtomicU64,
}

impl Progress {
    /// Purchases begun.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Purchases that ended with a 2xx.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// A load at work.
#[derive(Debug)]
pub struct Load {
    stopping: Arc<AtomicBool>,
    progress: Arc<Progress>,
    started: Instant,
    workers: Vec<JoinHandle<LoadReport>>,
}

impl Load {
    /// Starts sending. Must be called inside a tokio runtime.
    pub fn start(plan: LoadPlan) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let progress = Arc::<Progress>::default();
        let started = Instant::now();
        let turns = Turns::start(&plan, Arc::clone(&stopping));
        let plan = Arc::new(plan);
        let workers = (0..plan.connections)
            .map(|number| {
                let turns = turns.clone();
                let worker = worker::Worker::new(Arc::clone(&plan), number, Arc::clone(&progress), started);
                tokio::spawn(worker.run(turns))
            })
            .collect();
        Self { stopping, progress, started, workers }
    }

    /// Runs a load that has a limit to its end.
    ///
    /// # Panics
    /// When a worker did.
    pub async fn run(plan: LoadPlan) -> LoadReport {
        Self::start(plan).finish().await
    }

    /// How far it is.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Begins nothing new, lets what is on its way end, and reports.
    ///
    /// # Panics
    /// When a worker did.
    pub async fn stop(self) -> LoadReport {
        self.stopping.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits for the plan's limit, and reports.
    ///
    /// # Panics
    /// When a worker did.
    pub async fn finish(self) -> LoadReport {
        let mut report = LoadReport::default();
        for worker in self.workers {
            report.merge(worker.await.expect("a load worker does not panic"));
        }
        report.elapsed = self.started.elapsed();
        report
    }
}

/// What a load did.
#[derive(Debug, Clone, Default)]
pub struct LoadReport {
    /// Every purchase with every attempt; empty when all purchases were the same ([`Purchases::Same`]).
    pub ledger: Ledger,
    /// Of acknowledged purchases: from the moment it should have been sent (a rate) or was sent first (closed loop) to
    /// the 2xx, retries included.
    pub latencies: Latencies,
    /// How many attempts ended with each status; 0 stands for none.
    pub statuses: BTreeMap<u16, u64>,
    /// Attempts that got no complete answer, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Purchases that were not acknowledged, whatever was tried.
    pub given_up: u64,
    /// From start to the last answer.
    pub elapsed: Duration,
}

impl LoadReport {
    /// Acknowledged purchases a second.
    pub fn per_second(&self) -> f64 {
        let count = u32::try_from(self.latencies.count()).unwrap_or(u32::MAX);
        f64::from(count) / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Adds what another load or worker did, except its time.
    pub fn merge(&mut self, other: Self) {
        self.ledger.merge(other.ledger);
        self.latencies.merge(&other.latencies);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (reason, count) in other.failures {
            *self.failures.entry(reason).or_default() += count;
        }
        self.given_up += other.given_up;
    }
}
