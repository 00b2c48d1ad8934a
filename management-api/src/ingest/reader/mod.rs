//! The one thread that polls Kafka, decodes records, and answers rebalances.

mod handover;
mod rebalance;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use shared::kafka::{ConsumedRecord, KafkaError, Partitions, Polled, RecordConsumer};
use shared::shutdown::Shutdown;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::handover::Lane;
use super::Ingest;
use super::lane::{self, Report};
use super::loader::{Load, Position};

/// The longest poll: how soon a shutdown or an answer of the loader is seen.
const POLL: Duration = Duration::from_millis(50);
/// How often Kafka is told what is recorded. librdkafka gives no partition back while a commit is under way, so
/// one after every batch would hold up a rebalance for as long as there is load.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// How long running transactions may take to end before the process does.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// Runs one membership of the group on a thread of its own, until `shutdown` says stop. The result arrives on the
/// receiver: an error when the consumer cannot be built or has died, nothing when the thread panicked.
pub(super) fn spawn(ingest: &Arc<Ingest>, shutdown: &Shutdown) -> oneshot::Receiver<Result<(), KafkaError>> {
    let (sender, receiver) = oneshot::channel();
    let (ingest, shutdown, runtime) = (Arc::clone(ingest), shutdown.clone(), Handle::current());
    let thread = thread::Builder::new().name("reader".to_owned()).spawn(move || {
        let _runtime = runtime.enter();
        let _ = sender.send(run(&ingest, &shutdown));
    });
    if let Err(error) = thread {
        tracing::error!(%error, "no thread for the consumer");
    }
    receiver
}

fn run(ingest: &Arc<Ingest>, shutdown: &Shutdown) -> Result<(), KafkaError> {
    let mut reader = Reader::join(ingest)?;
    let outcome = loop {
        if shutdown.is_stopped() {
            break Ok(());
        }
        if let Err(error) = reader.step() {
            break Err(error);
        }
    };
    reader.leave();
    outcome
}

struct Reader {
    ingest: Arc<Ingest>,
    consumer: Arc<RecordConsumer>,
    incarnation: Arc<str>,
    /// The assigned partitions; `None` while their offsets are being loaded.
    partitions: BTreeMap<i32, Option<Position>>,
    /// Given by the group, not yet taken over: their offsets are being loaded.
    joining: Partitions,
    lanes: Vec<Lane>,
    reports: Receiver<Report>,
    /// Recorded offsets that Kafka has not been told yet, and when it is told next.
    uncommitted: BTreeMap<i32, i64>,
    next_commit: Instant,
    paused: bool,
    /// Stored offsets are not what was expected: all are to be read again.
    reload_due: bool,
    load: Load,
    cancel: CancellationToken,
}

impl Reader {
    fn join(ingest: &Arc<Ingest>) -> Result<Self, KafkaError> {
        let consumer = RecordConsumer::join(
            &ingest.kafka,
            "management-api",
            &ingest.config.consumer,
            Arc::clone(&ingest.client_metrics),
        )?;
        let consumer = Arc::new(consumer);
        ingest.progress.set_consumer(Some(&consumer));
        let cancel = CancellationToken::new();
        // Never more reports than batches handed over, and those have their limit.
        let (report, reports) = channel();
        let lanes = (0..ingest.config.lanes).map(|lane| {
            let (handle, batches) = Lane::new();
            tokio::spawn(lane::run(lane, Arc::clone(ingest), batches, report.clone(), cancel.clone()));
            handle
        });
        let (sender, answers) = channel();
        Ok(Self {
            lanes: lanes.collect(),
            ingest: Arc::clone(ingest),
            consumer,
            incarnation: "".into(),
            partitions: BTreeMap::new(),
            joining: Vec::new(),
            reports,
            uncommitted: BTreeMap::new(),
            next_commit: Instant::now(),
            paused: false,
            reload_due: false,
            load: Load { number: 0, answers, sender },
            cancel,
        })
    }

    /// One turn: what lanes and loader say, one poll, and what is due.
    fn step(&mut self) -> Result<(), KafkaError> {
        while let Ok(report) = self.reports.try_recv() {
            self.settle(report)?;
        }
        while let Ok(loaded) = self.load.answers.try_recv() {
            self.take_over(loaded)?;
        }
        if self.ingest.progress.take_incarnation_change() {
            tracing::warn!("the topic was made anew, reading it from where the database says");
            self.reload_due = true;
        }
        if self.reload_due {
            self.reload()?;
        }
        let consumer = Arc::clone(&self.consumer);
        match consumer.poll(self.poll_timeout()) {
            Polled::Nothing => {}
            Polled::Record(record) => self.add(&record)?,
            Polled::Assigned(partitions) => self.assigned(partitions)?,
            Polled::Revoked(partitions) => self.revoked(&partitions)?,
            Polled::OffsetOutOfRange => self.reload_due = true,
            Polled::Trouble(error) => tracing::warn!(error, "kafka consumer trouble"),
            Polled::Fatal(error) => return Err(KafkaError::Admin(error)),
        }
        if Instant::now() >= self.next_commit {
            // The sign of life goes along: a lock for each record would be too much for the same answer.
            self.ingest.progress.beat();
            self.commit();
        }
        self.hand_over_due()
    }

    /// Tells Kafka what is recorded.
    fn commit(&mut self) {
        self.next_commit = Instant::now() + COMMIT_INTERVAL;
        let offsets: Vec<_> = std::mem::take(&mut self.uncommitted).into_iter().collect();
        if !offsets.is_empty()
            && let Err(error) = self.consumer.commit(&offsets)
        {
            tracing::debug!(%error, "offsets not committed to kafka");
        }
    }

    /// Short while a batch waits to be handed over, so that it is not kept from a lane that is free.
    fn poll_timeout(&self) -> Duration {
        let linger = self.ingest.config.linger.max(Duration::from_millis(1));
        let waiting = self.lanes.iter().any(|lane| !lane.next.is_empty());
        if waiting { linger.min(POLL) } else { POLL }
    }

    fn add(&mut self, record: &ConsumedRecord<'_>) -> Result<(), KafkaError> {
        let Some(Some(position)) = self.partitions.get_mut(&record.partition()) else { return Ok(()) };
        let number = position.lane;
        if record.offset() < position.next {
            return Ok(());
        }
        let lane = &mut self.lanes[number];
        lane.begin(&self.incarnation);
        if lane.next.oldest_ms(record.partition()).is_none() && lane.oldest_ms(record.partition()).is_none() {
            self.ingest.progress.pending(record.partition(), record.offset(), record.timestamp_ms());
        }
        lane.next.push(record, position.expected);
        position.next = record.offset() + 1;
        if self.is_full(number) && !self.lanes[number].has_room() { self.wait_for_lane(number) } else { Ok(()) }
    }

    /// Lets running transactions end and leaves the group.
    fn leave(&mut self) {
        if let Err(error) = self.await_lanes(STOP_PATIENCE) {
            tracing::warn!(%error, "while leaving");
        }
        self.commit();
        self.cancel.cancel();
        self.consumer.leave(&self.joining);
        self.ingest.progress.set_consumer(None);
    }
}
