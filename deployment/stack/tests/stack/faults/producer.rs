//! The producer's own failures: a fatal error, and a queue that is full. The broker is the one in this process, which can
//! be told to fail; the database is the real one.

use shared::kafka::{InProcessBroker, ProduceFault};
use shared::testing::eventually;
use stack::Load;
use stack::metrics::sum;

use crate::deployment::{Plan, assert_none_given_up};
use crate::infra::infra_alone;

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_and_a_full_queue_lose_and_double_nothing() {
    const DATABASE: &str = "producer_faults";
    let infra = infra_alone().await;
    let broker = InProcessBroker::start(1).expect("a broker");
    // Fewer records than there are callers may wait for Kafka: the others are refused, and come again.
    let plan = Plan::new(DATABASE).replicas(1, 1).with("KAFKA_PRODUCER_QUEUE_RECORDS", 8);
    infra.postgres.create_database(DATABASE).await.expect("a database");
    let url = infra.postgres.database_url_of(DATABASE);
    let mut stack =
        plan.with("KAFKA_CREATE_TOPICS", false).prepare_blind(&broker.bootstrap_servers(), &url, infra.folder.path());
    DATABASE.clone_into(&mut stack.database);
    for topic in [&stack.kafka.topic, &stack.kafka.dead_letter_topic] {
        broker.create_topic(topic, 10).expect("a topic");
    }
    stack.start().await;
    let load = Load::start(stack.load(2000.0));
    let progress = load.progress().clone();
    for _ in 0..3 {
        let before = progress.acknowledged();
        eventually("purchases are accepted", async || (progress.acknowledged() > before + 300).then_some(())).await;
        broker.fail_produce(&[ProduceFault::OutOfOrderSequence]);
    }
    let before = progress.acknowledged();
    eventually("purchases are accepted again", async || (progress.acknowledged() > before + 300).then_some(())).await;
    let report = load.stop().await;
    let metrics = stack.web[0].metrics().await.expect("it answers");
    let metric = |name: &str, labels: &str| sum(&metrics, name, labels).unwrap_or(0.0);
    assert!(metric("kafka_producer_restarts_total", "") >= 1.0, "{metrics}");
    assert!(metric("http_requests_refused_total", "reason=\"queue_full\"") >= 1.0, "{metrics}");
    assert!(report.statuses.contains_key(&503), "{:?}", report.statuses);
    assert_none_given_up(&report);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}
