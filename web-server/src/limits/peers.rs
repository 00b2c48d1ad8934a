//! The other replicas: where they are, and a conversation with each.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use shared::config::Secret;
use shared::shutdown::Shutdown;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::conversation::{Conversation, Said};
use super::{Fleet, Limits, LimitsConfig, PeerName};

/// How often names are resolved anew.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(2);
/// How long a name may take to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The most addresses that are talked to.
const ADDRESSES_MAX: usize = 64;
/// How often one is told that there is nothing to tell, or asked again that does not answer.
const QUIET_INTERVAL: Duration = Duration::from_millis(400);

/// What this replica tells now.
#[derive(Clone, Debug, Default)]
pub struct Speech {
    /// The report, as it is sent.
    pub json: Bytes,
    /// Whether it says only that this replica is there.
    pub is_quiet: bool,
}

/// The other replicas, as far as the network is concerned.
pub struct Peers {
    names: Vec<PeerName>,
    /// What replicas show each other.
    pub token: Secret<String>,
    /// What is told; it changes with every turn of the limiter.
    pub speech: watch::Sender<Speech>,
    /// Addresses at which this replica has met itself.
    own: Mutex<HashSet<SocketAddr>>,
}

/// The addresses of each name.
type Addresses = HashMap<PeerName, Vec<SocketAddr>>;

impl Peers {
    /// Nobody is known yet. Nothing, if there are to be no others.
    #[must_use]
    pub fn new(config: &LimitsConfig) -> Option<Self> {
        let token = config.peer_token.clone().filter(|_| !config.peers.is_empty())?;
        let (speech, _) = watch::channel(Speech::default());
        Some(Self { names: config.peers.clone(), token, speech, own: Mutex::default() })
    }

    /// How many others there are for all that is known before their names are resolved.
    #[must_use]
    pub fn names(&self) -> usize {
        self.names.len()
    }

    fn own(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of the others; in their order, so that it is always the same ones of too many.
    fn others(&self, known: &Addresses) -> BTreeSet<SocketAddr> {
        let own = self.own();
        let others: BTreeSet<_> = known.values().flatten().filter(|address| !own.contains(address)).collect();
        others.into_iter().take(ADDRESSES_MAX).copied().collect()
    }

    /// Learns all addresses of all names. Of a name that cannot be resolved now, what was known stays.
    async fn resolve(&self, known: &mut Addresses) {
        for (name, found) in join_all(self.names.iter().map(addresses_of)).await {
            match found {
                Ok(addresses) => drop(known.insert(name, addresses)),
                Err(error) => tracing::debug!(%name, %error, "a name of web-servers cannot be resolved; trying on"),
            }
        }
    }
}

async fn addresses_of(name: &PeerName) -> (PeerName, io::Result<Vec<SocketAddr>>) {
    let found = tokio::time::timeout(RESOLVE_TIMEOUT, lookup_host((name.host.as_str(), name.port))).await;
    (name.clone(), found.map_err(Into::into).flatten().map(Iterator::collect))
}

/// Looks for the other replicas and talks with all of them, until the service stops.
pub async fn keep_talking(limits: Arc<Limits>, shutdown: Shutdown) {
    tokio::select! {
        () = look_and_talk(&limits) => {}
        () = shutdown.stopped() => {}
    }
}

async fn look_and_talk(limits: &Arc<Limits>) {
    let Some(peers) = &limits.peers else { return std::future::pending().await };
    let (mut known, mut running) = (Addresses::new(), JoinSet::new());
    let mut talks: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    loop {
        peers.resolve(&mut known).await;
        let others = peers.others(&known);
        limits.limiter.learn(limits.now(), |fleet| fleet.expect(others.len()));
        for (_, gone) in talks.extract_if(|address, _| !others.contains(address)) {
            gone.abort();
        }
        for address in others {
            talks.entry(address).or_insert_with(|| running.spawn(talk(Arc::clone(limits), address)));
        }
        tokio::time::sleep(RESOLVE_INTERVAL).await;
        while let Some(ended) = running.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                // It takes all of them with it, and all begin anew.
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

/// Tells one address what this replica knows, as often as that changes, and works in what comes back. Ends if it is this replica.
async fn talk(limits: Arc<Limits>, address: SocketAddr) {
    let Some(peers) = &limits.peers else { return };
    let mut conversation = Conversation::new(address, &peers.token);
    let mut speeches = peers.speech.subscribe();
    let (mut instance, mut is_well, mut told) = (None, true, None::<Instant>);
    while speeches.changed().await.is_ok() {
        let speech = speeches.borrow_and_update().clone();
        let is_urgent = is_well && !speech.is_quiet;
        if !is_urgent && told.is_some_and(|told| told.elapsed() < QUIET_INTERVAL) {
            continue;
        }
        told = Some(Instant::now());
        let said = conversation.tell(speech.json).await;
        let now = limits.now();
        let was_well = std::mem::replace(&mut is_well, matches!(said, Said::Report(_)));
        if was_well && !is_well {
            tracing::info!(%address, ?said, "a web-server that should share rate limits tells nothing");
        }
        match said {
            Said::Report(report) if report.instance == limits.limiter.instance() => {
                peers.own().insert(address);
                limits.limiter.learn(now, Fleet::meet_itself);
                return;
            }
            Said::Report(report) => {
                instance = Some(report.instance);
                limits.limiter.hear(&report, now);
            }
            Said::Nothing => limits.limiter.learn(now, |fleet| fleet.reach(now)),
            Said::Nobody => limits.limiter.learn(now, |fleet| match instance.take() {
                Some(instance) => fleet.lose(instance, now),
                None => fleet.reach(now),
            }),
            Said::Unreached => {}
        }
    }
}
