//! PostgreSQL is killed and comes back.

use std::time::Duration;

use shared::testing::{eventually, read_all};
use stack::{Load, http};
use tokio::time::{Instant, sleep};

use crate::deployment::{Plan, READY};
use crate::infra::infra_alone;

/// How long PostgreSQL is away.
const AWAY: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_for_15_s_delays_recording_and_nothing_else() {
    let mut infra = infra_alone().await;
    let stack = Plan::new("postgres_away").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    let ids: Vec<_> = stack.api.iter().map(stack::Service::process_id).collect();
    let load = Load::start(stack.load(400.0));
    let progress = load.progress().clone();
    eventually("purchases are accepted", async || (progress.acknowledged() > 500).then_some(())).await;

    infra.postgres.kill_9();
    let killed = Instant::now();
    eventually("the lag is seen to grow", async || (stack.lag().await > 400.0).then_some(())).await;
    let lag = stack.lag().await;
    eventually("it goes on growing", async || (stack.lag().await > lag + 400.0).then_some(())).await;
    for api in &stack.api {
        eventually("it is not ready", async || {
            let health = api.get("/readyz").await.expect("it answers");
            (health.status == 503 && health.body.contains("the database does not")).then_some(())
        })
        .await;
        assert_eq!(api.get("/livez").await.expect("it answers").status, 200);
        let read = http::get(&api.address(), "/users/u/purchases", Duration::from_secs(5)).await.expect("it answers");
        assert_eq!(read.status, 503, "{}", read.body);
    }
    let read = stack.web[0].get("/getAllUserBuys/u?timeout=1000").await.expect("it answers in time");
    assert_eq!(read.status, 503, "{}", read.body);
    assert_eq!(stack.web[0].get("/readyz").await.expect("it answers").status, 200, "accepting goes on");
    sleep(AWAY.saturating_sub(killed.elapsed())).await;
    assert!(read_all(&stack.kafka, &stack.kafka.dead_letter_topic).await.is_empty(), "nothing is dead-lettered");
    infra.postgres.start_again().await.expect("it starts");
    let back = Instant::now();
    stack.wait_assigned(1).await;
    eventually("the backlog is recorded", async || (stack.lag().await < 400.0).then_some(())).await;
    eprintln!("caught up {:?} after PostgreSQL was back", back.elapsed());

    let report = load.stop().await;
    assert_eq!((report.given_up, report.failures.len()), (0, 0), "{:?}", report.failures);
    assert_eq!(report.statuses.keys().collect::<Vec<_>>(), [&202], "accepting goes on");
    stack.assert_exact(&infra.postgres, &report.ledger).await;
    assert!(stack.api.iter().map(stack::Service::process_id).eq(ids), "nothing was restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_change_hands_while_postgres_is_away_are_recorded_by_whoever_has_them() {
    let mut infra = infra_alone().await;
    let mut stack = Plan::new("handover_away").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    let load = Load::start(stack.load(400.0));
    let progress = load.progress().clone();
    eventually("purchases are accepted", async || (progress.acknowledged() > 500).then_some(())).await;

    infra.postgres.kill_9();
    eventually("both have paused their partitions", async || (stack.lag().await > 1500.0).then_some(())).await;
    let paused = progress.acknowledged();
    // The second leaves and comes back: the first gets its partitions, and has to give half of all away again, paused.
    stack.api[1].sigterm();
    assert_eq!(stack.api[1].wait_exit(Duration::from_secs(30)).await.expect("it ends"), Some(0));
    stack.wait_assigned(1).await;
    stack.api[1].start_again().expect("it starts");
    stack.api[1].wait_live(READY).await.unwrap_or_else(|error| panic!("{error}"));
    stack.wait_assigned(2).await;
    eventually("the lag is seen all the while", async || (stack.lag().await > 1500.0).then_some(())).await;
    eventually("accepting goes on", async || (progress.acknowledged() > paused + 400).then_some(())).await;
    infra.postgres.start_again().await.expect("it starts");
    stack.api[1].sigterm();
    assert_eq!(stack.api[1].wait_exit(Duration::from_secs(30)).await.expect("it ends"), Some(0));
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "{:?}", report.failures);
    stack.api.truncate(1);
    stack.wait_assigned(1).await;
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}
