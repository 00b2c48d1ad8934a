//! Answers of `getAllUserBuys`, kept for a moment: one call serves many equal reads.

mod config;
mod recent_buyers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use moka::Expiry;
use moka::future::Cache;
use shared::http::Problem;

pub use self::config::ReadCacheConfig;
use self::recent_buyers::RecentBuyers;

/// The share of what callers may make the service hold that goes to answers kept for others.
const BUDGET_SHARE: usize = 8;
/// What an answer takes beside its bytes and its user's name.
const ENTRY_BYTES: usize = 256;
/// Below this an answer may be part of a larger buffer, which would be kept with it.
const SMALL_BYTES: usize = 4 * 1024;

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserRead {
    /// Whose purchases.
    pub userid: String,
    /// How many at most.
    pub limit: u32,
    /// How long the call may take: who joins another's call wants to wait as long.
    pub timeout: Duration,
}

/// The answers kept now.
pub struct ReadCache {
    age_max: Duration,
    answers: Cache<UserRead, Kept>,
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
        Self { age_max: config.age_max, answers, buyers: RecentBuyers::default() }
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
    /// As the call.
    pub async fn get<F>(&self, read: UserRead, call: impl Fn(Duration) -> F) -> Result<Bytes, Problem>
    where
        F: Future<Output = Result<Bytes, Problem>>,
    {
        let begun = Instant::now();
        if !self.is_on() || self.buyers.contains(&read.userid, begun) {
            return call(read.timeout).await;
        }
        let kept = self.ask(&read, read.timeout, &call).await?;
        if begun.saturating_duration_since(kept.asked_at) <= self.age_max {
            return Ok(kept.body);
        }
        // That call had begun long before this one: what it has read is too old for this caller, and for all who joined it since.
        let left = read.timeout.saturating_sub(begun.elapsed());
        self.ask(&read, left, &call).await.map(|kept| kept.body)
    }

    async fn ask<F>(&self, read: &UserRead, time: Duration, call: impl Fn(Duration) -> F) -> Result<Kept, Problem>
    where
        F: Future<Output = Result<Bytes, Problem>>,
    {
        let ask = async {
            let asked_at = Instant::now();
            let body = call(time).await?;
            let body = if body.len() < SMALL_BYTES { Bytes::copy_from_slice(&body) } else { body };
            Ok::<_, Problem>(Kept { body, asked_at })
        };
        self.answers.try_get_with_by_ref(read, ask).await.map_err(|problem: Arc<Problem>| (*problem).clone())
    }
}
