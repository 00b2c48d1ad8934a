//! Whoever does not know the stored offset owns the partition no more, and changes nothing.

use management_api::store::{Batch, RecordError, Store};

use super::databases::on_each_database;
use super::fixtures::{INCARNATION, all_ids, batch, next_offset, purchase, step, totals};

async fn assert_fenced(store: &dyn Store, batch: &Batch) {
    let ids = all_ids(store, None, 1000).await;
    let totals_before = totals(store, "alice").await;
    let result = store.record(batch).await;
    assert!(matches!(result, Err(RecordError::Fenced)), "{result:?}");
    assert_eq!(all_ids(store, None, 1000).await, ids);
    assert_eq!(totals(store, "alice").await, totals_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_offset_changes_nothing() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        // No row yet counts as 0, and only as 0.
        assert_fenced(&*store, &batch(0, 5, [purchase(1)])).await;
        store.record(&batch(0, 0, [purchase(1), purchase(2)])).await.unwrap();
        for expected in [0, 1, 3, i64::MAX - 1] {
            assert_fenced(&*store, &batch(0, expected, [purchase(9)])).await;
        }
        assert_eq!(next_offset(&*store, 0).await, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stale_partition_of_several_fences_the_whole_batch() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(1, 0, [purchase(1)])).await.unwrap();
        for stale in [0, 1, 2] {
            let moves = (0..3).map(|partition| {
                let current = i64::from(partition == 1);
                step(partition, if partition == stale { current + 7 } else { current }, 20)
            });
            let rows = (10..13).map(purchase);
            let stale_batch = Batch {
                incarnation: INCARNATION.into(),
                moves: moves.collect(),
                rows: rows.collect(),
                ..Batch::default()
            };
            assert_fenced(&*store, &stale_batch).await;
        }
        for (partition, next) in [(0, 0), (1, 1), (2, 0)] {
            assert_eq!(next_offset(&*store, partition).await, next);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_batch_is_fenced() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let first = batch(0, 0, [purchase(1), purchase(2)]);
        store.record(&first).await.unwrap();
        assert_fenced(&*store, &first).await;
        let second = batch(0, 2, [purchase(3)]);
        store.record(&second).await.unwrap();
        assert_fenced(&*store, &second).await;
        assert_eq!(totals(&*store, "alice").await, (3, "30".to_owned()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_batch_is_fenced_before_its_content_is_looked_at() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, [purchase(1)])).await.unwrap();
        let conflict = shared::event::Purchase { userid: "bob".to_owned(), ..purchase(1) };
        assert_fenced(&*store, &batch(0, 0, [conflict])).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_life_of_a_topic_has_offsets_of_its_own() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, [purchase(1)])).await.unwrap();
        let reborn = Batch { incarnation: "cluster-1/topic-2".into(), ..batch(0, 0, [purchase(2), purchase(1)]) };
        let recorded = store.record(&reborn).await.unwrap();
        assert_eq!((recorded.inserted, recorded.duplicates), (1, 1));
        assert_eq!(next_offset(&*store, 0).await, 1);
        let offsets = store.next_offsets("cluster-1/topic-2", &[1, 0]).await.unwrap();
        let mut offsets: Vec<_> = offsets.iter().map(|offset| (offset.partition, offset.next_offset)).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, [(0, 2), (1, 0)]);
    })
    .await;
}
