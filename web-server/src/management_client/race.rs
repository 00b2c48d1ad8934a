//! One call: attempts on different replicas, of which the first that settles it wins. The others end with it, down to their
//! statements in the database.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::ManagementClient;
use super::answer::Answer;
use super::attempt::{Call, Failure, attempt};
use super::calls::CallKind;
use super::hedging::Extra;
use super::replica::Replica;
use super::trial::{Ending, Trial};
use crate::metrics::HedgeWinner;

/// Attempts that reach a replica, within one call. Those that find nobody there are not counted: nothing was sent.
const ATTEMPTS_MAX: usize = 3;

/// How often a replica is connected to within one call, when nobody else is left: where many come at once, a network drops some.
const ROUNDS_MAX: usize = 3;

/// A call under way.
pub(super) struct Race<'a> {
    client: &'a ManagementClient,
    call: &'a Call<'a>,
    deadline: Instant,
    tried: Vec<Arc<Replica>>,
    /// Those of them that could not be connected to, in this round.
    absent: Vec<Arc<Replica>>,
    rounds: usize,
    /// How many attempts have begun.
    begun: usize,
    running: FuturesUnordered<BoxFuture<'a, Finished>>,
    failures: Vec<Failure>,
    /// The time to begin others has come, or the first attempt has failed before.
    is_late: bool,
    /// Others have begun.
    is_hedged: bool,
    ending: Ending,
}

/// An attempt that has ended.
struct Finished {
    replica: Arc<Replica>,
    is_first: bool,
    result: Result<Answer, Failure>,
}

impl<'a> Race<'a> {
    /// Nothing is sent yet.
    pub(super) fn new(client: &'a ManagementClient, call: &'a Call<'a>, deadline: Instant) -> Self {
        Self {
            client,
            call,
            deadline,
            tried: Vec::new(),
            absent: Vec::new(),
            rounds: 1,
            begun: 0,
            running: FuturesUnordered::new(),
            failures: Vec::new(),
            is_late: false,
            is_hedged: false,
            ending: Ending::default(),
        }
    }

    /// Runs until an attempt has settled the call, or none can any more. Gives how each has failed then.
    pub(super) async fn run(mut self) -> Result<Answer, Vec<Failure>> {
        let begun = Instant::now();
        let hedge_at = self.call.route.map(|route| {
            let time = self.deadline.saturating_duration_since(begun);
            begun + self.client.hedging.delay(route, time, begun)
        });
        let hedge_at = hedge_at.unwrap_or(self.deadline);
        self.client.hedging.call(begun);
        self.next_replica().into_iter().for_each(|replica| self.begin(replica));
        while !self.running.is_empty() {
            tokio::select! {
                biased;
                Some(Finished { replica, is_first, result }) = self.running.next() => match result {
                    Ok(answer) => {
                        self.end(if is_first { HedgeWinner::First } else { HedgeWinner::Hedge });
                        return Ok(answer);
                    }
                    Err(failure) if self.goes_on_after(failure, replica) => {}
                    Err(_) => break,
                },
                () = tokio::time::sleep_until(hedge_at.into()), if self.may_hedge() => self.begin_others(),
            }
        }
        self.end(HedgeWinner::None);
        Err(self.failures)
    }

    /// Whether there is still something to wait for after a failure; what may help is begun.
    fn goes_on_after(&mut self, failure: Failure, replica: Arc<Replica>) -> bool {
        self.failures.push(failure);
        if !self.call.kind.asks_another(failure) {
            return false;
        }
        if failure == Failure::Unreachable {
            // In its place: nothing of it has reached anybody.
            self.absent.push(replica);
            self.next_replica().or_else(|| self.next_round()).into_iter().for_each(|replica| self.begin(replica));
        } else if self.may_hedge() {
            self.begin_others();
        } else if self.running.is_empty() {
            self.begin_extra_attempt(Extra::Second);
        }
        true
    }

    fn may_hedge(&self) -> bool {
        self.call.route.is_some() && !self.is_late
    }

    /// The first attempt takes longer than is usual, or has failed: the others begin, both at once.
    fn begin_others(&mut self) {
        self.is_late = true;
        for extra in [Extra::Second, Extra::Third] {
            self.is_hedged |= self.begin_extra_attempt(extra);
        }
    }

    /// Begins an attempt beyond the first, if there may be one more.
    fn begin_extra_attempt(&mut self, extra: Extra) -> bool {
        let unreachable = self.failures.iter().filter(|failure| **failure == Failure::Unreachable).count();
        if self.begun - unreachable >= ATTEMPTS_MAX {
            return false;
        }
        // Without another replica nothing is taken from what other calls may need.
        let Some(replica) = self.next_replica() else { return false };
        if self.call.kind != CallKind::Own && !self.client.hedging.may_try_again(extra, Instant::now()) {
            return false;
        }
        self.begin(replica);
        true
    }

    fn begin(&mut self, replica: Arc<Replica>) {
        let is_first = self.begun == 0;
        self.begun += 1;
        self.tried.push(Arc::clone(&replica));
        let (client, call, deadline) = (self.client, self.call, self.deadline);
        let trial = Trial::begin(client, call, replica, is_first, self.ending.clone());
        self.running.push(Box::pin(async move {
            let result = attempt(&client.way, trial.replica(), call, deadline).await;
            let replica = trial.end(&result);
            Finished { replica, is_first, result }
        }));
    }

    fn next_replica(&self) -> Option<Arc<Replica>> {
        // One that is left out is better than none, but no good for being quicker than another.
        let at_worst = self.running.is_empty();
        self.client.replicas.choose(self.call.kind, self.client.balancing_of(self.call.kind), &self.tried, at_worst)
    }

    /// Once nobody is left, those who could not be connected to are tried again.
    fn next_round(&mut self) -> Option<Arc<Replica>> {
        if !self.running.is_empty() || self.rounds == ROUNDS_MAX || Instant::now() >= self.deadline {
            return None;
        }
        self.rounds += 1;
        let absent = std::mem::take(&mut self.absent);
        self.tried.retain(|tried| !absent.iter().any(|absent| Arc::ptr_eq(absent, tried)));
        self.next_replica()
    }

    fn end(&self, winner: HedgeWinner) {
        if winner != HedgeWinner::None {
            self.ending.is_won();
        }
        if self.is_hedged {
            self.client.metrics.management_hedged(winner);
        }
    }
}
