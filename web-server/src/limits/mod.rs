//! Rate limits: how often each caller may come, at all replicas together. Every decision is made from memory; several times a second
//! the replicas tell each other what callers ask of them, and each works out its own part of every limit.

mod account;
mod bucket;
mod caller;
mod class;
mod config;
mod conversation;
mod demand;
mod fleet;
mod limiter;
mod logins;
mod moment;
mod peers;
mod proxies;
mod rates;
pub mod report;
mod shares;
pub mod table;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use shared::http::Caller;
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use self::account::Account;
pub use self::bucket::Bucket;
pub use self::caller::CallerKey;
pub use self::class::RouteClass;
pub use self::config::{LimitsConfig, PeerName};
pub use self::conversation::PATH as PEER_PATH;
pub use self::demand::Demand;
pub use self::fleet::Fleet;
pub use self::limiter::{Limiter, Verdict};
pub use self::logins::{Login, Logins};
pub use self::moment::Moment;
use self::peers::{Peers, Speech};
pub use self::proxies::TrustedProxies;
pub use self::rates::Rates;
use self::report::Report;
pub use self::shares::Shares;
use self::table::Allowance;
use crate::metrics::{Metrics, Refusal};

/// How often what callers ask for is worked in, and told.
const TURN_INTERVAL: Duration = Duration::from_millis(100);

/// The rate limits of one web-server.
pub struct Limits {
    /// Who signs in to what.
    pub logins: Logins,
    rates: Rates,
    limiter: Limiter,
    trusted_proxies: TrustedProxies,
    peers: Option<Peers>,
    metrics: Arc<Metrics>,
    beginning: Instant,
    /// How many others were heard at the last turn.
    heard: AtomicUsize,
}

impl Limits {
    /// The limits of the settings. What callers ask for is worked in, and told to the other replicas, until the service stops.
    pub fn start(config: &LimitsConfig, metrics: Arc<Metrics>, supervisor: &Supervisor) -> Arc<Self> {
        let limits = Arc::new(Self {
            logins: Logins::new(config),
            rates: config.rates,
            limiter: Limiter::new(Uuid::new_v4(), config.rates, config.callers_max),
            trusted_proxies: config.trusted_proxies.clone(),
            peers: Peers::new(config),
            metrics,
            beginning: Instant::now(),
            heard: AtomicUsize::new(0),
        });
        let shutdown = supervisor.shutdown();
        // All that is known is kept beside the tasks.
        let (turning, ending) = (Arc::clone(&limits), shutdown.clone());
        tokio::spawn(supervisor.restart("limiter", move || Arc::clone(&turning).keep_turning(ending.clone())));
        if let Some(peers) = &limits.peers {
            limits.limiter.learn(limits.now(), |fleet| fleet.expect(peers.names()));
            let (talking, ending) = (Arc::clone(&limits), shutdown.clone());
            tokio::spawn(
                supervisor.restart("peers", move || peers::keep_talking(Arc::clone(&talking), ending.clone())),
            );
        }
        limits
    }

    /// The address that a request comes from.
    #[must_use]
    pub fn address(&self, caller: Caller, headers: &HeaderMap) -> CallerKey {
        // Without a connection there is only one caller: what calls the router itself.
        let connection = caller.address.map_or(IpAddr::from([0, 0, 0, 0]), |address| address.ip());
        CallerKey::of_address(self.trusted_proxies.caller(connection, headers))
    }

    /// Whether a trusted proxy says that the request came to it by HTTPS.
    #[must_use]
    pub fn came_by_https(&self, caller: Caller, headers: &HeaderMap) -> bool {
        caller.address.is_some_and(|address| self.trusted_proxies.was_called_by_https(address.ip(), headers))
    }

    /// What a caller may do in a class, by a rate of its own if it has one; nothing if that is not limited.
    #[must_use]
    pub fn allowance(&self, caller: CallerKey, class: RouteClass, own: Option<u32>) -> Option<Allowance> {
        let requests = own.unwrap_or_else(|| self.rates.of(class));
        (requests > 0).then(|| Allowance { quota: (caller, class), limit: rates::limit(requests) })
    }

    /// A request has come.
    #[must_use]
    pub fn ask(&self, allowance: Allowance) -> Verdict {
        self.limiter.ask(allowance, self.now())
    }

    /// A request that was let in brings so much more than one.
    #[must_use]
    pub fn charge(&self, allowance: Allowance, more: u16) -> Verdict {
        self.limiter.charge(allowance, more, self.now())
    }

    /// What is left of a quota.
    #[must_use]
    pub fn look(&self, allowance: Allowance) -> Verdict {
        self.limiter.look(allowance, self.now())
    }

    /// Whether replicas tell each other anything.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        self.peers.is_some()
    }

    /// Whether somebody who shows `token` is another replica.
    #[must_use]
    pub fn is_peer(&self, token: &str) -> bool {
        self.peers.as_ref().is_some_and(|peers| peers.token.matches(token))
    }

    /// Works in what another replica tells, and gives what this one tells.
    ///
    /// # Errors
    /// When it is no report.
    pub fn hear(&self, json: &[u8]) -> Result<Bytes, &'static str> {
        let report = Report::parse(json)?;
        self.limiter.hear(&report, self.now());
        Ok(self.peers.as_ref().map_or_else(Bytes::new, |peers| peers.speech.borrow().json.clone()))
    }

    /// Counts a refused request.
    pub fn count_refusal(&self) {
        self.metrics.refused(Refusal::Rate);
    }

    fn now(&self) -> Duration {
        self.beginning.elapsed()
    }

    async fn keep_turning(self: Arc<Self>, shutdown: Shutdown) {
        let mut turns = tokio::time::interval(TURN_INTERVAL);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = turns.tick() => self.turn(),
                () = shutdown.stopped() => return,
            }
        }
    }

    fn turn(&self) {
        let report = self.limiter.turn(self.now());
        let (heard, silent) = self.limiter.peers(self.now());
        self.metrics.limits.show(self.limiter.callers(), heard, silent);
        if self.heard.swap(heard, Ordering::Relaxed) != heard {
            tracing::info!(heard, silent, "the web-servers that share rate limits changed");
        }
        if let Some(peers) = &self.peers {
            peers.speech.send_replace(Speech { is_quiet: report.demands.is_empty(), json: report.json().into() });
        }
    }
}
