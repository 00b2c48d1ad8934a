//! Logs as a disk, a power cut or somebody else's transaction may leave them.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use shared::testing::{RawProducer, TransactionalProducer, eventually};
use stack::metrics::sum;
use stack::{Load, LoadPlan};

use crate::deployment::{Deployment, Plan, READY, assert_none_given_up, is};
use crate::infra::{Infra, infra_alone};
use crate::keda_lag::wait_for_lag;

fn value(userid: &str) -> String {
    format!(r#"{{"userid":"{userid}","username":"n","price":1}}"#)
}

async fn send(producer: &RawProducer, stack: &Deployment, partition: i32, userid: &str, count: usize) {
    for _ in 0..count {
        producer.send(&stack.kafka.topic, partition, None, Some(value(userid).as_bytes())).await;
    }
}

async fn recorded(stack: &Deployment, infra: &Infra, userid: &str, count: i64) {
    let client = stack.sql(&infra.postgres).await;
    eventually(&format!("{count} purchases of {userid}"), async || {
        let row = client.query_one("SELECT count(*) FROM purchases WHERE userid = $1", &[&userid]).await;
        (row.expect("the table").get::<_, i64>(0) == count).then_some(())
    })
    .await;
}

/// Whether the leader's epoch stands beside the offset.
async fn has_epoch(stack: &Deployment, infra: &Infra, partition: i32) -> bool {
    let client = stack.sql(&infra.postgres).await;
    let query = "SELECT leader_epoch IS NOT NULL FROM consumer_offsets WHERE kafka_partition = $1";
    client.query_one(query, &[&partition]).await.expect("the table").get(0)
}

async fn metric(stack: &Deployment, name: &str, labels: &str) -> f64 {
    let page = stack.api[0].metrics().await.unwrap_or_default();
    sum(&page, name, labels).unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_of_others_leave_no_lag_and_an_open_one_shows() {
    let infra = infra_alone().await;
    let stack =
        Plan::new("transactions").replicas(0, 1).start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    let topic = &stack.kafka.topic;
    let others = TransactionalProducer::new(&stack.kafka, "others");
    let (one, three) = (value("committed"), [value("aborted"), value("aborted"), value("aborted")]);
    others.begin(topic, 0, &[&one]);
    others.commit();
    others.begin(topic, 1, &three.each_ref().map(String::as_str));
    others.abort();
    recorded(&stack, &infra, "committed", 1).await;
    // Kafka's own marks count as offsets: nobody is behind for ever because of them, neither to us nor to KEDA.
    let none = wait_for_lag(&stack, &infra.kafka, 0).await;
    assert!(none.is_empty());
    for partition in [0, 1] {
        assert!(
            has_epoch(&stack, &infra, partition).await,
            "a cut behind the mark of partition {partition} goes unseen"
        );
    }

    others.begin(topic, 0, &[&one]);
    let producer = RawProducer::new(&stack.kafka);
    send(&producer, &stack, 0, "held back", 20).await;
    send(&producer, &stack, 1, "free", 20).await;
    recorded(&stack, &infra, "free", 20).await;
    eventually("the backlog shows", async || {
        is(metric(&stack, "kafka_consumer_lag", r#"partition="0""#).await, 21.0).then_some(())
    })
    .await;
    eventually("what blocks it shows", async || {
        is(metric(&stack, "kafka_consumer_blocked_by_transaction", r#"partition="0""#).await, 1.0).then_some(())
    })
    .await;
    let health = stack.api[0].get("/health").await.expect("an answer");
    let health: Value = serde_json::from_str(&health.body).expect("JSON");
    assert!(health["checks"]["transactions"]["detail"].to_string().contains("partition 0"), "{health}");
    assert_eq!(stack.api[0].get("/readyz").await.expect("an answer").status, 200);

    others.abort();
    recorded(&stack, &infra, "held back", 20).await;
    recorded(&stack, &infra, "committed", 1).await;
    wait_for_lag(&stack, &infra.kafka, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_compresses_by_itself_is_read_whatever_its_codec() {
    let infra = infra_alone().await;
    let plan = Plan::new("zstd").replicas(1, 1);
    let mut stack = plan.prepare(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    let topic = stack.kafka.topic.clone();
    let create = ["--create", "--topic", &topic, "--partitions", "10", "--config", "compression.type=zstd"];
    infra.kafka.run_tool("org.apache.kafka.tools.TopicCommand", &create).await.expect("made");
    let dead_letters = stack.kafka.dead_letter_topic.clone();
    let create = ["--create", "--topic", &dead_letters, "--partitions", "1", "--config", "retention.ms=3600000"];
    infra.kafka.run_tool("org.apache.kafka.tools.TopicCommand", &create).await.expect("made");
    stack.start().await;
    eventually("it is told that dead letters are gone too soon", async || {
        let log = fs::read_to_string(stack.api[0].log()).ok()?;
        log.contains("the dead-letter topic's retention.ms is 3600000").then_some(())
    })
    .await;
    let report = Load::run(LoadPlan { purchases_max: Some(500), ..stack.load(1000.0) }).await;
    assert_none_given_up(&report);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_that_shortens_a_log_loses_nothing_that_is_sent_afterwards() {
    let mut infra = infra_alone().await;
    let stack = Plan::new("power_cut").replicas(0, 1).start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    let segment = infra.kafka.log_segment(1, &stack.kafka.topic, 0);
    send(&RawProducer::new(&stack.kafka), &stack, 0, "before", 300).await;
    recorded(&stack, &infra, "before", 300).await;

    infra.kafka.kill_9(1);
    let file = fs::OpenOptions::new().write(true).open(&segment).expect("the partition's log");
    let length = file.metadata().expect("a file").len();
    file.set_len(length / 3 * 2).expect("a shorter log");
    drop(file);
    infra.kafka.start_broker(1).await.expect("it starts");

    // More than were lost: the old offset is there again, with another record before it.
    send(&RawProducer::new(&stack.kafka), &stack, 0, "after", 200).await;
    recorded(&stack, &infra, "after", 200).await;
    recorded(&stack, &infra, "before", 300).await;
    assert!(metric(&stack, "kafka_log_truncations_total", "").await >= 1.0, "it was told");
    wait_for_lag(&stack, &infra.kafka, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_damaged_on_the_brokers_disk_is_stepped_over_by_an_operator_alone() {
    let mut infra = infra_alone().await;
    let mut stack = Plan::new("damaged").replicas(0, 1).start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    let segment = infra.kafka.log_segment(1, &stack.kafka.topic, 0);
    let producer = RawProducer::new(&stack.kafka);
    send(&producer, &stack, 0, "before", 1).await;
    recorded(&stack, &infra, "before", 1).await;
    stack.api[0].kill_9();
    send(&producer, &stack, 0, "damaged", 1).await;
    send(&producer, &stack, 0, "after", 1).await;
    send(&producer, &stack, 1, "elsewhere", 1).await;
    // Stopped in good order, the broker takes its disk's word for it when it starts.
    infra.kafka.stop_broker(1).await.expect("it stops");
    let mut log = fs::read(&segment).expect("the partition's log");
    let place = log.windows(7).position(|bytes| bytes == b"damaged").expect("the record is there");
    log[place] ^= 1;
    fs::write(&segment, log).expect("written");
    infra.kafka.start_broker(1).await.expect("it starts");

    stack.api[0].start_again().expect("it starts");
    recorded(&stack, &infra, "elsewhere", 1).await;
    let why = eventually("the partition is told of", async || {
        let ready = stack.api[0].get("/readyz").await.ok()?;
        let told = ready.body.contains("partition 0 cannot be read on from offset 1");
        (ready.status == 503 && told).then_some(ready.body)
    })
    .await;
    assert!(why.contains("CRC"), "{why}");
    assert!(is(metric(&stack, "kafka_consumer_unreadable", r#"partition="0",reason="checksum""#).await, 1.0));
    assert!(is(metric(&stack, "kafka_consumer_unreadable_offset", r#"partition="0""#).await, 1.0));

    let skipped = stack.api[0].run_command(&["partitions", "skip", "--partition", "0", "--offset", "1"]).expect("run");
    assert!(skipped.status.success(), "{}", String::from_utf8_lossy(&skipped.stderr));
    recorded(&stack, &infra, "after", 1).await;
    recorded(&stack, &infra, "damaged", 0).await;
    stack.api[0].wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
    let listed = stack.api[0].run_command(&["partitions", "skipped"]).expect("run");
    assert!(String::from_utf8_lossy(&listed.stdout).contains(r#""from":1"#));
    tokio::time::timeout(Duration::from_secs(30), wait_for_lag(&stack, &infra.kafka, 0))
        .await
        .expect("nothing is left");
}
