//! The one thread that polls Kafka, decodes records, and answers rebalances.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use shared::kafka::{ConsumedRecord, KafkaError, Partitions, Polled, RecordConsumer};
use shared::shutdown::Shutdown;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Ingest;
use super::batch::PendingBatch;
use super::lane::{self, Outcome, Report};
use super::loader::{self, Load, Loaded, Position};

/// The longest poll: how soon a shutdown or an answer of the loader is seen.
const POLL: Duration = Duration::from_millis(50);
/// How often Kafka is told what is recorded. librdkafka gives no partition back while a commit is under way, so
/// one after every batch would hold up a rebalance for as long as there is load.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// How long the thread waits for a busy lane before it pauses all partitions and polls on. Must stay far below
/// the time after which a group throws out a member that does not poll.
const LANE_PATIENCE: Duration = Duration::from_secs(1);
/// How long running transactions may take to end before partitions are given back all the same: whoever gets
/// them is protected by the compare-and-set of the offsets.
const REVOKE_PATIENCE: Duration = Duration::from_secs(3);
/// The same before the process ends.
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
    load: Load,
    cancel: CancellationToken,
}

struct Lane {
    batches: mpsc::Sender<PendingBatch>,
    busy: bool,
    next: PendingBatch,
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
        let (report, reports) = sync_channel(ingest.config.lanes);
        let lanes = (0..ingest.config.lanes).map(|lane| {
            let (batches, receiver) = mpsc::channel(1);
            tokio::spawn(lane::run(lane, Arc::clone(ingest), receiver, report.clone(), cancel.clone()));
            Lane { batches, busy: false, next: PendingBatch::default() }
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
            self.reload()?;
        }
        let consumer = Arc::clone(&self.consumer);
        match consumer.poll(self.poll_timeout()) {
            Polled::Nothing => {}
            Polled::Record(record) => self.add(&record)?,
            Polled::Assigned(partitions) => self.assigned(partitions)?,
            Polled::Revoked(partitions) => self.revoked(&partitions)?,
            Polled::OffsetOutOfRange => self.reload()?,
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
        let number = self.lane_of(record.partition());
        let Some(Some(position)) = self.partitions.get_mut(&record.partition()) else { return Ok(()) };
        if record.offset() < position.next {
            return Ok(());
        }
        let lane = &mut self.lanes[number];
        if lane.next.is_empty() {
            lane.next = PendingBatch::new(Arc::clone(&self.incarnation));
        }
        lane.next.push(record, position.expected);
        position.next = record.offset() + 1;
        if lane.next.len() == 1 || lane.next.oldest_ms(record.partition()) == record.timestamp_ms() {
            self.ingest.progress.pending(record.partition(), record.timestamp_ms());
        }
        if self.is_full(number) && self.lanes[number].busy { self.wait_for_lane(number) } else { Ok(()) }
    }

    fn lane_of(&self, partition: i32) -> usize {
        usize::try_from(partition).unwrap_or(0) % self.lanes.len()
    }

    fn is_full(&self, number: usize) -> bool {
        let (next, config) = (&self.lanes[number].next, &self.ingest.config);
        next.len() >= config.batch_records || next.bytes() >= config.batch_bytes
    }

    /// Lets a full lane commit. After a while all partitions are paused: then polling goes on, and with it the
    /// membership in the group, however long the database is away.
    fn wait_for_lane(&mut self, number: usize) -> Result<(), KafkaError> {
        let deadline = Instant::now() + LANE_PATIENCE;
        while self.lanes[number].busy {
            match self.reports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(report) => self.settle(report)?,
                Err(RecvTimeoutError::Timeout) if self.paused => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    tracing::info!("a batch takes long, partitions paused");
                    self.paused = true;
                    return self.consumer.pause(&self.assigned_partitions());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(KafkaError::Admin("a lane has ended".to_owned())),
            }
        }
        self.hand_over(number)
    }

    /// Takes note of what became of a lane's batch.
    fn settle(&mut self, report: Report) -> Result<(), KafkaError> {
        self.lanes[report.lane].busy = false;
        match report.outcome {
            Outcome::Committed(offsets) => {
                for (partition, next) in &offsets {
                    let oldest = self.lanes[report.lane].next.oldest_ms(*partition);
                    if let Some(Some(_)) = self.partitions.get(partition) {
                        self.ingest.progress.recorded(*partition, *next, oldest);
                    }
                }
                let ours = offsets.into_iter().filter(|(partition, _)| self.partitions.contains_key(partition));
                self.uncommitted.extend(ours);
            }
            Outcome::Fenced => {
                tracing::warn!("another consumer has moved the offsets, reading them again");
                self.reload()?;
            }
            Outcome::Abandoned => {}
        }
        if self.paused && self.lanes.iter().all(|lane| !lane.busy) {
            self.paused = false;
            self.consumer.resume(&self.assigned_partitions())?;
        }
        Ok(())
    }

    fn hand_over_due(&mut self) -> Result<(), KafkaError> {
        for number in 0..self.lanes.len() {
            let lane = &self.lanes[number];
            let waited = lane.next.began.is_some_and(|began| began.elapsed() >= self.ingest.config.linger);
            if !lane.busy && !lane.next.is_empty() && (waited || self.is_full(number)) {
                self.hand_over(number)?;
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, number: usize) -> Result<(), KafkaError> {
        let lane = &mut self.lanes[number];
        let batch = std::mem::take(&mut lane.next);
        for step in &batch.batch.moves {
            if let Some(Some(position)) = self.partitions.get_mut(&step.partition) {
                position.expected = step.next;
            }
        }
        lane.busy = true;
        lane.batches.try_send(batch).map_err(|error| KafkaError::Admin(format!("a lane has ended: {error}")))
    }

    /// The group gives partitions: they are taken over once their offsets are known.
    fn assigned(&mut self, partitions: Partitions) -> Result<(), KafkaError> {
        tracing::info!(?partitions, "partitions assigned");
        self.ingest.metrics.rebalance();
        if partitions.is_empty() {
            // Every round of the group is answered, also one that brings this member nothing: the others wait for it.
            return self.consumer.assign(&[]);
        }
        self.joining = partitions;
        self.load();
        Ok(())
    }

    /// The group takes partitions: what was decoded of them is dropped, what is being committed may end.
    fn revoked(&mut self, partitions: &[i32]) -> Result<(), KafkaError> {
        tracing::info!(?partitions, "partitions revoked");
        self.ingest.metrics.rebalance();
        let lanes: Vec<usize> = partitions.iter().map(|partition| self.lane_of(*partition)).collect();
        self.await_lanes(&lanes, REVOKE_PATIENCE)?;
        self.commit();
        self.joining.retain(|partition| !partitions.contains(partition));
        for partition in partitions {
            self.partitions.remove(partition);
            self.ingest.progress.release(*partition);
        }
        self.consumer.unassign(partitions)?;
        // A kept batch holds several partitions: those that stay are read again from where the lane is.
        self.drop_kept_batches()
    }

    /// Waits until these lanes are free, at most `patience`.
    fn await_lanes(&mut self, lanes: &[usize], patience: Duration) -> Result<(), KafkaError> {
        let deadline = Instant::now() + patience;
        while lanes.iter().any(|lane| self.lanes[*lane].busy) {
            match self.reports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(report) => self.settle(report)?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn drop_kept_batches(&mut self) -> Result<(), KafkaError> {
        let mut again = Vec::new();
        for lane in &mut self.lanes {
            for step in std::mem::take(&mut lane.next).batch.moves {
                if let Some(Some(position)) = self.partitions.get_mut(&step.partition) {
                    position.next = step.expected;
                    again.push((step.partition, step.expected));
                }
            }
        }
        self.consumer.seek(&again)
    }

    /// Asks again where all partitions go on; until then nothing more is read of them.
    fn reload(&mut self) -> Result<(), KafkaError> {
        for lane in &mut self.lanes {
            lane.next = PendingBatch::default();
        }
        for position in self.partitions.values_mut() {
            *position = None;
        }
        // What is still being committed would make the offsets read now stale.
        self.await_lanes(&self.all_lanes(), REVOKE_PATIENCE)?;
        self.load();
        Ok(())
    }

    fn all_lanes(&self) -> Vec<usize> {
        (0..self.lanes.len()).collect()
    }

    fn load(&mut self) {
        self.load.number += 1;
        let loading =
            self.partitions.iter().filter(|(_, position)| position.is_none()).map(|(partition, _)| *partition);
        let partitions: Partitions = loading.chain(self.joining.iter().copied()).collect();
        if partitions.is_empty() {
            return;
        }
        let answer = (self.load.sender.clone(), self.cancel.clone());
        loader::request(self.load.number, &self.ingest, &self.consumer, partitions, answer);
    }

    /// The offsets are known: begin, or go on, from there.
    fn take_over(&mut self, loaded: Loaded) -> Result<(), KafkaError> {
        if loaded.request != self.load.number {
            return Ok(());
        }
        if *loaded.incarnation != *self.incarnation {
            let first = self.incarnation.is_empty();
            self.incarnation = loaded.incarnation;
            self.ingest.progress.set_incarnation(&self.incarnation);
            if !first && self.partitions.values().any(Option::is_some) {
                // Partitions read before belong to the life of the topic that has just ended.
                return self.reload();
            }
        }
        let (joining, loading): (Vec<_>, Vec<_>) =
            loaded.starts.into_iter().partition(|start| self.joining.contains(&start.partition));
        let offsets =
            |starts: &[loader::Start]| starts.iter().map(|start| (start.partition, start.from)).collect::<Vec<_>>();
        if !self.joining.is_empty() {
            self.consumer.assign(&offsets(&joining))?;
            self.joining.clear();
        }
        self.consumer.seek(&offsets(&loading))?;
        for start in joining.into_iter().chain(loading) {
            let position = Position { expected: start.stored, next: start.from };
            self.partitions.insert(start.partition, Some(position));
            self.ingest.progress.take_over(start.partition, start.stored.max(start.from));
        }
        Ok(())
    }

    fn assigned_partitions(&self) -> Partitions {
        self.partitions.keys().copied().collect()
    }

    /// Lets running transactions end and leaves the group.
    fn leave(&mut self) {
        if let Err(error) = self.await_lanes(&self.all_lanes(), STOP_PATIENCE) {
            tracing::warn!(%error, "while leaving");
        }
        self.commit();
        self.cancel.cancel();
        self.consumer.leave(&self.joining);
        self.ingest.progress.set_consumer(None);
    }
}
