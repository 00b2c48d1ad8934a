//! A lane commits one batch after the other: dead letters out, then rows, totals and offsets in one transaction.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use shared::event::Purchase;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Ingest;
use super::batch::PendingBatch;
use crate::backoff::Backoff;
use crate::letter::{DeadLetter, Sending};
use crate::metrics::CommittedBatch;
use crate::planted::{self, Bug};
use crate::store::{Batch, OffsetMove, RecordError, Recorded, StoreError};

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

/// Commits what the reader hands over, until it hangs up or `cancel` is called.
pub(super) async fn run(
    lane: usize,
    ingest: Arc<Ingest>,
    mut batches: mpsc::Receiver<PendingBatch>,
    reports: mpsc::UnboundedSender<Report>,
    cancel: CancellationToken,
) {
    while let Some(batch) = batches.recv().await {
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => Outcome::Abandoned,
            outcome = commit(&ingest, batch) => outcome,
        };
        if reports.send(Report { lane, outcome }).is_err() {
            return;
        }
    }
}

async fn commit(ingest: &Ingest, mut batch: PendingBatch) -> Outcome {
    if !ingest.config.batch_delay.is_zero() {
        sleep(ingest.config.batch_delay).await;
    }
    let (ids_by_place, mut asks) = (batch.has_ids_by_place(), !planted::is(Bug::LifeNotAsked));
    if let Err(rivals) = batch.deduplicate(None) {
        let asks = !planted::is(Bug::RivalsNotAsked);
        let stored = if asks { find_stored(ingest, &batch.batch, &rivals).await } else { Some(HashMap::new()) };
        let Some(stored) = stored else { return Outcome::Fenced };
        let told = batch.deduplicate(Some(&stored));
        debug_assert!(told.is_ok(), "what is stored decides");
    }
    let mut committed = Vec::new();
    // The rest of a batch that was cut to find a row that the database refuses; usually just the batch.
    let mut parts = vec![batch];
    while let Some(mut part) = parts.pop() {
        // What a record's place names, an id or a dead letter, belongs to one life of the topic; that may have ended since
        // the record was fetched.
        if asks && (ids_by_place || !part.poison.is_empty()) {
            if !ingest.is_alive(&part.batch.incarnation).await {
                tracing::warn!("the topic may have been made anew, reading it again");
                return Outcome::Outdated;
            }
            asks = false;
        }
        if !planted::is(Bug::OffsetBeforeDeadLetter) {
            set_aside(ingest, &mut part).await;
        }
        if planted::is(Bug::WakeBeforeCommit) {
            ingest.waiters.wake(&part.batch.rows, &planted::recorded(&part.batch));
        }
        let started = Instant::now();
        match record(ingest, &part).await {
            Ok(recorded) => {
                finish(ingest, &part, &recorded, started.elapsed());
                if planted::is(Bug::OffsetBeforeDeadLetter) {
                    set_aside(ingest, &mut part).await;
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

/// What is stored for ids that stand for several purchases in one batch, asked for ever while the database is away. Nothing when
/// the batch would be fenced: what comes before it, maybe the right one of them, is not recorded.
async fn find_stored(ingest: &Ingest, batch: &Batch, ids: &[Uuid]) -> Option<HashMap<Uuid, Purchase>> {
    ask(ingest, ids.len(), || look_up(ingest, batch, ids)).await
}

/// Asks the database what it knows of so many records, for ever while it is away.
async fn ask<T, A>(ingest: &Ingest, records: usize, question: impl Fn() -> A) -> T
where
    A: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    loop {
        let answer = question().await;
        ingest.progress.set_writable(answer.is_ok());
        match answer {
            Ok(answer) => return answer,
            Err(error) => tracing::warn!(%error, records, "not known what the database holds, trying again"),
        }
        ingest.metrics.error(records);
        backoff.sleep().await;
    }
}

async fn look_up(ingest: &Ingest, batch: &Batch, ids: &[Uuid]) -> Result<Option<HashMap<Uuid, Purchase>>, StoreError> {
    let partitions: Vec<i32> = batch.moves.iter().map(|step| step.partition).collect();
    let offsets = ingest.store.next_offsets(&batch.incarnation, &partitions).await?;
    let is_next = |step: &OffsetMove| {
        offsets.iter().any(|offset| offset.partition == step.partition && offset.next_offset == step.expected)
    };
    if !batch.moves.iter().all(is_next) {
        return Ok(None);
    }
    let stored = ingest.store.find_recorded(ids).await?;
    Ok(Some(stored.into_iter().map(|purchase| (purchase.purchase_id, purchase)).collect()))
}

/// A dead letter is confirmed before its offset moves; one that its topic refuses moves with the offset into the database.
async fn set_aside(ingest: &Ingest, part: &mut PendingBatch) {
    if part.poison.is_empty() {
        return;
    }
    let mut poison = std::mem::take(&mut part.poison);
    recognize(ingest, &mut poison).await;
    let mut refused: BTreeSet<usize> = ingest.dead_letters.publish_all(&poison).await.into_iter().collect();
    refused.retain(|_| !planted::is(Bug::RefusedDeadLetterDropped));
    let kept = poison.into_iter().enumerate().filter(|(index, _)| refused.contains(index));
    part.batch.dead_letters.extend(kept.map(|(_, letter)| letter));
}

/// Tells dead letters that come back from records that only say so: those are new ones.
async fn recognize(ingest: &Ingest, poison: &mut [DeadLetter]) {
    let (claimants, sendings): (Vec<_>, Vec<_>) =
        poison.iter_mut().filter_map(|letter| letter.sending().map(|sending| (letter, sending))).unzip();
    if sendings.is_empty() || planted::is(Bug::ClaimBelieved) {
        return;
    }
    let announced = ask(ingest, sendings.len(), || ingest.store.find_announced(&sendings)).await;
    let announced: HashSet<Sending> = announced.into_iter().collect();
    for (letter, sending) in claimants.into_iter().zip(&sendings) {
        if !announced.contains(sending) {
            letter.disown();
        }
    }
}

/// Why a batch cannot be recorded as it is, however often it is tried.
enum Refusal {
    Fenced,
    Conflict(Vec<usize>),
    Rejected(String),
}

/// Records a batch, trying for ever while the database is away.
async fn record(ingest: &Ingest, batch: &PendingBatch) -> Result<Recorded, Refusal> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    loop {
        let result = ingest.store.record(&batch.batch).await;
        // Without a row there is none to blame: what is refused then is not the batch's fault, and may pass.
        let no_row = batch.batch.rows.is_empty();
        let retried = matches!(result, Err(RecordError::Unavailable(_)))
            || (no_row && matches!(result, Err(RecordError::Rejected(_))));
        ingest.progress.set_writable(!retried);
        let error = match result {
            Ok(recorded) => return Ok(recorded),
            Err(RecordError::Fenced) => return Err(Refusal::Fenced),
            Err(RecordError::Conflict(indexes)) => return Err(Refusal::Conflict(indexes)),
            Err(RecordError::Rejected(error)) if no_row => error,
            Err(RecordError::Rejected(error)) => return Err(Refusal::Rejected(error)),
            Err(error) if planted::is(Bug::SilenceTakenForRefusal) => return Err(Refusal::Rejected(error.to_string())),
            Err(RecordError::Unavailable(error)) => error.to_string(),
        };
        ingest.metrics.error(batch.len());
        tracing::warn!(error, records = batch.len(), "batch not recorded, trying again");
        backoff.sleep().await;
    }
}

fn finish(ingest: &Ingest, batch: &PendingBatch, recorded: &Recorded, transaction: Duration) {
    ingest.waiters.wake(&batch.batch.rows, recorded);
    let committed = CommittedBatch {
        inserted: recorded.inserted,
        duplicates: recorded.duplicates + batch.repeats,
        rows: batch.batch.rows.len(),
        since_poll: batch.began.map(|began| began.elapsed()),
        transaction,
    };
    ingest.metrics.committed(&committed, batch.sent_at());
}
