//! Live status as its followers have it: through nginx as Debian ships it, and by the program that the README shows them.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;
use std::{fs, thread};

use manifests::embedded::Embedded;
use manifests::nginx::Nginx;
use manifests::root;
use serde_json::{Value, json};
use shared::testing::{DEADLINE, EventStream, eventually};
use stack::http;
use stack::install::python;
use stack::{RunFolder, Service};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATH: &str = "/users/ann/events";
/// Longer than nginx waits for a word of who it passes on to (`proxy_read_timeout`, 60 s).
const SILENCE: Duration = Duration::from_secs(65);

/// Buys through `address`; gives the purchase's id.
async fn buy(address: &str) -> String {
    let body = json!({ "username": "ann", "userid": "ann", "price": 19.9 }).to_string();
    let answer = http::post_json(address, "/buy", None, &body, DEADLINE).await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    answer["purchase_id"].as_str().unwrap().to_owned()
}

async fn listen(nginx: &Nginx, last_id: &str) -> EventStream {
    let stream = EventStream::open(nginx.address.parse().unwrap(), PATH, &[("last-event-id", last_id)]).await;
    assert_eq!(stream.status(), 200, "{:?}", stream.head);
    stream
}

async fn next_id(stream: &mut EventStream) -> String {
    let event = stream.next().await.expect("the stream goes on");
    assert_eq!(event.event, "recorded", "{event:?}");
    let purchase: Value = serde_json::from_str(&event.data).unwrap();
    purchase["purchase_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_as_debian_ships_it_passes_live_status_on_past_its_timeout() {
    let folder = RunFolder::new("nginx").unwrap();
    let pod = Embedded::start(&folder.path().join("pod"), "").await;
    let nginx = Nginx::start(&folder.subfolder("nginx").unwrap(), &pod.web.address()).await;
    let mut stream = listen(&nginx, "").await;
    stream.opened().await;
    assert!(timeout(SILENCE, stream.next()).await.is_err(), "nothing was bought, and the stream goes on");
    let told = buy(&nginx.address).await;
    assert_eq!(next_id(&mut stream).await, told);
    let last_id = stream.last_id.clone();
    drop(stream);
    let missed = buy(&nginx.address).await;
    let mut stream = listen(&nginx, &last_id).await;
    assert_eq!(next_id(&mut stream).await, missed);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_gzip_gets_events_as_they_come() {
    let folder = RunFolder::new("nginx-gzip").unwrap();
    let pod = Embedded::start(&folder.path().join("pod"), "").await;
    let nginx = Nginx::start(&folder.subfolder("nginx").unwrap(), &pod.web.address()).await;
    let mut stream = TcpStream::connect(&nginx.address).await.unwrap();
    let request = format!("GET {PATH} HTTP/1.1\r\nhost: shop.example\r\naccept-encoding: gzip\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let shows = |received: &[u8], text: &str| received.windows(text.len()).any(|part| part == text.as_bytes());
    let told = timeout(DEADLINE, async {
        while !shows(&received, "\nid: ") {
            assert!(stream.read_buf(&mut received).await.unwrap() > 0, "the stream goes on");
        }
    });
    let is_told = told.await.is_ok();
    let text = String::from_utf8_lossy(&received).to_lowercase();
    assert!(is_told && !text.contains("content-encoding"), "{text}");
}

/// The README's client, and what it prints.
struct Follower {
    process: Child,
    lines: Mutex<mpsc::Receiver<String>>,
}

impl Follower {
    fn start(address: &str) -> Self {
        let python = python().unwrap_or_else(|error| panic!("{error}"));
        let mut command = Command::new(python);
        command.arg("-B").arg(root().join("deployment/events/follow.py")).arg(format!("http://{address}{PATH}"));
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines: Mutex::new(lines) }
    }

    /// The next purchase's id; `null` where it is to read anew.
    fn next_id(&self) -> Value {
        let line = self.lines.lock().unwrap().recv_timeout(DEADLINE).expect("it goes on");
        let purchase: Value = serde_json::from_str(&line).unwrap();
        purchase["purchase_id"].clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How many streams the pipeline has open.
async fn is_followed(web: &Service) -> Option<()> {
    let metrics = web.metrics().await.ok()?;
    metrics.lines().any(|line| line == "event_streams 1").then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_the_readme_misses_nothing_and_is_told_when_to_read_anew() {
    let folder = RunFolder::new("follow").unwrap();
    let data = folder.path().join("pod");
    let mut pod = Embedded::start(&data, "").await;
    let web = pod.web.address();
    let mut nginx = Nginx::start(&folder.subfolder("nginx").unwrap(), &web).await;
    let follower = Follower::start(&nginx.address);
    eventually("it listens", async || is_followed(&pod.web).await).await;
    for _ in 0..3 {
        let id = buy(&web).await;
        assert_eq!(follower.next_id(), json!(id));
    }
    nginx.kill();
    let missed = [buy(&web).await, buy(&web).await];
    nginx.start_again().await;
    let mut told = [follower.next_id(), follower.next_id()];
    let mut missed = missed.map(Value::from);
    // What two partitions committed in one millisecond has no order.
    for ids in [&mut told, &mut missed] {
        ids.sort_by_key(Value::to_string);
    }
    assert_eq!(told, missed);
    // Another database, whose log of commits has never had that position.
    pod.web.kill_9();
    fs::remove_dir_all(data.join("data")).unwrap();
    pod.web.restart(DEADLINE).await.unwrap();
    assert_eq!(follower.next_id(), Value::Null, "it is to read anew");
    let id = buy(&web).await;
    assert_eq!(follower.next_id(), json!(id));
}
