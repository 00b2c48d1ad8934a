//! What a case may use: HTTP of both services, Kafka as another producer sees it, and an operator's command line.

use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use http::Method;
use serde_json::Value;
use shared::config::KafkaConfig;
use shared::testing::{Answer, HttpClient, RawProducer, RawRecord, eventually, read_all};
use stack::Service;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Embedded mode lets in two batches at once: the cases take turns.
static BATCHES: Semaphore = Semaphore::const_new(2);

/// Where a running pipeline can be reached. Each call goes to the next replica.
pub struct Doors {
    /// The status of a purchase whose sender does not wait: 201 where every 2xx waits for the database, else 202.
    pub accepted: u16,
    /// Kafka and its topics.
    pub kafka: KafkaConfig,
    web: Vec<String>,
    management: Vec<String>,
    /// A management-api with the pipeline's settings that never runs but as an operator's command.
    operator: Service,
    http: HttpClient,
    turn: AtomicUsize,
}

impl Doors {
    pub fn new(accepted: u16, kafka: KafkaConfig, replicas: (Vec<String>, Vec<String>), operator: Service) -> Self {
        let (web, management) = replicas;
        Self { accepted, kafka, web, management, operator, http: HttpClient::default(), turn: AtomicUsize::new(0) }
    }

    /// A URL of web-server.
    pub fn web(&self, path: &str) -> String {
        format!("{}{path}", self.next(&self.web))
    }

    /// A URL of management-api.
    pub fn management(&self, path: &str) -> String {
        format!("{}{path}", self.next(&self.management))
    }

    fn next<'a>(&self, replicas: &'a [String]) -> &'a str {
        &replicas[self.turn.fetch_add(1, Ordering::Relaxed) % replicas.len()]
    }

    /// `GET` from web-server.
    pub async fn get(&self, path: &str) -> Answer {
        self.http.get(&self.web(path)).await
    }

    /// `GET` from management-api.
    pub async fn get_management(&self, path: &str) -> Answer {
        self.http.get(&self.management(path)).await
    }

    /// Any request to any URL.
    pub async fn request(&self, method: Method, url: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        self.http.request(method, url, headers, body).await
    }

    /// `POST` of JSON to web-server, with further headers.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let _turn = if path == "/buy/batch" { Some(BATCHES.acquire().await.expect("never closed")) } else { None };
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.request(Method::POST, &self.web(path), &all, body).await
    }

    /// Buys and expects a 2xx: the answer's body.
    pub async fn buy(&self, userid: &str, price: &str) -> Value {
        let answer = self.post("/buy", &[], order("Zoë", userid, price)).await;
        assert_eq!(answer.status.as_u16(), self.accepted, "{}", answer.text());
        answer.json()
    }

    /// What `/getAllUserBuys` says of a user once it counts so many purchases.
    pub async fn purchases_of(&self, userid: &str, count: u64) -> Answer {
        let path = format!("/getAllUserBuys/{}", escape(userid));
        eventually(&format!("{userid} has {count} purchases"), async || {
            let answer = self.get(&path).await;
            (answer.status == 200 && answer.json()["count"] == count).then_some(answer)
        })
        .await
    }

    /// A producer of raw records.
    pub fn producer(&self) -> RawProducer {
        RawProducer::new(&self.kafka)
    }

    /// Runs `management-api dead-letters …` to its end.
    pub fn dead_letters(&self, arguments: &[&str]) -> Output {
        let arguments: Vec<&str> = ["dead-letters"].iter().chain(arguments).copied().collect();
        self.operator.run_command(&arguments).expect("management-api can be started")
    }

    /// What `management-api dead-letters list` prints, line by line.
    pub fn list_dead_letters(&self) -> Vec<Value> {
        let output = self.dead_letters(&["list"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// The records of the dead-letter topic, byte for byte, once there are at least `count`.
    pub async fn dead_records(&self, count: usize) -> Vec<RawRecord> {
        eventually(&format!("{count} dead letters"), async || {
            let records = read_all(&self.kafka, &self.kafka.dead_letter_topic).await;
            (records.len() >= count).then_some(records)
        })
        .await
    }
}

/// The body of a purchase; `price` is JSON as it stands.
pub fn order(username: &str, userid: &str, price: &str) -> String {
    let [username, userid] = [username, userid].map(Value::from);
    format!(r#"{{"username":{username},"userid":{userid},"price":{price}}}"#)
}

/// A userid that nobody else has.
pub fn somebody(name: &str) -> String {
    format!("{name} {}", Uuid::new_v4().simple())
}

/// A text as one part of a path.
pub fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
