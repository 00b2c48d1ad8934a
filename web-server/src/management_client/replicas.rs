//! The replicas of management-api: each configured name's every address.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::shutdown::Shutdown;

use super::balancing::Balancing;
use super::calls::CallKind;
use super::replica::{Replica, Standing};
use super::{Lookup, ReplicaUrl};

/// How often names are resolved anew; a new replica gets its first request that much later at most.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(2);

/// All replicas known now.
pub struct Replicas {
    urls: Vec<ReplicaUrl>,
    lookup: Lookup,
    known: Mutex<Arc<[Arc<Replica>]>>,
    /// How many calls of each kind there were: one kind's turns are not another's.
    turns: [AtomicUsize; CallKind::ALL.len()],
}

impl Replicas {
    /// The replicas of `urls`; those that are plain addresses are known at once.
    pub fn new(urls: Vec<ReplicaUrl>, lookup: Lookup) -> Self {
        let now = Instant::now();
        let literal = |url: &ReplicaUrl| {
            let address = SocketAddr::new(url.host.parse().ok()?, url.port);
            Some(Arc::new(Replica::new(url, address, Duration::ZERO, now)))
        };
        let known: Vec<_> = urls.iter().filter_map(literal).collect();
        Self { urls, lookup, known: Mutex::new(known.into()), turns: Default::default() }
    }

    /// Those known now.
    pub fn known(&self) -> Arc<[Arc<Replica>]> {
        Arc::clone(&self.lock())
    }

    /// One that is in use and not among `tried`. When `at_worst`, and there is no such, one that is left out.
    pub fn choose(
        &self,
        kind: CallKind,
        strategy: Balancing,
        tried: &[Arc<Replica>],
        at_worst: bool,
    ) -> Option<Arc<Replica>> {
        let known = self.known();
        let untried = known.iter().filter(|replica| !tried.iter().any(|tried| Arc::ptr_eq(tried, replica)));
        let (in_use, ejected): (Vec<_>, Vec<_>) = untried.partition(|replica| !replica.is_ejected());
        let candidates = if in_use.is_empty() && at_worst { ejected } else { in_use };
        let turn = self.turns[kind as usize].fetch_add(1, Ordering::Relaxed);
        strategy.choose(&candidates, turn, Instant::now()).cloned()
    }

    /// Takes note of an attempt. A replica that fails is left out, as long as no more than half of all are.
    pub fn note(&self, replica: &Replica, standing: Standing, time: Option<Duration>) {
        let now = Instant::now();
        if !replica.note(standing, time, now) {
            return;
        }
        let known = self.lock();
        let ejected = known.iter().filter(|replica| replica.is_ejected()).count();
        if !replica.is_ejected() && (ejected + 1) * 2 <= known.len() {
            tracing::warn!(replica = %replica.address, ?standing, "replica of management-api left out");
            replica.eject(now);
        }
    }

    /// Resolves the names again and again until the service stops.
    pub async fn keep_resolving(self: Arc<Self>, shutdown: Shutdown) {
        let mut failing = false;
        loop {
            match self.resolve().await {
                Ok(()) => failing = false,
                Err(error) if failing => tracing::debug!(%error, "management-api's name still cannot be resolved"),
                Err(error) => {
                    failing = true;
                    tracing::warn!(%error, "management-api's name cannot be resolved; trying on");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RESOLVE_INTERVAL) => {}
                () = shutdown.stopped() => return,
            }
        }
    }

    /// Learns all addresses of all names. Of a name that cannot be resolved now, what was known stays.
    async fn resolve(&self) -> std::io::Result<()> {
        let before = self.known();
        let (mut found, mut failure) = (Vec::new(), Ok(()));
        let looked_up = join_all(self.urls.iter().map(|url| self.lookup.addresses(&url.host, url.port))).await;
        for (url, addresses) in self.urls.iter().zip(looked_up) {
            match addresses {
                Ok(addresses) => found.extend(addresses.into_iter().map(|address| at(&before, url, address))),
                Err(error) => {
                    found.extend(before.iter().filter(|replica| replica.authority == url.authority).cloned());
                    failure = Err(error);
                }
            }
        }
        if before.len() != found.len() || before.iter().zip(&found).any(|(before, found)| !Arc::ptr_eq(before, found)) {
            tracing::info!(replicas = found.len(), "replicas of management-api changed");
            *self.lock() = found.into();
        }
        failure
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[Arc<Replica>]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The replica at `address`: one that is known with all that is known of it, or a new one that is taken to be as quick as the
/// best of the others.
fn at(known: &[Arc<Replica>], url: &ReplicaUrl, address: SocketAddr) -> Arc<Replica> {
    if let Some(replica) = known.iter().find(|replica| replica.is(url, address)) {
        return Arc::clone(replica);
    }
    let now = Instant::now();
    // Those that are not there any more say nothing of it.
    let in_use = known.iter().filter(|replica| !replica.is_ejected());
    let latency = in_use.map(|replica| replica.latency(now)).min().unwrap_or_default();
    Arc::new(Replica::new(url, address, latency, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas(ports: &[u16]) -> Replicas {
        let url = |port| ReplicaUrl::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        Replicas::new(ports.iter().map(url).collect(), Lookup::default())
    }

    fn ports(replicas: &Replicas) -> Vec<u16> {
        replicas.known().iter().map(|replica| replica.address.port()).collect()
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_resolved_leaves_the_others_alone() {
        let urls = ["http://nowhere.invalid:1", "http://127.0.0.1:8081"].map(|url| ReplicaUrl::parse(url).unwrap());
        let replicas = Replicas::new(urls.to_vec(), Lookup::default());
        *replicas.lock() = Arc::default();
        assert!(replicas.resolve().await.is_err());
        assert_eq!(ports(&replicas), [8081]);
    }

    #[tokio::test]
    async fn a_name_stands_for_all_its_addresses_and_keeps_what_is_known_of_them() {
        let replicas = Replicas::new(vec![ReplicaUrl::parse("http://localhost:8081").unwrap()], Lookup::default());
        assert!(replicas.known().is_empty());
        replicas.resolve().await.unwrap();
        let known = replicas.known();
        assert!(!known.is_empty() && known.iter().all(|replica| replica.authority == "localhost:8081"));
        replicas.resolve().await.unwrap();
        assert!(known.iter().zip(replicas.known().iter()).all(|(before, after)| Arc::ptr_eq(before, after)));
    }

    #[test]
    fn each_attempt_goes_to_another_replica() {
        let replicas = replicas(&[1, 2, 3]);
        let mut tried = Vec::new();
        while let Some(replica) = replicas.choose(CallKind::Read, Balancing::LeastLoaded, &tried, false) {
            tried.push(replica);
        }
        let mut ports: Vec<_> = tried.iter().map(|replica| replica.address.port()).collect();
        ports.sort_unstable();
        assert_eq!(ports, [1, 2, 3]);
    }

    #[test]
    fn never_more_than_half_are_left_out() {
        let replicas = replicas(&[1, 2, 3, 4, 5]);
        for replica in replicas.known().iter() {
            replicas.note(replica, Standing::Unreachable, None);
        }
        let in_use: Vec<_> = replicas.known().iter().filter(|replica| !replica.is_ejected()).cloned().collect();
        assert_eq!(in_use.len(), 3);
        assert!(replicas.choose(CallKind::Read, Balancing::Random, &in_use, false).is_none());
        assert!(
            replicas
                .choose(CallKind::Read, Balancing::Random, &in_use, true)
                .is_some_and(|replica| replica.is_ejected())
        );
        let alone = self::replicas(&[1]);
        alone.note(&alone.known()[0], Standing::Unreachable, None);
        assert!(!alone.known()[0].is_ejected());
    }
}
