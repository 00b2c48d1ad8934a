//! The log of commits says what was newly recorded, each of it once, in an order that nobody who follows it can miss anything of.

use std::collections::HashSet;
use std::time::Duration;

use management_api::store::{Batch, RecordError, Store};
use shared::commits::{Commit, CommitPosition, userid_mark};
use shared::event::Purchase;

use super::databases::on_each_database;
use super::fixtures::{batch, purchase, record_in_the_end, step};

const LIMIT: u32 = 100;

fn ids(commit: &Commit) -> Vec<u128> {
    commit.purchase_ids.iter().map(uuid::Uuid::as_u128).collect()
}

/// Partition, number and ids of what comes after a position, which moves on.
async fn next(store: &dyn Store, position: &mut CommitPosition) -> Vec<(i32, i64, Vec<u128>)> {
    let mut commits = store.list_commits(position, LIMIT).await.unwrap();
    commits.sort_by_key(|commit| (commit.partition, commit.number));
    let told = commits.iter().map(|commit| {
        assert!(position.is_just_before(commit), "{commit:?} after {position}");
        position.pass(commit);
        (commit.partition, commit.number, ids(commit))
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_newly_recorded_is_told_once_and_in_order() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let mut position = store.last_commits().await.unwrap();
        assert_eq!(position.numbers().count(), 0);
        let bob = Purchase { userid: "bob".to_owned(), ..purchase(2) };
        let first = batch(3, 0, [purchase(1), bob]);
        store.record(&first).await.unwrap();
        let commits = store.list_commits(&position, LIMIT).await.unwrap();
        assert_eq!(commits[0].userid_marks, Some(["alice", "bob"].map(userid_mark).to_vec()));
        assert_eq!(next(&*store, &mut position).await, [(3, 1, vec![1, 2])]);
        assert_eq!(next(&*store, &mut position).await, []);
        assert!(matches!(store.record(&first).await, Err(RecordError::Fenced)));
        // Of what is stored already, nothing is told.
        store
            .record(&batch(
                3,
                2,
                [purchase(2).clone(), purchase(3)].map(|row| Purchase {
                    userid: if row.purchase_id.as_u128() == 2 { "bob".to_owned() } else { row.userid.clone() },
                    ..row
                }),
            ))
            .await
            .unwrap();
        store.record(&batch(3, 4, [purchase(3)])).await.unwrap();
        let two = Batch { moves: vec![step(3, 5, 6), step(4, 0, 1)], ..batch(0, 0, [purchase(4), purchase(5)]) };
        store.record(&two).await.unwrap();
        store.record(&batch(4, 1, [purchase(6)])).await.unwrap();
        let told = next(&*store, &mut position).await;
        assert_eq!(told, [(3, 2, vec![3]), (3, 3, vec![4, 5]), (4, 1, vec![6])]);
        assert_eq!(store.last_commits().await.unwrap(), position);
        let start = CommitPosition::new(position.log_id, []);
        let all = store.list_commits(&start, 2).await.unwrap();
        let numbers: HashSet<_> = all.iter().map(|commit| (commit.partition, commit.number)).collect();
        assert_eq!(numbers, [(3, 1), (3, 2), (4, 1)].into(), "the first two of each partition");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_life_of_the_topic_goes_on_in_the_same_log() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let mut position = store.last_commits().await.unwrap();
        store.record(&batch(0, 0, [purchase(1)])).await.unwrap();
        store.record(&Batch { incarnation: "cluster-1/topic-2".into(), ..batch(0, 0, [purchase(2)]) }).await.unwrap();
        assert_eq!(next(&*store, &mut position).await, [(0, 1, vec![1]), (0, 2, vec![2])]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_commits_are_forgotten_but_never_the_newest() {
    on_each_database(|database| async move {
        let store = database.migrated().await;
        let start = store.last_commits().await.unwrap();
        for number in 0..3 {
            store.record(&batch(0, i64::from(number), [purchase(number)])).await.unwrap();
        }
        store.record(&batch(7, 0, [purchase(7)])).await.unwrap();
        assert_eq!(store.forget_commits(Duration::from_mins(1)).await.unwrap(), 0);
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(store.forget_commits(Duration::ZERO).await.unwrap(), 2);
        let left = store.list_commits(&start, LIMIT).await.unwrap();
        let left: HashSet<_> = left.iter().map(|commit| (commit.partition, commit.number)).collect();
        assert_eq!(left, [(0, 3), (7, 1)].into());
        store.record(&batch(0, 3, [purchase(3)])).await.unwrap();
        assert_eq!(store.last_commits().await.unwrap().number(0), 4, "numbers go on");
    })
    .await;
}

/// Follows the log while replicas record: whoever goes by what it has seen misses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn who_follows_while_replicas_record_sees_each_purchase_once() {
    on_each_database(|database| async move {
        let (one, other) = (database.migrated().await, database.migrated().await);
        let mut position = one.last_commits().await.unwrap();
        let record = async |store: &dyn Store, partition: u32| {
            for number in 0..40_u32 {
                let id = |row: u32| partition * 1_000 + number * 3 + row;
                let rows = (0..3).map(|row| purchase(id(row)));
                let batch = batch(partition.cast_signed(), i64::from(number) * 3, rows);
                record_in_the_end(store, &batch).await.unwrap();
            }
        };
        let writing = async { tokio::join!(record(&*one, 1), record(&*other, 2), record(&*one, 3)) };
        tokio::pin!(writing);
        let (mut seen, mut is_over) = (Vec::new(), false);
        loop {
            tokio::select! {
                _ = &mut writing, if !is_over => is_over = true,
                told = next(&*other, &mut position) => {
                    if is_over && told.is_empty() {
                        break;
                    }
                    seen.extend(told.into_iter().flat_map(|(.., ids)| ids));
                }
            }
        }
        assert_eq!(seen.len(), 360);
        assert_eq!(seen.into_iter().collect::<HashSet<_>>().len(), 360);
    })
    .await;
}
