//! The replicas of management-api: each configured name's every address.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderValue;
use http::uri::{Scheme, Uri};
use shared::shutdown::Shutdown;

/// How often names are resolved anew; a new replica gets its first request that much later at most.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);

/// A configured URL of management-api.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaUrl {
    host: String,
    port: u16,
    /// As the caller of that name would send it, for virtual hosts.
    authority: HeaderValue,
    /// What stands before each path, without a slash at its end.
    base: String,
}

/// One address of one configured URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Where it listens.
    pub address: SocketAddr,
    /// The value of the header `Host`.
    pub authority: HeaderValue,
    /// What stands before each path.
    pub base: String,
}

/// All replicas known now.
pub struct Replicas {
    urls: Vec<ReplicaUrl>,
    known: RwLock<Arc<[Replica]>>,
    next: AtomicUsize,
}

impl ReplicaUrl {
    /// Parses `http://host[:port][/base]`.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const SHAPE: &str = "must be a list of http://host[:port][/path]";
        let uri: Uri = text.parse().map_err(|_| SHAPE)?;
        if uri.scheme() == Some(&Scheme::HTTPS) {
            return Err("https is not supported: put a proxy beside the service, or use http");
        }
        let authority = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTP)).ok_or(SHAPE)?;
        let bad_port = authority.as_str() != authority.host() && authority.port_u16().is_none();
        if bad_port || authority.as_str().contains('@') || authority.host().is_empty() || uri.query().is_some() {
            return Err(SHAPE);
        }
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| SHAPE)?,
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    fn at(&self, address: SocketAddr) -> Replica {
        Replica { address, authority: self.authority.clone(), base: self.base.clone() }
    }
}

impl Replicas {
    /// The replicas of `urls`; those that are plain addresses are known at once.
    pub fn new(urls: Vec<ReplicaUrl>) -> Self {
        let literal = |url: &ReplicaUrl| Some(url.at(SocketAddr::new(url.host.parse().ok()?, url.port)));
        let known: Vec<_> = urls.iter().filter_map(literal).collect();
        Self { urls, known: RwLock::new(known.into()), next: AtomicUsize::new(0) }
    }

    /// At most `count` replicas to try in this order; each call begins with the next one.
    pub fn pick(&self, count: usize) -> Vec<Replica> {
        let known = Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner));
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let picked = (0..count.min(known.len())).map(|step| known[start.wrapping_add(step) % known.len()].clone());
        picked.collect()
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
        let before = Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner));
        let (mut found, mut failure) = (Vec::new(), Ok(()));
        for url in &self.urls {
            match tokio::net::lookup_host((url.host.as_str(), url.port)).await {
                Ok(addresses) => {
                    let mut addresses: Vec<_> = addresses.collect();
                    // A name server may turn its list with each answer; that is no change.
                    addresses.sort_unstable();
                    addresses.dedup();
                    found.extend(addresses.into_iter().map(|address| url.at(address)));
                }
                Err(error) => {
                    found.extend(before.iter().filter(|replica| replica.authority == url.authority).cloned());
                    failure = Err(error);
                }
            }
        }
        if *before != *found {
            tracing::info!(replicas = found.len(), "replicas of management-api changed");
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = found.into();
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_cannot_be_resolved_leaves_the_others_alone() {
        let urls = ["http://nowhere.invalid:1", "http://127.0.0.1:8081"].map(|url| ReplicaUrl::parse(url).unwrap());
        let replicas = Replicas::new(urls.to_vec());
        replicas.known.write().unwrap().clone_from(&Arc::default());
        assert!(replicas.resolve().await.is_err());
        let known: Vec<_> = replicas.pick(3).into_iter().map(|replica| replica.address.port()).collect();
        assert_eq!(known, [8081]);
    }

    #[test]
    fn urls_are_plain_http_with_a_host() {
        let url = ReplicaUrl::parse("http://[::1]:8081/api/").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.base.as_str()), ("::1", 8081, "/api"));
        assert_eq!(ReplicaUrl::parse("http://management").unwrap().port, 80);
        for bad in
            ["", "management:8081", "ftp://x", "http://", "http://u:p@h", "http://h/?q", "https://h", "http://h:x"]
        {
            assert!(ReplicaUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_call_begins_with_the_next_replica() {
        let urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(|url| ReplicaUrl::parse(url).unwrap());
        let replicas = Replicas::new(urls.to_vec());
        let ports = || replicas.pick(3).iter().map(|replica| replica.address.port()).collect::<Vec<_>>();
        assert_eq!([ports(), ports(), ports()], [[1, 2], [2, 1], [1, 2]]);
        assert!(Replicas::new(Vec::new()).pick(3).is_empty());
    }

    #[tokio::test]
    async fn a_name_stands_for_all_its_addresses() {
        let replicas = Replicas::new(vec![ReplicaUrl::parse("http://localhost:8081").unwrap()]);
        assert!(replicas.pick(9).is_empty());
        replicas.resolve().await.unwrap();
        let picked = replicas.pick(9);
        assert!(!picked.is_empty() && picked.iter().all(|replica| replica.authority == "localhost:8081"));
    }
}
