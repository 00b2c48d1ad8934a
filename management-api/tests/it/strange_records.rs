//! Records as no producer of ours would send them: each makes a purchase or a dead letter, and nothing more.

use management_api::letter::{Original, Sending};
use management_api::store;
use shared::event::Timestamp;
use shared::kafka::OutgoingRecord;

use crate::harness::{Api, DEAD_LETTERS, Kafka, TOPIC, config, value};

fn record(value: &[u8]) -> OutgoingRecord<'_> {
    OutgoingRecord { topic: TOPIC, partition: Some(0), key: None, value: Some(value), headers: &[], timestamp_ms: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_may_have_any_bytes_as_its_name_and_its_value() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    let good = value("ann", "1");
    let headers = [
        (b"caf\xe9".as_slice(), Some(b"\xff\xfe".as_slice())),
        (b"original_partition", Some(b"\xff")),
        (b"original_incarnation", None),
        (b"", Some(b"")),
    ];
    kafka.producer.send_record(&OutgoingRecord { headers: &headers, ..record(good.as_bytes()) }).await;
    kafka.producer.send_record(&OutgoingRecord { headers: &headers, ..record(b"poison") }).await;
    kafka.send(&good).await;
    api.user_with("ann", 2).await;
    assert_eq!(kafka.dead_letters(1).await.len(), 1);
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_no_store_can_hold_counts_as_none() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    let before = Timestamp::now();
    let good = value("ann", "1");
    // Microseconds taken for milliseconds: the year 57870.
    for timestamp_ms in [1_763_000_000_000_000, i64::MAX] {
        kafka
            .producer
            .send_record(&OutgoingRecord { timestamp_ms: Some(timestamp_ms), ..record(good.as_bytes()) })
            .await;
    }
    let ann = api.user_with("ann", 2).await;
    for purchase in ann["purchases"].as_array().unwrap() {
        let time = Timestamp::parse(purchase["timestamp"].as_str().unwrap()).unwrap();
        assert!((before..=Timestamp::now()).contains(&time), "the time of reading: {purchase}");
    }
    assert!(shared::testing::read_all(&kafka.config, DEAD_LETTERS).await.is_empty());
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_records_in_the_same_place_at_another_time_are_other_purchases() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    let store = store::connect(&config(&kafka, &folder, &[]).store);
    // Sent back dead letters say where and when they first stood: two that differ in their time alone are two.
    let good = value("ann", "1");
    for time in [1_700_000_000_001, 1_700_000_000_002, 1_700_000_000_002] {
        let place = Original { incarnation: "life".into(), partition: 0, offset: 7, timestamp_ms: Some(time) };
        store.announce(&[Sending::new(place.id(), None, Some(good.as_bytes()), [])]).await.unwrap();
        let time = time.to_string();
        let headers = [
            (b"original_incarnation".as_slice(), Some(b"life".as_slice())),
            (b"original_partition", Some(b"0")),
            (b"original_offset", Some(b"7")),
            (b"original_timestamp", Some(time.as_bytes())),
            (b"dead_letter_redrive", Some(b"1")),
        ];
        kafka.producer.send_record(&OutgoingRecord { headers: &headers, ..record(good.as_bytes()) }).await;
    }
    kafka.send(&value("last", "1")).await;
    api.user_with("last", 1).await;
    let ann = api.user_with("ann", 2).await;
    assert_eq!(ann["purchases"][0]["timestamp"], "2023-11-14T22:13:20.002Z", "the time that it first had");
    assert!(api.stop().await);
}
