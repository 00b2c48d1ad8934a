//! Access tokens: checked here with what management-api says of them every two seconds. Nothing here can make one.

mod config;
mod keeper;
mod keys;
mod oidc;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, header};
use moka::future::Cache;
use shared::accounts::{ACCESS_TOKEN_LIFETIME, AccessClaims};
use shared::api_keys::KnownKey;
use shared::http::{Problem, kinds};
use shared::supervise::Supervisor;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

pub use self::config::TokensConfig;
use self::keeper::Keeper;
use self::keys::{Checked, Keys, Verdict};
use self::oidc::Issuer;
pub use self::oidc::OidcConfig;
use crate::management_client::ManagementClient;
use crate::metrics::Metrics;

/// How long a caller waits for the first answer of management-api.
const FIRST_LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a caller waits for the name of its key, and how often anybody does.
const UNKNOWN_KEY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// When who could not be judged may come again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What tokens that were checked may take in memory, and each beside its text.
const CHECKED_BYTES_MAX: u64 = 8 * 1024 * 1024;
const ENTRY_BYTES: usize = 512;

/// What is known of access tokens.
pub struct Tokens {
    known: watch::Receiver<Known>,
    /// Has management-api asked at once.
    look: Arc<Notify>,
    age_max: Duration,
    looked_for_key: Mutex<Option<Instant>>,
    /// Tokens that were good, so that each signature is checked once. What may change is looked at every time.
    checked: Cache<Arc<str>, Checked>,
    issuer: String,
    outside: Option<Arc<Issuer>>,
}

/// What management-api has said last.
#[derive(Clone)]
enum Known {
    /// Nothing yet.
    Nothing,
    /// That there are no accounts.
    NotSetUp,
    /// What tokens are checked with.
    Keys(Arc<Keys>),
}

impl Tokens {
    /// Begins to ask management-api when the first token is there to be checked, and goes on until the service stops.
    pub fn start(
        config: &TokensConfig,
        management: Arc<ManagementClient>,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Self {
        let (sender, known) = watch::channel(Known::Nothing);
        let look = Arc::new(Notify::new());
        let shutdown = supervisor.shutdown().clone();
        let start_outside = |oidc: &OidcConfig| Issuer::start(oidc.clone(), Arc::clone(&metrics), supervisor);
        let outside = config.oidc.as_ref().map(start_outside);
        let keeper = Arc::new(Keeper::new(config.names.clone(), management, metrics, sender, Arc::clone(&look)));
        // What is known stays with the keeper, also when its task starts anew.
        tokio::spawn(supervisor.restart("token_keys", move || Arc::clone(&keeper).run(shutdown.clone())));
        let issuer = config.names.issuer.clone();
        Self {
            known,
            look,
            looked_for_key: Mutex::default(),
            checked: cache(),
            age_max: config.age_max,
            issuer,
            outside,
        }
    }

    /// Who asks, by the access token of its request.
    ///
    /// # Errors
    /// 401 for any other than a good one, whatever is wrong with it; 503 while nobody can tell, or what is known is too old.
    pub async fn check(&self, headers: &HeaderMap) -> Result<Arc<AccessClaims>, Problem> {
        let token = bearer(headers).ok_or_else(|| no_token(headers))?;
        if let Some(checked) = self.checked.get(token).await {
            let counts = self.keys().await?.still_count(&checked);
            return if counts { Ok(checked.claims) } else { Err(refused()) };
        }
        if let Some(outside) = self.outside.as_ref().filter(|outside| outside.is_named_in(token)) {
            return outside.check(token).await;
        }
        let mut verdict = self.keys().await?.judge(token);
        if matches!(verdict, Verdict::UnknownKey) && self.may_look_for_key() {
            // It may just have begun to sign.
            self.look_again(UNKNOWN_KEY.0).await;
            verdict = self.keys().await?.judge(token);
        }
        match verdict {
            Verdict::Good(checked) => {
                self.checked.insert(token.into(), checked.clone()).await;
                Ok(checked.claims)
            }
            Verdict::UnknownKey | Verdict::Bad => Err(refused()),
        }
    }

    /// As [`Tokens::check`], for what is for administrators alone.
    ///
    /// # Errors
    /// As there, and 403 with `advice` for others.
    pub async fn check_admin(&self, headers: &HeaderMap, advice: &str) -> Result<(), Problem> {
        if self.check(headers).await?.is_admin() { Ok(()) } else { Err(Problem::new(kinds::FORBIDDEN, advice)) }
    }

    /// As [`Tokens::check`], for who has an account here.
    ///
    /// # Errors
    /// As there, and 403 for who is an outside issuer's.
    pub async fn check_account(&self, headers: &HeaderMap) -> Result<Arc<AccessClaims>, Problem> {
        let claims = self.check(headers).await?;
        let is_ours = claims.iss == self.issuer;
        if is_ours { Ok(claims) } else { Err(Problem::new(kinds::FORBIDDEN, "this account is kept by its issuer")) }
    }

    /// Whether a key is still as it is known: it has not changed since, and its account is there.
    ///
    /// # Errors
    /// 503 while nobody can tell, or what is known is too old.
    pub async fn is_up_to_date(&self, key: &KnownKey) -> Result<bool, Problem> {
        Ok(self.keys().await?.is_up_to_date(key))
    }

    /// Has management-api asked soon: something was revoked.
    pub fn expect_news(&self) {
        self.look.notify_one();
    }

    async fn keys(&self) -> Result<Arc<Keys>, Problem> {
        if matches!(*self.known.borrow(), Known::Nothing) {
            self.look_again(FIRST_LOOK_TIMEOUT).await;
        }
        match &*self.known.borrow() {
            Known::Keys(keys) if keys.asked_at.elapsed() <= self.age_max => Ok(Arc::clone(keys)),
            Known::NotSetUp => Err(not_set_up()),
            Known::Keys(_) | Known::Nothing => Err(cannot_tell()),
        }
    }

    async fn look_again(&self, time: Duration) {
        let mut known = self.known.clone();
        known.mark_unchanged();
        self.look.notify_one();
        let _ = timeout(time, known.changed()).await;
    }

    /// However many keys are made up, they cost one question in ten seconds.
    fn may_look_for_key(&self) -> bool {
        let mut looked = self.looked_for_key.lock().unwrap_or_else(PoisonError::into_inner);
        let may = looked.is_none_or(|looked| looked.elapsed() >= UNKNOWN_KEY.1);
        if may {
            *looked = Some(Instant::now());
        }
        may
    }
}

/// What a caller is told where there are no accounts.
pub fn not_set_up() -> Problem {
    Problem::unavailable("accounts are not set up", RETRY_AFTER_SECONDS)
}

fn cannot_tell() -> Problem {
    Problem::unavailable("access tokens and API keys cannot be checked now: try again", RETRY_AFTER_SECONDS)
}

/// Tokens that were good.
fn cache() -> Cache<Arc<str>, Checked> {
    let weight = |token: &Arc<str>, _: &Checked| u32::try_from(token.len() + ENTRY_BYTES).unwrap_or(u32::MAX);
    Cache::builder().weigher(weight).max_capacity(CHECKED_BYTES_MAX).time_to_live(ACCESS_TOKEN_LIFETIME).build()
}

/// The same for everything that is wrong: whoever tries learns nothing from it.
fn refused() -> Problem {
    wanted().with_invalid_token()
}

fn wanted() -> Problem {
    Problem::new(kinds::UNAUTHORIZED, "a valid access token is required")
}

/// What a caller is told who shows no good token: what is wanted, and, where one was shown at all, that it is not good.
fn no_token(headers: &HeaderMap) -> Problem {
    let is_token = |value: &HeaderValue| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next();
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
    };
    if headers.get_all(header::AUTHORIZATION).iter().any(is_token) { refused() } else { wanted() }
}

/// What is presented as a bearer token (RFC 6750), if it is one thing.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
