//! PostgreSQL answers, and cannot do what is asked of it.

use std::time::Duration;

use shared::testing::{eventually, read_all};
use stack::Load;
use tokio::time::Instant;

use crate::deployment::{Plan, READY};
use crate::infra::infra_alone;

/// The contract: recording goes on within so long of the database.
const RECOVERY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_read_only_for_a_while_is_recorded_to_as_soon_as_it_is_not() {
    let infra = infra_alone().await;
    let stack = Plan::new("read_only").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    let load = Load::start(stack.load(200.0));
    let progress = load.progress().clone();
    eventually("purchases are accepted", async || (progress.acknowledged() > 200).then_some(())).await;

    // As after a failover: all sessions are new, and begin on a server that takes no writes.
    let client = infra.postgres.client().await.expect("PostgreSQL answers");
    let setting = "default_transaction_read_only";
    client.batch_execute(&format!("ALTER DATABASE {} SET {setting} = on", stack.database)).await.expect("it is set");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    client.query(end, &[&stack.database]).await.expect("the sessions end");
    for api in &stack.api {
        eventually("it says so", async || {
            let health = api.get("/readyz").await.expect("it answers");
            (health.status == 503 && health.body.contains("read-only")).then_some(())
        })
        .await;
    }
    eventually("the lag grows", async || (stack.lag().await > 400.0).then_some(())).await;
    client.batch_execute(&format!("ALTER DATABASE {} RESET {setting}", stack.database)).await.expect("it is reset");
    let mended = Instant::now();
    eventually("recording goes on", async || (stack.lag().await < 100.0).then_some(())).await;
    assert!(mended.elapsed() < RECOVERY, "{:?}", mended.elapsed());
    for api in &stack.api {
        eventually("ready", async || (api.get("/readyz").await.expect("it answers").status == 200).then_some(())).await;
    }
    assert!(read_all(&stack.kafka, &stack.kafka.dead_letter_topic).await.is_empty(), "nothing is dead-lettered");
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "{:?}", report.failures);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_encoding_is_told_and_gets_nothing() {
    let infra = infra_alone().await;
    let client = infra.postgres.client().await.expect("PostgreSQL answers");
    let latin = "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    client.batch_execute(latin).await.expect("it is made");
    let (brokers, database) = (infra.kafka.bootstrap_servers(), infra.postgres.database_url_of("latin"));
    let mut stack = Plan::new("latin").replicas(1, 1).prepare_blind(&brokers, &database, infra.folder.path());
    for service in stack.api.iter_mut().chain(&mut stack.web) {
        service.start_again().expect("it starts");
        service.wait_live(READY).await.unwrap_or_else(|error| panic!("{error}"));
    }
    eventually("it says why it is not ready", async || {
        let health = stack.api[0].get("/readyz").await.expect("it answers");
        (health.status == 503 && health.body.contains("LATIN1")).then_some(())
    })
    .await;
}
