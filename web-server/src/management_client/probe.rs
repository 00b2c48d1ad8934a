//! Replicas that are left out are asked now and then, at nobody's cost, until they answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::http::RequestContext;
use shared::shutdown::Shutdown;

use super::attempt::{Call, Way, attempt};
use super::replica::Replica;
use super::replicas::Replicas;
use crate::metrics::Metrics;

/// How often, and how long an answer may take.
const INTERVAL: Duration = Duration::from_secs(1);
/// A read like those of callers, down to the database.
const TARGET: &str = "/purchases?limit=1";

/// Takes replicas back.
pub struct Prober {
    /// Of whom.
    pub replicas: Arc<Replicas>,
    /// How they are reached.
    pub way: Arc<Way>,
    /// Where it is shown how many are in use.
    pub metrics: Arc<Metrics>,
}

impl Prober {
    /// Asks until the service stops.
    pub async fn keep_probing(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            let (known, now) = (self.replicas.known(), Instant::now());
            join_all(known.iter().filter(|replica| replica.is_due(now)).map(|replica| self.probe(replica))).await;
            let ejected = known.iter().filter(|replica| replica.is_ejected()).count();
            self.metrics.management_replicas(known.len() - ejected, ejected);
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = shutdown.stopped() => return,
            }
        }
    }

    async fn probe(&self, replica: &Replica) {
        let begun = Instant::now();
        let context = RequestContext::own();
        let call = Call::get(TARGET.to_owned(), &context);
        match attempt(&self.way, replica, &call, begun + INTERVAL).await {
            Ok(_) => {
                tracing::info!(replica = %replica.address, "replica of management-api answers again");
                replica.take_back(begun.elapsed(), Instant::now());
            }
            Err(failure) => tracing::debug!(replica = %replica.address, %failure, "replica stays left out"),
        }
    }
}
