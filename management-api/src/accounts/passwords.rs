//! Passwords: hashed by argon2id, a few at once, and never on a thread that answers requests.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use shared::config::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use unicode_normalization::UnicodeNormalization;

use super::AccountError;
use crate::metrics::PasswordMetrics;

/// The characters that a password may have.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=128;
const BAD_PASSWORD: &str = "must have 8 to 128 characters";
/// How long a turn is waited for: two who come at once are both served, a crowd is refused at once.
const TURN_TIMEOUT: Duration = Duration::from_millis(10);
/// What a password must cost: 19 MiB, two passes, one lane (OWASP Password Storage Cheat Sheet).
const COST: Params = Params::DEFAULT;

/// Of no account's password; it takes the work that one would.
static NOBODYS_HASH: LazyLock<Result<Secret<String>, String>> = LazyLock::new(|| hash(b"nobody's"));

/// A password as somebody has sent it. What no account can have is not even kept.
#[derive(Clone, Debug)]
pub struct Password(Option<Secret<String>>);

impl Password {
    /// Takes a password that an account may have.
    ///
    /// # Errors
    /// What it has to be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let password = Self::given(text);
        if password.0.is_some() { Ok(password) } else { Err(BAD_PASSWORD) }
    }

    /// Takes any text, however long. It is the same one however a keyboard writes it (NFKC, as NIST SP 800-63B advises).
    #[must_use]
    pub fn given(text: &str) -> Self {
        let fits = LENGTH.contains(&text.chars().take(LENGTH.end() + 1).count());
        Self(fits.then(|| Secret::new(text.nfkc().collect())))
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(b"", |text| text.expose().as_bytes())
    }
}

/// Whether a password is the account's.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is.
    Right {
        /// A stronger hash, where the old one does not cost what it must.
        rehashed: Option<Secret<String>>,
    },
    /// It is not, or there is no account.
    Wrong,
}

/// Turns to hash a password.
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    metrics: PasswordMetrics,
}

/// One turn. It lasts as long as the hashing, whether or not anybody waits for that any more: only so is memory bounded.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
    metrics: PasswordMetrics,
}

impl Passwords {
    pub(super) fn new(hashes_max: usize, metrics: PasswordMetrics) -> Self {
        Self { turns: Arc::new(Semaphore::new(hashes_max)), metrics }
    }

    /// A turn, if one is free by now or in a moment.
    pub(super) async fn turn(&self) -> Option<Turn> {
        let permit = timeout(TURN_TIMEOUT, Arc::clone(&self.turns).acquire_owned()).await.ok().and_then(Result::ok);
        if permit.is_none() {
            self.metrics.refused();
        }
        Some(Turn { _permit: permit?, metrics: self.metrics.clone() })
    }
}

impl Turn {
    /// Hashes a new password.
    pub(super) async fn hash(self, password: Password) -> Result<Secret<String>, AccountError> {
        self.work(move |metrics| {
            metrics.hashed();
            hash(password.bytes())
        })
        .await
    }

    /// Holds a password against an account's, or nobody's: the work is the same.
    pub(super) async fn verify(
        self,
        password: Password,
        known: Option<Secret<String>>,
    ) -> Result<Verdict, AccountError> {
        self.work(move |metrics| verify(&password, known.as_ref(), metrics)).await
    }

    /// Hashes a new password for who knows the old one; nothing for who does not.
    pub(super) async fn change(
        self,
        old: Password,
        known: Secret<String>,
        new: Password,
    ) -> Result<Option<Secret<String>>, AccountError> {
        self.work(move |metrics| match verify(&old, Some(&known), metrics)? {
            Verdict::Wrong => Ok(None),
            Verdict::Right { .. } => {
                metrics.hashed();
                hash(new.bytes()).map(Some)
            }
        })
        .await
    }

    async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce(&PasswordMetrics) -> Result<T, String> + Send + 'static,
    ) -> Result<T, AccountError> {
        let worked = tokio::task::spawn_blocking(move || {
            let worked = work(&self.metrics);
            drop(self);
            worked
        });
        let worked = worked.await.map_err(|error| AccountError::Broken(error.to_string()))?;
        worked.map_err(AccountError::Broken)
    }
}

fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, COST)
}

fn hash(password: &[u8]) -> Result<Secret<String>, String> {
    let hashed = argon2().hash_password(password).map_err(|error| error.to_string())?;
    Ok(Secret::new(hashed.to_string()))
}

fn verify(password: &Password, known: Option<&Secret<String>>, metrics: &PasswordMetrics) -> Result<Verdict, String> {
    let nobodys = NOBODYS_HASH.as_ref().map_err(Clone::clone)?;
    let stored = known.unwrap_or(nobodys).expose();
    let stored = PasswordHash::new(stored).map_err(|error| error.to_string())?;
    metrics.hashed();
    let matches = argon2().verify_password(password.bytes(), &stored).is_ok();
    if !matches || known.is_none() || password.0.is_none() {
        return Ok(Verdict::Wrong);
    }
    if !is_weaker(&stored) {
        return Ok(Verdict::Right { rehashed: None });
    }
    metrics.hashed();
    let rehashed = Some(hash(password.bytes())?);
    Ok(Verdict::Right { rehashed })
}

/// Whether a hash costs less than it must by now.
fn is_weaker(stored: &PasswordHash) -> bool {
    let is_argon2id = stored.algorithm.as_str() == Algorithm::Argon2id.as_str();
    let params = Params::try_from(stored);
    !is_argon2id || params.is_ok_and(|params| params.m_cost() < COST.m_cost() || params.t_cost() < COST.t_cost())
}

#[cfg(test)]
mod tests {
    use shared::metrics::Registry;

    use super::*;

    fn verify(password: &Password, known: Option<&Secret<String>>) -> Result<Verdict, String> {
        super::verify(password, known, &PasswordMetrics::register(&Registry::new(&[])))
    }

    fn hashed_with(params: Params, password: &str) -> Secret<String> {
        let weaker = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Secret::new(weaker.hash_password(password.as_bytes()).unwrap().to_string())
    }

    #[test]
    fn a_hash_costs_the_same_whether_or_not_there_is_an_account() {
        for hash in [&hash(b"correct horse").unwrap(), NOBODYS_HASH.as_ref().unwrap()] {
            assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.expose());
        }
    }

    #[test]
    fn a_weaker_hash_is_made_stronger_when_its_password_is_there() {
        let password = Password::parse("correct horse").unwrap();
        for weaker in [Params::new(1024, 2, 1, None).unwrap(), Params::new(19 * 1024, 1, 1, None).unwrap()] {
            let stored = hashed_with(weaker, "correct horse");
            let Ok(Verdict::Right { rehashed: Some(stronger) }) = verify(&password, Some(&stored)) else {
                panic!("not made stronger")
            };
            assert!(matches!(verify(&password, Some(&stronger)), Ok(Verdict::Right { rehashed: None })));
            let other = Password::parse("battery staple").unwrap();
            assert!(matches!(verify(&other, Some(&stored)), Ok(Verdict::Wrong)));
        }
    }

    #[test]
    fn what_no_account_can_have_opens_none() {
        let empty = hashed_with(COST, "");
        for text in ["", "short", &"x".repeat(1_000_000)] {
            assert!(Password::parse(text).is_err());
            assert!(matches!(verify(&Password::given(text), Some(&empty)), Ok(Verdict::Wrong)));
        }
        assert!(matches!(verify(&Password::given("correct horse"), None), Ok(Verdict::Wrong)));
    }

    #[test]
    fn a_password_is_the_same_however_a_keyboard_writes_it() {
        let stored = hash(Password::parse("Zo\u{eb}, zo\u{eb}").unwrap().bytes()).unwrap();
        let apart = Password::parse("Zoe\u{308}, zoe\u{308}").unwrap();
        assert!(matches!(verify(&apart, Some(&stored)), Ok(Verdict::Right { .. })));
    }
}
