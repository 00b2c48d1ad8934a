//! Dead letters: set aside whatever their topic says, listed from wherever they are kept, sent back once.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use management_api::config::Config;
use management_api::dead_letters::{DeadLetterError, Selection, list, redrive, redrive_producer};
use management_api::store::{self, Store};
use serde_json::Value;
use shared::kafka::{OutgoingRecord, ProduceFault, RecordProducer};
use shared::testing::eventually;
use tempfile::TempDir;

use crate::harness::{Api, DEAD_LETTERS, Kafka, TOPIC, config, value};
use crate::memory_store::MemoryStore;
use crate::raw_batch::{UNKNOWN_CODEC, append, batch};

/// Old enough that any retention would have ended it.
const LONG_AGO_MS: i64 = 1_500_000_000_000;

/// What an operator has: the commands of the service, with its settings.
struct Operator {
    config: Config,
    store: Arc<dyn Store>,
    producer: Arc<RecordProducer>,
}

impl Operator {
    fn new(kafka: &Kafka, folder: &TempDir) -> Self {
        let config = config(kafka, folder, &[]);
        let store = store::connect(&config.store);
        let producer = redrive_producer(&config.kafka).unwrap();
        Self { config, store, producer }
    }

    async fn list(&self) -> Vec<Value> {
        let (letters, ended) = self.try_list().await;
        ended.unwrap();
        letters
    }

    /// What is listed, and how the listing ends.
    async fn try_list(&self) -> (Vec<Value>, Result<(), DeadLetterError>) {
        let output = Output::default();
        let ended = list(&self.config.kafka, self.store.clone(), output.clone()).await;
        let bytes = output.0.lock().unwrap().clone();
        let lines = String::from_utf8(bytes).unwrap();
        (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), ended)
    }

    async fn redrive(&self, selection: Selection) -> Result<usize, DeadLetterError> {
        redrive(&self.config.kafka, self.store.clone(), &self.producer, selection).await
    }

    /// The list once it has so many entries that wait to be mended.
    async fn list_with_kept(&self, kept: usize) -> Vec<Value> {
        eventually("so many dead letters are kept", async || {
            let letters = self.list().await;
            (letters.iter().filter(|letter| letter["state"] == "kept").count() == kept).then_some(())
        })
        .await;
        // What comes back while it is listed is in the list twice.
        self.list().await
    }
}

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn one(letter: &Value, value: Option<Vec<u8>>) -> Selection {
    let number = |name: &str| letter[name].as_i64().unwrap();
    Selection::One { partition: i32::try_from(number("partition")).unwrap(), offset: number("offset"), value }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_poison_keeps_its_one_entry_however_often_it_is_sent_back() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    for number in 0..5 {
        kafka.send(&format!("poison {number}")).await;
    }
    kafka.dead_letters(5).await;
    let operator = Operator::new(&kafka, &folder);
    for _ in 0..3 {
        assert_eq!(operator.redrive(Selection::All).await.unwrap(), 5);
        let letters = operator.list_with_kept(5).await;
        assert_eq!(letters.len(), 5);
        let mut values: Vec<_> = letters.iter().map(|letter| letter["value"].as_str().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, ["poison 0", "poison 1", "poison 2", "poison 3", "poison 4"]);
    }
    // Mended badly, it is where it was; mended well, it is out.
    let letters = operator.list().await;
    assert_eq!(operator.redrive(one(&letters[0], Some(b"worse".to_vec()))).await.unwrap(), 1);
    operator.list_with_kept(5).await;
    let mended = value("ann", "3").into_bytes();
    assert_eq!(operator.redrive(one(&letters[1], Some(mended))).await.unwrap(), 1);
    api.user_with("ann", 1).await;
    let letters = operator.list_with_kept(4).await;
    assert_eq!((letters.len(), operator.redrive(Selection::All).await.unwrap()), (5, 4), "not again what is mended");
    operator.list_with_kept(4).await;
    assert_eq!(kafka.dead_letters(5).await.len(), 5, "the topic has none of them twice");
    api.user_with("ann", 1).await;
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mended_badly_at_the_first_attempt_is_as_it_was() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    kafka.send("as it was").await;
    kafka.dead_letters(1).await;
    let operator = Operator::new(&kafka, &folder);
    let letters = operator.list().await;
    assert_eq!(letters[0]["kept_in"], "topic");
    assert_eq!(operator.redrive(one(&letters[0], Some(b"{}".to_vec()))).await.unwrap(), 1);
    let letters = operator.list_with_kept(1).await;
    assert_eq!((letters.len(), &letters[0]["value"]), (1, &"as it was".into()), "{letters:?}");
    assert_eq!(letters[0]["reason"], "not_json", "of what it is, not of what it was mended to");
    let mended = value("ann", "3").into_bytes();
    assert_eq!(operator.redrive(one(&letters[0], Some(mended))).await.unwrap(), 1);
    api.user_with("ann", 1).await;
    assert_eq!(operator.redrive(Selection::All).await.unwrap(), 0);
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_of_a_release_that_gave_it_the_originals_time_is_one_however_often_it_stands_there() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let letter = OutgoingRecord {
        topic: DEAD_LETTERS,
        partition: Some(0),
        key: None,
        value: Some(b"poison"),
        headers: &[
            ("original_incarnation".as_bytes(), Some(b"life".as_slice())),
            (b"original_partition", Some(b"2")),
            (b"original_offset", Some(b"7")),
        ],
        timestamp_ms: Some(LONG_AGO_MS),
    };
    kafka.producer.send_record(&letter).await;
    kafka.producer.send_record(&letter).await;
    let operator = Operator::new(&kafka, &folder);
    operator.store.migrate().await.unwrap();
    let listed = operator.list().await;
    let original = &listed[0]["original"];
    assert_eq!((&original["partition"], &original["offset"]), (&2.into(), &7.into()), "{listed:?}");
    assert_eq!(operator.redrive(Selection::All).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_back_before_that_is_written_down() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    kafka.producer.send(DEAD_LETTERS, 0, None, Some(b"poison")).await;
    let (mut operator, store) = (Operator::new(&kafka, &folder), MemoryStore::new());
    operator.store = store.clone();
    store.announces_nothing.store(true, Ordering::Relaxed);
    let letters = operator.list().await;
    for selection in [Selection::All, one(&letters[0], None), one(&letters[0], Some(b"mended".to_vec()))] {
        let sent = operator.redrive(selection).await;
        assert!(matches!(sent, Err(DeadLetterError::Store(_))), "{sent:?}");
    }
    assert!(shared::testing::read_all(&kafka.config, TOPIC).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_only_says_that_it_came_back_hides_nobody() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    kafka.send("victim").await;
    kafka.dead_letters(1).await;
    let operator = Operator::new(&kafka, &folder);
    // Sent back once, so that the number which is claimed below is a good one, and the database keeps it.
    assert_eq!(operator.redrive(Selection::All).await.unwrap(), 1);
    operator.list_with_kept(1).await;
    let sent = shared::testing::read_all(&kafka.config, TOPIC).await;
    let returned = sent.iter().find(|record| !record.header("dead_letter_redrive").is_empty()).unwrap();
    let headers: Vec<_> =
        returned.headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_slice()))).collect();
    let forged = |value: &'static [u8]| OutgoingRecord {
        topic: TOPIC,
        partition: Some(0),
        key: returned.key.as_deref(),
        value: Some(value),
        headers: &headers,
        timestamp_ms: None,
    };
    for value in [b"forged a".as_slice(), b"forged b", b"victim"] {
        kafka.producer.send_record(&forged(value)).await;
    }
    let letters = operator.list_with_kept(3).await;
    let mut values: Vec<_> = letters.iter().map(|letter| letter["value"].as_str().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, ["forged a", "forged b", "victim"], "each is its own; the copy of what was sent is that");
    kafka.dead_letters(3).await;
    assert_eq!(operator.redrive(Selection::All).await.unwrap(), 3);
    let left = eventually("all have come back", async || {
        let letters = operator.list().await;
        letters.iter().all(|letter| letter["state"] == "kept").then_some(letters)
    });
    let left = left.await;
    assert_eq!(left.len(), 3);

    // A purchase without an id is named by its place: whoever claims another's does not take its name away.
    let purchase = value("eve", "1");
    kafka.producer.send_record(&OutgoingRecord { value: Some(purchase.as_bytes()), ..forged(b"") }).await;
    api.user_with("eve", 1).await;
    let victim = left.iter().find(|letter| letter["value"] == "victim").unwrap();
    assert_eq!(operator.redrive(one(victim, Some(value("ann", "3").into_bytes()))).await.unwrap(), 1);
    api.user_with("ann", 1).await;
    api.user_with("eve", 1).await;
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_of_now_and_keeps_its_headers_and_sent_back_it_is_as_old_as_it_was() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    let record = OutgoingRecord {
        topic: TOPIC,
        partition: Some(2),
        key: Some(b"key"),
        value: Some(b"poison"),
        headers: &[(b"caf\xe9", Some(b"\xff")), (b"traceparent", Some(b"00-1-2-01")), (b"none", None)],
        timestamp_ms: Some(LONG_AGO_MS),
    };
    kafka.producer.send_record(&record).await;
    let letter = kafka.dead_letters(1).await.remove(0);
    let first: Vec<_> = letter.headers[..3].iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    assert_eq!(first, [("caf\u{fffd}", b"\xff".as_slice()), ("traceparent", b"00-1-2-01"), ("none", b"")]);
    assert_eq!(letter.header("original_timestamp"), LONG_AGO_MS.to_string());
    let age = shared::event::Timestamp::now().millis() - letter.timestamp_ms.unwrap();
    assert!(age < 60_000, "{age}");
    let operator = Operator::new(&kafka, &folder);
    let listed = operator.list().await;
    assert_eq!(listed[0]["original"]["timestamp_ms"], LONG_AGO_MS);
    assert_eq!(listed[0]["headers"][0][0]["base64"], "Y2Fm6Q==");
    operator.redrive(one(&listed[0], Some(value("ann", "1").into_bytes()))).await.unwrap();
    let sent = shared::testing::read_all(&kafka.config, TOPIC).await.pop().unwrap();
    assert_eq!(sent.headers[..3], letter.headers[..3], "as they were");
    let ann = api.user_with("ann", 1).await;
    assert_eq!(ann["purchases"][0]["timestamp"], "2017-07-14T02:40:00.000Z", "its value has no time of its own");
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_topic_refuses_is_kept_in_the_database_and_holds_nobody_up() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    let large = vec![b' '; 40_000_000];
    kafka.producer.send(TOPIC, 0, Some(b"\xff"), Some(&large)).await;
    kafka.send(&value("ann", "1")).await;
    api.user_with("ann", 1).await;
    let operator = Operator::new(&kafka, &folder);
    let letters = operator.list_with_kept(1).await;
    assert_eq!((letters.len(), &letters[0]["kept_in"]), (1, &"database".into()));
    assert_eq!(letters[0]["value"].as_str().unwrap().as_bytes(), large, "untouched");
    assert_eq!(letters[0]["key"]["base64"], "/w==");
    assert!((api.metric("dead_letters_refused_total").await - 1.0).abs() < 0.1);
    eventually("counted", async || (api.metric("dead_letters_kept").await > 0.5).then_some(())).await;
    // Sent back, it is poison as before, and still one.
    assert_eq!(operator.redrive(Selection::All).await.unwrap(), 1);
    assert_eq!(operator.list_with_kept(1).await.len(), 1);
    assert_eq!(operator.redrive(one(&letters[0], Some(value("bob", "1").into_bytes()))).await.unwrap(), 1);
    api.user_with("bob", 1).await;
    eventually("none is kept", async || (api.metric("dead_letters_kept").await < 0.5).then_some(())).await;
    assert!(kafka.dead_letters(0).await.is_empty());
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_refused_does_not_take_others_with_it() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    for number in 0..3 {
        kafka.send(&format!("poison {number}")).await;
    }
    kafka.broker.fail_produce(&[ProduceFault::MessageTooLarge]);
    let api = Api::start(&kafka, &folder).await.ready().await;
    assert_eq!(kafka.dead_letters(3).await.len(), 3, "refused together, taken one by one");
    assert!(Operator::new(&kafka, &folder).list().await.iter().all(|letter| letter["kept_in"] == "topic"));
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_takes_nothing_is_left_alone_and_the_database_keeps_all() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    kafka.send("poison").await;
    kafka.broker.fail_produce(&[ProduceFault::NotAuthorized]);
    let api = Api::start(&kafka, &folder).await.ready().await;
    let operator = Operator::new(&kafka, &folder);
    operator.list_with_kept(1).await;
    // The broker would take this one, but nobody asks it for a while.
    kafka.send("poison").await;
    let letters = operator.list_with_kept(2).await;
    assert!(letters.iter().all(|letter| letter["kept_in"] == "database"), "{letters:?}");
    assert!(api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_of_a_damaged_topic_is_listed_and_the_damage_told_at_the_end() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    kafka.broker.create_topic("damaged", 3).unwrap();
    let mut operator = Operator::new(&kafka, &folder);
    operator.config.kafka.dead_letter_topic = "damaged".to_owned();
    operator.store.migrate().await.unwrap();
    for partition in 0..3 {
        kafka.producer.send("damaged", partition, None, Some(b"before")).await;
    }
    append(&kafka.config.bootstrap_servers, "damaged", 1, &batch(UNKNOWN_CODEC, b"\0", false));
    for partition in [1, 2] {
        kafka.producer.send("damaged", partition, None, Some(b"after")).await;
    }
    let (listed, ended) = operator.try_list().await;
    let places =
        listed.iter().map(|letter| (letter["partition"].as_i64().unwrap(), letter["offset"].as_i64().unwrap()));
    let mut places: Vec<_> = places.collect();
    places.sort_unstable();
    assert_eq!(places, [(0, 0), (1, 0), (2, 0), (2, 1)]);
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("partition 1 of damaged cannot be read from offset 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough_is_no_error() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let api = Api::start(&kafka, &folder).await.ready().await;
    kafka.send("poison").await;
    kafka.dead_letters(1).await;
    let operator = Operator::new(&kafka, &folder);
    list(&operator.config.kafka, operator.store.clone(), Closed).await.unwrap();
    assert!(api.stop().await);
}
