//! A database that is away is an error that passes, and nothing is lost or written by halves.

use std::time::{Duration, Instant};

use management_api::store::{RecordError, Store};
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use super::databases::{on_postgres, on_sqlite, store_at};
use super::fixtures::{all_ids, batch, next_offset, purchase, record_in_the_end};
use super::proxy::Proxy;

async fn assert_unavailable(store: &dyn Store) {
    let result = store.record(&batch(0, 0, [purchase(1)])).await;
    assert!(matches!(result, Err(RecordError::Unavailable(_))), "{result:?}");
}

async fn assert_usable(store: &dyn Store) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = store.check().await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    record_in_the_end(store, &batch(0, 0, [purchase(1)])).await.unwrap();
    assert_eq!(next_offset(store, 0).await, 1);
    assert_eq!(all_ids(store, None, 10).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_tables_are_made_nothing_is_refused_for_good() {
    on_sqlite(|database| async move {
        let store = database.store();
        assert!(store.check().await.is_err());
        assert_unavailable(&*store).await;
        store.migrate().await.unwrap();
        assert_usable(&*store).await;
    })
    .await;
    on_postgres(|database| async move {
        let store = database.store();
        assert_unavailable(&*store).await;
        store.migrate().await.unwrap();
        assert_usable(&*store).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_made_yet_is_made_later() {
    on_sqlite(|database| async move {
        let folder = database.url.strip_prefix("sqlite:").unwrap().strip_suffix("/with/it/purchases.db").unwrap();
        std::fs::write(folder, "in the way").unwrap();
        let store = database.store();
        assert!(store.migrate().await.is_err());
        assert_unavailable(&*store).await;
        assert!(store.check().await.is_err());
        std::fs::remove_file(folder).unwrap();
        store.migrate().await.unwrap();
        assert_usable(&*store).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_process_writes_to_is_unavailable_until_it_is_done() {
    on_sqlite(|database| async move {
        let store = database.migrated().await;
        let mut other = SqliteConnection::connect(&database.url).await.unwrap();
        other.execute("BEGIN IMMEDIATE").await.unwrap();
        assert_unavailable(&*store).await;
        // Readers are not in the way of a writer, nor it in theirs.
        assert_eq!(all_ids(&*store, None, 10).await, [0; 0]);
        other.execute("ROLLBACK").await.unwrap();
        assert_usable(&*store).await;
    })
    .await;
}

/// As on a full disk: SQLite ends the whole transaction with the error, and the connection must not be left in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_sqlite_ends_by_itself_is_not_the_last_one() {
    on_sqlite(|database| async move {
        let store = database.migrated().await;
        let mut other = SqliteConnection::connect(&database.url).await.unwrap();
        let trigger = "CREATE TRIGGER full BEFORE INSERT ON purchases BEGIN SELECT RAISE(ROLLBACK, 'full'); END";
        other.execute(trigger).await.unwrap();
        for _ in 0..3 {
            let error = store.record(&batch(0, 0, [purchase(1)])).await.unwrap_err();
            assert!(error.to_string().contains("full"), "{error}");
        }
        other.execute("DROP TRIGGER full").await.unwrap();
        assert_usable(&*store).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_is_used_again_when_it_is_back() {
    on_postgres(|database| async move {
        let (user, rest) = database.url.split_once('@').unwrap();
        let (server, name) = rest.split_once('/').unwrap();
        let proxy = Proxy::start(server.to_owned()).await;
        let store = store_at(&format!("{user}@127.0.0.1:{}/{name}", proxy.port));
        store.migrate().await.unwrap();
        store.check().await.unwrap();
        for _ in 0..2 {
            proxy.set_open(false);
            assert_unavailable(&*store).await;
            assert!(store.check().await.is_err());
            assert!(store.list_user_purchases("alice", 1).await.is_err());
            proxy.set_open(true);
            store.check().await.unwrap();
            assert_eq!(all_ids(&*store, None, 10).await, [0; 0]);
        }
        assert_usable(&*store).await;
        store.close().await;
        assert!(store.check().await.is_err());
    })
    .await;
}
