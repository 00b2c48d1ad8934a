//! Settings whose effect only a real cluster shows.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use shared::testing::{eventually, read_all};
use stack::kafka::KafkaPlan;
use stack::postgres::PostgresPlan;
use stack::process::Lifetime;
use stack::{KafkaCluster, Load, LoadPlan, Postgres, RunFolder, ports::free_port};

use crate::deployment::{Plan, READY};
use crate::infra::infra_alone;

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_own_group_protocol_survives_kills_and_newcomers() {
    let infra = infra_alone().await;
    let plan = Plan::new("kip848").with("KAFKA_GROUP_PROTOCOL", "consumer");
    let mut stack = plan.start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    stack.wait_assigned(2).await;
    let load = Load::start(stack.load(300.0));
    let progress = load.progress().clone();
    eventually("purchases are accepted", async || (progress.acknowledged() > 300).then_some(())).await;
    stack.api[0].restart(READY).await.unwrap_or_else(|error| panic!("{error}"));
    stack.api[1].sigterm();
    assert_eq!(stack.api[1].wait_exit(Duration::from_secs(30)).await.expect("it ends"), Some(0));
    stack.api[1].start_again().expect("it starts");
    stack.api[1].wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
    stack.wait_assigned(2).await;
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "{:?} {:?}", report.statuses, report.failures);
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_userid_each_user_is_in_the_partition_that_the_java_client_would_choose() {
    let infra = infra_alone().await;
    let plan = Plan::new("murmur2").replicas(2, 1).with("KAFKA_PARTITION_BY", "userid");
    let stack = plan.start(&infra.kafka, &infra.postgres, infra.folder.path()).await;
    let report = Load::run(LoadPlan { purchases_max: Some(500), ..stack.load(1000.0) }).await;
    assert_eq!(report.given_up, 0, "{:?}", report.statuses);
    let mut partitions = HashMap::<Vec<u8>, HashSet<i32>>::new();
    for record in read_all(&stack.kafka, &stack.kafka.topic).await {
        partitions.entry(record.key.expect("a key")).or_default().insert(record.partition);
    }
    assert_eq!(partitions.len(), 20, "users");
    for (key, found) in partitions {
        assert_eq!(found, [java_partition(&key, 10)].into(), "{}", String::from_utf8_lossy(&key));
    }
    stack.assert_exact(&infra.postgres, &report.ledger).await;
}

/// `org.apache.kafka.common.utils.Utils.murmur2` and `toPositive`, written down again from their Java source.
fn java_partition(key: &[u8], partitions: i32) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ u32::try_from(key.len()).unwrap_or(0);
    let mut chunks = key.chunks_exact(4);
    for chunk in &mut chunks {
        let mut word = u32::from_le_bytes(chunk.try_into().unwrap_or_default()).wrapping_mul(M);
        word = (word ^ (word >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ word;
    }
    let rest = chunks.remainder();
    for (index, byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^= hash >> 15;
    i32::try_from(hash & 0x7fff_ffff).unwrap_or(0) % partitions
}

#[test]
fn murmur2_is_that_of_the_java_client() {
    // From UtilsTest.testMurmur2 of Apache Kafka: -973932308, -790332482, -985981536 and -58897971, made positive.
    let hash = |text: &str| java_partition(text.as_bytes(), i32::MAX);
    assert_eq!(hash("21"), 0x45f2_f8ec);
    assert_eq!(hash("foobar"), 0x50e4_7bbe);
    assert_eq!(hash("a-little-bit-long-string"), 0x453b_1da0);
    assert_eq!(hash("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"), 0x7c7d_49cd);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_started_before_kafka_and_postgres_become_ready_later() {
    let _idle = infra_alone().await;
    let folder = RunFolder::new("before").expect("a folder");
    let kafka_plan = KafkaPlan::on_free_ports(1).expect("free ports");
    let postgres_plan =
        PostgresPlan { port: free_port().expect("a port"), extra_settings: Vec::new(), lifetime: Lifetime::WithParent };
    let [kafka_folder, postgres_folder] = ["kafka", "postgres"].map(|name| folder.subfolder(name).expect("a folder"));
    let mut kafka = KafkaCluster::prepare(&kafka_folder, kafka_plan).await.expect("Kafka is prepared");
    let mut postgres = Postgres::prepare(&postgres_folder, postgres_plan).await.expect("PostgreSQL is prepared");
    let mut stack =
        Plan::new("before").prepare_blind(&kafka.bootstrap_servers(), &postgres.database_url(), folder.path());
    stack.database = stack::postgres::DATABASE.to_owned();
    for service in stack.web.iter_mut().chain(&mut stack.api) {
        service.start_again().expect("it starts");
    }
    for service in stack.web.iter_mut().chain(&mut stack.api) {
        service.wait_live(READY).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(service.get("/readyz").await.expect("it answers").status, 503);
    }
    kafka.start_all().await.expect("Kafka starts");
    for web in &mut stack.web {
        web.wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
    }
    let report = Load::run(LoadPlan { purchases_max: Some(200), ..stack.load(500.0) }).await;
    assert_eq!(report.given_up, 0, "accepting needs Kafka only: {:?}", report.statuses);
    postgres.start_again().await.expect("PostgreSQL starts");
    for api in &mut stack.api {
        api.wait_ready(READY).await.unwrap_or_else(|error| panic!("{error}"));
    }
    stack.assert_exact(&postgres, &report.ledger).await;
}
