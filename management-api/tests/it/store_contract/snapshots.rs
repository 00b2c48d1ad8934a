//! Somebody keeps a snapshot open for long (a dump): recording costs what it did before.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use super::databases::on_postgres;
use super::fixtures::{INCARNATION, batch, purchase, totals};

/// So many small batches are recorded meanwhile; each leaves a dead version of its offset and of its user's total.
const BATCHES: u32 = 1_000;
/// The same of large ones.
const LARGE_BATCHES: u32 = 100;
/// More pages than this means that dead versions were walked through: there are hundreds of versions on each page.
const PAGES_MAX: u64 = 12;

/// How many pages a query looks at.
async fn pages(connection: &mut PgConnection, query: &str) -> u64 {
    connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off").await.unwrap();
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING off, SUMMARY off) {query}");
    let plan = connection.fetch_all(AssertSqlSafe(explain)).await.unwrap();
    let lines: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    let buffers = lines.iter().find_map(|line| line.trim().strip_prefix("Buffers: shared ")).unwrap_or_default();
    buffers.split(' ').filter_map(|part| part.split_once('=')?.1.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_stays_open_does_not_make_recording_dearer() {
    on_postgres(|database| async move {
        let store = database.migrated().await;
        store.record(&batch(0, 0, [purchase(0)])).await.unwrap();
        let mut dump = PgConnection::connect(&database.url).await.unwrap();
        dump.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM purchases").await.unwrap();
        for number in 1..BATCHES {
            store.record(&batch(0, number.into(), [purchase(number)])).await.unwrap();
        }
        let mut looker = PgConnection::connect(&database.url).await.unwrap();
        let offset = format!(
            "SELECT FROM consumer_offsets
             WHERE topic_incarnation = '{INCARNATION}' AND kafka_partition = 0 AND next_offset = {BATCHES}"
        );
        let newest_total = "SELECT ctid FROM user_totals
             WHERE userid = 'alice' AND kafka_partition = 0 AND rotation > 0 ORDER BY rotation DESC LIMIT 1";
        for query in [offset.as_str(), newest_total] {
            let pages = pages(&mut looker, query).await;
            assert!((1..=PAGES_MAX).contains(&pages), "{pages} pages: {query}");
        }
        for number in 0..LARGE_BATCHES {
            let from = BATCHES + number * 600;
            store.record(&batch(0, from.into(), (from..from + 600).map(purchase))).await.unwrap();
        }
        let pages = pages(&mut looker, newest_total).await;
        assert!((1..=PAGES_MAX).contains(&pages), "{pages} pages after large batches");
        dump.execute("COMMIT").await.unwrap();
        let count = BATCHES + LARGE_BATCHES * 600;
        assert_eq!(totals(&*store, "alice").await, (count.into(), (10 * count).to_string()));
    })
    .await;
}
