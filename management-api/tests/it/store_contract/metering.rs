//! What keys have bought is counted as often as it is recorded, and what else was counted is added once.

use std::time::Duration;

use management_api::store::{Batch, NewKey, RecordError, Store, UsageQuery};
use shared::api_keys::{ApiKeySecret, KeyUsage, RequestClass, RequestCount, RequestCounts, Scope, UsageFlush};
use shared::event::{Purchase, Timestamp};
use uuid::Uuid;

use super::accounts::{account, second};
use super::databases::on_each_database;
use super::dead_letters::letter;
use super::fixtures::{batch, price, purchase, record_in_the_end, step};

const KEY: Uuid = Uuid::from_u128(5);
const OTHER: Uuid = Uuid::from_u128(6);

async fn with_keys(store: &dyn Store) {
    for (owner, name, key_id) in [(1, "ann", KEY), (2, "bob", OTHER)] {
        store.create_account(&account(owner, name)).await.unwrap();
        let key = NewKey {
            key_id,
            account_id: Uuid::from_u128(owner),
            name: name.to_owned(),
            scopes: vec![Scope::Buy],
            rate_per_second: None,
            secret_hash: ApiKeySecret::random().hash(),
            secret_start: String::new(),
            created_at: second(0),
            expires_at: None,
            told: Duration::ZERO,
        };
        store.create_key(&key).await.unwrap();
    }
}

/// A batch of which these keys have bought these rows.
fn bought(expected: i64, rows: &[(u32, Option<Uuid>)]) -> Batch {
    let key_ids = rows.iter().map(|(_, key)| *key).collect();
    Batch { key_ids, ..batch(0, expected, rows.iter().map(|(number, _)| purchase(*number))) }
}

async fn usage(store: &dyn Store, account_id: Option<u128>, from: &str, to: &str) -> Vec<KeyUsage> {
    let account_id = account_id.map(Uuid::from_u128);
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    store.list_usage(&UsageQuery { account_id, key_id: None, from, to, limit: 100 }).await.unwrap()
}

/// Purchases of each key on all days.
async fn purchases(store: &dyn Store) -> Vec<(u128, u64)> {
    let mut counts: Vec<_> = usage(store, None, "0001-01-01", "9999-12-31")
        .await
        .iter()
        .map(|usage| (usage.key_id.as_u128(), usage.purchases))
        .collect();
    counts.sort_unstable();
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_newly_recorded_counts_for_the_key_that_bought_it() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        with_keys(&*store).await;
        let stranger = Some(Uuid::from_u128(99));
        store
            .record(&bought(0, &[(3, Some(KEY)), (1, None), (2, Some(OTHER)), (4, Some(KEY)), (5, stranger)]))
            .await
            .unwrap();
        assert_eq!(
            purchases(&*store).await,
            [(5, 2), (6, 1)],
            "a key that nobody knows stops nothing, and is not shown"
        );
        let repeats = bought(5, &[(4, Some(OTHER)), (3, Some(KEY)), (6, Some(KEY))]);
        assert_eq!(store.record(&repeats).await.unwrap().inserted, 1);
        assert_eq!(purchases(&*store).await, [(5, 3), (6, 1)], "a repeat counts for nobody");
        assert!(matches!(store.record(&repeats).await, Err(RecordError::Fenced)));
        let conflict = Purchase { price: price("11"), ..purchase(1) };
        let mut refused = bought(8, &[(7, Some(KEY)), (1, Some(KEY))]);
        refused.rows[1] = conflict;
        assert!(matches!(store.record(&refused).await, Err(RecordError::Conflict(_))));
        assert_eq!(purchases(&*store).await, [(5, 3), (6, 1)], "nor does what is not recorded");
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_not_those_of_the_rows_are_refused_with_the_batch() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        with_keys(&*store).await;
        let good = bought(0, &[(1, None), (2, Some(KEY))]);
        for key_ids in [vec![Some(KEY)], vec![None, Some(KEY), Some(OTHER)]] {
            let bad = Batch { key_ids, ..good.clone() };
            assert!(matches!(store.record(&bad).await, Err(RecordError::Rejected(_))), "{} keys", bad.key_ids.len());
        }
        assert_eq!(store.record(&good).await.unwrap().inserted, 2, "nothing was recorded before");
        assert_eq!(purchases(&*store).await, [(5, 1)]);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_dead_letters_counts_as_well_and_what_is_fenced_counts_nothing() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        with_keys(&*store).await;
        let with_letter = |expected| Batch {
            dead_letters: vec![letter(1, b"broken")],
            ..bought(expected, &[(1, Some(KEY)), (2, None), (3, Some(KEY))])
        };
        store.record(&with_letter(0)).await.unwrap();
        for _ in 0..2 {
            assert!(matches!(store.record(&with_letter(0)).await, Err(RecordError::Fenced)));
        }
        store.record(&with_letter(3)).await.unwrap();
        assert_eq!(purchases(&*store).await, [(5, 2)]);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purchases_count_on_the_day_of_their_timestamps() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        with_keys(&*store).await;
        let at = |number, time| Purchase { timestamp: Timestamp::parse(time).unwrap(), ..purchase(number) };
        let rows =
            [at(1, "2026-01-31T23:59:59.999Z"), at(2, "2026-02-01T00:00:00Z"), at(3, "2026-02-01T12:00:00+13:00")];
        store.record(&Batch { key_ids: vec![Some(KEY); 3], ..batch(0, 0, rows) }).await.unwrap();
        let days = async |account, from: &str, to: &str| -> Vec<_> {
            let usage = usage(&*store, account, from, to).await;
            usage.iter().map(|usage| (usage.day.to_string(), usage.purchases)).collect()
        };
        let both = [("2026-02-01".to_owned(), 1), ("2026-01-31".to_owned(), 2)];
        assert_eq!(days(Some(1), "2026-01-01", "2026-02-28").await, both);
        assert_eq!(days(Some(1), "2026-02-01", "2026-02-01").await, both[..1]);
        assert_eq!(days(Some(2), "2026-01-01", "2026-02-28").await, []);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_count_the_purchases_of_one_key_all_at_once() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        with_keys(&*store).await;
        let replicas = [store.clone(), database.store()];
        let lanes = (0..8_i32).map(|partition| {
            let store = replicas[usize::try_from(partition).unwrap() % 2].clone();
            tokio::spawn(async move {
                for round in 0..10_u32 {
                    let first = 1000 * u32::try_from(partition).unwrap() + 10 * round;
                    let batch = Batch {
                        moves: vec![step(partition, i64::from(round), i64::from(round) + 1)],
                        key_ids: (first..first + 10).map(|it| Some(if it % 2 == 0 { KEY } else { OTHER })).collect(),
                        ..batch(partition, 0, (first..first + 10).map(purchase))
                    };
                    record_in_the_end(&*store, &batch).await.unwrap();
                }
            })
        });
        for lane in lanes.collect::<Vec<_>>() {
            lane.await.unwrap();
        }
        assert_eq!(purchases(&*store).await, [(5, 400), (6, 400)]);
        replicas[1].close().await;
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_adds_once_however_often_and_at_whatever_moment_it_comes() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        with_keys(&*store).await;
        let day = "2026-01-31".parse().unwrap();
        let count = |key_id, class, requests, at| RequestCount { key_id, day, class, requests, last_at: second(at) };
        let counts = vec![
            count(OTHER, RequestClass::Read, 1, 1),
            count(KEY, RequestClass::Batch, 2, 5),
            count(KEY, RequestClass::Read, 30, 3),
        ];
        let flush = UsageFlush { flush_id: Uuid::from_u128(1), counts };
        let tries = (0..8).map(|_| store.add_usage(&flush, second(10), second(0)));
        let added = futures_util::future::join_all(tries).await;
        assert_eq!(added.into_iter().filter(|added| *added.as_ref().unwrap()).count(), 1);
        let next = UsageFlush { flush_id: Uuid::from_u128(2), counts: vec![count(KEY, RequestClass::Read, 7, 2)] };
        assert!(store.add_usage(&next, second(20), second(10)).await.unwrap());
        assert!(!store.add_usage(&flush, second(21), second(10)).await.unwrap(), "still remembered");
        let used = usage(&*store, Some(1), "2026-01-31", "2026-01-31").await;
        let [key] = used.as_slice() else { panic!("{used:?}") };
        assert_eq!((key.purchases, key.requests), (0, RequestCounts { buy: 0, batch: 2, read: 37 }));
        let listed = store.list_keys(Uuid::from_u128(1)).await.unwrap();
        assert_eq!(listed[0].last_used_at, Some(second(5)));
        store.close().await;
    })
    .await;
}
