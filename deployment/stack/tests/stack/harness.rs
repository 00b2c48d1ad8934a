//! The harness itself: what it starts can be killed, comes back with its data, and leaves nothing behind.

use std::{process::Command, time::Duration};

use stack::{
    KafkaCluster, Ledger, Postgres, RunFolder,
    ledger::{Attempt, Difference, Entry, Outcome},
    process::{Lifetime, Process, ProcessId},
};
use uuid::Uuid;

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_comes_back_at_the_same_address() {
    let folder = RunFolder::new("one-broker").unwrap();
    let mut kafka = KafkaCluster::start(folder.path(), 1).await.unwrap();
    let address = kafka.bootstrap_servers();
    let before = kafka.process_id(1).unwrap();
    assert!(kafka.cpu_time() > Duration::ZERO);

    kafka.kill_9(1);
    assert!(!before.is_alive());
    kafka.view().await.expect_err("a dead broker does not answer");

    kafka.start_broker(1).await.unwrap();
    assert_eq!(kafka.view().await.unwrap().brokers, [1]);
    assert_eq!(kafka.bootstrap_servers(), address);
    assert!(kafka.stop_broker(1).await.unwrap(), "SIGTERM is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_know_each_other_and_survive_the_loss_of_one() {
    let folder = RunFolder::new("three-brokers").unwrap();
    let mut kafka = KafkaCluster::start(folder.path(), 3).await.unwrap();
    let mut brokers = kafka.view().await.unwrap().brokers;
    brokers.sort_unstable();
    assert_eq!(brokers, [1, 2, 3]);

    kafka.create_topic("three", 6).await.unwrap();
    kafka.wait_in_sync(MINUTE).await.unwrap();
    let partitions = kafka.view().await.unwrap().partitions;
    assert_eq!(partitions.len(), 6);
    assert!(partitions.iter().all(|partition| partition.replicas.len() == 3), "{partitions:?}");

    kafka.kill_9(2);
    kafka.view().await.expect("the others answer");
    kafka.start_broker(2).await.unwrap();
    kafka.wait_in_sync(MINUTE).await.unwrap();
    assert!(kafka.view().await.unwrap().partitions.iter().all(|partition| partition.in_sync.len() == 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postgres_comes_back_with_what_it_committed() {
    let folder = RunFolder::new("postgres").unwrap();
    let mut postgres = Postgres::start(folder.path()).await.unwrap();
    let client = postgres.client().await.unwrap();
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept SELECT generate_series(1, 1000)").await.unwrap();

    postgres.kill_9();
    client.simple_query("SELECT 1").await.expect_err("the session died with the server");
    postgres.client().await.expect_err("a dead server does not answer");

    postgres.start_again().await.unwrap();
    let client = postgres.client().await.unwrap();
    let count: i64 = client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0);
    assert_eq!(count, 1000);

    postgres.create_database("second").await.unwrap();
    postgres.create_database("second").await.expect("making it again changes nothing");
    postgres.client_of("second").await.unwrap();
    assert!(postgres.cpu_time() > Duration::ZERO);
    assert!(postgres.stop().await.unwrap(), "a fast shutdown is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused() {
    let folder = RunFolder::new("password").unwrap();
    let postgres = Postgres::start(folder.path()).await.unwrap();
    let url = postgres.database_url().replace("purchase:", "purchase:wrong");
    let Err(error) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await else { panic!("let in") };
    assert!(error.as_db_error().is_some_and(|refusal| refusal.code().code() == "28P01"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_process_is_gone_and_its_folder_too() {
    let folder = RunFolder::new("dropped").unwrap();
    let path = folder.path().to_owned();
    let mut command = Command::new("sleep");
    command.arg("600");
    let process = Process::spawn("sleep", command, &path.join("log"), Lifetime::WithParent).unwrap();
    let id = process.id();
    assert!(id.is_alive());
    drop(process);
    drop(folder);
    assert!(!id.is_alive());
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_outlives_the_thread_that_started_it() {
    let folder = RunFolder::new("thread").unwrap();
    let log = folder.path().join("log");
    let mut command = Command::new("sleep");
    command.arg("600");
    let start = move || Process::spawn("sleep", command, &log, Lifetime::WithParent).unwrap();
    let process = std::thread::spawn(start).join().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(process.id().is_alive());
}

#[test]
fn another_process_with_the_same_pid_is_not_signalled() {
    let own = ProcessId::own();
    let namesake = ProcessId { pid: own.pid, started: own.started + 1 };
    assert!(!namesake.is_alive());
    assert!(!namesake.signal(stack::process::Signal::Kill), "we would not be here to see it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_reads_prices_and_times_exactly() {
    let folder = RunFolder::new("ledger").unwrap();
    let postgres = Postgres::start(folder.path()).await.unwrap();
    let client = postgres.client().await.unwrap();
    let table = "CREATE TABLE purchases (purchase_id uuid PRIMARY KEY, userid text, username text, \
                 price numeric(19,4), purchased_at timestamptz, recorded_at timestamptz DEFAULT now())";
    client.batch_execute(table).await.unwrap();
    let (purchase_id, timestamp) = (Uuid::new_v4(), "2026-01-02T03:04:05.678Z".parse().unwrap());
    let outcome = Outcome::Answered { status: 202, purchase_id: Some(purchase_id), timestamp: Some(timestamp) };
    let attempt = Attempt { target: 0, begun: Duration::ZERO, took: Duration::ZERO, outcome };
    let mut ledger = Ledger::default();
    ledger.add(Entry {
        username: "Zoë".to_owned(),
        userid: "7".to_owned(),
        price: "99999999999999.9999".parse().unwrap(),
        key: None,
        attempts: vec![attempt],
    });
    assert!(ledger.verify(&client).await.unwrap().is_only_incomplete());

    let row = "INSERT INTO purchases VALUES ($1, '7', 'Zoë', 99999999999999.9999, $2)";
    client.execute(row, &[&purchase_id, &timestamp]).await.unwrap();
    ledger.verify_when_recorded(&client, MINUTE).await.unwrap().assert_clean();

    client.batch_execute("UPDATE purchases SET price = price - 0.0001").await.unwrap();
    let differences = ledger.verify(&client).await.unwrap().differences;
    assert!(matches!(differences.as_slice(), [Difference::OtherContent { what, .. }] if what.starts_with("price")));
}
