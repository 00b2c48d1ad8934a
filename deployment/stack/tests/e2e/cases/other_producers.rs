//! Records that come past web-server: good ones are purchases, poison is set aside, and an operator can send it back.

use std::fs;

use serde_json::Value;
use shared::event::{RecordPosition, purchase_id_for_position};
use shared::kafka::TopicAdmin;
use shared::testing::{RawRecord, eventually, read_all};
use stack::RunFolder;
use uuid::Uuid;

use crate::doors::{Doors, escape, order, somebody};
use crate::pipeline::{open, open_alone};

/// A record of another producer that can never be stored, and why.
struct Poison {
    key: Option<&'static [u8]>,
    value: Option<Vec<u8>>,
    reason: &'static str,
}

fn poison(value: impl Into<Vec<u8>>, reason: &'static str) -> Poison {
    Poison { key: Some(b"poison"), value: Some(value.into()), reason }
}

/// One record of every kind that the pipeline must set aside.
fn every_kind() -> Vec<Poison> {
    let with = |field: &str| format!(r#"{{"userid":"u","username":"n","price":1,{field}}}"#);
    vec![
        Poison { key: None, value: None, reason: "not_json" },
        Poison { key: Some(&[0xff, 0, 0xfe]), value: Some(vec![0xc0, 0x80, 0]), reason: "not_json" },
        poison("", "not_json"),
        poison("not json", "not_json"),
        poison(r#"{"userid":"u","username":"n","price":1"#, "not_json"),
        poison(r#"{"userid":"u","username":"n","price":NaN}"#, "not_json"),
        poison("7", "invalid_field"),
        poison("[]", "invalid_field"),
        poison("{}", "invalid_field"),
        poison(r#"{"userid":"u","userid":"u","username":"n","price":1}"#, "invalid_field"),
        poison(r#"{"userid":"u\u0000","username":"n","price":1}"#, "invalid_field"),
        poison(r#"{"userid":"u","username":"n","price":0}"#, "invalid_field"),
        poison(r#"{"userid":"u","username":"n","price":1e15}"#, "invalid_field"),
        poison(r#"{"userid":"u","username":"n","price":1e999999999}"#, "invalid_field"),
        poison(with(r#""purchase_id":"7""#), "invalid_field"),
        poison(with(r#""timestamp":"yesterday""#), "invalid_field"),
        poison(with(r#""timestamp":"+10000-01-01T00:00:00Z""#), "invalid_field"),
        poison(format!(r#"{{"userid":"{}","username":"n","price":1}}"#, "u".repeat(400_000)), "invalid_field"),
        // As large as a broker takes by default: with the headers of a dead letter it is larger than that.
        poison(format!(r#"{{"userid":"{}","username":"n","price":1}}"#, "u".repeat(1_048_000)), "invalid_field"),
    ]
}

fn place(record: &RawRecord) -> (i32, i64) {
    let number = |name: &str| record.header(name).parse::<i64>().unwrap_or(-1);
    (i32::try_from(number("original_partition")).unwrap_or(-1), number("original_offset"))
}

/// The id of a record that brings none: its place in this life of the topic, and its time.
async fn id_by_place(doors: &Doors, (partition, offset): (i32, i64)) -> Uuid {
    let admin = TopicAdmin::new(&doors.kafka, "test").expect("an admin client");
    let incarnation = tokio::task::spawn_blocking(move || admin.incarnation()).await.expect("no panic");
    let incarnation = incarnation.expect("the topic is there");
    let records = read_all(&doors.kafka, &doors.kafka.topic).await;
    let record = records.iter().find(|record| (record.partition, record.offset) == (partition, offset));
    let timestamp_ms = record.expect("the record is there").timestamp_ms;
    purchase_id_for_position(&RecordPosition { incarnation: &incarnation, partition, offset, timestamp_ms })
}

#[tokio::test]
async fn a_record_without_id_time_or_headers_is_a_purchase() {
    let doors = open().await;
    let (producer, userid) = (doors.producer(), somebody("bare"));
    let value = order("Ann", &userid, "1.5");
    let (partition, offset) = producer.send(&doors.kafka.topic, 1, None, Some(value.as_bytes())).await;
    let read = doors.purchases_of(&userid, 1).await.json();
    let purchase = &read["purchases"][0];
    let id: Uuid = purchase["purchase_id"].as_str().and_then(|id| id.parse().ok()).expect("a UUID");
    assert_eq!(id, id_by_place(&doors, (partition, offset)).await);
    assert!(purchase["timestamp"].is_string(), "the record's own time: {purchase}");
}

#[tokio::test]
async fn the_same_record_twice_in_a_batch_and_across_batches_is_one_purchase() {
    let doors = open().await;
    let (producer, userid, id) = (doors.producer(), somebody("twice"), Uuid::new_v4());
    let value = format!(
        r#"{{"purchase_id":"{id}","userid":"{userid}","username":"Ann","price":2.5,"timestamp":"2026-01-02T03:04:05.678Z"}}"#
    );
    let send = async |partition| producer.send(&doors.kafka.topic, partition, None, Some(value.as_bytes())).await;
    // Side by side in one partition: most of these meet in one batch.
    let together = (0..20).map(|number| send(number % 2));
    futures_util::future::join_all(together).await;
    doors.purchases_of(&userid, 1).await;
    // And again when the first are recorded, in every partition.
    for partition in 0..4 {
        send(partition).await;
    }
    // A later purchase in each partition shows that the repeats before it were dealt with.
    for partition in 0..4 {
        let marker = somebody("marker");
        let value = order("Ann", &marker, "1");
        producer.send(&doors.kafka.topic, partition, None, Some(value.as_bytes())).await;
        doors.purchases_of(&marker, 1).await;
    }
    let read = doors.get(&format!("/getAllUserBuys/{}", escape(&userid))).await.json();
    assert_eq!((read["count"].as_u64(), read["total_spent"].as_f64()), (Some(1), Some(2.5)), "{read}");
    assert_eq!(read["purchases"][0]["timestamp"], "2026-01-02T03:04:05.678Z");
}

#[tokio::test]
async fn poison_of_every_kind_is_set_aside_untouched_and_good_records_pass() {
    let doors = open_alone("poison").await;
    let (producer, userid) = (doors.producer(), somebody("good"));
    let kinds = every_kind();
    let mut sent = Vec::new();
    for (number, kind) in (0..).zip(&kinds) {
        let good = order("Ann", &userid, "1");
        producer.send(&doors.kafka.topic, number % 3, Some(b"k"), Some(good.as_bytes())).await;
        sent.push(producer.send(&doors.kafka.topic, number % 3, kind.key, kind.value.as_deref()).await);
    }
    let good = u64::try_from(kinds.len()).unwrap_or(0);
    assert_eq!(doors.purchases_of(&userid, good).await.json()["total_spent"], good);
    let dead = doors.dead_records(kinds.len()).await;
    assert_eq!(dead.len(), kinds.len(), "each is set aside once");
    for (kind, at) in kinds.iter().zip(&sent) {
        let letter = dead.iter().find(|letter| place(letter) == *at).unwrap_or_else(|| panic!("{at:?} is not there"));
        assert_eq!(letter.header("dead_letter_reason"), kind.reason, "{:?}", letter.header("dead_letter_error"));
        assert_eq!(letter.header("original_topic"), doors.kafka.topic);
        assert!(!letter.header("dead_letter_error").is_empty());
        assert_eq!((letter.key.as_deref(), letter.value.as_ref()), (kind.key, kind.value.as_ref()), "bytes untouched");
    }
    let read = doors.get_management("/metrics").await;
    assert!(read.metric("kafka_messages_processed_total{status=\"error\"}").is_some());
}

#[tokio::test]
async fn dead_letters_are_listed_sent_back_and_mended() {
    let doors = open_alone("redrive").await;
    let (producer, userid) = (doors.producer(), somebody("mended"));
    let first = producer.send(&doors.kafka.topic, 0, Some(b"k1"), Some(b"broken")).await;
    let second = producer.send(&doors.kafka.topic, 1, None, Some(b"{}")).await;
    doors.dead_records(2).await;
    let listed = doors.list_dead_letters();
    assert_eq!(listed.len(), 2, "{listed:?}");
    let letter = find(&listed, first);
    assert_eq!(
        (&letter["topic"], &letter["reason"]),
        (&Value::from(&*doors.kafka.dead_letter_topic), &"not_json".into())
    );
    assert_eq!((&letter["key"], &letter["value"]), (&"k1".into(), &"broken".into()));
    assert!(letter["error"].is_string() && letter["partition"].is_u64() && letter["offset"].is_u64(), "{letter}");
    assert_eq!(letter["original"]["topic"], *doors.kafka.topic);

    // Nothing was mended, so both come back, and keep the place that names them and their one entry.
    for _ in 0..2 {
        let output = doors.dead_letters(&["redrive", "--all"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        eventually("both came back", async || {
            doors.list_dead_letters().iter().all(|letter| letter["state"] == "kept").then_some(())
        })
        .await;
    }
    let listed = doors.list_dead_letters();
    for at in [first, second] {
        assert_eq!(listed.iter().filter(|letter| original(letter) == at).count(), 1, "{listed:?}");
    }
    assert_eq!(doors.dead_records(2).await.len(), 2);

    // Mended twice it is still one purchase.
    let folder = RunFolder::new("mended").expect("a folder");
    let file = folder.path().join("value.json");
    fs::write(&file, order("Ann", &userid, "7.5")).expect("a file");
    for _ in 0..2 {
        mend(&doors, find(&listed, first), file.to_str().expect("UTF-8"));
    }
    let read = doors.purchases_of(&userid, 1).await.json();
    let id = id_by_place(&doors, first).await;
    assert_eq!(read["purchases"][0]["purchase_id"], id.to_string());
    eventually("the second one is seen as a repeat", async || {
        let page = doors.get_management("/metrics").await;
        page.metric("kafka_messages_processed_total{status=\"duplicate\"}").filter(|count| *count >= 1.0)
    })
    .await;
    assert_eq!(doors.get(&format!("/getAllUserBuys/{}", escape(&userid))).await.json()["count"], 1);
}

fn original(letter: &Value) -> (i32, i64) {
    let number = |name: &str| letter["original"][name].as_i64().unwrap_or(-1);
    (i32::try_from(number("partition")).unwrap_or(-1), number("offset"))
}

fn find(letters: &[Value], at: (i32, i64)) -> &Value {
    letters.iter().find(|letter| original(letter) == at).expect("the dead letter of that place")
}

fn mend(doors: &Doors, letter: &Value, file: &str) {
    let [partition, offset] = ["partition", "offset"].map(|name| letter[name].to_string());
    let output = doors.dead_letters(&["redrive", "--partition", &partition, "--offset", &offset, "--value", file]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_wrong_choice_of_dead_letters_is_refused() {
    let doors = open().await;
    for arguments in [
        ["redrive"].as_slice(),
        &["redrive", "--all", "--partition", "0"],
        &["redrive", "--partition", "0"],
        &["redrive", "--partition", "0", "--offset", "999999"],
        &["redrive", "--partition", "0", "--offset", "0", "--value", "/no/such/file"],
        &["nonsense"],
    ] {
        let output = doors.dead_letters(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?} says why");
    }
}
