//! Keys that somebody has presented, by their hashes: management-api is asked once for each, however many come with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use moka::future::Cache;
use shared::accounts::ACCESS_TOKEN_LIFETIME;
use shared::api_keys::{FoundKey, KnownKey, SecretHash};
use shared::http::Problem;

use super::MayAsk;
use crate::management_client::{ManagementClient, calls::CallKind};
use crate::tokens::not_set_up;

/// How long management-api may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// How often it is asked about keys that nobody knows, a second: whoever makes up well-formed ones holds nobody up but those who
/// come with one for the first time.
const QUESTIONS_MAX: u32 = 100;
/// How long a key that is none is remembered as such: nobody can have one before it is made.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// How long one that was good is remembered as such: it is asked about whatever others make up, and counts on while nobody answers.
const GOOD_FOR: Duration = Duration::from_hours(24);
/// How long it counts on before it is asked about again.
const UNANSWERED_FOR: Duration = Duration::from_secs(10);
/// What keys may take in memory, and a list of hashes, and each in them.
const KNOWN_BYTES_MAX: u64 = 8 * 1024 * 1024;
const HASHES_BYTES_MAX: u64 = 2 * 1024 * 1024;
const KNOWN_BYTES: u32 = 512;
const HASH_BYTES: u32 = 160;
/// When who could not be judged may come again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What is known of keys.
pub(super) struct KnownKeys {
    management: Arc<ManagementClient>,
    /// As long as a change of them is told.
    known: Cache<SecretHash, Arc<KnownKey>>,
    unknown: Cache<SecretHash, ()>,
    /// As they were when somebody answered last.
    once_good: Cache<SecretHash, Arc<KnownKey>>,
    /// Those of them about which nobody has answered just now.
    unanswered: Cache<SecretHash, Arc<KnownKey>>,
    /// The second that runs, and the questions in it.
    asked: Mutex<(Instant, u32)>,
}

/// Why there is no key.
#[derive(Clone)]
enum Unfound {
    Unknown,
    NotSetUp,
    TooManyQuestions,
    NoAnswer,
}

impl KnownKeys {
    pub(super) fn new(management: Arc<ManagementClient>) -> Self {
        let [known, once_good, unanswered] = [ACCESS_TOKEN_LIFETIME, GOOD_FOR, UNANSWERED_FOR].map(keys);
        let asked = Mutex::new((Instant::now(), 0));
        Self { management, known, unknown: hashes(UNKNOWN_FOR), once_good, unanswered, asked }
    }

    /// The key of this hash, as it was when somebody last answered; nothing when there is none. Who has used up its quota already
    /// (`may_ask` says no) has nobody asked about one that was never good. One that has changed since (`is_outdated`) is of no use
    /// while nobody answers.
    pub(super) async fn find(
        &self,
        hash: SecretHash,
        may_ask: MayAsk<'_>,
        is_outdated: bool,
    ) -> Result<Option<Arc<KnownKey>>, Problem> {
        for known in [&self.known, &self.unanswered] {
            if let Some(key) = known.get(&hash).await {
                return Ok(Some(key));
            }
        }
        if self.unknown.contains_key(&hash) {
            return Ok(None);
        }
        match self.known.try_get_with(hash, self.ask(hash, may_ask)).await {
            Ok(key) => Ok(Some(key)),
            Err(unfound) => {
                let may_go_on = matches!(*unfound, Unfound::NoAnswer) && !is_outdated;
                let known = if may_go_on { self.once_good.get(&hash).await } else { None };
                let Some(key) = known else { return unfound.told() };
                self.unanswered.insert(hash, Arc::clone(&key)).await;
                Ok(Some(key))
            }
        }
    }

    /// Has it asked about anew.
    pub(super) async fn forget(&self, hash: &SecretHash) {
        for known in [&self.known, &self.unanswered] {
            known.invalidate(hash).await;
        }
    }

    async fn ask(&self, hash: SecretHash, may_ask: MayAsk<'_>) -> Result<Arc<KnownKey>, Unfound> {
        let was_good = self.once_good.contains_key(&hash);
        if !was_good && (!may_ask() || !self.is_time_to_ask()) {
            return Err(Unfound::TooManyQuestions);
        }
        let target = format!("/internal/known-keys/{hash}");
        let json = self.management.ask(CallKind::KeyCheck, target, DEADLINE).await.map_err(|problem| {
            if problem.status() == StatusCode::NOT_FOUND { Unfound::NotSetUp } else { Unfound::NoAnswer }
        })?;
        let FoundKey { key } = serde_json::from_slice(&json).map_err(|error| {
            tracing::error!(%error, "management-api's answer about a key is not understood");
            Unfound::NoAnswer
        })?;
        let Some(key) = key else {
            self.unknown.insert(hash, ()).await;
            self.once_good.invalidate(&hash).await;
            return Err(Unfound::Unknown);
        };
        let key = Arc::new(key);
        self.once_good.insert(hash, Arc::clone(&key)).await;
        Ok(key)
    }

    fn is_time_to_ask(&self) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.0.elapsed() >= Duration::from_secs(1) {
            *asked = (Instant::now(), 0);
        }
        asked.1 += 1;
        asked.1 <= QUESTIONS_MAX
    }
}

fn keys(time: Duration) -> Cache<SecretHash, Arc<KnownKey>> {
    Cache::builder().weigher(|_, _| KNOWN_BYTES).max_capacity(KNOWN_BYTES_MAX).time_to_live(time).build()
}

fn hashes(time: Duration) -> Cache<SecretHash, ()> {
    Cache::builder().weigher(|_, ()| HASH_BYTES).max_capacity(HASHES_BYTES_MAX).time_to_live(time).build()
}

impl Unfound {
    fn told<T>(&self) -> Result<Option<T>, Problem> {
        match self {
            Self::Unknown => Ok(None),
            Self::NotSetUp => Err(not_set_up()),
            Self::TooManyQuestions => {
                let advice = "too many API keys are presented that nobody knows: try again";
                Err(Problem::unavailable(advice, RETRY_AFTER_SECONDS))
            }
            Self::NoAnswer => {
                Err(Problem::unavailable("API keys cannot be checked now: try again", RETRY_AFTER_SECONDS))
            }
        }
    }
}
