//! API keys: each is asked about once, and from then on checked here, with what management-api says every two seconds of keys
//! that have changed.

mod known;
mod usage;

use std::sync::Arc;

use http::HeaderMap;
use shared::api_keys::{ApiKeySecret, KEY_PREFIX, KnownKey};
use shared::event::Timestamp;
use shared::http::{Problem, kinds};
use shared::supervise::Supervisor;

use self::known::KnownKeys;
pub use self::usage::KeyUsage;
use crate::management_client::ManagementClient;
use crate::tokens::{Tokens, bearer};

/// The other header that a key can come in, for clients that use `Authorization` for something else.
const KEY_HEADER: &str = "x-api-key";
/// One that is not any more as it was known is asked about again; once, because the answer is as of then.
const LOOKS: usize = 2;

/// Whether management-api may be asked for this caller. Called only where it would be.
pub type MayAsk<'a> = &'a (dyn Fn() -> bool + Sync);

/// What is known of API keys, and how much they are used.
pub struct ApiKeys {
    known: KnownKeys,
    /// What is counted for them.
    pub usage: Arc<KeyUsage>,
}

/// What a request's head says of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Presented<'a> {
    /// Nothing.
    Nothing,
    /// This should be one.
    Key(&'a str),
    /// Two things at once, or something unreadable: nobody guesses which counts.
    Unclear,
}

impl<'a> Presented<'a> {
    /// What these headers say.
    pub fn of(headers: &'a HeaderMap) -> Self {
        let mut keys = headers.get_all(KEY_HEADER).iter();
        let token = bearer(headers);
        match (keys.next(), keys.next()) {
            (None, _) => token.filter(|text| text.starts_with(KEY_PREFIX)).map_or(Self::Nothing, Self::Key),
            (Some(key), None) if !headers.contains_key(http::header::AUTHORIZATION) => {
                key.to_str().map_or(Self::Unclear, |text| Self::Key(text.trim()))
            }
            _ => Self::Unclear,
        }
    }
}

impl ApiKeys {
    /// Begins to count; nobody is asked before the first key comes.
    pub fn start(management: &Arc<ManagementClient>, supervisor: &Supervisor) -> Self {
        let usage = Arc::new(KeyUsage::new(Arc::clone(management)));
        let (flushing, shutdown) = (Arc::clone(&usage), supervisor.shutdown().clone());
        // What is counted is kept beside the task.
        tokio::spawn(supervisor.restart("api_key_usage", move || Arc::clone(&flushing).run(shutdown.clone())));
        Self { known: KnownKeys::new(Arc::clone(management)), usage }
    }

    /// Who asks, by the key of its request. `tokens` knows what has changed.
    ///
    /// # Errors
    /// 401 for any other than a good one; 503 while nobody can tell, or what is known is too old, and for a key that was never good
    /// here from who may have nobody asked (`may_ask`).
    pub async fn check(
        &self,
        headers: &HeaderMap,
        tokens: &Tokens,
        may_ask: MayAsk<'_>,
    ) -> Result<Arc<KnownKey>, Problem> {
        let text = match Presented::of(headers) {
            Presented::Key(text) => text,
            Presented::Nothing => return Err(wanted()),
            Presented::Unclear => return Err(refused()),
        };
        // One that was mistyped is told by its checksum, before anybody is asked.
        let hash = ApiKeySecret::hash_of(text).ok_or_else(refused)?;
        for look in 0..LOOKS {
            let key = self.known.find(hash, may_ask, look > 0).await?.ok_or_else(refused)?;
            if tokens.is_up_to_date(&key).await? {
                let is_over = key.ends_at.is_some_and(|end| end <= Timestamp::now());
                return if is_over { Err(refused()) } else { Ok(key) };
            }
            self.known.forget(&hash).await;
        }
        Err(refused())
    }
}

/// The same for everything that is wrong: whoever tries learns nothing from it.
fn refused() -> Problem {
    wanted().with_invalid_token()
}

fn wanted() -> Problem {
    Problem::new(kinds::UNAUTHORIZED, "a valid API key is required")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_taken_from_either_header_and_nothing_is_guessed() {
        let presented = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            match Presented::of(&headers) {
                Presented::Nothing => "nothing".to_owned(),
                Presented::Key(text) => text.to_owned(),
                Presented::Unclear => "unclear".to_owned(),
            }
        };
        for (pairs, expected) in [
            (vec![], "nothing"),
            (vec![("authorization", "Bearer pak_1")], "pak_1"),
            (vec![("authorization", "bearer eyJ")], "nothing"),
            (vec![("authorization", "Basic pak_1")], "nothing"),
            (vec![("x-api-key", " anything ")], "anything"),
            (vec![("x-api-key", "pak_1"), ("authorization", "Bearer pak_1")], "unclear"),
            (vec![("x-api-key", "pak_1"), ("x-api-key", "pak_1")], "unclear"),
            (vec![("authorization", "Bearer pak_1"), ("authorization", "Bearer pak_1")], "nothing"),
        ] {
            assert_eq!(presented(&pairs), expected, "{pairs:?}");
        }
    }
}
