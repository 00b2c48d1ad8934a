//! Every replica of both services ends and starts again, one after the other, as in a deployment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stack::{Load, http};
use tokio::time::Instant;

use crate::deployment::{Plan, READY};
use crate::infra::infra_alone;

/// How long a replica may take to end.
const END: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_everything_fails_no_request_that_is_tried_on_another_replica() {
    let infra = infra_alone().await;
    // As deployed: the delay in which load balancers learn that a replica ends.
    let plan = Plan::new("rolling").with("DRAIN_DELAY_MS", 3000);
    let mut stack = plan.start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    let mut load = stack.load(500.0);
    load.retry_for = Duration::from_secs(2);
    let waiting = Load::start(stack::LoadPlan { prefer_wait_seconds: Some(5), ..stack.load(20.0) });
    let load = Load::start(load);
    let reader = Reader::start(stack.web.iter().map(stack::Service::address).collect());
    for round in 0..4 {
        let replica = round / 2;
        let service = if round % 2 == 0 { &mut stack.api[replica] } else { &mut stack.web[replica] };
        let begun = Instant::now();
        service.sigterm();
        let code = service.wait_exit(END).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(code, Some(0), "{} ends in good order: {}", service.plan().name, service.log().display());
        eprintln!("{} ended after {:?}", service.plan().name, begun.elapsed());
        service.start_again().expect("it starts");
        service.wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
        stack.wait_assigned(2).await;
    }
    let (mut report, waiting) = (load.stop().await, waiting.stop().await);
    let failed_reads = reader.stop().await;
    eprintln!(
        "statuses {:?} {:?}, failures {:?} {:?}",
        report.statuses, waiting.statuses, report.failures, waiting.failures
    );
    assert_eq!((report.given_up, waiting.given_up), (0, 0));
    // A connection that ends between two requests is the one thing that a client must be ready for.
    let answered = report.statuses.keys().chain(waiting.statuses.keys());
    assert!(
        answered.into_iter().all(|status| [201, 202, 503].contains(status)),
        "{:?} {:?}",
        report.statuses,
        waiting.statuses
    );
    assert!(failed_reads.is_empty(), "{} reads failed on both replicas: {}", failed_reads.len(), failed_reads[0]);
    report.ledger.merge(waiting.ledger);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}

/// Reads again and again; a read that fails is tried once on another replica.
struct Reader {
    stopping: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Reader {
    fn start(targets: Vec<String>) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let task = tokio::spawn(async move {
            let (mut failed, mut count) = (Vec::new(), 0_usize);
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                let mut reasons = Vec::new();
                for attempt in 0..2 {
                    let target = &targets[(count + attempt) % targets.len()];
                    match http::get(target, "/purchases?limit=5", Duration::from_secs(5)).await {
                        Ok(answer) if answer.status.is_success() => break,
                        Ok(answer) => reasons.push(format!("{target}: {} {}", answer.status, answer.body)),
                        Err(error) => reasons.push(error.to_string()),
                    }
                }
                if reasons.len() == 2 {
                    failed.push(reasons.join("; "));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(count > 100, "only {count} reads");
            failed
        });
        Self { stopping, task }
    }

    async fn stop(self) -> Vec<String> {
        self.stopping.store(true, Ordering::Relaxed);
        self.task.await.expect("the reader does not panic")
    }
}
