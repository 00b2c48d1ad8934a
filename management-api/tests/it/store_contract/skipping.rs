//! Offsets go where they are told, also backwards, with the leader's epoch; and what is skipped is written down.

use management_api::store::{Batch, OffsetMove, PartitionOffset, RecordError, Store};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::databases::{on_each_database, on_postgres};
use super::fixtures::{INCARNATION, batch, next_offset, purchase, step, totals};

async fn offset(store: &dyn Store, partition: i32) -> PartitionOffset {
    store.next_offsets(INCARNATION, &[partition]).await.unwrap()[0]
}

fn moves_only(step: OffsetMove) -> Batch {
    Batch { incarnation: INCARNATION.into(), moves: vec![step], ..Batch::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_moves_back_where_the_log_was_cut_and_its_leader_epoch_with_it() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let forth = OffsetMove { leader_epoch: Some(3), ..step(0, 0, 1000) };
        store.record(&moves_only(forth)).await.unwrap();
        assert_eq!(offset(&*store, 0).await.leader_epoch, Some(3));
        let back = OffsetMove { leader_epoch: Some(2), ..step(0, 1000, 900) };
        store.record(&moves_only(back)).await.unwrap();
        let expected = PartitionOffset { partition: 0, next_offset: 900, leader_epoch: Some(2) };
        assert_eq!(offset(&*store, 0).await, expected);
        // What is not known is not taken from before.
        store.record(&batch(0, 900, [purchase(1)])).await.unwrap();
        assert_eq!(offset(&*store, 0).await, PartitionOffset { next_offset: 901, leader_epoch: None, ..expected });
        store.record(&moves_only(OffsetMove { leader_epoch: Some(7), ..step(0, 901, 0) })).await.unwrap();
        store.record(&batch(0, 0, [purchase(2)])).await.unwrap();
        assert_eq!(next_offset(&*store, 0).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_of_another_history_of_the_log_is_not_the_expected_one() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.record(&moves_only(OffsetMove { leader_epoch: Some(0), ..step(0, 0, 2) })).await.unwrap();
        let other = OffsetMove { expected_epoch: Some(1), leader_epoch: Some(1), ..step(0, 2, 3) };
        let fenced = store.record(&moves_only(other)).await;
        assert!(matches!(fenced, Err(RecordError::Fenced)), "{fenced:?}");
        // Who knows of no epoch does not ask for one, and one that is not stored is no other one.
        store.record(&moves_only(step(0, 2, 3))).await.unwrap();
        store.record(&moves_only(OffsetMove { expected_epoch: Some(1), ..step(0, 3, 4) })).await.unwrap();
        let same = OffsetMove { leader_epoch: Some(1), ..step(0, 4, 5) };
        store.record(&moves_only(same)).await.unwrap();
        store.record(&moves_only(OffsetMove { expected_epoch: Some(1), ..step(0, 5, 6) })).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_skipped_is_written_down_with_the_move_or_not_at_all() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        assert_eq!(store.list_skipped().await.unwrap(), []);
        store.skip(INCARNATION, &step(1, 0, 5), "unknown codec").await.unwrap();
        let fenced = store.skip(INCARNATION, &step(1, 4, 9), "too late").await;
        assert!(matches!(fenced, Err(RecordError::Fenced)), "{fenced:?}");
        store.skip(INCARNATION, &step(1, 5, 7), "crc of \0").await.unwrap();
        assert_eq!(next_offset(&*store, 1).await, 7);
        let skipped = store.list_skipped().await.unwrap();
        let places: Vec<_> = skipped.iter().map(|skipped| (skipped.from_offset, skipped.to_offset)).collect();
        assert_eq!(places, [(5, 7), (0, 5)], "the newest first");
        assert_eq!((skipped[1].incarnation.as_str(), skipped[1].partition), (INCARNATION, 1));
        assert_eq!(skipped[1].reason, "unknown codec");
    })
    .await;
}

/// Replicas of the releases before go on while the new one's tables are there.
#[tokio::test(flavor = "multi_thread")]
async fn the_functions_of_the_releases_before_work_beside_the_new_one() {
    const FIRST: &str =
        "SELECT inserted FROM record_purchases($1, '{0,1}', $2, $3, $4, $5, $5, '{10}', '{now}', false)";
    const SECOND: &str = "SELECT inserted FROM record_purchases_v2(
        $1, '{0,1}', $2, '{NULL,NULL}', $3, '{NULL,NULL}', $4, $5, $5, '{10}', '{now}', false)";
    on_postgres(|database| async move {
        let store = database.migrated().await;
        store.record(&moves_only(OffsetMove { leader_epoch: Some(3), ..step(0, 0, 1) })).await.unwrap();
        let mut old = PgConnection::connect(&database.url).await.unwrap();
        let record = async |old: &mut PgConnection, function: &'static str, expected: [i64; 2], next: [i64; 2]| {
            let query = sqlx::query_scalar::<_, i64>(function).bind(INCARNATION).bind(expected).bind(next);
            query.bind([Uuid::from_u128(next[0].unsigned_abs().into())]).bind(["alice"]).fetch_one(old).await
        };
        assert_eq!(record(&mut old, FIRST, [1, 0], [5, 2]).await.unwrap(), 1);
        assert_eq!(offset(&*store, 0).await, PartitionOffset { partition: 0, next_offset: 5, leader_epoch: None });
        assert_eq!(next_offset(&*store, 1).await, 2);
        assert_eq!(record(&mut old, SECOND, [5, 2], [7, 3]).await.unwrap(), 1);
        for function in [FIRST, SECOND] {
            let fenced = record(&mut old, function, [1, 2], [9, 9]).await.unwrap_err();
            assert_eq!(fenced.as_database_error().unwrap().code().unwrap(), "PUR01");
        }
        store.record(&batch(0, 7, [purchase(1)])).await.unwrap();
        assert_eq!(totals(&*store, "alice").await, (3, "30".to_owned()));
    })
    .await;
}
