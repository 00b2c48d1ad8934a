//! A cluster of three brokers, each killed in turn.

use std::time::Duration;

use shared::testing::eventually;
use stack::Load;

use crate::deployment::{Plan, assert_none_given_up};
use crate::infra::{Infra, infra_alone};

/// How long the others may take to notice and to have every partition's leader.
const RECOVERY: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn each_of_three_brokers_killed_in_turn_loses_no_purchase() {
    let _idle = infra_alone().await;
    let mut infra = Infra::start(3).await;
    let stack = Plan::new("brokers").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    infra.kafka.wait_in_sync(RECOVERY).await.expect("all replicas are there");
    let load = Load::start(stack.load(200.0));
    let progress = load.progress().clone();
    for broker in 1..=3 {
        let before = progress.acknowledged();
        eventually("purchases are accepted", async || (progress.acknowledged() > before + 200).then_some(())).await;
        infra.kafka.kill_9(broker);
        let during = progress.acknowledged();
        let killed = std::time::Instant::now();
        eventually("purchases go on without it", async || (progress.acknowledged() > during + 400).then_some(())).await;
        eprintln!("400 more {:.1} s after the kill", killed.elapsed().as_secs_f64());
        infra.kafka.start_broker(broker).await.expect("it starts");
        infra.kafka.wait_in_sync(RECOVERY).await.expect("it catches up");
    }
    let report = load.stop().await;
    assert_none_given_up(&report);
    eprintln!("statuses {:?}", report.statuses);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}
