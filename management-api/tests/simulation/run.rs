//! One run: a seed, its faults, and what is left at the end.

use std::sync::Arc;
use std::time::Duration;

use management_api::waiters::Waiting;
use rand::RngExt;
use rand::seq::{IndexedRandom, IteratorRandom};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::faults::Cluster;
use crate::world::{Mode, PARTITIONS, State, World};

/// Faults in a run, beside the answers that are lost on the way.
const FAULTS: usize = 60;
/// How long, on its own clock, a healed world may take until everything is recorded.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a run has shown.
pub struct Outcome {
    /// Names everything that happened.
    pub trace: u64,
    /// How much has failed.
    pub faults: u64,
    /// How many records were written.
    pub records: usize,
    /// The rules that were broken, and the last events before.
    pub violations: Option<String>,
}

/// Runs a seed on a clock of its own, on this thread.
pub fn run(seed: u64) -> Outcome {
    shared::backoff::seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(live(seed))
}

async fn live(seed: u64) -> Outcome {
    let mode = [Mode::Plain, Mode::Plain, Mode::Anew, Mode::Cut][usize::try_from(seed % 4).unwrap_or(0)];
    let world = World::new(seed, mode);
    let mut cluster = Cluster::start(&world, mode);
    let buyers = tokio::spawn(write(world.clone(), waiters(&cluster)));
    cluster.torment(FAULTS).await;
    buyers.abort();
    cluster.heal();
    settle(&world).await;
    let mut state = world.lock();
    let State { database, topic, .. } = &mut *state;
    if database.violations.is_empty() {
        database.check(topic);
    }
    let violations = (!database.violations.is_empty()).then(|| database.violations.join("; "));
    Outcome {
        trace: state.trace.hash(),
        faults: state.faults,
        records: state.topic.written.len(),
        violations: violations.map(|broken| format!("{}\n{broken}", state.trace.tail())),
    }
}

/// Waits until everything is recorded, or something is broken.
async fn settle(world: &World) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        {
            let state = world.lock();
            if !state.database.violations.is_empty() || state.is_done() {
                break;
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
    // What is still on its way to the database must change nothing any more.
    sleep(Duration::from_secs(4)).await;
    let mut state = world.lock();
    if !state.database.violations.is_empty() {
        return;
    }
    if !state.database.is_done(&state.topic) {
        let name = state.topic.name();
        let ends = (0..).zip(&state.topic.logs);
        let places: Vec<_> =
            ends.map(|(partition, log)| (state.database.offset(&name, partition), log.end())).collect();
        state.violation(format!("the record path stands still: stored and end of each partition are {places:?}"));
    }
    let untold: Vec<i32> = state.untold().collect();
    if !untold.is_empty() {
        state.violation(format!("kafka was not told what is recorded of partitions {untold:?}"));
    }
}

/// Writes runs of records, and buyers wait for some of them.
async fn write(world: World, waiters: Vec<Arc<management_api::waiters::Waiters>>) {
    loop {
        world.delay(50).await;
        let (ids, waiters) = {
            let mut state = world.lock();
            let State { topic, rng, database, .. } = &mut *state;
            let partition = rng.random_range(0..PARTITIONS);
            if let Some(dead) = database.letters().choose(rng).filter(|_| rng.random_ratio(1, 4)) {
                topic.send_back(dead, partition, &database.rows, rng);
            }
            let count = rng.random_range(1..=6);
            let ids: Vec<Uuid> = (0..count).filter_map(|_| topic.write(partition, rng)).collect();
            (ids, waiters.choose(rng).cloned())
        };
        for id in ids {
            if let Some(waiters) = waiters.clone().filter(|_| world.lock().rng.random_ratio(1, 3)) {
                tokio::spawn(buy(world.clone(), waiters, id));
            }
        }
    }
}

/// Who is told that a purchase is recorded finds it recorded.
async fn buy(world: World, waiters: Arc<management_api::waiters::Waiters>, id: Uuid) {
    let told = waiters.wait(Waiting::Buyer, &[id], Duration::from_secs(3)).await;
    let mut state = world.lock();
    if told.is_some_and(|told| !told.is_empty()) && !state.database.rows.contains_key(&id) {
        state.violation(format!("a buyer was told of {id} before it was recorded"));
    }
}

fn waiters(cluster: &Cluster) -> Vec<Arc<management_api::waiters::Waiters>> {
    cluster.processes.iter().map(|process| Arc::clone(&process.waiters)).collect()
}
