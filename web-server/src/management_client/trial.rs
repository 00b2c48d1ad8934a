//! An attempt as its replica is judged by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::ManagementClient;
use super::answer::Answer;
use super::attempt::{Call, Failure};
use super::calls::Verdict;
use super::hedging::DELAY_MAX;
use super::replica::{Replica, Standing};
use crate::metrics::ManagementOutcome;

/// Whether one of a call's attempts has won. Clones tell of the same call.
#[derive(Clone, Default)]
pub(super) struct Ending(Arc<AtomicBool>);

/// An attempt under way. Dropped before its end it counts as in flight no more, and, if another one has won, as slow.
pub(super) struct Trial<'a> {
    client: &'a ManagementClient,
    call: &'a Call<'a>,
    replica: Arc<Replica>,
    is_first: bool,
    ending: Ending,
    begun: Instant,
    has_ended: bool,
}

impl Ending {
    /// An attempt has won.
    pub(super) fn is_won(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<'a> Trial<'a> {
    pub(super) fn begin(
        client: &'a ManagementClient,
        call: &'a Call<'a>,
        replica: Arc<Replica>,
        is_first: bool,
        ending: Ending,
    ) -> Self {
        let trial = Self { client, call, replica, is_first, ending, begun: Instant::now(), has_ended: false };
        if trial.call.kind.is_work() {
            trial.replica.begin_request();
        }
        trial
    }

    /// Who is asked.
    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Judges the replica by the result, counts it, and gives the replica back.
    pub(super) fn end(mut self, result: &Result<Answer, Failure>) -> Arc<Replica> {
        self.has_ended = true;
        let standing = result.as_ref().map_or_else(|failure| self.standing(*failure), |_| Standing::Good);
        let outcome = result.as_ref().map_or_else(|failure| failure.outcome(), |_| ManagementOutcome::Success);
        if let Err(failure) = result {
            let request_id = self.call.context.request_id();
            tracing::debug!(replica = %self.replica.address, request_id, %failure, "attempt failed");
        }
        self.judge(standing, outcome);
        Arc::clone(&self.replica)
    }

    fn standing(&self, failure: Failure) -> Standing {
        match failure {
            Failure::Unreachable => Standing::Unreachable,
            // A caller in a hurry is not the replica's fault.
            Failure::Timeout(time) if time < DELAY_MAX => Standing::Unjudged,
            Failure::Timeout(_) | Failure::Broken => Standing::Failed,
            Failure::Status(status)
                if self.call.kind.judge(status) == Verdict::FailOver || status.is_server_error() =>
            {
                Standing::Failed
            }
            // The fault is ours.
            Failure::Status(_) | Failure::NoRoom => Standing::Good,
        }
    }

    fn judge(&self, standing: Standing, outcome: ManagementOutcome) {
        let time = self.begun.elapsed();
        self.client.metrics.management_request(outcome, time);
        self.client.replicas.note(&self.replica, standing, self.call.kind.is_work().then_some(time));
        if let Some(route) = self.call.route.filter(|_| self.is_first && standing != Standing::Unreachable) {
            self.client.hedging.first_attempt_took(route, time, Instant::now());
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.call.kind.is_work() {
            self.replica.end_request();
        }
        if self.has_ended || !self.ending.0.load(Ordering::Relaxed) {
            return;
        }
        if self.is_first {
            self.judge(Standing::Slow, ManagementOutcome::Cancelled);
        } else {
            // It has begun later than the winner, which says nothing of its replica.
            self.client.metrics.management_request(ManagementOutcome::Cancelled, self.begun.elapsed());
        }
    }
}
