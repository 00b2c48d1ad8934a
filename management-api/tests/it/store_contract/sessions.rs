//! Sessions that can no longer do their work are thrown away: recording goes on as soon as the database can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use management_api::store::{RecordError, Store};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::databases::{Database, administer, on_postgres};
use super::fixtures::{batch, next_offset, purchase};

/// The contract: recovery within 5 s of the database's.
const RECOVERY: Duration = Duration::from_secs(5);

async fn assert_recovers(store: &dyn Store, expected: i64) {
    let mended = Instant::now();
    let next = batch(0, expected, [purchase(u32::try_from(expected).unwrap())]);
    while let Err(error) = store.record(&next).await {
        assert!(mended.elapsed() < RECOVERY, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while let Err(error) = store.check().await {
        assert!(mended.elapsed() < RECOVERY, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(next_offset(store, 0).await, expected + 1);
}

fn name(database: &Database) -> &str {
    database.url.rsplit_once('/').unwrap().1.split('?').next().unwrap()
}

async fn end_sessions(database: &Database) {
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    administer(&database.url, others.to_owned()).await;
}

/// Sessions that began while the database was read-only stay so for ever, as after a failover.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_began_read_only_is_not_kept_when_the_database_takes_writes_again() {
    on_postgres(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, [purchase(0)])).await.unwrap();
        let set = |what: &str| format!("ALTER DATABASE {} {what}", name(&database));
        administer(&database.url, set("SET default_transaction_read_only = on")).await;
        end_sessions(&database).await;
        for _ in 0..3 {
            let refused = store.record(&batch(0, 1, [purchase(1)])).await;
            assert!(matches!(refused, Err(RecordError::Unavailable(_))), "{refused:?}");
        }
        // The first look may still meet a session that has just been ended.
        let _ = store.check().await;
        assert!(store.check().await.unwrap_err().to_string().contains("read-only"));
        let reset = format!("SET default_transaction_read_only = off; {}", set("RESET default_transaction_read_only"));
        administer_all(&database.url, &reset).await;
        assert_recovers(&*store, 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_that_is_gone_or_outdated_costs_one_session() {
    on_postgres(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, [purchase(0)])).await.unwrap();
        assert_eq!(store.list_user_purchases("alice", 10).await.unwrap().count, 1);
        // What a cached plan gives has another type now.
        administer(&database.url, "ALTER TABLE purchases ALTER COLUMN username TYPE varchar".to_owned()).await;
        let mended = Instant::now();
        while store.list_user_purchases("alice", 10).await.is_err() {
            assert!(mended.elapsed() < RECOVERY);
        }
        assert_recovers(&*store, 1).await;
    })
    .await;
}

/// Else a caller who is gone would hold one of a few connections for as long as a statement may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_nobody_waits_for_ends_in_the_database_too() {
    on_postgres(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, [purchase(0)])).await.unwrap();
        let (mut blocker, mut looker) = (connect(&database).await, connect(&database).await);
        blocker.execute("BEGIN; LOCK purchases IN ACCESS EXCLUSIVE MODE").await.unwrap();
        for _ in 0..8 {
            let read = tokio::spawn({
                let store = Arc::clone(&store);
                async move { store.list_user_purchases("alice", 10).await.map(drop) }
            });
            until_reads(&mut looker, 1).await;
            read.abort();
            let abandoned = Instant::now();
            until_reads(&mut looker, 0).await;
            assert!(
                abandoned.elapsed() < Duration::from_millis(1_800),
                "before any time limit: {:?}",
                abandoned.elapsed()
            );
        }
        blocker.execute("ROLLBACK").await.unwrap();
        assert_eq!(store.list_user_purchases("alice", 10).await.unwrap().count, 1);
    })
    .await;
}

async fn until_reads(looker: &mut PgConnection, count: i64) {
    const READS: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()";
    let deadline = Instant::now() + RECOVERY;
    while sqlx::query_scalar::<_, i64>(READS).fetch_one(&mut *looker).await.unwrap() != count {
        assert!(Instant::now() < deadline, "never {count} reads");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn connect(database: &Database) -> PgConnection {
    PgConnection::connect(&database.url).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_the_server_ends_are_replaced() {
    on_postgres(|database| async move {
        let store = database.migrated().await;
        for round in 0..3 {
            assert_recovers(&*store, round).await;
            end_sessions(&database).await;
        }
    })
    .await;
}

/// Readiness is no question of how busy the recording is.
#[tokio::test(flavor = "multi_thread")]
async fn while_every_session_for_recording_waits_the_database_is_still_looked_at() {
    on_postgres(|database| async move {
        let store = database.migrated().await;
        for partition in 0..3 {
            store.record(&batch(partition, 0, [purchase(partition.unsigned_abs())])).await.unwrap();
        }
        let mut other = sqlx::PgConnection::connect(&database.url).await.unwrap();
        other.execute("BEGIN").await.unwrap();
        other.execute("LOCK TABLE purchases IN SHARE MODE").await.unwrap();
        let waiting = (0..3).map(|partition| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move { store.record(&batch(partition, 1, [purchase(9)])).await })
        });
        let waiting: Vec<_> = waiting.collect();
        for _ in 0..10 {
            let asked = Instant::now();
            store.check().await.unwrap();
            assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        other.execute("ROLLBACK").await.unwrap();
        for waiting in waiting {
            let _ = waiting.await.unwrap();
        }
    })
    .await;
}

/// Several statements, one after the other, on one connection.
async fn administer_all(url: &str, statements: &str) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    for statement in statements.split(';') {
        connection.execute(sqlx::AssertSqlSafe(statement.to_owned())).await.unwrap();
    }
}
