//! A consumer that is frozen, not dead: its heir records at once, and what it wakes up with changes nothing.

use std::time::Duration;

use shared::testing::eventually;
use stack::{Load, Postgres, Service};
use tokio::time::{Instant, sleep};

use crate::deployment::{Deployment, Plan, SESSION_TIMEOUT, is};
use crate::infra::infra_alone;

/// How soon after the takeover the heir must have recorded what was accepted before it.
const HEIR: Duration = Duration::from_secs(15);

/// Freezes a replica until the other one has all partitions, and checks that it records them in time.
async fn freeze_and_inherit(stack: &Deployment, postgres: &Postgres, frozen: usize) {
    let heir = &stack.api[1 - frozen];
    let frozen_at = Instant::now();
    eventually("the heir has every partition", async || is(assigned(heir).await, 10.0).then_some(())).await;
    let taken_over = Instant::now();
    eprintln!("taken over {:?} after the freeze", taken_over - frozen_at);
    // Whatever was accepted by now must be recorded soon, of every partition.
    let client = stack.sql(postgres).await;
    let accepted: Vec<_> = shared::testing::read_all(&stack.kafka, &stack.kafka.topic).await;
    let places: std::collections::BTreeMap<i32, i64> =
        accepted.iter().map(|record| (record.partition, record.offset + 1)).collect();
    loop {
        let rows = client
            .query("SELECT kafka_partition, next_offset FROM consumer_offsets", &[])
            .await
            .expect("the table is there");
        let behind: Vec<_> = rows
            .iter()
            .map(|row| (row.get::<_, i32>(0), row.get::<_, i64>(1)))
            .filter(|(partition, next)| places.get(partition).is_some_and(|end| next < end))
            .collect();
        if behind.is_empty() {
            break;
        }
        let waited = taken_over.elapsed();
        assert!(waited < HEIR, "the heir has not recorded {behind:?} of {places:?}\n{}", sessions(postgres).await);
        sleep(Duration::from_millis(50)).await;
    }
    eprintln!("recorded {:?} after the takeover", taken_over.elapsed());
}

async fn assigned(service: &Service) -> f64 {
    let page = service.metrics().await.unwrap_or_default();
    stack::metrics::sum(&page, "kafka_consumer_assigned_partitions", "").unwrap_or(0.0)
}

/// What PostgreSQL's sessions are at, for the reader of a failure.
async fn sessions(postgres: &Postgres) -> String {
    let client = postgres.client().await.expect("PostgreSQL answers");
    let query = "SELECT pid::text || ' ' || application_name || ' ' || coalesce(state, '') || ' ' || coalesce(wait_event, '') || ' ' || left(query, 80) \
                 FROM pg_stat_activity WHERE datname IS NOT NULL";
    let rows = client.query(query, &[]).await.expect("the view is there");
    rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_frozen_past_its_session_is_inherited_from_and_its_stale_batch_aborts() {
    let infra = infra_alone().await;
    let mut stack = Plan::new("frozen").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    let load = Load::start(stack.load(1000.0));
    for frozen in [0, 1] {
        let rows = stack.rows(&infra.postgres).await;
        eventually("purchases are being recorded", async || {
            (stack.rows(&infra.postgres).await > rows + 500).then_some(())
        })
        .await;
        stack.api[frozen].sigstop();
        freeze_and_inherit(&stack, &infra.postgres, frozen).await;
        stack.api[frozen].sigcont();
        stack.wait_assigned(2).await;
    }
    let report = load.stop().await;
    assert_eq!((report.given_up, report.failures.len()), (0, 0), "{:?} {:?}", report.statuses, report.failures);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
    for api in &mut stack.api {
        assert!(api.process_id().is_some_and(stack::process::ProcessId::is_alive));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_frozen_inside_its_transaction_holds_nobody_up() {
    let infra = infra_alone().await;
    let stack = Plan::new("frozen_inside").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    let load = Load::start(stack.load(1500.0));
    let progress = load.progress().clone();
    eventually("purchases are accepted", async || (progress.acknowledged() > 1000).then_some(())).await;
    let inside = freeze_inside(&stack, &infra.postgres).await;
    eprintln!("frozen with {inside} of its sessions at work");
    freeze_and_inherit(&stack, &infra.postgres, 0).await;
    stack.api[0].sigcont();
    stack.wait_assigned(2).await;
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "{:?} {:?}", report.statuses, report.failures);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}

/// Freezes the first replica again and again until it happens while a statement of its own is running or half sent.
async fn freeze_inside(stack: &Deployment, postgres: &Postgres) -> i64 {
    const AT_WORK: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND client_port = ANY($1) \
                           AND xact_start IS NOT NULL";
    let client = stack.sql(postgres).await;
    eventually("a freeze hits a transaction", async || {
        stack.api[0].sigstop();
        let ports = ports_of(&stack.api[0]);
        let count: i64 = client.query_one(AT_WORK, &[&ports]).await.expect("the view is there").get(0);
        if count > 0 {
            return Some(count);
        }
        stack.api[0].sigcont();
        None
    })
    .await
}

/// The local ports of a process's connections, from /proc.
fn ports_of(service: &Service) -> Vec<i32> {
    let pid = service.process_id().expect("it runs").pid;
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("it runs")
        .filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.display().to_string()))
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("it runs");
    let of_process =
        |line: &&str| line.split_whitespace().nth(9).is_some_and(|inode| sockets.iter().any(|socket| socket == inode));
    let port = |line: &str| i32::from_str_radix(line.split_whitespace().nth(1)?.rsplit_once(':')?.1, 16).ok();
    table.lines().filter(of_process).filter_map(port).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_locks_of_a_frozen_session_hold_the_heir_up_for_seconds_only() {
    let infra = infra_alone().await;
    let stack = Plan::new("locks").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    let load = Load::start(stack.load(500.0));
    let rows = stack.rows(&infra.postgres).await;
    eventually("purchases are being recorded", async || (stack.rows(&infra.postgres).await > rows + 500).then_some(()))
        .await;

    // What a frozen replica leaves behind: the locks of its offsets, in a session that says nothing more.
    let frozen = stack.sql(&infra.postgres).await;
    frozen.batch_execute("SET application_name = 'management-api'; BEGIN").await.expect("a transaction");
    frozen.batch_execute("UPDATE consumer_offsets SET next_offset = next_offset").await.expect("the locks");
    let locked = Instant::now();
    stack.api[0].sigstop();
    freeze_and_inherit(&stack, &infra.postgres, 0).await;
    eprintln!("recording went on {:?} after the locks were taken", locked.elapsed());
    frozen.batch_execute("COMMIT").await.expect_err("its session was ended");
    stack.api[0].sigcont();
    stack.wait_assigned(2).await;
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "{:?} {:?}", report.statuses, report.failures);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
    assert!(locked.elapsed() > SESSION_TIMEOUT);
}
