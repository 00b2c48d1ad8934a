//! One connection of a load: takes turns, sends, repeats when told to, and writes everything down.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use super::{
    LoadPlan, LoadReport, Progress, Purchases,
    connection::Connection,
    pace::{Turn, Turns},
    purchases::{Order, request},
};
use crate::ledger::{Attempt, Entry, Outcome};

/// The pause before a repeated attempt; doubled each time, up to the larger one.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(500);

pub(super) struct Worker {
    plan: Arc<LoadPlan>,
    target: usize,
    connection: Option<Connection>,
    progress: Arc<Progress>,
    started: Instant,
    report: LoadReport,
}

/// What the ledger wants to know of an answer to a purchase: a 2xx has both, a 504 at least the id.
#[derive(Debug, Default, Deserialize)]
struct AnswerBody {
    purchase_id: Option<uuid::Uuid>,
    data: Option<AnswerData>,
}

#[derive(Debug, Deserialize)]
struct AnswerData {
    timestamp: chrono::DateTime<chrono::Utc>,
}

impl Worker {
    pub(super) fn new(plan: Arc<LoadPlan>, number: usize, progress: Arc<Progress>, started: Instant) -> Self {
        let target = number % plan.targets.len();
        Self { plan, target, connection: None, progress, started, report: LoadReport::default() }
    }

    pub(super) async fn run(mut self, turns: Turns) -> LoadReport {
        // Made once where all requests are the same: the less this client does, the more cores the server has.
        let same = match &self.plan.purchases {
            Purchases::Same { body } => Some(request(body, None, &self.plan)),
            Purchases::Unique { .. } => None,
        };
        while let Some(turn) = turns.next().await {
            self.progress.sent.fetch_add(1, Ordering::Relaxed);
            if let Some(request) = &same {
                self.buy(turn, request).await;
            } else if let Some(order) = self.plan.purchases.order(turn.number) {
                let request = request(&order.body(self.plan.callback_url.as_deref()), order.key.as_deref(), &self.plan);
                let attempts = self.buy(turn, &request).await;
                let Order { username, userid, price, key } = order;
                self.report.ledger.add(Entry { username, userid, price, key, attempts });
            }
        }
        self.report
    }

    /// Sends one purchase, again and again if the plan says so; all attempts in order.
    async fn buy(&mut self, turn: Turn, request: &[u8]) -> Vec<Attempt> {
        let mut attempts = Vec::with_capacity(1);
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            let attempt = self.attempt(request).await;
            let outcome = attempt.outcome.clone();
            attempts.push(attempt);
            if outcome.is_acknowledged() {
                self.report.latencies.add(turn.due.elapsed());
                self.progress.acknowledged.fetch_add(1, Ordering::Relaxed);
                return attempts;
            }
            if !outcome.is_worth_repeating() || turn.due.elapsed() + pause >= self.plan.retry_for {
                self.report.given_up += 1;
                return attempts;
            }
            self.connection = None;
            self.target = (self.target + 1) % self.plan.targets.len();
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    async fn attempt(&mut self, request: &[u8]) -> Attempt {
        let begun = Instant::now();
        let outcome = timeout(self.plan.attempt_deadline, self.exchange(request)).await;
        let outcome = outcome.unwrap_or_else(|_| {
            self.connection = None;
            Outcome::Lost("no answer in time".to_owned())
        });
        match &outcome {
            Outcome::Answered { status, .. } => *self.report.statuses.entry(*status).or_default() += 1,
            Outcome::NotSent(reason) | Outcome::Lost(reason) => {
                *self.report.failures.entry(reason.clone()).or_default() += 1;
            }
        }
        Attempt { target: self.target, begun: begun - self.started, took: begun.elapsed(), outcome }
    }

    async fn exchange(&mut self, request: &[u8]) -> Outcome {
        // Taken out while in use: cancelled by the deadline, it is not used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match Connection::open(&self.plan.targets[self.target]).await {
                Ok(connection) => connection,
                Err(error) => return Outcome::NotSent(reason(&error)),
            },
        };
        match connection.exchange(request).await {
            Ok(response) => {
                let body: AnswerBody = serde_json::from_slice(response.body).unwrap_or_default();
                let outcome = Outcome::Answered {
                    status: response.status,
                    purchase_id: body.purchase_id,
                    timestamp: body.data.map(|data| data.timestamp),
                };
                if !response.is_last {
                    self.connection = Some(connection);
                }
                outcome
            }
            Err(error) => Outcome::Lost(reason(&error)),
        }
    }
}

/// Errors by kind, without the parts that differ each time.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::Other => error.to_string(),
        kind => kind.to_string(),
    }
}
