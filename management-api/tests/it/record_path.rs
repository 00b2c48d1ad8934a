//! From Kafka to the database, exactly once, whatever fails.

use std::sync::atomic::Ordering;

use management_api::app::Service;
use shared::kafka::{HeaderRef, OutgoingRecord};
use shared::testing::{committed_offset, eventually};

use crate::harness::{Api, DEAD_LETTERS, Kafka, TOPIC, config, value, value_with_id};
use crate::memory_store::MemoryStore;

const ID: &str = "0190a5c2-0000-7000-8000-000000000001";

#[tokio::test(flavor = "multi_thread")]
async fn records_are_stored_once_and_read_back_with_exact_totals() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    for partition in 0..3 {
        for _ in 0..100 {
            kafka.producer.send(TOPIC, partition, None, Some(value("ann", "0.1").as_bytes())).await;
        }
    }
    let ann = api.user_with("ann", 300).await;
    assert_eq!(ann["total_spent"].to_string(), "30.0".trim_end_matches(".0"));
    assert!(ann["purchases"][0]["recorded_at"].is_string());
    assert!(api.stop().await, "ends in good order");
    // A second life of the service finds its place and records nothing again.
    let api = Api::start(&kafka, &folder).await.ready().await;
    kafka.send(&value("ann", "1")).await;
    assert_eq!(api.user_with("ann", 301).await["total_spent"].to_string(), "31");
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_of_every_kind_becomes_a_dead_letter_and_good_records_pass() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    let good = value("ann", "1");
    let bad: [&[u8]; 7] = [
        b"",
        b"not json",
        &[0xff, 0xfe],
        b"[]",
        br#"{"userid":"ann","username":"n"}"#,
        br#"{"userid":"ann","username":"n","price":-1}"#,
        br#"{"userid":"a\u0000b","username":"n","price":1}"#,
    ];
    for poison in bad {
        kafka.send(&good).await;
        kafka.producer.send(TOPIC, 0, Some(b"the key"), Some(poison)).await;
    }
    let (_, offset) = kafka.producer.send(TOPIC, 0, None, None).await;
    kafka.send(&good).await;
    api.user_with("ann", 8).await;
    let letters = kafka.dead_letters(8).await;
    assert_eq!(letters.len(), 8);
    for (letter, poison) in letters.iter().zip(bad) {
        assert_eq!(letter.value.as_deref(), Some(poison));
        assert_eq!(letter.key.as_deref(), Some(b"the key".as_slice()));
        assert_eq!(
            (letter.header("original_topic").as_str(), letter.header("original_partition").as_str()),
            (TOPIC, "0")
        );
        assert!(!letter.header("dead_letter_error").is_empty());
    }
    let reasons: Vec<_> = letters.iter().map(|letter| letter.header("dead_letter_reason")).collect();
    assert_eq!(reasons[..3], ["not_json"; 3]);
    assert_eq!(reasons[3..7], ["invalid_field"; 4]);
    assert_eq!(letters[7].value, None, "a tombstone stays one");
    assert_eq!(letters[7].header("original_offset"), offset.to_string());
    assert!((api.metric("kafka_messages_processed_total{status=\"dead_letter\"}").await - 8.0).abs() < 0.1);
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_behind_a_conflict_of_its_id_is_still_a_repeat() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let slowly = config(&kafka, &folder, &[("RECORD_LINGER_MS", "500")]);
    let api = Api::build(|shutdown| Service::build(slowly, shutdown)).await.ready().await;
    let (right, wrong) = (value_with_id(ID, "ann", "Ann", "5"), value_with_id(ID, "ann", "Ann", "6"));
    kafka.send(&right).await;
    api.user_with("ann", 1).await;
    // In one batch: the first one is not the one that is stored.
    for value in [&wrong, &right, &wrong] {
        kafka.send(value).await;
    }
    let letters = kafka.dead_letters(2).await;
    eventually("all are dealt with", async || {
        (api.count("kafka_messages_processed_total{status=\"duplicate\"}").await == 1).then_some(())
    })
    .await;
    assert!(letters.iter().all(|letter| letter.value.as_deref() == Some(wrong.as_bytes())), "{letters:?}");
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_event_is_stored_once_and_other_content_is_a_conflict() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    let first = value_with_id(ID, "ann", "Ann", "5");
    kafka.send(&first).await;
    kafka.send(&first).await;
    api.user_with("ann", 1).await;
    // Across batches and partitions, too.
    kafka.producer.send(TOPIC, 1, None, Some(first.as_bytes())).await;
    let other = value_with_id(ID, "ann", "Ann", "6");
    kafka.send(&other).await;
    kafka.send(&value("ann", "1")).await;
    assert_eq!(api.user_with("ann", 2).await["total_spent"].to_string(), "6");
    let letters = kafka.dead_letters(1).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].header("dead_letter_reason"), "conflict");
    assert_eq!(letters[0].value.as_deref(), Some(other.as_bytes()));
    eventually("both repeats counted", async || {
        let duplicates = api.metric("kafka_messages_processed_total{status=\"duplicate\"}").await;
        (duplicates > 1.5).then_some(())
    })
    .await;
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_waited_for_and_nothing_is_dead_lettered() {
    let (kafka, store) = (Kafka::start(), MemoryStore::new());
    let api = Api::start_on(store.clone(), &kafka, &[("RECORD_BATCH_MAX_RECORDS", "2")]).await.ready().await;
    kafka.send(&value("ann", "1")).await;
    api.user_with("ann", 1).await;
    store.away.store(true, Ordering::Relaxed);
    for _ in 0..20 {
        kafka.send(&value("ann", "1")).await;
    }
    eventually("the lag is seen though partitions are paused", async || {
        (api.metric("kafka_consumer_lag{partition=\"0\"}").await > 19.5).then_some(())
    })
    .await;
    eventually("tried again", async || (store.failed.load(Ordering::Relaxed) > 3).then_some(())).await;
    assert_eq!(api.get("/readyz").await.status, 503);
    assert_eq!(api.get("/livez").await.status, 200, "liveness never looks at a dependency");
    assert!(api.metric("kafka_consumer_lag_seconds{partition=\"0\"}").await > 0.0);
    store.away.store(false, Ordering::Relaxed);
    api.user_with("ann", 21).await;
    eventually("no lag", async || (api.metric("kafka_consumer_lag{partition=\"0\"}").await < 0.5).then_some(())).await;
    assert!(shared::testing::read_all(&kafka.config, DEAD_LETTERS).await.is_empty());
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_database_refuses_is_found_and_all_others_are_stored() {
    let (kafka, store) = (Kafka::start(), MemoryStore::new());
    *store.refuses.lock().unwrap() = Some("mallory".to_owned());
    for number in 0..50 {
        let userid = if number % 17 == 5 { "mallory" } else { "ann" };
        kafka.producer.send(TOPIC, number % 3, None, Some(value(userid, "1").as_bytes())).await;
    }
    let api = Api::start_on(store, &kafka, &[]).await.ready().await;
    api.user_with("ann", 47).await;
    let letters = kafka.dead_letters(3).await;
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.header("dead_letter_reason") == "rejected_by_store"));
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_consumer_drops_its_batch_and_goes_on_where_the_database_says() {
    let (kafka, store) = (Kafka::start(), MemoryStore::new());
    let api = Api::start_on(store.clone(), &kafka, &[]).await.ready().await;
    kafka.send(&value("ann", "1")).await;
    api.user_with("ann", 1).await;
    // Another consumer has recorded up to offset 3 as far as the database knows.
    store.steal(0, 3);
    for _ in 0..4 {
        kafka.send(&value("bob", "1")).await;
    }
    api.user_with("bob", 2).await;
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_confirmed_before_its_offset_moves() {
    let (kafka, store) = (Kafka::start(), MemoryStore::new());
    // The pause before each transaction is the time in which the broker goes away.
    let api = Api::start_on(store.clone(), &kafka, &[("RECORD_BATCH_DELAY_MS", "500")]).await.ready().await;
    kafka.send("poison").await;
    kafka.broker.set_broker_up(1, false).unwrap();
    eventually("the loss of the broker is seen", async || {
        (api.metric("kafka_broker_connected").await < 0.5).then_some(())
    })
    .await;
    assert_eq!(store.next_offset(0), 0, "the dead letter is not confirmed yet");
    kafka.broker.set_broker_up(1, true).unwrap();
    eventually("the offset moves", async || (store.next_offset(0) == 1).then_some(())).await;
    assert_eq!(kafka.dead_letters(1).await.len(), 1);
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_neither_skipped_nor_mistaken_for_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    for life in 0..3_u64 {
        let kafka = Kafka::start();
        // Without ids of their own: the same offsets in another life are other purchases.
        for _ in 0..5 {
            kafka.send(&value("ann", "1")).await;
        }
        let api = Api::start(&kafka, &folder).await.ready().await;
        api.user_with("ann", life * 5 + 5).await;
        assert!(api.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_lane_holds_up_its_own_partitions_alone() {
    let (kafka, store) = (Kafka::start(), MemoryStore::new());
    let small_batches = [("RECORD_LANES", "2"), ("RECORD_BATCH_MAX_RECORDS", "10")];
    let api = Api::start_on(store.clone(), &kafka, &small_batches).await.ready().await;
    eventually("all partitions", async || (api.count("kafka_consumer_assigned_partitions").await == 3).then_some(()))
        .await;
    store.held.store(0, Ordering::Relaxed);
    let send = async |partition, userid| {
        for _ in 0..100 {
            kafka.producer.send(TOPIC, partition, None, Some(value(userid, "1").as_bytes())).await;
        }
    };
    send(0, "slow").await;
    send(1, "quick").await;
    // Longer than the reader waits for a lane: the others' turn comes again and again.
    api.user_with("quick", 100).await;
    send(1, "quick").await;
    api.user_with("quick", 200).await;
    assert_eq!(store.next_offset(0), 0);
    store.held.store(-1, Ordering::Relaxed);
    api.user_with("slow", 100).await;
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_fails_one_lane_the_service_is_not_ready_whatever_the_others_do() {
    let (kafka, store) = (Kafka::start(), MemoryStore::new());
    let api = Api::start_on(store.clone(), &kafka, &[("RECORD_LANES", "2")]).await.ready().await;
    store.failing.store(0, Ordering::Relaxed);
    kafka.send(&value("slow", "1")).await;
    eventually("not ready", async || (api.get("/readyz").await.status == 503).then_some(())).await;
    for count in 1..=5 {
        // What is asked about is asked of the same database, and answered.
        kafka.producer.send_record(&forged(&value("quick", "1"))).await;
        api.user_with("quick", count).await;
        assert_eq!(api.get("/readyz").await.status, 503, "partition 0 cannot be recorded");
    }
    store.failing.store(-1, Ordering::Relaxed);
    api.user_with("slow", 1).await;
    assert_eq!(api.ready().await.get("/readyz").await.status, 200);
}

/// The headers of a dead letter that comes back, as anybody can write them.
const FORGED: [HeaderRef<'_>; 5] = [
    (b"original_incarnation", Some(b"another")),
    (b"original_partition", Some(b"0")),
    (b"original_offset", Some(b"0")),
    (b"original_timestamp", Some(b"1")),
    (b"dead_letter_redrive", Some(b"1")),
];

/// A record in partition 1 that says that it is a dead letter which comes back.
fn forged(value: &str) -> OutgoingRecord<'_> {
    OutgoingRecord {
        topic: TOPIC,
        partition: Some(1),
        key: None,
        value: Some(value.as_bytes()),
        headers: &FORGED,
        timestamp_ms: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_told_what_is_recorded_again_and_again() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    for count in 1..=3 {
        kafka.send(&value("ann", "1")).await;
        eventually("the commit", async || {
            let told = committed_offset(&kafka.config, "purchase-consumer-group", 0).await;
            (told == Some(count)).then_some(())
        })
        .await;
    }
    let nothing = committed_offset(&kafka.config, "purchase-consumer-group", 1).await;
    assert_eq!(nothing, None, "nothing was recorded of that partition");
    assert!(api.stop().await);
}
