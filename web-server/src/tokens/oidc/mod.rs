//! An outside issuer's access tokens (OpenID Connect): checked with the keys that it publishes. They stay while it is away, or says
//! that it has none.

mod claims;
mod config;
mod documents;
mod keys;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::dangerous::insecure_decode_claims;
use moka::future::Cache;
use serde::Deserialize;
use shared::accounts::AccessClaims;
use shared::http::Problem;
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

pub use self::config::OidcConfig;
use self::documents::fetch_keys;
use self::keys::IssuerKeys;
use super::keys::{Checked, Verdict};
use super::{cache, cannot_tell, refused};
use crate::metrics::{KeyFetch, Metrics};

/// How often the issuer is asked, by whom ever.
const PAUSE: Duration = Duration::from_secs(10);
/// How often it is asked while it answers and nobody shows another key: who signs no more must not for ever.
const REFRESH: Duration = Duration::from_mins(5);
/// How long a caller waits for the name of its key.
const WAIT: Duration = Duration::from_secs(3);

/// The outside issuer.
pub(super) struct Issuer {
    config: OidcConfig,
    keys: ArcSwapOption<IssuerKeys>,
    state: watch::Sender<State>,
    look: Notify,
    checked: Cache<Arc<str>, Checked>,
    metrics: Arc<Metrics>,
}

/// How far we are with asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is being asked.
    Asking,
    /// It was asked a moment ago.
    Resting,
    /// It may be asked.
    Ready,
}

impl Issuer {
    /// Asks the issuer from now on, until the service stops.
    pub(super) fn start(config: OidcConfig, metrics: Arc<Metrics>, supervisor: &Supervisor) -> Arc<Self> {
        let (state, look) = (watch::Sender::new(State::Asking), Notify::new());
        let issuer = Arc::new(Self { config, keys: ArcSwapOption::empty(), state, look, checked: cache(), metrics });
        let (asking, shutdown) = (Arc::clone(&issuer), supervisor.shutdown().clone());
        tokio::spawn(supervisor.restart("oidc_keys", move || Arc::clone(&asking).keep_up(shutdown.clone())));
        issuer
    }

    /// Whether a token says that it is this issuer's; whether it is, [`Issuer::check`] tells.
    pub(super) fn is_named_in(&self, token: &str) -> bool {
        #[derive(Deserialize)]
        struct Named {
            iss: String,
        }
        insecure_decode_claims::<Named>(token).is_ok_and(|named| named.iss == self.config.issuer)
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// 401 for any other than a good one; 503 while the issuer has told no key at all.
    pub(super) async fn check(&self, token: &str) -> Result<Arc<AccessClaims>, Problem> {
        if let Some(checked) = self.checked.get(token).await {
            let counts = self.keys.load().as_ref().is_some_and(|keys| keys.still_count(&checked));
            return if counts { Ok(checked.claims) } else { Err(refused()) };
        }
        let mut verdict = self.judge(token);
        if matches!(verdict, Verdict::UnknownKey) {
            self.look_again().await;
            verdict = self.judge(token);
        }
        match verdict {
            Verdict::Good(checked) => {
                self.checked.insert(token.into(), checked.clone()).await;
                Ok(checked.claims)
            }
            Verdict::UnknownKey if self.keys.load().is_none() => Err(cannot_tell()),
            Verdict::UnknownKey | Verdict::Bad => Err(refused()),
        }
    }

    fn judge(&self, token: &str) -> Verdict {
        self.keys.load().as_ref().map_or(Verdict::UnknownKey, |keys| keys.judge(token, &self.config))
    }

    /// Has the issuer asked, unless it was a moment ago, and waits for that: however many keys are made up.
    async fn look_again(&self) {
        let mut state = self.state.subscribe();
        let now = *state.borrow_and_update();
        if now == State::Ready {
            self.look.notify_one();
        }
        if now != State::Resting {
            let _ = timeout(WAIT, state.wait_for(|state| *state == State::Resting)).await;
        }
    }

    async fn keep_up(self: Arc<Self>, shutdown: Shutdown) {
        tokio::select! {
            () = self.keep_asking() => {}
            () = shutdown.stopped() => {}
        }
    }

    async fn keep_asking(&self) {
        let mut was_well = true;
        loop {
            self.state.send_replace(State::Asking);
            let is_well = self.ask(was_well).await;
            self.state.send_replace(State::Resting);
            sleep(PAUSE).await;
            was_well = is_well;
            self.state.send_replace(State::Ready);
            if is_well {
                let _ = timeout(REFRESH, self.look.notified()).await;
            }
        }
    }

    /// Asks for the keys; whether there are some.
    async fn ask(&self, was_well: bool) -> bool {
        let fetched = fetch_keys(&self.config).await.map(|published| IssuerKeys::new(&published));
        let answer = match fetched {
            Ok(keys) if !keys.is_empty() => {
                self.keys.store(Some(Arc::new(keys)));
                Ok(())
            }
            Ok(_) => Err("it publishes no key that is of use".to_owned()),
            Err(error) => Err(error),
        };
        self.metrics.key_fetches.of(if answer.is_ok() { KeyFetch::Success } else { KeyFetch::Failed }).increment(1);
        if let Err(error) = &answer
            && was_well
        {
            tracing::warn!(issuer = self.config.issuer, error, "the issuer tells no keys; what was known stays");
        }
        answer.is_ok()
    }
}
