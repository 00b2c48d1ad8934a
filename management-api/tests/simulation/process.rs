//! A process: the real record path on the simulated world, to be killed, frozen and ended.

use std::sync::Arc;
use std::time::Duration;

use management_api::ingest::{Ingest, IngestConfig, Progress, run_membership, watch_progress};
use management_api::metrics::IngestMetrics;
use management_api::waiters::{Waiters, WaitersConfig};
use rand::RngExt;
use shared::config::Settings;
use shared::metrics::Registry;
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::dead_letters::SimulatedDeadLetters;
use crate::kafka::SimulatedKafka;
use crate::store::SimulatedStore;
use crate::world::World;

/// A running process.
pub struct Process {
    /// Its number.
    pub number: usize,
    /// Who waits for purchases there.
    pub waiters: Arc<Waiters>,
    shutdown: Shutdown,
    tasks: JoinSet<()>,
}

impl Process {
    /// Starts a process.
    pub fn start(world: &World, number: usize) -> Self {
        let store = Arc::new(SimulatedStore { world: world.clone(), process: number });
        let waiters = Waiters::new(store.clone(), WaitersConfig { buyers_max: 1_000, readers_max: 1_000 });
        let config = config(world);
        let metrics = IngestMetrics::register(&Registry::new(&IngestMetrics::BUCKETS), config.lanes);
        let metrics = Arc::new(metrics);
        let ingest = Arc::new(Ingest {
            config,
            kafka: Arc::new(SimulatedKafka { world: world.clone(), process: number }),
            store,
            dead_letters: Arc::new(SimulatedDeadLetters { world: world.clone(), process: number }),
            waiters: Arc::clone(&waiters),
            callbacks: None,
            committed: Arc::default(),
            progress: Progress::new(Arc::clone(&metrics)),
            metrics,
            supervisor: Supervisor::alone(),
        });
        world.lock().note(number, "starts", [0; 3]);
        let (shutdown, mut tasks) = (Shutdown::new(), JoinSet::new());
        tasks.spawn(Arc::clone(&waiters).run(shutdown.clone()));
        tasks.spawn(watch_progress(Arc::clone(&ingest), shutdown.clone()));
        tasks.spawn(run(ingest, shutdown.clone(), world.clone(), number));
        Self { number, waiters, shutdown, tasks }
    }

    /// Ends it at once: whatever is under way is dropped where it stands.
    pub fn kill(mut self, world: &World) {
        world.lock().killed.insert(self.number);
        self.tasks.abort_all();
    }

    /// Ends it in good order.
    pub async fn stop(mut self) {
        self.shutdown.stop();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// One membership after the other, as `Ingest::run` does it.
async fn run(ingest: Arc<Ingest>, shutdown: Shutdown, world: World, number: usize) {
    while !shutdown.is_stopped() {
        let ended = run_membership(&ingest, &shutdown).await;
        if let Err(error) = ended {
            let text = error.to_string();
            world.lock().note(number, "the consumer ended", [0; 3]);
            if !text.contains("the client is dead") {
                world.lock().violation(format!("the consumer ended: {text}"));
            }
        }
        sleep(Duration::from_millis(300)).await;
    }
}

fn config(world: &World) -> IngestConfig {
    let (lanes, records) = {
        let rng = &mut world.lock().rng;
        (rng.random_range(1..=3), rng.random_range(1..=12))
    };
    let mut settings = Settings::from_pairs([
        ("RECORD_LANES", lanes.to_string()),
        ("RECORD_BATCH_MAX_RECORDS", records.to_string()),
        ("RECORD_LINGER_MS", "5".to_owned()),
    ]);
    IngestConfig::read(&mut settings)
}
