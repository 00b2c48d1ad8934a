//! Services that are killed, again and again.

use std::time::Duration;

use shared::testing::eventually;
use stack::Load;

use crate::deployment::{Plan, READY};
use crate::infra::infra_alone;

#[tokio::test(flavor = "multi_thread")]
async fn management_api_killed_again_and_again_records_each_purchase_once() {
    let infra = infra_alone().await;
    let mut stack = Plan::new("kill_api").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    let load = Load::start(stack.load(400.0));
    for round in 0..5 {
        let rows = stack.rows(&infra.postgres).await;
        eventually("purchases are being recorded", async || {
            (stack.rows(&infra.postgres).await > rows + 50).then_some(())
        })
        .await;
        let victim = &mut stack.api[round % 2];
        victim.kill_9();
        victim.start_again().expect("it starts");
        victim.wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
        // Odd rounds kill the other one while the group still counts the first one among its members.
        if round % 2 == 1 {
            stack.wait_assigned(2).await;
        }
    }
    // Both at once.
    for service in &mut stack.api {
        service.kill_9();
        service.start_again().expect("it starts");
    }
    stack.wait_assigned(1).await;
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "accepting does not depend on management-api: {:?}", report.statuses);
    assert_eq!(report.statuses.keys().collect::<Vec<_>>(), [&202], "{:?}", report.failures);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_server_killed_under_load_loses_nothing_for_clients_that_repeat_their_key() {
    let infra = infra_alone().await;
    let mut stack = Plan::new("kill_web").start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    let load = Load::start(stack.load(800.0));
    let progress = load.progress().clone();
    for round in 0..8 {
        let before = progress.acknowledged();
        eventually("purchases are accepted", async || (progress.acknowledged() > before + 200).then_some(())).await;
        let victim = &mut stack.web[round % 2];
        victim.kill_9();
        // Long enough that both were seen dead by some client.
        tokio::time::sleep(Duration::from_millis(100)).await;
        victim.start_again().expect("it starts");
        victim.wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
    }
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "{:?} {:?}", report.statuses, report.failures);
    assert!(!report.failures.is_empty(), "some attempts were cut off");
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}
