//! Looks from time to time at what no record tells: how far the logs reach, and whether the topic is still the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::shutdown::Shutdown;
use tokio::time::{Instant, sleep};

use crate::ingest::{Consumer, Ingest};

/// How often the ends of the partitions are asked for.
const LAG_INTERVAL: Duration = Duration::from_secs(1);
/// How often the topic's incarnation and the group are looked at.
const SLOW_INTERVAL: Duration = Duration::from_secs(5);

/// Keeps lag true while nothing is fetched, and notices a topic that was deleted and made again.
pub async fn watch(ingest: Arc<Ingest>, shutdown: Shutdown) {
    let mut slow_due = Instant::now() + SLOW_INTERVAL;
    while !shutdown.is_stopped() {
        tokio::select! {
            biased;
            () = shutdown.stopped() => return,
            () = sleep(LAG_INTERVAL) => {}
        }
        let (consumer, partitions) = ingest.progress.assigned();
        if let (Some(consumer), false) = (&consumer, partitions.is_empty()) {
            look_at_bounds(&ingest, &**consumer, &partitions).await;
        }
        if Instant::now() >= slow_due {
            slow_due = Instant::now() + SLOW_INTERVAL;
            look_at_incarnation(&ingest).await;
            if let Some(consumer) = consumer {
                look_at_group(&ingest, &*consumer).await;
            }
        }
    }
}

async fn look_at_bounds(ingest: &Ingest, consumer: &dyn Consumer, partitions: &[i32]) {
    match consumer.bounds(partitions).await {
        Ok(bounds) => bounds.iter().for_each(|bounds| ingest.progress.set_bounds(bounds)),
        Err(error) => tracing::debug!(%error, "ends of partitions not known"),
    }
}

async fn look_at_incarnation(ingest: &Ingest) {
    let known = ingest.progress.lock().incarnation.clone();
    if let (Some(known), Ok(now)) = (known, ingest.kafka.incarnation().await)
        && *known != *now
    {
        ingest.progress.incarnation_changed.store(true, Ordering::Relaxed);
    }
}

/// Only a member without partitions has a reason to ask who has them.
async fn look_at_group(ingest: &Ingest, consumer: &dyn Consumer) {
    let idle = {
        let state = ingest.progress.lock();
        state.partitions.is_empty() && state.group.is_idle()
    };
    if idle {
        let covered = consumer.partitions_of_group().await;
        if let Err(error) = &covered {
            tracing::debug!(%error, "the group does not tell who has which partitions");
        }
        ingest.progress.lock().group.set_covered(covered.ok());
    }
}
