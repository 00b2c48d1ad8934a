//! From the outbox to the receiver, by two replicas, with receivers that the test decides about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use management_api::callbacks::sending::{AttemptOutcome, Unreachable};
use management_api::callbacks::{
    Callbacks, Courier, DispatchConfig, PendingCallback, Schedule, resend_dead, switch_on,
};
use management_api::metrics::CallbackMetrics;
use management_api::store::{Batch, DeadCallbacks, Store};
use shared::callbacks::CallbackUrl;
use shared::event::{Purchase, Timestamp};
use shared::metrics::Registry;
use shared::shutdown::Shutdown;
use shared::testing::eventually;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::store_contract::databases::store_at;
use crate::store_contract::fixtures::{batch, purchase};

/// Delivers to nobody, and says what the test wants it to.
#[derive(Default)]
struct FakeCourier {
    is_well: AtomicBool,
    attempts: Mutex<BTreeMap<u128, usize>>,
    delivered: Mutex<BTreeSet<u128>>,
}

#[async_trait]
impl Courier for FakeCourier {
    async fn deliver(&self, callback: &PendingCallback) -> AttemptOutcome {
        let id = callback.purchase.purchase_id.as_u128();
        *self.attempts.lock().unwrap().entry(id).or_default() += 1;
        if !self.is_well.load(Ordering::Relaxed) {
            return AttemptOutcome::Unreachable(Unreachable::Connection);
        }
        self.delivered.lock().unwrap().insert(id);
        AttemptOutcome::Delivered
    }
}

/// Two replicas on one database; they end with the test.
struct Replicas {
    store: Arc<dyn Store>,
    courier: Arc<FakeCourier>,
    callbacks: Vec<Arc<Callbacks>>,
    running: Vec<JoinHandle<()>>,
    shutdown: Shutdown,
    _folder: TempDir,
}

impl Replicas {
    async fn start(patience: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = store_at(&format!("sqlite:{}/purchases.db", folder.path().display()));
        store.migrate().await.unwrap();
        let (courier, shutdown) = (Arc::new(FakeCourier::default()), Shutdown::new());
        let config = DispatchConfig {
            in_flight_max: 64,
            in_flight_per_host_max: 8,
            schedule: Schedule { first_pause: Duration::from_millis(50), patience },
            dead_kept: Duration::from_hours(1),
            attempt_timeout: Duration::from_secs(1),
        };
        let metrics = Arc::new(CallbackMetrics::register(&Registry::new(&CallbackMetrics::BUCKETS)));
        let callbacks: Vec<_> = (0..2)
            .map(|_| Callbacks::new(store.clone(), courier.clone(), config.clone(), Arc::clone(&metrics)))
            .collect();
        let run = |callbacks: &Arc<Callbacks>| tokio::spawn(Arc::clone(callbacks).run(shutdown.clone()));
        let running = callbacks.iter().map(run).collect();
        Self { store, courier, callbacks, running, shutdown, _folder: folder }
    }

    /// Records purchases with these numbers; what it asks for is taken up by one replica, as where it was recorded.
    async fn record(&self, numbers: std::ops::Range<u32>, replica: usize) {
        let rows = numbers.clone().map(|number| Purchase {
            callback_url: CallbackUrl::from_stored("https://shop.example/paid"),
            ..purchase(number)
        });
        let lease = self.callbacks[replica].lease();
        let batch = Batch { callback_lease: lease, ..batch(i32::try_from(numbers.start).unwrap(), 0, rows) };
        let recorded = self.store.record(&batch).await.unwrap();
        self.callbacks[replica].take_up(recorded.callbacks);
    }

    async fn count(&self) -> (usize, usize) {
        let counts = self.store.count_callbacks().await.unwrap();
        (counts.waiting, counts.dead)
    }

    async fn delivered(&self, count: usize) {
        let what = format!("{count} are delivered");
        eventually(&what, async || (self.courier.delivered.lock().unwrap().len() >= count).then_some(())).await;
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_host_that_fails_is_hardly_tried_and_all_delivered_once_it_is_well() {
    let replicas = Replicas::start(Duration::from_hours(1)).await;
    replicas.record(1..201, 0).await;
    eventually("all wait", async || (replicas.count().await == (200, 0)).then_some(())).await;
    let tried: usize = replicas.courier.attempts.lock().unwrap().values().sum();
    assert!(tried < 100, "{tried} attempts of a host that fails");
    replicas.courier.is_well.store(true, Ordering::Relaxed);
    replicas.delivered(200).await;
    eventually("nothing is left", async || (replicas.count().await == (0, 0)).then_some(())).await;
    // It is well for the other replica as well, whatever that one has found.
    replicas.record(201..251, 1).await;
    replicas.delivered(250).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_switched_on_gets_everything_whatever_a_replica_thinks_of_it() {
    let replicas = Replicas::start(Duration::from_secs(3)).await;
    replicas.record(1..31, 0).await;
    eventually("all are given up", async || (replicas.count().await.1 == 30).then_some(())).await;
    let mut next = 31;
    eventually("its host is switched off", async || {
        if replicas.count().await.0 == 0 {
            replicas.record(next..next + 1, 0).await;
            next += 1;
        }
        (replicas.store.count_callbacks().await.unwrap().hosts_switched_off == 1).then_some(())
    })
    .await;
    eventually("all are given up", async || (replicas.count().await == (0, next as usize - 1)).then_some(())).await;
    replicas.courier.is_well.store(true, Ordering::Relaxed);
    switch_on(&*replicas.store, "shop.example").await.unwrap();
    let (since, until) = (Timestamp::from_millis(0).unwrap(), Timestamp::now().after(Duration::from_hours(1)));
    let which = DeadCallbacks { since, until, host: None, after: None, limit: 10 };
    let (resent, rest) = resend_dead(&*replicas.store, &which).await.unwrap();
    assert_eq!((resent, rest), (u64::from(next) - 1, None));
    replicas.delivered(next as usize - 1).await;
    eventually("nothing is left", async || (replicas.count().await == (0, 0)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_in_good_order_gives_back_what_it_has_not_delivered() {
    let replicas = Replicas::start(Duration::from_hours(1)).await;
    replicas.record(1..101, 0).await;
    replicas.shutdown.stop();
    replicas.callbacks.iter().for_each(|callbacks| callbacks.close());
    for running in &replicas.running {
        eventually("it ends", async || running.is_finished().then_some(())).await;
    }
    // No row of the outbox is left for its claim to end.
    let due = management_api::store::Claim { lease: Duration::from_secs(30), limit: 1_000 };
    assert!(replicas.store.claim_callbacks(due).await.unwrap().batches.is_empty());
    assert_eq!(replicas.count().await, (100, 0));
}
