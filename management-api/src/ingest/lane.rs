//! A lane commits one batch after the other: dead letters out, then rows, totals and offsets in one transaction.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use shared::backoff::Backoff;
use shared::event::{Purchase, Timestamp};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Ingest;
use super::batch::PendingBatch;
use crate::metrics::CommittedBatch;
use crate::planted::{self, Bug};
use crate::store::{Batch, OffsetMove, RecordError, Recorded, Recording, StoreError};

/// The pauses before the database is tried again: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What became of a batch.
pub(super) enum Outcome {
    /// Committed: the partitions' next offsets.
    Committed(Vec<(i32, i64)>),
    /// Another consumer has moved these partitions: read their offsets again.
    Fenced,
    /// The topic was made anew: what was read of it before names nothing any more.
    Outdated,
    /// Given up because the lane was told to stop; nothing of it counts.
    Abandoned,
}

/// A lane's word to the reader.
pub(super) struct Report {
    /// Which lane.
    pub lane: usize,
    /// What became of its batch.
    pub outcome: Outcome,
}

/// Commits batches, one after the other.
pub(super) struct Committer {
    /// Of which lane.
    pub lane: usize,
    /// What it works with.
    pub ingest: Arc<Ingest>,
}

impl Committer {
    /// Commits what the reader hands over, until it hangs up or `cancel` is called.
    pub(super) async fn run(
        self,
        mut batches: mpsc::Receiver<PendingBatch>,
        reports: mpsc::UnboundedSender<Report>,
        cancel: CancellationToken,
    ) {
        while let Some(batch) = batches.recv().await {
            let outcome = tokio::select! {
                biased;
                () = cancel.cancelled() => Outcome::Abandoned,
                outcome = self.commit(batch) => outcome,
            };
            if reports.send(Report { lane: self.lane, outcome }).is_err() {
                return;
            }
        }
    }

    async fn commit(&self, mut batch: PendingBatch) -> Outcome {
        let ingest = &*self.ingest;
        if !ingest.config.batch_delay.is_zero() {
            sleep(ingest.config.batch_delay).await;
        }
        self.recognize(&mut batch).await;
        batch.batch.callback_lease = ingest.callbacks.as_ref().map(|callbacks| callbacks.lease()).unwrap_or_default();
        let (ids_by_place, mut asks) = (batch.has_ids_by_place(), !planted::is(Bug::LifeNotAsked));
        if let Err(rivals) = batch.deduplicate(None) {
            let asks = !planted::is(Bug::RivalsNotAsked);
            let stored = if asks { self.find_stored(&batch.batch, &rivals).await } else { Some(HashMap::new()) };
            let Some(stored) = stored else { return Outcome::Fenced };
            let told = batch.deduplicate(Some(&stored));
            debug_assert!(told.is_ok(), "what is stored decides");
        }
        let mut committed = Vec::new();
        // The rest of a batch that was cut to find a row that the database refuses; usually just the batch.
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            // What a record's place names, an id or a dead letter, belongs to one life of the topic; that may have ended
            // since the record was fetched.
            if asks && (ids_by_place || part.has_poison()) {
                if !ingest.is_alive(&part.batch.incarnation).await {
                    tracing::warn!("the topic may have been made anew, reading it again");
                    return Outcome::Outdated;
                }
                asks = false;
            }
            if !planted::is(Bug::OffsetBeforeDeadLetter) {
                self.set_aside(&mut part).await;
            }
            if planted::is(Bug::WakeBeforeCommit) {
                let inserted = part.batch.rows.len();
                let untrue = Recorded { inserted, duplicates: 0, recorded_at: Timestamp::now(), callbacks: Vec::new() };
                ingest.waiters.wake(&part.batch.rows, &untrue);
            }
            let started = Instant::now();
            match self.record(&part).await {
                Ok(recorded) => {
                    self.finish(&part, &recorded, started.elapsed());
                    if let Some(callbacks) = &ingest.callbacks {
                        callbacks.take_up(recorded.callbacks);
                    }
                    if planted::is(Bug::OffsetBeforeDeadLetter) {
                        self.set_aside(&mut part).await;
                    }
                    committed.extend(part.batch.moves.iter().map(|step| (step.partition, step.next)));
                }
                Err(Refusal::Fenced) if planted::is(Bug::FenceIgnored) => {}
                Err(Refusal::Fenced) => return Outcome::Fenced,
                Err(Refusal::Conflict(indexes)) => {
                    part.condemn_conflicts(indexes);
                    parts.push(part);
                }
                Err(Refusal::Rejected(error)) if part.batch.rows.len() <= 1 => {
                    part.condemn_rejected(&error);
                    parts.push(part);
                }
                Err(Refusal::Rejected(_)) => {
                    let (first, second) = part.split();
                    parts.push(second);
                    parts.push(first);
                }
            }
        }
        Outcome::Committed(committed)
    }

    /// Tells dead letters that come back from records that only say so.
    async fn recognize(&self, batch: &mut PendingBatch) {
        let claims = batch.claims();
        if claims.is_empty() || planted::is(Bug::ClaimBelieved) {
            return;
        }
        let announced = self.ask(claims.len(), || self.ingest.store.find_announced(&claims)).await;
        batch.disown_all_but(&claims, &announced.into_iter().collect());
    }

    /// What is stored for ids that stand for several purchases in one batch. Nothing when the batch would be fenced: what
    /// comes before it, maybe the right one of them, is not recorded.
    async fn find_stored(&self, batch: &Batch, ids: &[Uuid]) -> Option<HashMap<Uuid, Purchase>> {
        self.ask(ids.len(), || look_up(&*self.ingest.store, batch, ids)).await
    }

    /// Asks the database what it knows of so many records, for ever while it is away.
    async fn ask<T, A>(&self, records: usize, question: impl Fn() -> A) -> T
    where
        A: Future<Output = Result<T, StoreError>>,
    {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let error = match question().await {
                Ok(answer) => {
                    self.set_stuck(false);
                    return answer;
                }
                Err(error) => error,
            };
            self.set_stuck(true);
            self.ingest.metrics.error(records);
            tracing::warn!(%error, records, "not known what the database holds, trying again");
            backoff.sleep().await;
        }
    }

    /// A dead letter is confirmed before its offset moves; one that its topic refuses moves with the offset into the
    /// database.
    async fn set_aside(&self, part: &mut PendingBatch) {
        let letters = part.take_dead_letters();
        if letters.is_empty() {
            return;
        }
        let mut refused: BTreeSet<usize> = self.ingest.dead_letters.publish_all(&letters).await.into_iter().collect();
        refused.retain(|_| !planted::is(Bug::RefusedDeadLetterDropped));
        let kept = letters.into_iter().enumerate().filter(|(index, _)| refused.contains(index));
        part.batch.dead_letters.extend(kept.map(|(_, letter)| letter));
    }

    /// Records a batch, trying for ever while the database is away.
    async fn record(&self, batch: &PendingBatch) -> Result<Recorded, Refusal> {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let result = self.ingest.store.record(&batch.batch).await;
            // Without a row there is none to blame: what is refused then is not the batch's fault, and may pass.
            let no_row = batch.batch.rows.is_empty();
            let retried = matches!(result, Err(RecordError::Unavailable(_)))
                || (no_row && matches!(result, Err(RecordError::Rejected(_))));
            self.set_stuck(retried);
            let error = match result {
                Ok(recorded) => return Ok(recorded),
                Err(RecordError::Fenced) => return Err(Refusal::Fenced),
                Err(RecordError::Conflict(indexes)) => return Err(Refusal::Conflict(indexes)),
                Err(RecordError::Rejected(error)) if no_row => error,
                Err(RecordError::Rejected(error)) => return Err(Refusal::Rejected(error)),
                Err(error) if planted::is(Bug::SilenceTakenForRefusal) => {
                    return Err(Refusal::Rejected(error.to_string()));
                }
                Err(RecordError::Unavailable(error)) => error.to_string(),
            };
            self.ingest.metrics.error(batch.len());
            tracing::warn!(error, records = batch.len(), "batch not recorded, trying again");
            backoff.sleep().await;
        }
    }

    fn finish(&self, batch: &PendingBatch, recorded: &Recorded, transaction: Duration) {
        self.ingest.waiters.wake(&batch.batch.rows, recorded);
        self.ingest.committed.notify_one();
        let committed = CommittedBatch {
            inserted: recorded.inserted,
            duplicates: recorded.duplicates + batch.repeats,
            rows: batch.batch.rows.len(),
            since_poll: batch.began.map(|began| began.elapsed()),
            transaction,
        };
        self.ingest.metrics.committed(&committed, batch.sent_at());
    }

    fn set_stuck(&self, is_stuck: bool) {
        self.ingest.progress.set_stuck(self.lane, is_stuck);
    }
}

/// Why a batch cannot be recorded as it is, however often it is tried.
enum Refusal {
    Fenced,
    Conflict(Vec<usize>),
    Rejected(String),
}

async fn look_up(
    store: &dyn Recording,
    batch: &Batch,
    ids: &[Uuid],
) -> Result<Option<HashMap<Uuid, Purchase>>, StoreError> {
    let partitions: Vec<i32> = batch.moves.iter().map(|step| step.partition).collect();
    let offsets = store.next_offsets(&batch.incarnation, &partitions).await?;
    let is_next = |step: &OffsetMove| {
        offsets.iter().any(|offset| offset.partition == step.partition && offset.next_offset == step.expected)
    };
    if !batch.moves.iter().all(is_next) {
        return Ok(None);
    }
    let stored = store.find_recorded(ids).await?;
    Ok(Some(stored.into_iter().map(|purchase| (purchase.purchase_id, purchase)).collect()))
}
