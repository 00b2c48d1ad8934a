//! Answers of `getAllUserBuys`, kept for a moment: one call serves many equal reads.

mod config;
mod flights;
mod recent_buyers;

use std::time::{Duration, Instant};

use axum::body::Bytes;
use futures_util::FutureExt;
use moka::Expiry;
use moka::future::Cache;
use shared::http::Problem;
use tokio::time::timeout;

pub use self::config::ReadCacheConfig;
use self::flights::{Flights, Outcome};
use self::recent_buyers::RecentBuyers;

/// The share of what callers may make the service hold that goes to answers kept for others.
const BUDGET_SHARE: usize = 8;
/// What an answer takes beside its bytes and its user's name.
const ENTRY_BYTES: usize = 256;
/// Below this an answer may be part of a larger buffer, which would be kept with it.
const SMALL_BYTES: usize = 4 * 1024;
/// When a caller may come again whose own time was over before that of the call it waited for.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserRead {
    /// Whose purchases.
    pub userid: String,
    /// How many at most.
    pub limit: u32,
    /// How long the call may take: who joins another's call wants to wait as long, from its own beginning on.
    pub timeout: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum NotRead {
    /// No place was free. Of all who shared the call each is told so for itself.
    NoPlace,
    /// The call has failed.
    Failed(Problem),
}

/// The answers kept now.
pub struct ReadCache {
    age_max: Duration,
    answers: Cache<UserRead, Kept>,
    flights: Flights,
    buyers: RecentBuyers,
}

#[derive(Clone)]
struct Kept {
    body: Bytes,
    /// The answer is no older than this.
    asked_at: Instant,
}

/// Keeps an answer as long as its age allows, which counts from before it was asked for.
struct ByAge(Duration);

impl Expiry<UserRead, Kept> for ByAge {
    fn expire_after_create(&self, _: &UserRead, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(self.0.saturating_sub(kept.asked_at.elapsed()))
    }

    fn expire_after_update(&self, read: &UserRead, kept: &Kept, now: Instant, _: Option<Duration>) -> Option<Duration> {
        self.expire_after_create(read, kept, now)
    }
}

impl ReadCache {
    /// Nothing is kept yet; at most a share of `memory_max` bytes ever is.
    pub fn new(config: ReadCacheConfig, memory_max: usize) -> Self {
        let weight = |read: &UserRead, kept: &Kept| {
            u32::try_from(read.userid.len() + kept.body.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let answers = Cache::builder()
            .max_capacity(u64::try_from(memory_max / BUDGET_SHARE).unwrap_or(u64::MAX))
            .weigher(weight)
            .expire_after(ByAge(config.age_max))
            .build();
        Self { age_max: config.age_max, answers, flights: Flights::default(), buyers: RecentBuyers::default() }
    }

    /// Whether anything is ever kept.
    pub fn is_on(&self) -> bool {
        !self.age_max.is_zero()
    }

    /// A user buys here: for a while nothing kept is good enough for reads of its purchases.
    pub fn buys(&self, userid: &str) {
        if self.is_on() {
            self.buyers.add(userid, Instant::now());
        }
    }

    /// The answer to `read`: what was kept of it, or that of a call which is under way or begins now, and is told how long it
    /// may take.
    ///
    /// # Errors
    /// As the call, or when this caller's own time is over.
    pub async fn get<F>(&self, read: UserRead, call: impl Fn(Duration) -> F) -> Result<Bytes, NotRead>
    where
        F: Future<Output = Result<Bytes, NotRead>> + Send + 'static,
    {
        let begun = Instant::now();
        if !self.is_on() || self.buyers.contains(&read.userid, begun) {
            return call(read.timeout).await;
        }
        if let Some(kept) = self.answers.get(&read).await
            && self.is_young(kept.asked_at, begun)
        {
            return Ok(kept.body);
        }
        let first = self.share(&read, &call).await;
        // Who has joined a call may have come long after it began: then what it has read is too old, or its time was over too soon.
        let is_for_us = match first.result {
            Ok(_) => self.is_young(first.asked_at, begun),
            Err(_) => first.asked_at >= begun || first.asked_at.elapsed() < read.timeout,
        };
        if is_for_us {
            return first.result;
        }
        // The next one begins after this caller has come, and has all the time that there is: others may come later still.
        let left = read.timeout.saturating_sub(begun.elapsed());
        match (timeout(left, self.share(&read, &call)).await, first.result) {
            (Ok(next), _) => next.result,
            (Err(_), Err(reason)) => Err(reason),
            (Err(_), Ok(_)) => Err(not_in_time(left)),
        }
    }

    /// Whether an answer that was asked for then is good enough for who has come at `begun`.
    fn is_young(&self, asked_at: Instant, begun: Instant) -> bool {
        begun.saturating_duration_since(asked_at) <= self.age_max
    }

    /// The outcome of a call that all who want the same share. An answer is kept.
    async fn share<F>(&self, read: &UserRead, call: impl Fn(Duration) -> F) -> Outcome
    where
        F: Future<Output = Result<Bytes, NotRead>> + Send + 'static,
    {
        let begin = || {
            let (asked_at, called) = (Instant::now(), call(read.timeout));
            let (answers, read) = (self.answers.clone(), read.clone());
            async move {
                let result = called.await.map(alone);
                if let Ok(body) = &result {
                    answers.insert(read, Kept { body: body.clone(), asked_at }).await;
                }
                Outcome { asked_at, result }
            }
            .boxed()
        };
        self.flights.join(read, begin).await
    }
}

/// An answer in memory of its own.
fn alone(body: Bytes) -> Bytes {
    if body.len() < SMALL_BYTES { Bytes::copy_from_slice(&body) } else { body }
}

fn not_in_time(time: Duration) -> NotRead {
    let detail = format!("management-api did not answer: attempt 1: no answer in {} ms", time.as_millis());
    NotRead::Failed(Problem::unavailable(detail, RETRY_AFTER_SECONDS))
}
