//! The outbox: written with the purchases, claimed by one at a time, and empty only once everything in it is delivered or kept.

mod hosts;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use management_api::store::{
    Batch, Claim, Claimed, Cursor, DeadCallbacks, DeliveredCallback, FailedCallback, NextTry, RecordError, Recorded,
    Settlement, Store,
};
use shared::callbacks::{CallbackUrl, DeadCallback};
use shared::event::{Purchase, Timestamp};

use super::databases::on_each_database;
use super::fixtures::{batch, purchase};

const LEASE: Duration = Duration::from_secs(30);

/// A purchase whose buyer is to be called back.
fn called_back(number: u32) -> Purchase {
    Purchase { callback_url: CallbackUrl::from_stored("https://shop.example/paid?order=1"), ..purchase(number) }
}

fn leased(batch: Batch, lease: Duration) -> Batch {
    Batch { callback_lease: lease, ..batch }
}

async fn claim(store: &dyn Store, lease: Duration) -> Claimed {
    store.claim_callbacks(Claim { lease, limit: 1_000 }).await.unwrap()
}

/// The numbers of the purchases in it.
fn numbers(claimed: &Claimed) -> Vec<u128> {
    let fresh = claimed.batches.iter().flat_map(|batch| &batch.purchases);
    let mut numbers: Vec<u128> = fresh
        .chain(claimed.retries.iter().map(|retry| &retry.purchase))
        .map(|purchase| purchase.purchase_id.as_u128())
        .collect();
    numbers.sort_unstable();
    numbers
}

fn failed(purchase: &Purchase, recorded: &Recorded, next: NextTry) -> FailedCallback {
    FailedCallback {
        purchase_id: purchase.purchase_id,
        host: "shop.example".to_owned(),
        recorded_at: recorded.recorded_at,
        attempts: 3,
        tried_for: Duration::from_secs(100),
        next,
        outcome: "the receiver answered 500".to_owned(),
        claimed_until: None,
    }
}

/// Nothing of what was recorded is delivered.
async fn settle_failed(store: &dyn Store, recorded: &Recorded, failed: Vec<FailedCallback>) {
    let finished_batches = recorded.callbacks.iter().map(|batch| batch.batch_id).collect();
    store.settle_callbacks(&Settlement { finished_batches, failed, ..Settlement::default() }).await.unwrap();
}

fn dead(host: Option<&str>, limit: u32) -> DeadCallbacks {
    let since = Timestamp::from_millis(0).unwrap();
    let until = Timestamp::now().after(Duration::from_hours(1));
    DeadCallbacks { since, until, host: host.map(str::to_owned), after: None, limit }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_newly_recorded_is_called_back_once_and_a_repeat_is_not() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let recorded = store.record(&batch(0, 0, [called_back(1), purchase(2)])).await.unwrap();
        assert_eq!(recorded.callbacks.len(), 1);
        let purchases = &recorded.callbacks[0].purchases;
        assert_eq!(purchases, &[Purchase { recorded_at: Some(recorded.recorded_at), ..called_back(1) }]);
        let again = store.record(&batch(0, 2, [called_back(1), called_back(3)])).await.unwrap();
        assert_eq!((again.inserted, again.duplicates), (1, 1));
        let claimed = claim(&*store, LEASE).await;
        assert_eq!(numbers(&claimed), [1, 3]);
        assert_eq!(claimed.batches.len(), 2);
        let told: HashSet<_> = recorded.callbacks.iter().chain(&again.callbacks).map(|batch| batch.batch_id).collect();
        assert_eq!(claimed.batches.iter().map(|batch| batch.batch_id).collect::<HashSet<_>>(), told);
        assert!(claimed.batches.iter().flat_map(|batch| &batch.purchases).all(|one| one.callback_url.is_some()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_url_under_the_same_id_is_a_conflict() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, [called_back(1), purchase(2)])).await.unwrap();
        let elsewhere = CallbackUrl::from_stored("https://shop.example/other");
        for other in [
            Purchase { callback_url: elsewhere.clone(), ..purchase(1) },
            purchase(1),
            Purchase { callback_url: elsewhere, ..purchase(2) },
        ] {
            let refused = store.record(&batch(0, 2, [other])).await;
            assert!(matches!(&refused, Err(RecordError::Conflict(indexes)) if indexes == &[0]), "{refused:?}");
        }
        assert_eq!(numbers(&claim(&*store, LEASE).await), [1]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_not_recorded_calls_nobody_back() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, [purchase(1)])).await.unwrap();
        assert!(matches!(store.record(&batch(0, 0, [called_back(2)])).await, Err(RecordError::Fenced)));
        assert_eq!(numbers(&claim(&*store, LEASE).await), []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_claimed_belongs_to_one_until_its_time_is_over() {
    on_each_database(|database| async move {
        let (one, other) = (database.migrated().await, database.store());
        one.record(&leased(batch(0, 0, [called_back(1)]), LEASE)).await.unwrap();
        assert_eq!(numbers(&claim(&*other, LEASE).await), [], "it is called back from where it was recorded");
        let short = Duration::from_millis(100);
        one.record(&leased(batch(0, 1, [called_back(2)]), short)).await.unwrap();
        let claimed = claim_in_the_end(&*other).await;
        assert_eq!(numbers(&claimed), [2]);
        assert_eq!(numbers(&claim(&*one, LEASE).await), []);
    })
    .await;
}

/// Claims until something is due.
async fn claim_in_the_end(store: &dyn Store) -> Claimed {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let claimed = claim(store, LEASE).await;
        if !numbers(&claimed).is_empty() {
            return claimed;
        }
        assert!(Instant::now() < deadline, "nothing is due");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_claim_at_once_never_get_the_same() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        for number in 0..60 {
            store.record(&batch(0, i64::from(number), [called_back(number + 1)])).await.unwrap();
        }
        let claims = (0..6).map(|_| {
            let store = database.store();
            tokio::spawn(async move {
                let mut all = Vec::new();
                loop {
                    let claimed = store.claim_callbacks(Claim { lease: LEASE, limit: 4 }).await.unwrap();
                    all.extend(numbers(&claimed));
                    if !claimed.is_full {
                        return all;
                    }
                }
            })
        });
        let mut all = Vec::new();
        for claimed in claims.collect::<Vec<_>>() {
            all.extend(claimed.await.unwrap());
        }
        all.sort_unstable();
        assert_eq!(all, (1..=60).collect::<Vec<u128>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_due_again_and_what_is_delivered_is_gone() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let purchases = [called_back(1), called_back(2), called_back(3)];
        let recorded = store.record(&batch(0, 0, purchases.clone())).await.unwrap();
        let claimed = claim(&*store, LEASE).await;
        let settlement = Settlement {
            finished_batches: claimed.batches.iter().map(|batch| batch.batch_id).collect(),
            delivered: Vec::new(),
            failed: vec![
                failed(&purchases[0], &recorded, NextTry::After(Duration::ZERO)),
                failed(&purchases[1], &recorded, NextTry::After(Duration::from_hours(1))),
            ],
        };
        store.settle_callbacks(&settlement).await.unwrap();
        let claimed = claim_in_the_end(&*store).await;
        assert!(claimed.batches.is_empty());
        let retry = &claimed.retries[0];
        assert_eq!((numbers(&claimed), retry.attempts), (vec![1], 3));
        assert!((100..200).contains(&retry.tried_for.as_secs()), "{:?}", retry.tried_for);
        assert_eq!(store.count_callbacks().await.unwrap().waiting, 2);
        let done = |claimed_until| DeliveredCallback { purchase_id: purchases[0].purchase_id, claimed_until };
        // Who was frozen meanwhile, and has no claim any more, changes nothing.
        let late = Settlement { delivered: vec![done(retry.claimed_until - LEASE)], ..Settlement::default() };
        store.settle_callbacks(&late).await.unwrap();
        assert_eq!(store.count_callbacks().await.unwrap().waiting, 2);
        let delivered = Settlement { delivered: vec![done(retry.claimed_until)], ..Settlement::default() };
        store.settle_callbacks(&delivered).await.unwrap();
        assert_eq!(store.count_callbacks().await.unwrap().waiting, 1);
        assert_eq!(numbers(&claim(&*store, LEASE).await), []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_listed_and_sent_again() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let purchases: Vec<Purchase> = (1..=5).map(called_back).collect();
        let recorded = store.record(&batch(0, 0, purchases.clone())).await.unwrap();
        let mut given_up: Vec<_> =
            purchases.iter().map(|purchase| failed(purchase, &recorded, NextTry::Never)).collect();
        given_up[4].host = "other.example".to_owned();
        settle_failed(&*store, &recorded, given_up).await;
        assert_eq!(numbers(&claim(&*store, LEASE).await), []);
        assert_eq!(store.count_callbacks().await.unwrap().dead, 5);
        let first = store.list_dead_callbacks(&dead(None, 3)).await.unwrap();
        let after = first.last().map(Cursor::after_dead);
        let rest = store.list_dead_callbacks(&DeadCallbacks { after, ..dead(None, 3) }).await.unwrap();
        let listed: Vec<u128> = first.iter().chain(&rest).map(|one| one.purchase_id.as_u128()).collect();
        assert_eq!(listed, [1, 2, 3, 4, 5]);
        assert_eq!((first[0].attempts, first[0].outcome.as_str()), (3, "the receiver answered 500"));
        let too_early = DeadCallbacks { until: recorded.recorded_at, ..dead(None, 10) };
        assert_eq!(store.resend_callbacks(&too_early).await.unwrap().count, 0);
        assert_eq!(store.resend_callbacks(&dead(Some("other.example"), 10)).await.unwrap().count, 1);
        assert_eq!(numbers(&claim_in_the_end(&*store).await), [5]);
        store.resend_callback(&purchases[1], "shop.example").await.unwrap();
        let retried = claim_in_the_end(&*store).await;
        assert_eq!((numbers(&retried), retried.retries[0].attempts), (vec![2], 0));
        let some = store.resend_callbacks(&dead(None, 2)).await.unwrap();
        assert_eq!(some.count, 2, "no more than were asked for");
        assert_eq!(some.last.map(|last| last.purchase_id.as_u128()), Some(3));
        assert_eq!(numbers(&claim_in_the_end(&*store).await), [1, 3]);
        // What is forgotten has been dead for as long.
        store.forget_callbacks(Duration::from_hours(1)).await.unwrap();
        assert_eq!(store.count_callbacks().await.unwrap().dead, 1);
        store.forget_callbacks(Duration::ZERO).await.unwrap();
        assert_eq!(store.count_callbacks().await.unwrap().dead, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callbacks_of_one_batch_are_several_rows_and_none_is_left_out() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let recorded = store.record(&batch(0, 0, (1..=1_200).map(called_back))).await.unwrap();
        assert_eq!(recorded.callbacks.len(), 3);
        let (mut claimed, mut all) = (claim(&*store, LEASE).await, Vec::new());
        while !numbers(&claimed).is_empty() {
            all.extend(numbers(&claimed));
            claimed = claim(&*store, LEASE).await;
        }
        all.sort_unstable();
        assert_eq!(all, (1..=1_200).collect::<Vec<u128>>());
    })
    .await;
}

/// What is given up once it is so old.
async fn given_up_after(store: &dyn Store, age: Duration) -> Vec<DeadCallback> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        store.forget_callbacks(age).await.unwrap();
        let given_up = store.list_dead_callbacks(&dead(None, 10)).await.unwrap();
        if !given_up.is_empty() || Instant::now() > deadline {
            return given_up;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_up_is_given_up_and_can_be_sent_again() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, [called_back(1), called_back(2)])).await.unwrap();
        store.forget_callbacks(Duration::from_hours(1)).await.unwrap();
        assert_eq!(store.count_callbacks().await.unwrap().dead, 0);
        let given_up = given_up_after(&*store, Duration::from_millis(300)).await;
        assert_eq!(given_up.iter().map(|one| one.host.as_str()).collect::<Vec<_>>(), ["shop.example"; 2]);
        assert_eq!(numbers(&claim(&*store, LEASE).await), []);
        assert_eq!(store.resend_callbacks(&dead(Some("shop.example"), 10)).await.unwrap().count, 2);
        assert_eq!(numbers(&claim_in_the_end(&*store).await), [1, 2]);
    })
    .await;
}
