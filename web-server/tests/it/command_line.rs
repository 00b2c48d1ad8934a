//! The program itself.

use std::process::{Command, Output, Stdio};

use shared::kafka::InProcessBroker;

use crate::harness::{Client, DEADLINE, eventually};

fn web_server(arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_web-server"));
    command.args(arguments).env_clear().envs(settings.iter().copied());
    command
}

fn run(arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = web_server(arguments, settings).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn bad_settings_are_told_all_at_once_before_a_port_opens() {
    let (code, stdout, stderr) = run(
        &[],
        &[
            ("LISTEN_ADDRESS", "nowhere"),
            ("KAFKA_PARTITION_BY", "luck"),
            ("PUBLISH_DEADLINE_MS", "soon"),
            ("CUSTOMER_MGMT_API_URL", "https://management,ftp://x"),
            ("METRICS_HTTP_PREFIX", "9-"),
            ("LOG_LEVEL", "shouting"),
            ("MANAGEMENT_API_TOKEN_FILE", "/nonexistent"),
            ("IN_FLIGHT_MAX", "0"),
            ("MANAGEMENT_BALANCING", "best"),
            ("CORS_ALLOWED_ORIGINS", "https://shop.example/page"),
            ("READ_CACHE_MS", "30001"),
        ],
    );
    assert_eq!((code, stdout.as_str()), (Some(78), ""));
    let mut named: Vec<_> = stderr.lines().map(|line| line.split_once(": ").expect(line).0).collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [
            "CORS_ALLOWED_ORIGINS",
            "CUSTOMER_MGMT_API_URL",
            "CUSTOMER_MGMT_API_URL",
            "IN_FLIGHT_MAX",
            "KAFKA_PARTITION_BY",
            "LISTEN_ADDRESS",
            "LOG_LEVEL",
            "MANAGEMENT_API_TOKEN_FILE",
            "MANAGEMENT_BALANCING",
            "METRICS_HTTP_PREFIX",
            "PUBLISH_DEADLINE_MS",
            "READ_CACHE_MS",
        ]
    );
}

#[test]
fn help_shows_every_setting_with_its_default() {
    let (code, stdout, _) = run(&["--help"], &[]);
    assert_eq!(code, Some(0));
    for row in [
        "LISTEN_ADDRESS",
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_PARTITION_BY",
        "PUBLISH_DEADLINE_MS",
        "IN_FLIGHT_MAX",
        "REQUEST_BODY_TIMEOUT_MS",
        "DRAIN_DELAY_MS",
        "CUSTOMER_MGMT_API_URL",
        "MANAGEMENT_API_TOKEN",
        "METRICS_HTTP_PREFIX",
        "LOG_LEVEL",
        "LOG_FORMAT",
    ] {
        assert!(stdout.lines().any(|line| line.trim_start().starts_with(row)), "{row} is missing in\n{stdout}");
    }
    assert!(stdout.contains("[0.0.0.0:8080]") && stdout.contains("[10000]"), "{stdout}");
}

#[test]
fn version_and_unknown_arguments_are_answered() {
    let (code, stdout, _) = run(&["--version"], &[]);
    assert_eq!((code, stdout), (Some(0), format!("web-server {}\n", env!("CARGO_PKG_VERSION"))));
    assert_eq!(run(&["--nonsense"], &[]).0, Some(2));
}

#[test]
fn a_port_in_use_is_an_error_in_words() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, stderr) = run(&[], &[("LISTEN_ADDRESS", &address)]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains(&address), "{stderr}");
}

#[tokio::test]
async fn sigterm_drains_and_exits_with_0() {
    let broker = InProcessBroker::start(1).unwrap();
    broker.create_topic("purchases", 1).unwrap();
    broker.create_topic("purchases.dead-letter", 1).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bootstrap = broker.bootstrap_servers();
    let listen = free.to_string();
    let settings = [
        ("LISTEN_ADDRESS", listen.as_str()),
        ("KAFKA_BOOTSTRAP_SERVERS", &bootstrap),
        ("DRAIN_DELAY_MS", "100"),
        ("MANAGEMENT_API_TOKEN", "hush"),
        ("LOG_LEVEL", "trace"),
    ];
    let process = web_server(&[], &settings).stderr(Stdio::piped()).spawn().unwrap();
    let process_id = process.id().to_string();
    let ended = tokio::task::spawn_blocking(move || process.wait_with_output().unwrap());
    let client = Client::new(free);
    eventually("listening", async || tokio::net::TcpStream::connect(free).await.is_ok()).await;
    eventually("ready", async || client.get("/readyz").await.status == 200).await;
    let body = r#"{"username":"test-username","userid":"u","price":1}"#;
    assert_eq!(client.post("/buy", body).send().await.status, 202);
    assert_eq!(client.get("/purchases?timeout=50").await.status, 503);
    Command::new("kill").args(["-TERM", &process_id]).status().unwrap();
    let ended = tokio::time::timeout(DEADLINE, ended).await.expect("the process ends in time").unwrap();
    assert_eq!(ended.status.code(), Some(0));
    let log = String::from_utf8(ended.stderr).unwrap();
    assert!(log.contains("listening") && log.contains("ended with nothing left"), "{log}");
    assert!(log.lines().all(|line| line.starts_with(r#"{"timestamp":"#)), "every line is JSON: {log}");
    assert!(!log.contains("hush") && !log.contains("test-username"), "no secret and no name: {log}");
}
