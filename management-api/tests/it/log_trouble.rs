//! Logs that are not what they were, or cannot be read; and groups that do not take us.

use std::sync::Arc;

use management_api::partitions::{self, SkipError, Step};
use management_api::store::{Batch, OffsetMove, Recording, Store};
use shared::kafka::{Codec, TopicAdmin};
use shared::testing::{RawProducer, eventually};

use crate::harness::{Api, Kafka, TOPIC, value};
use crate::memory_store::MemoryStore;
use crate::raw_batch::{COMMITTED, MARK, UNKNOWN_CODEC, append, batch};

/// Appends a batch that cannot be read between two purchases of partition 0, and gives its offset.
async fn send_around(kafka: &Kafka, unreadable: &[u8]) -> i64 {
    kafka.send(&value("ann", "1")).await;
    append(&kafka.config.bootstrap_servers, TOPIC, 0, unreadable);
    let (_, after) = kafka.send(&value("ann", "1")).await;
    after - 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_read_stops_its_partition_alone_until_an_operator_steps_over_it() {
    let damaged =
        [("codec", batch(UNKNOWN_CODEC, b"\0", false)), ("checksum", batch(0, b"\x10\0\0\0\x01\x02x\0", true))];
    for (damage, unreadable) in damaged {
        let (kafka, store) = (Kafka::start(), MemoryStore::new());
        let api = Api::start_on(store.clone(), &kafka, &[]).await.ready().await;
        let offset = send_around(&kafka, &unreadable).await;
        let reason = eventually("not ready", async || {
            let ready = api.get("/readyz").await;
            (ready.status == 503).then(|| ready.json()["checks"]["consumer"]["detail"].to_string())
        })
        .await;
        assert!(reason.contains(&format!("partition 0 cannot be read on from offset {offset}")), "{reason}");
        for kind in ["codec", "checksum", "other"] {
            let series = format!(r#"kafka_consumer_unreadable{{partition="0",reason="{kind}"}}"#);
            assert_eq!(api.count(&series).await, i64::from(kind == damage), "{series}");
        }
        assert_eq!(api.count(r#"kafka_consumer_unreadable_offset{partition="0"}"#).await, offset);
        assert_eq!(api.count(r#"kafka_consumer_unreadable_offset{partition="1"}"#).await, -1);
        for partition in [1, 2] {
            kafka.producer.send(TOPIC, partition, None, Some(value("bob", "1").as_bytes())).await;
        }
        api.user_with("bob", 2).await;
        assert_eq!(store.next_offset(0), offset, "nothing is skipped by itself");

        let store: Arc<dyn Store> = store;
        let step = Step { partition: 0, offset, to: None };
        let elsewhere = partitions::skip(&kafka.config, &store, Step { offset: offset + 1, ..step }).await;
        assert!(matches!(elsewhere, Err(SkipError::Elsewhere { .. })), "{elsewhere:?}");
        let skipped = partitions::skip(&kafka.config, &store, step).await.unwrap();
        assert_eq!((skipped["from"].as_i64(), skipped["to"].as_i64()), (Some(offset), Some(offset + 1)));
        assert_eq!(api.user_with("ann", 2).await["count"], 2);
        eventually("ready again", async || (api.get("/readyz").await.status == 200).then_some(())).await;
        let listed = partitions::list_skipped(&store).await.unwrap();
        assert!(listed.contains(&format!("\"from\":{offset}")) && listed.lines().count() == 1, "{listed}");
        assert!(api.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_is_not_stepped_over_by_mistake() {
    let (kafka, store) = (Kafka::start(), MemoryStore::new());
    kafka.send(&value("ann", "1")).await;
    let store: Arc<dyn Store> = store;
    let step = Step { partition: 0, offset: 0, to: None };
    let refused = partitions::skip(&kafka.config, &store, step).await;
    assert!(matches!(refused, Err(SkipError::Readable(0, 0))), "{refused:?}");
    let refused = partitions::skip(&kafka.config, &store, Step { to: Some(0), ..step }).await;
    assert!(matches!(refused, Err(SkipError::Backwards)), "{refused:?}");
    assert!(
        partitions::skip(&kafka.config, &store, Step { to: Some(1), ..step }).await.is_ok(),
        "an explicit decision"
    );
}

/// The database as it is when the log was cut behind its back: it holds more than the log has of that leader's time.
async fn stored(kafka: &Kafka, next: i64, leader_epoch: i32) -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    let admin = TopicAdmin::new(&kafka.config, "test").unwrap();
    let incarnation = tokio::task::spawn_blocking(move || admin.incarnation()).await.unwrap().unwrap();
    let step = OffsetMove { partition: 0, expected: 0, expected_epoch: None, next, leader_epoch: Some(leader_epoch) };
    let batch = Batch { incarnation: incarnation.into(), moves: vec![step], ..Batch::default() };
    store.record(&batch).await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_and_grew_again_is_read_on_where_the_histories_part() {
    let kafka = Kafka::start();
    kafka.broker.choose_leader_anew(TOPIC, 0).unwrap();
    for _ in 0..3 {
        kafka.send(&value("old", "1")).await;
    }
    let records = shared::testing::read_all(&kafka.config, TOPIC).await;
    let epoch = records[0].leader_epoch.expect("the broker tells");
    // Of that leader's time 10 records were recorded; a power cut has left 3, and others stand in the places of the rest.
    let store = stored(&kafka, 10, epoch).await;
    kafka.broker.choose_leader_anew(TOPIC, 0).unwrap();
    for _ in 0..12 {
        kafka.send(&value("new", "1")).await;
    }
    let api = Api::start_on(store.clone(), &kafka, &[]).await.ready().await;
    api.user_with("new", 12).await;
    assert_eq!(api.user_with("old", 0).await["count"], 0, "what both histories have is not read again");
    assert_eq!(api.count("kafka_log_truncations_total").await, 1);
    eventually("no lag", async || (api.count(r#"kafka_consumer_lag{partition="0"}"#).await == 0).then_some(())).await;
    assert_eq!(store.next_offset(0), 15);
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_the_history_has_is_read_on_without_a_word() {
    let kafka = Kafka::start();
    for _ in 0..3 {
        kafka.send(&value("old", "1")).await;
    }
    let epoch = shared::testing::read_all(&kafka.config, TOPIC).await[0].leader_epoch.unwrap();
    let store = stored(&kafka, 3, epoch).await;
    kafka.broker.choose_leader_anew(TOPIC, 0).unwrap();
    kafka.send(&value("new", "1")).await;
    let api = Api::start_on(store, &kafka, &[]).await.ready().await;
    api.user_with("new", 1).await;
    assert_eq!(api.user_with("old", 0).await["count"], 0);
    assert_eq!(api.count("kafka_log_truncations_total").await, 0);
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_of_transactions_at_the_end_are_passed_whoever_leads_the_partition() {
    let (kafka, store) = (Kafka::start(), MemoryStore::new());
    let mark = batch(MARK, COMMITTED, false);
    kafka.send(&value("ann", "1")).await;
    append(&kafka.config.bootstrap_servers, TOPIC, 0, &mark);
    let api = Api::start_on(store.clone(), &kafka, &[]).await.ready().await;
    for next in [2, 3] {
        eventually("the mark is passed", async || (store.next_offset(0) == next).then_some(())).await;
        kafka.broker.choose_leader_anew(TOPIC, 0).unwrap();
        append(&kafka.config.bootstrap_servers, TOPIC, 0, &mark);
    }
    kafka.send(&value("ann", "1")).await;
    api.user_with("ann", 2).await;
    assert_eq!(api.count("kafka_log_truncations_total").await, 0);
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_deleted_before_it_was_recorded_is_counted_once_and_passed() {
    let kafka = Kafka::start();
    // The in-process broker keeps 5 MB of a partition.
    let large = format!("{}{}", value("ann", "1"), " ".repeat(900_000));
    let producer = RawProducer::with_codec(&kafka.config, Codec::None);
    for _ in 0..8 {
        producer.send(TOPIC, 0, None, Some(large.as_bytes())).await;
    }
    let left = shared::testing::read_all(&kafka.config, TOPIC).await;
    let lost = left[0].offset - 1;
    assert!(lost > 0, "nothing was deleted");
    let store = stored(&kafka, 1, left[0].leader_epoch.expect("the broker tells")).await;
    let api = Api::start_on(store.clone(), &kafka, &[]).await.ready().await;
    api.user_with("ann", left.len() as u64).await;
    assert_eq!(api.count("kafka_records_lost_total").await, lost);
    assert_eq!(api.count("kafka_log_truncations_total").await, 0, "nothing was cut");
    assert!(api.stop().await);
    let api = Api::start_on(store, &kafka, &[]).await.ready().await;
    assert_eq!(api.count("kafka_records_lost_total").await, 0, "they were passed");
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_kept_out_of_the_group_is_not_ready_and_says_why() {
    let (kafka, store) = (Kafka::start(), MemoryStore::new());
    kafka.broker.refuse_to_join(1_000);
    let api = Api::start_on(store, &kafka, &[]).await;
    eventually("the broker's reason", async || {
        let detail = api.get("/readyz").await.json()["checks"]["consumer"]["detail"].to_string();
        detail.contains("nconsistent group protocol").then_some(())
    })
    .await;
    assert_eq!(api.count("kafka_group_member").await, 0);
    assert!(api.stop().await, "ends in good order all the same");
}
