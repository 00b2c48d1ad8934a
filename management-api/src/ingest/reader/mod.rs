//! The one task that polls Kafka, decodes records, and answers rebalances.

mod commits;
mod ends;
mod handover;
mod rebalance;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use shared::event::Timestamp;
use shared::kafka::{ConsumedRecord, KafkaError, Partitions, Polled};
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::ends::Ends;
use self::handover::Lane;
use self::trouble::Unreadable;
use super::lane::{Committer, Report};
use super::loader::{Loaded, Position};
use super::{Consumer, Ingest};
use crate::planted::{self, Bug};

/// The longest poll: how soon a shutdown or an answer of the loader is seen.
const POLL: Duration = Duration::from_millis(50);
/// How long after one commit has ended the next tells Kafka what is recorded. Short, because autoscalers count by it; but
/// never are two under way, for librdkafka gives no partition back meanwhile.
const COMMIT_INTERVAL: Duration = Duration::from_millis(20);
/// How long running transactions may take to end before the process does.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// Runs one membership of the group on a thread of its own, until `shutdown` says stop. The result arrives on the
/// receiver: an error when the consumer cannot be built or has died, nothing when the thread panicked.
pub(super) fn spawn(ingest: &Arc<Ingest>, shutdown: &Shutdown) -> oneshot::Receiver<Result<(), KafkaError>> {
    let (sender, receiver) = oneshot::channel();
    let (ingest, shutdown, runtime) = (Arc::clone(ingest), shutdown.clone(), Handle::current());
    let thread = thread::Builder::new().name("reader".to_owned()).spawn(move || {
        let _ = sender.send(runtime.block_on(run(&ingest, &shutdown)));
    });
    if let Err(error) = thread {
        tracing::error!(%error, "no thread for the consumer");
    }
    receiver
}

/// Runs one membership of the group until `shutdown` says stop. What it has begun ends with it, also when it is dropped.
///
/// # Errors
/// When the consumer cannot be built, or has died.
pub async fn run(ingest: &Arc<Ingest>, shutdown: &Shutdown) -> Result<(), KafkaError> {
    let mut reader = Reader::join(ingest)?;
    let outcome = loop {
        if shutdown.is_stopped() {
            break Ok(());
        }
        shutdown.faults().check("reader");
        if let Err(error) = reader.step().await {
            break Err(error);
        }
    };
    // After a failure what still runs is not waited for: it is fenced, or committed like any other.
    reader.leave(if outcome.is_ok() { STOP_PATIENCE } else { Duration::ZERO }).await;
    outcome
}

/// Runs a part of the membership, and gives whether it has died.
async fn supervised(supervisor: Supervisor, task: &'static str, work: impl Future<Output = ()> + Send) -> bool {
    supervisor.watch(task, work).await.is_none()
}

struct Reader {
    ingest: Arc<Ingest>,
    consumer: Arc<dyn Consumer>,
    incarnation: Arc<str>,
    /// The assigned partitions; `None` while their offsets are being loaded.
    partitions: BTreeMap<i32, Option<Position>>,
    /// Given by the group, not yet taken over: their offsets are being loaded.
    joining: Partitions,
    lanes: Vec<Lane>,
    reports: mpsc::UnboundedReceiver<Report>,
    /// Recorded offsets that Kafka has not been told yet, and when it is told next.
    uncommitted: BTreeMap<i32, i64>,
    /// What it was told last, by the commits that are under way.
    told: BTreeMap<i32, i64>,
    next_commit: Instant,
    next_beat: Instant,
    /// What the client complained about last.
    trouble: String,
    /// Partitions that cannot be read on.
    unreadable: BTreeMap<i32, Unreadable>,
    /// Partitions whose position is not in their log's history any more, and where that parts from what was read, if known.
    cuts: BTreeMap<i32, Option<i64>>,
    /// Partitions whose position was not in their log, and that have not been read on since.
    doubted: BTreeSet<i32>,
    /// What is asked about ends that were reached.
    ends: Ends,
    /// Stored offsets are not what was expected: all are to be read again.
    reload_due: bool,
    /// The newest request to the loader, what works on it, and its answers.
    request: u64,
    loader: Option<AbortHandle>,
    loaded: (mpsc::UnboundedSender<Loaded>, mpsc::UnboundedReceiver<Loaded>),
    cancel: CancellationToken,
    /// Lanes and loaders; they end with the reader. Each says whether it has died.
    tasks: JoinSet<bool>,
}

impl Reader {
    fn join(ingest: &Arc<Ingest>) -> Result<Self, KafkaError> {
        let consumer = ingest.kafka.join()?;
        let cancel = CancellationToken::new();
        // Never more reports than batches handed over, and those have their limit.
        let (report, reports) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let lanes = (0..ingest.config.lanes).map(|number| {
            let (lane, batches) = Lane::new();
            let committer = Committer { lane: number, ingest: Arc::clone(ingest) };
            let work = committer.run(batches, report.clone(), cancel.clone());
            tasks.spawn(supervised(ingest.supervisor.clone(), "lane", work));
            lane
        });
        let lanes = lanes.collect();
        ingest.progress.set_consumer(Some(&consumer));
        Ok(Self {
            ingest: Arc::clone(ingest),
            consumer,
            incarnation: "".into(),
            partitions: BTreeMap::new(),
            joining: Vec::new(),
            lanes,
            reports,
            uncommitted: BTreeMap::new(),
            told: BTreeMap::new(),
            next_commit: Instant::now(),
            next_beat: Instant::now(),
            trouble: String::new(),
            unreadable: BTreeMap::new(),
            cuts: BTreeMap::new(),
            doubted: BTreeSet::new(),
            ends: Ends::new(),
            reload_due: false,
            request: 0,
            loader: None,
            loaded: mpsc::unbounded_channel(),
            cancel,
            tasks,
        })
    }

    /// One turn: what lanes and loader say, one poll, and what is due.
    async fn step(&mut self) -> Result<(), KafkaError> {
        while let Ok(report) = self.reports.try_recv() {
            self.settle(report)?;
        }
        while let Ok(loaded) = self.loaded.1.try_recv() {
            self.take_over(loaded).await?;
        }
        while let Some(told) = self.ends.take_told() {
            self.ends_told(told)?;
        }
        self.check_tasks()?;
        if self.ingest.progress.take_incarnation_change() {
            tracing::warn!("the topic was made anew, reading it from where the database says");
            self.reload_due = true;
        }
        if self.reload_due {
            self.reload().await?;
        }
        self.retry_unreadable();
        self.ask_ends();
        let consumer = Arc::clone(&self.consumer);
        let polled = consumer.poll(self.poll_timeout()).await;
        self.react(polled).await?;
        self.commit_if_due();
        self.hand_over_due()
    }

    async fn react(&mut self, polled: Polled<'_>) -> Result<(), KafkaError> {
        match polled {
            Polled::Nothing => {}
            Polled::Record(record) => {
                if let Some(lane) = self.add(&record) {
                    drop(record);
                    self.wait_for_lane(lane).await?;
                }
            }
            Polled::End { partition, offset } => self.end(partition, offset),
            Polled::Assigned(partitions) => self.assigned(partitions)?,
            Polled::Revoked(partitions) => self.revoked(&partitions).await?,
            Polled::Reset { partition, cut_at, reason } => self.reset(partition, cut_at, &reason),
            Polled::Unreadable { partition, damage, reason } => self.cannot_read(partition, damage, reason)?,
            Polled::Trouble(error) => self.note_trouble(error),
            Polled::Fatal(error) => return Err(KafkaError::Admin(error)),
        }
        Ok(())
    }

    /// librdkafka repeats itself with every try.
    fn note_trouble(&mut self, trouble: String) {
        if self.trouble != trouble {
            tracing::warn!(error = trouble, "kafka consumer trouble");
            self.trouble = trouble;
        }
    }

    /// Without one of its lanes or loaders the membership is of no use: another one begins.
    fn check_tasks(&mut self) -> Result<(), KafkaError> {
        while let Some(ended) = self.tasks.try_join_next() {
            if ended.unwrap_or(false) {
                return Err(KafkaError::Admin("a part of the consumer has died".to_owned()));
            }
        }
        Ok(())
    }

    /// Short while a batch or a commit waits for its time, so that neither is late by a whole poll.
    fn poll_timeout(&self) -> Duration {
        let linger = self.ingest.config.linger.max(Duration::from_millis(1));
        if self.lanes.iter().any(|lane| !lane.next.is_empty()) {
            linger.min(POLL)
        } else if self.uncommitted.is_empty() {
            POLL
        } else {
            COMMIT_INTERVAL / 2
        }
    }

    /// Adds a record to its lane's next batch; gives the lane if that has more than enough now.
    fn add(&mut self, record: &ConsumedRecord<'_>) -> Option<usize> {
        let partition = record.partition();
        let position = self.partitions.get_mut(&partition)?.as_mut()?;
        let number = if planted::is(Bug::LaneMixedUp) {
            planted::lane(record.offset(), self.lanes.len())
        } else {
            position.lane
        };
        if record.offset() < position.next && !planted::is(Bug::EchoNotDropped) {
            if record.leader_epoch().zip(position.read_epoch).is_some_and(|(epoch, read)| epoch > read) {
                self.reset(partition, Some(record.offset()), "another leader has written where it was read");
            }
            return None;
        }
        let lane = &mut self.lanes[number];
        lane.begin(&self.incarnation);
        if lane.next.oldest_ms(partition).is_none() && lane.oldest_ms(partition).is_none() {
            let sent_at = record.timestamp_ms().and_then(Timestamp::from_millis).map(Timestamp::millis);
            self.ingest.progress.pending(partition, record.offset(), sent_at);
        }
        lane.next.push(record, (position.expected, position.expected_epoch));
        (position.next, position.read_epoch) = (record.offset() + 1, record.leader_epoch().or(position.read_epoch));
        self.can_be_read(partition);
        (self.is_full(number) && !self.lanes[number].has_room()).then_some(number)
    }

    /// Lets running transactions end; the group is left when the last owner drops the consumer.
    async fn leave(mut self, patience: Duration) {
        if let Err(error) = self.await_lanes(patience).await {
            tracing::warn!(%error, "while leaving");
        }
        self.commit();
        self.cancel.cancel();
        // What they hold of the consumer would end it on a thread that must not be blocked.
        self.tasks.shutdown().await;
        self.ingest.progress.set_consumer(None);
    }
}
