//! What an operator runs, as processes of their own: how much they hold, and whom they wait for.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use management_api::letter::{DeadLetter, Original};
use management_api::store::{self, Batch};
use serde_json::Value;
use shared::event::PoisonReason;
use shared::kafka::READING_PATIENCE;
use shared::testing::{RawRecord, eventually, peak_rss_bytes, read_all};
use tempfile::TempDir;

use crate::harness::{Api, Kafka, TOPIC, config};
use crate::store_contract::fixtures::step;

/// Dead letters in each of the two places where they are kept.
const LETTERS: usize = 1_500;
/// Bytes of a dead letter, about.
const LETTER_BYTES: usize = 80_000;
/// What a command may hold at most, of 240 MB.
const HELD_BYTES: usize = 100_000_000;

/// A large purchase without a price.
fn poison(number: usize) -> String {
    format!(r#"{{"userid":"u{number:04}","username":"n","note":"{}"}}"#, " ".repeat(LETTER_BYTES))
}

/// Dead letters in both places, and what an operator needs to look after them.
struct Desk {
    kafka: Kafka,
    folder: TempDir,
}

impl Desk {
    async fn full() -> Self {
        let desk = Self { kafka: Kafka::start(), folder: tempfile::tempdir().unwrap() };
        desk.fill_topic(0..LETTERS).await;
        desk.fill_database(LETTERS..2 * LETTERS).await;
        desk
    }

    /// As it comes about: poison comes in, and is set aside.
    async fn fill_topic(&self, numbers: impl Iterator<Item = usize>) {
        for (number, partition) in numbers.zip((0..3).cycle()) {
            self.kafka.producer.send(TOPIC, partition, None, Some(poison(number).as_bytes())).await;
        }
        let api = Api::start(&self.kafka, &self.folder).await.ready().await;
        eventually("all are set aside", async || {
            let letters = api.count(r#"kafka_messages_processed_total{status="dead_letter"}"#).await;
            (usize::try_from(letters) == Ok(LETTERS)).then_some(())
        })
        .await;
        assert_eq!(api.count("dead_letters_refused_total").await, 0, "the topic has them all");
        assert!(api.stop().await);
    }

    async fn fill_database(&self, numbers: impl Iterator<Item = usize>) {
        let store = store::connect(&config(&self.kafka, &self.folder, &[]).store);
        for (expected, number) in (0..).zip(numbers) {
            let batch = Batch {
                incarnation: "another".into(),
                moves: vec![step(0, expected, expected + 1)],
                dead_letters: vec![letter(number, expected)],
                ..Batch::default()
            };
            store.record(&batch).await.unwrap();
        }
        store.close().await;
    }

    /// Starts a command of the service with the settings of this test.
    fn start(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_management-api"));
        command.env_clear().args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("KAFKA_BOOTSTRAP_SERVERS", &self.kafka.config.bootstrap_servers);
        command.env("DATABASE_URL", format!("sqlite:{}", self.folder.path().join("purchases.db").display()));
        // What is given back is gone at once: all that is seen is held.
        command.env("MIMALLOC_PURGE_DELAY", "0");
        Running { child: command.spawn().unwrap(), peak_bytes: 0 }
    }

    /// What was sent back to the topic of purchases.
    async fn sent_back(&self) -> Vec<RawRecord> {
        let mut records = read_all(&self.kafka.config, TOPIC).await;
        records.retain(|record| !record.header("dead_letter_redrive").is_empty());
        records
    }
}

fn letter(number: usize, offset: i64) -> DeadLetter {
    DeadLetter {
        original: Original { incarnation: "another".into(), partition: 0, offset, timestamp_ms: Some(1_700) },
        redrive: 0,
        key: None,
        value: Some(poison(number).into_bytes()),
        headers: Vec::new(),
        reason: PoisonReason::InvalidField,
        error: "no price".to_owned(),
    }
}

/// A command while it runs. It ends with the test at the latest.
struct Running {
    child: Child,
    peak_bytes: usize,
}

impl Running {
    /// Looks at the most that it has held so far.
    fn look(&mut self) {
        self.peak_bytes = peak_rss_bytes(self.child.id()).unwrap_or(0).max(self.peak_bytes);
    }

    /// CPU time that it has used so far, in hundredths of a second.
    fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// Waits until it does nothing for half a second.
    async fn stand_still(&self) {
        let (mut ticks, mut looks) = (0, 0);
        eventually("it stands still", async || {
            let before = std::mem::replace(&mut ticks, self.cpu_ticks());
            looks = if ticks == before { looks + 1 } else { 0 };
            (looks == 25).then_some(())
        })
        .await;
    }

    /// Waits for its end, and gives what it said.
    async fn end(&mut self) -> (ExitStatus, String) {
        let status = eventually("the command ends", async || {
            self.look();
            self.child.try_wait().unwrap()
        })
        .await;
        (status, std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_sent_back_once_however_many_there_are_and_few_are_held_at_a_time() {
    let desk = Desk::full().await;
    for expected in ["3000 sent back", "0 sent back"] {
        let mut redrive = desk.start(&["dead-letters", "redrive", "--all"]);
        let (status, said) = redrive.end().await;
        assert!(status.success() && said.lines().any(|line| line.starts_with(expected)), "{said}");
        assert!((1..HELD_BYTES).contains(&redrive.peak_bytes), "{} bytes held", redrive.peak_bytes);
        let sent = desk.sent_back().await;
        assert_eq!(sent.len(), 2 * LETTERS, "each once");
        let values: BTreeSet<_> = sent.into_iter().filter_map(|record| record.value).collect();
        assert!((0..2 * LETTERS).map(|number| poison(number).into_bytes()).eq(values), "untouched");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_waits_for_its_reader_as_long_as_that_takes() {
    let desk = Desk::full().await;
    let mut list = desk.start(&["dead-letters", "list"]);
    let mut lines = BufReader::new(list.child.stdout.take().unwrap()).lines();
    let mut listed = vec![lines.next().unwrap().unwrap()];
    list.stand_still().await;
    let (since, ticks) = (Instant::now(), list.cpu_ticks());
    eventually("it waits for longer than the brokers may be silent", async || {
        assert!(list.child.try_wait().unwrap().is_none(), "it has given up");
        (since.elapsed() > READING_PATIENCE).then_some(())
    })
    .await;
    assert!(list.cpu_ticks() - ticks < 100, "it waits without a rest");
    for line in lines {
        list.look();
        listed.push(line.unwrap());
    }
    let (status, said) = list.end().await;
    assert!(status.success(), "{said}");
    assert!((1..HELD_BYTES).contains(&list.peak_bytes), "{} bytes held", list.peak_bytes);
    assert_eq!(listed.len(), 2 * LETTERS, "each once");
    let letters = listed.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let values: BTreeSet<_> = letters.map(|letter| letter["value"].as_str().unwrap().to_owned()).collect();
    assert!((0..2 * LETTERS).map(poison).eq(values), "untouched");
}
