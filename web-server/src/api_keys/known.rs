//! Keys that somebody has presented, by their hashes: management-api is asked once for each, however many come with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use moka::future::Cache;
use shared::accounts::ACCESS_TOKEN_LIFETIME;
use shared::api_keys::{FoundKey, KnownKey, SecretHash};
use shared::http::Problem;

use crate::management_client::ManagementClient;
use crate::tokens::not_set_up;

/// How long management-api may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often it is asked about keys that nobody knows, a second: whoever makes up well-formed ones holds nobody up but those who
/// come with one for the first time.
const QUESTIONS_MAX: u32 = 100;
/// How long a key that is none is remembered as such: nobody can have one before it is made.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// How long one that was good is remembered as such: it is asked about whatever others make up.
const GOOD_FOR: Duration = Duration::from_hours(24);
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
    once_good: Cache<SecretHash, ()>,
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
        let known = Cache::builder()
            .weigher(|_, _| KNOWN_BYTES)
            .max_capacity(KNOWN_BYTES_MAX)
            .time_to_live(ACCESS_TOKEN_LIFETIME)
            .build();
        let (unknown, once_good) = (hashes(UNKNOWN_FOR), hashes(GOOD_FOR));
        Self { management, known, unknown, once_good, asked: Mutex::new((Instant::now(), 0)) }
    }

    /// The key of this hash, as it was when it was last asked about; nothing when there is none.
    pub(super) async fn find(&self, hash: SecretHash) -> Result<Option<Arc<KnownKey>>, Problem> {
        if let Some(key) = self.known.get(&hash).await {
            return Ok(Some(key));
        }
        if self.unknown.contains_key(&hash) {
            return Ok(None);
        }
        match self.known.try_get_with(hash, self.ask(hash)).await {
            Ok(key) => Ok(Some(key)),
            Err(unfound) => unfound.told(),
        }
    }

    /// Has it asked about anew.
    pub(super) async fn forget(&self, hash: &SecretHash) {
        self.known.invalidate(hash).await;
    }

    async fn ask(&self, hash: SecretHash) -> Result<Arc<KnownKey>, Unfound> {
        if !self.once_good.contains_key(&hash) && !self.may_ask() {
            return Err(Unfound::TooManyQuestions);
        }
        let target = format!("/internal/known-keys/{hash}");
        let json = self.management.ask(target, DEADLINE).await.map_err(|problem| {
            if problem.status() == StatusCode::NOT_FOUND { Unfound::NotSetUp } else { Unfound::NoAnswer }
        })?;
        let FoundKey { key } = serde_json::from_slice(&json).map_err(|error| {
            tracing::error!(%error, "management-api's answer about a key is not understood");
            Unfound::NoAnswer
        })?;
        let Some(key) = key else {
            self.unknown.insert(hash, ()).await;
            return Err(Unfound::Unknown);
        };
        self.once_good.insert(hash, ()).await;
        Ok(Arc::new(key))
    }

    fn may_ask(&self) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.0.elapsed() >= Duration::from_secs(1) {
            *asked = (Instant::now(), 0);
        }
        asked.1 += 1;
        asked.1 <= QUESTIONS_MAX
    }
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
