//! What waits for its host, and hosts that fail.

use std::time::Duration;

use management_api::store::NextTry;
use shared::event::Purchase;

use super::super::databases::on_each_database;
use super::super::fixtures::batch;
use super::{LEASE, called_back, claim, claim_in_the_end, failed, leased, numbers, settle_failed};

/// Until its host is well, for so long.
fn parked(time: Duration) -> NextTry {
    NextTry::WhenHostIsWell { for_at_most: time, is_well: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_fails_for_long_is_switched_off_until_somebody_switches_it_on() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let (host, day) = ("shop.example:8443", Duration::from_hours(24));
        let noted = store.note_host_failed(host, "no answer in time", day, Duration::ZERO).await.unwrap();
        assert_eq!((noted.host.as_str(), noted.switched_off_at), (host, None));
        let later = store.note_host_failed(host, "the receiver answered 500", day, Duration::ZERO).await.unwrap();
        assert_eq!((later.failing_since, later.switched_off_at), (noted.failing_since, None));
        let off =
            store.note_host_failed(host, "the receiver answered 500", Duration::ZERO, Duration::ZERO).await.unwrap();
        assert!(off.switched_off_at.is_some());
        let still = store.note_host_failed(host, "the receiver answered 502", day, Duration::ZERO).await.unwrap();
        assert_eq!(still.switched_off_at, off.switched_off_at);
        store.note_host_failed("a.example", "no answer in time", day, Duration::ZERO).await.unwrap();
        let hosts = store.list_callback_hosts(None, 10).await.unwrap();
        assert_eq!(hosts.iter().map(|host| host.host.as_str()).collect::<Vec<_>>(), ["a.example", host]);
        assert_eq!(store.list_callback_hosts(Some("a.example"), 10).await.unwrap(), [still]);
        assert_eq!(store.count_callbacks().await.unwrap().hosts_switched_off, 1);
        assert!(store.note_host_well(host).await.unwrap());
        assert!(!store.note_host_well(host).await.unwrap());
        assert_eq!(store.list_callback_hosts(None, 10).await.unwrap().len(), 1);
        assert_eq!(store.count_callbacks().await.unwrap().hosts_switched_off, 0);
        // It fails for the first time again.
        let anew = store.note_host_failed(host, "no answer in time", Duration::ZERO, Duration::ZERO).await.unwrap();
        assert!(anew.failing_since >= noted.failing_since && anew.switched_off_at.is_none(), "{anew:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_host_that_fails_is_let_go_when_it_is_well() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let purchases: Vec<Purchase> = (1..=120).map(called_back).collect();
        let recorded = store.record(&batch(0, 0, purchases.clone())).await.unwrap();
        let hour = parked(Duration::from_hours(1));
        let parked = purchases.iter().map(|purchase| failed(purchase, &recorded, hour)).collect();
        settle_failed(&*store, &recorded, parked).await;
        assert_eq!(store.list_callback_hosts(None, 10).await.unwrap()[0].host, "shop.example");
        assert_eq!(numbers(&claim(&*store, LEASE).await), []);
        // After a while one of them finds out.
        let trial = claim_in_the_end(&*store).await;
        assert_eq!((numbers(&trial).len(), trial.retries[0].is_host_known), (1, true));
        assert_eq!(numbers(&claim(&*store, LEASE).await), []);
        assert!(store.note_host_well("shop.example").await.unwrap());
        let mut all = numbers(&trial);
        while all.len() < purchases.len() {
            all.extend(numbers(&claim_in_the_end(&*store).await));
        }
        all.sort_unstable();
        assert_eq!(all, (1..=120).collect::<Vec<u128>>());
        assert_eq!(numbers(&claim(&*store, LEASE).await), []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_for_a_host_that_is_well_is_let_go_at_once() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let mut number = 0;
        // The second time the host was looked at in vain before.
        for _ in 0..2 {
            number += 1;
            let lease = leased(batch(0, i64::from(number) - 1, [called_back(number)]), LEASE);
            let recorded = store.record(&lease).await.unwrap();
            let next = NextTry::WhenHostIsWell { for_at_most: Duration::from_hours(1), is_well: true };
            let crowded = vec![failed(&called_back(number), &recorded, next)];
            settle_failed(&*store, &recorded, crowded).await;
            assert_eq!(numbers(&claim(&*store, LEASE).await), [u128::from(number)]);
            assert_eq!(numbers(&claim(&*store, LEASE).await), []);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_host_for_too_long_is_due_to_be_given_up() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let recorded = store.record(&leased(batch(0, 0, [called_back(1)]), LEASE)).await.unwrap();
        let soon = parked(Duration::from_millis(50));
        let parked = vec![failed(&called_back(1), &recorded, soon)];
        settle_failed(&*store, &recorded, parked).await;
        let due = claim_in_the_end(&*store).await;
        // Its host fails still.
        assert_eq!((numbers(&due), due.retries[0].is_host_known), (vec![1], false));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_a_host_that_is_off_says_so_and_not_any_more_once_it_is_on() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let recorded = store.record(&batch(0, 0, [called_back(1), called_back(2)])).await.unwrap();
        let now = NextTry::After(Duration::ZERO);
        let waiting = vec![failed(&called_back(1), &recorded, now), failed(&called_back(2), &recorded, now)];
        settle_failed(&*store, &recorded, waiting).await;
        for _ in 0..2 {
            store.note_host_failed("shop.example", "no answer in time", Duration::ZERO, Duration::ZERO).await.unwrap();
        }
        assert!(claim_in_the_end(&*store).await.retries.iter().all(|retry| retry.is_host_off));
        assert!(store.note_host_well("shop.example").await.unwrap());
        store
            .resend_callback(&Purchase { recorded_at: Some(recorded.recorded_at), ..called_back(1) }, "shop.example")
            .await
            .unwrap();
        assert!(claim_in_the_end(&*store).await.retries.iter().all(|retry| !retry.is_host_off));
    })
    .await;
}
