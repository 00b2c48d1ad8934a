//! How names become addresses.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

/// What a name server may take.
const TIMEOUT: Duration = Duration::from_secs(5);

type Found = BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

/// What tells every address of a name: the system, or a test.
#[derive(Clone)]
pub struct Lookup(Arc<dyn Fn(String, u16) -> Found + Send + Sync>);

impl Lookup {
    /// One that tells what `lookup` gives for a host and a port.
    pub fn new(lookup: impl Fn(String, u16) -> Found + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// Every address of a name, in an order of their own: a name server may turn its list with each answer, and that is no change.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let mut found = tokio::time::timeout(TIMEOUT, (self.0)(host.to_owned(), port)).await??;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

impl Default for Lookup {
    fn default() -> Self {
        Self::new(|host, port| Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }))
    }
}
