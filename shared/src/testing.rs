//! What tests of several crates need: waiting for a condition, a small HTTP client, raw records.

mod events;
mod kafka;
mod receiver;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

pub use self::events::{EventStream, ServerEvent};
pub use self::kafka::{
    ForeignMember, RawProducer, RawRecord, TransactionalProducer, committed_offset, kafka_config, read_all,
};
pub use self::receiver::{CallbackAnswer, CallbackReceiver, ReceivedCallback};

/// How long a condition may take to come true.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `probe` gives something, asking every few milliseconds.
///
/// # Panics
/// When [`DEADLINE`] has passed.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Makes what services log a part of the output of a test that fails.
pub fn show_logs() {
    let logs = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::INFO);
    // The first test of a process does it for all.
    let _ = logs.try_init();
}

/// The most memory that a process has had, in bytes; nothing of one that has ended.
#[must_use]
pub fn peak_rss_bytes(pid: u32) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))?;
    peak.parse().ok().map(|kib: usize| kib * 1024)
}

/// An HTTP client for one test.
#[derive(Clone)]
pub struct HttpClient(Client<HttpConnector, Body>);

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }
}

impl HttpClient {
    /// `GET url`.
    pub async fn get(&self, url: &str) -> Answer {
        self.send(Request::get(url).body(Body::empty())).await
    }

    /// `POST url` with a JSON body.
    pub async fn post_json(&self, url: &str, body: impl Into<Body>) -> Answer {
        self.send(Request::post(url).header("content-type", "application/json").body(body.into())).await
    }

    /// Any method with headers.
    pub async fn request(&self, method: Method, url: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(url);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.send(request.body(body.into())).await
    }

    /// # Panics
    /// When there is no whole answer.
    async fn send(&self, request: http::Result<Request<Body>>) -> Answer {
        let response = self.0.request(request.expect("a well-formed request")).await.expect("an answer");
        let (parts, body) = response.into_parts();
        // Events go on for ever.
        let is_endless = parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        let body = if is_endless { Bytes::new() } else { body.collect().await.expect("a whole body").to_bytes() };
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's text; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The value of a metric's line that begins with `series`.
    #[must_use]
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.text();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }
}

/// Holds a page of metrics against `expected`: every line but values, sorted; numbers of partitions and versions stand as `N`.
///
/// # Panics
/// When the page has more or less.
pub fn assert_series(page: &str, expected: &str) {
    let shape = |line: &str| {
        let line = if line.starts_with('#') { line } else { line.rsplit_once(' ').map_or(line, |(series, _)| series) };
        ["partition=\"", "version=\""].iter().fold(line.to_owned(), |line, label| match line.split_once(label) {
            Some((before, rest)) => format!("{before}{label}N{}", &rest[rest.find('"').unwrap_or(0)..]),
            None => line,
        })
    };
    let found: BTreeSet<_> = page.lines().filter(|line| !line.is_empty()).map(shape).collect();
    let expected: BTreeSet<_> = expected.lines().map(str::to_owned).collect();
    let (missing, new): (Vec<_>, Vec<_>) =
        (expected.difference(&found).collect(), found.difference(&expected).collect());
    assert!(
        missing.is_empty() && new.is_empty(),
        "the series have changed: rules, dashboards and autoscalers ask for them by name.\nmissing: {missing:#?}\nnew: {new:#?}"
    );
}
