//! Buyers are called back, while replicas are killed.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use shared::testing::{CallbackAnswer, CallbackReceiver, eventually};
use stack::load::LoadPlan;
use stack::{Load, Postgres};
use uuid::Uuid;

use crate::deployment::{Deployment, Plan, kill_and_start};
use crate::infra::infra_alone;

/// Of no use but here.
const SECRET: &str = "whsec_bm90IGEgc2VjcmV0IG9mIGFueWJvZHksIGp1c3QgYSB0ZXN0";

async fn recorded(stack: &Deployment, postgres: &Postgres) -> BTreeSet<String> {
    let client = stack.sql(postgres).await;
    let rows = client.query("SELECT purchase_id FROM purchases", &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, Uuid>(0).to_string()).collect()
}

async fn left(stack: &Deployment, postgres: &Postgres) -> i64 {
    let client = stack.sql(postgres).await;
    let count = "SELECT (SELECT count(*) FROM callbacks) + (SELECT count(*) FROM callback_batches)";
    client.query_one(count, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_each_buyer_is_called_back_under_one_id() {
    let infra = infra_alone().await;
    let mut plan = Plan::new("callbacks");
    for (name, value) in [
        ("CALLBACK_SIGNING_SECRET", SECRET),
        ("CALLBACK_ALLOW_HTTP", "true"),
        ("CALLBACK_ALLOW_PRIVATE", "true"),
        ("CALLBACK_TIMEOUT_MS", "1000"),
        ("CALLBACK_RETRY_FIRST_MS", "100"),
    ] {
        plan = plan.with(name, value);
    }
    let mut stack = plan.start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    // Slow enough that some are on their way whenever a replica is killed; some are refused at first.
    let refused = Mutex::new(BTreeSet::new());
    let receiver = CallbackReceiver::start(move |callback| {
        if callback.id.ends_with('7') && refused.lock().unwrap().insert(callback.id.clone()) {
            CallbackAnswer::Status(503)
        } else {
            CallbackAnswer::Later(Duration::from_millis(10))
        }
    })
    .await;
    let load = Load::start(LoadPlan { callback_url: Some(receiver.url("/paid")), ..stack.load(200.0) });
    for round in 0..4 {
        stack.wait_recording(&infra.postgres, 200).await;
        kill_and_start(&mut stack.api[round % 2]).await;
    }
    let report = load.stop().await;
    stack.assert_exact(&infra.postgres, &report.ledger).await;
    let recorded = recorded(&stack, &infra.postgres).await;
    eventually("all are called back", async || (receiver.times_by_id().len() >= recorded.len()).then_some(())).await;
    let times = receiver.times_by_id();
    assert_eq!(times.keys().cloned().collect::<BTreeSet<_>>(), recorded);
    eventually("nothing is left to do", async || (left(&stack, &infra.postgres).await == 0).then_some(())).await;
    // A kill repeats what was on its way, and no more.
    let repeated = receiver.received().iter().filter(|callback| !callback.id.ends_with('7')).count();
    let once = times.keys().filter(|id| !id.ends_with('7')).count();
    assert!(repeated - once < once / 4, "{repeated} callbacks of {once} purchases");
}
