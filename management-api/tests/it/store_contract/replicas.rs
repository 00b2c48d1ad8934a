//! Several replicas on one database.

use std::time::{Duration, Instant};

use management_api::store::{RecordError, Recorded, Store};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::databases::{on_each_database, on_postgres};
use super::fixtures::{INCARNATION, all_ids, batch, next_offset, purchase, record_in_the_end, totals};

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_make_the_tables_once() {
    on_each_database(|database| async move {
        let stores: Vec<_> = (0..4).map(|_| database.store()).collect();
        let starts = stores.iter().map(|store| {
            let store = std::sync::Arc::clone(store);
            tokio::spawn(async move { store.migrate().await })
        });
        for start in starts.collect::<Vec<_>>() {
            start.await.unwrap().unwrap();
        }
        stores[0].record(&batch(0, 0, [purchase(1)])).await.unwrap();
        stores[1].migrate().await.unwrap();
        assert_eq!(all_ids(&*stores[2], None, 10).await, [1]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_with_one_partition_exactly_one_wins_each_step() {
    on_each_database(|database| async move {
        let (left, right) = (database.migrated().await, database.migrated().await);
        for round in 0..30_u32 {
            let (one, other) = (round * 2, round * 2 + 1);
            let expected = i64::from(round);
            let (first, second) = (batch(0, expected, [purchase(one)]), batch(0, expected, [purchase(other)]));
            let results = tokio::join!(record_in_the_end(&*left, &first), record_in_the_end(&*right, &second));
            let winner = match results {
                (Ok(_), Err(RecordError::Fenced)) => one,
                (Err(RecordError::Fenced), Ok(_)) => other,
                neither => panic!("{neither:?}"),
            };
            assert_eq!(all_ids(&*left, None, 1000).await[0], u128::from(winner));
        }
        assert_eq!(next_offset(&*left, 0).await, 30);
        assert_eq!(totals(&*left, "alice").await, (30, "300".to_owned()));
    })
    .await;
}

/// Records batches of a partition, half of whose purchases the other partition has too.
async fn record_overlapping(store: &dyn Store, partition: i32) -> (usize, usize) {
    let mut sum = (0, 0);
    for round in 0..15_u32 {
        let shared = round * 1000..round * 1000 + 100;
        let own = round * 1000 + 200 + partition.unsigned_abs() * 100;
        let purchases = shared.chain(own..own + 100).map(purchase);
        let Recorded { inserted, duplicates, .. } =
            record_in_the_end(store, &batch(partition, i64::from(round) * 200, purchases)).await.unwrap();
        sum = (sum.0 + inserted, sum.1 + duplicates);
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_replicas_both_record_is_stored_once_and_neither_waits_for_ever() {
    on_each_database(|database| async move {
        let (left, right) = (database.migrated().await, database.migrated().await);
        let started = Instant::now();
        let (left_sum, right_sum) = tokio::join!(record_overlapping(&*left, 0), record_overlapping(&*right, 1));
        assert_eq!(left_sum.0 + right_sum.0, 15 * 300);
        assert_eq!(left_sum.1 + right_sum.1, 15 * 100);
        assert_eq!(totals(&*left, "alice").await, (15 * 300, "45000".to_owned()));
        assert_eq!(all_ids(&*left, None, 1000).await.len(), 15 * 300);
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    })
    .await;
}

/// The contract: an heir records within 15 s, whatever its frozen predecessor holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_session_does_not_hold_its_heir_up() {
    on_postgres(|database| async move {
        let heir = database.migrated().await;
        heir.record(&batch(0, 0, [purchase(1)])).await.unwrap();
        let mut frozen = PgConnection::connect(&database.url).await.unwrap();
        // By name one of ours, and without the time limits with which the server would end it by itself.
        frozen.execute("SET application_name = 'management-api'").await.unwrap();
        frozen.execute("BEGIN").await.unwrap();
        let lock = sqlx::query("SELECT FROM consumer_offsets WHERE topic_incarnation = $1 FOR UPDATE");
        lock.bind(INCARNATION).execute(&mut frozen).await.unwrap();
        let started = Instant::now();
        record_in_the_end(&*heir, &batch(0, 1, [purchase(2)])).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        assert!(frozen.execute("COMMIT").await.is_err(), "its session is gone");
    })
    .await;
}
