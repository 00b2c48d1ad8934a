//! The world around the record path, under one lock: Kafka, the group, the database, and the weather.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, sleep_until};

use crate::database::Database;
use crate::group::Group;
use crate::topic::Topic;
use crate::trace::Trace;

/// Partitions of the topic.
pub const PARTITIONS: usize = 4;

/// What kind of trouble a run is about, beside what always happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing else.
    Plain,
    /// The topic is made anew.
    Anew,
    /// Logs are cut and grow again.
    Cut,
}

/// A condition that holds until some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    /// The database cannot be reached.
    DatabaseAway,
    /// Its transactions take up to seconds.
    DatabaseSlow,
    /// Answers of transactions are lost, or come too late.
    AnswersLost,
    /// Dead letters are not confirmed.
    DeadLettersAway,
    /// The dead-letter topic refuses what it is sent.
    DeadLettersRefused,
    /// The brokers answer no questions.
    BrokersSilent,
    /// Commits to Kafka take long.
    CommitsSlow,
    /// Commits to Kafka are refused.
    CommitsFail,
}

/// Everything there is.
pub struct State {
    /// Decides everything that is left to chance.
    pub rng: StdRng,
    /// What happened.
    pub trace: Trace,
    /// The topic of purchases.
    pub topic: Topic,
    /// The consumer group.
    pub group: Group,
    /// The database, and the dead-letter topic.
    pub database: Database,
    /// How much has failed.
    pub faults: u64,
    /// Processes that were killed.
    pub killed: BTreeSet<usize>,
    frozen: BTreeMap<usize, Instant>,
    weather: BTreeMap<Weather, Instant>,
    began: Instant,
}

/// Shared by everybody in it.
#[derive(Clone)]
pub struct World(Arc<Mutex<State>>);

impl State {
    /// Takes note of an event.
    pub fn note(&mut self, process: usize, what: &'static str, numbers: [i64; 3]) {
        if !self.database.violations.is_empty() {
            // The last event is the one that shows it.
            return;
        }
        self.trace.note(self.began.elapsed().as_millis(), process, what, numbers);
    }

    /// A fault of one kind or another.
    pub fn fault(&mut self, process: usize, what: &'static str, numbers: [i64; 3]) {
        self.faults += 1;
        self.note(process, what, numbers);
    }

    /// Something that must never happen.
    pub fn violation(&mut self, text: String) {
        self.database.violations.push(text);
    }

    /// Whether a condition holds.
    pub fn is(&self, weather: Weather) -> bool {
        self.weather.get(&weather).is_some_and(|until| Instant::now() < *until)
    }

    /// A condition begins.
    pub fn begin(&mut self, weather: Weather, length: Duration) {
        self.weather.insert(weather, Instant::now() + length);
    }

    /// A process does nothing for a while.
    pub fn freeze(&mut self, process: usize, length: Duration) {
        self.frozen.insert(process, Instant::now() + length);
    }

    /// Everything is well again.
    pub fn heal(&mut self) {
        self.weather.clear();
        self.topic.logs.iter_mut().for_each(|log| log.unreadable = None);
    }

    /// Whether everything that the topic holds is recorded, and Kafka knows it.
    pub fn is_done(&self) -> bool {
        self.database.is_done(&self.topic) && self.untold().next().is_none()
    }

    /// Partitions of which Kafka was not told what is recorded.
    pub fn untold(&self) -> impl Iterator<Item = i32> {
        let name = self.topic.name();
        let is_told = move |partition: &i32| {
            let (stored, _) = self.database.offset(&name, *partition);
            stored == 0 || self.group.committed.get(partition) == Some(&stored)
        };
        (0..).zip(&self.topic.logs).map(|(partition, _)| partition).filter(move |partition| !is_told(partition))
    }

    /// A record is read where the database holds another one, because the log was cut in between: often the group deals
    /// the others anew just then, and nothing of the new history was handed to a lane yet.
    pub fn disturb_mended_cut(&mut self, partition: i32, offset: i64) {
        let (stored, epoch) = self.database.offset(&self.topic.name(), partition);
        let log = &self.topic.logs[usize::try_from(partition).unwrap_or(0)];
        if (log.reached(stored, epoch)..stored).contains(&offset) && self.rng.random_ratio(1, 2) {
            self.fault(0, "the group deals anew after a cut", [partition.into(), offset, stored]);
            self.group.rebalance_around(partition, &mut self.rng);
        }
    }

    /// A time of up to `max_ms`.
    pub fn while_ms(&mut self, max_ms: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(0..=max_ms))
    }
}

impl World {
    /// The world of this seed.
    pub fn new(seed: u64, mode: Mode) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            trace: Trace::default(),
            topic: Topic::new(PARTITIONS, mode),
            group: Group::new(PARTITIONS),
            database: Database::default(),
            faults: 0,
            killed: BTreeSet::new(),
            frozen: BTreeMap::new(),
            weather: BTreeMap::new(),
            began: Instant::now(),
        })))
    }

    /// All of it.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a process stops while it is frozen: before and after everything that others can see of it.
    pub async fn gate(&self, process: usize) {
        loop {
            let until = self.lock().frozen.get(&process).copied();
            match until {
                Some(until) if Instant::now() < until => sleep_until(until).await,
                _ => return,
            }
        }
    }

    /// Lets up to `max_ms` pass.
    pub async fn delay(&self, max_ms: u64) {
        let delay = self.lock().while_ms(max_ms);
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }
}
