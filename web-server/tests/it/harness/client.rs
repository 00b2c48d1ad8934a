//! A plain HTTP client.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::DEADLINE;
use super::documented::assert_documented;

/// Talks to one server.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    connections: legacy::Client<HttpConnector, Full<Bytes>>,
}

/// A request in the making.
pub struct Request<'a> {
    client: &'a Client,
    builder: http::request::Builder,
    body: Bytes,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, connections: legacy::Client::builder(TokioExecutor::new()).build_http() }
    }

    pub fn request(&self, method: &str, path: &str) -> Request<'_> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let builder = http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        Request { client: self, builder, body: Bytes::new() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send().await
    }

    /// Posts JSON.
    pub fn post(&self, path: &str, body: impl Into<Bytes>) -> Request<'_> {
        let request = self.request("POST", path).header("content-type", "application/json");
        Request { body: body.into(), ..request }
    }

    /// Buys what the guide's load test buys.
    pub async fn buy(&self) -> Answer {
        self.post("/buy", r#"{"username":"test","userid":"loadtest","price":10}"#).send().await
    }

    /// The value of one line of `/metrics`, for example `up{a="b"}`.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.get("/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// Writes bytes and reads until the server closes the connection.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(DEADLINE, read).await.expect("the server closes the connection").unwrap();
        String::from_utf8(answer).unwrap()
    }
}

impl Request<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    pub async fn send(self) -> Answer {
        let (method, uri) = (self.builder.method_ref().cloned(), self.builder.uri_ref().cloned());
        let answer = self.send_undocumented().await;
        let (method, uri) = (method.unwrap_or_default(), uri.unwrap_or_default());
        assert_documented(method.as_str(), uri.path(), answer.status, answer.header("content-type"));
        answer
    }

    /// Sends to a server that may be gone, or never answer.
    pub async fn try_send(self) -> Option<Answer> {
        tokio::time::timeout(DEADLINE, self.exchange()).await.ok()?
    }

    /// Sends what only other services send: it stands in no description for callers.
    pub async fn send_undocumented(self) -> Answer {
        let answer = tokio::time::timeout(DEADLINE, self.exchange()).await.expect("an answer in time");
        answer.expect("a whole answer")
    }

    async fn exchange(self) -> Option<Answer> {
        let request = self.builder.body(Full::new(self.body)).unwrap();
        let (parts, body) = self.client.connections.request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The names in a problem's `errors`, in order; checks the problem's shape on the way.
    pub fn bad_fields(&self) -> Vec<String> {
        let problem = self.problem("invalid-input");
        let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors in {problem}"));
        errors
            .iter()
            .map(|error| {
                assert!(!error["message"].as_str().unwrap().is_empty());
                error["field"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    /// The body of a problem of this kind, its common members checked.
    pub fn problem(&self, kind: &str) -> Value {
        let problem = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["type"], format!("urn:purchase:{kind}"), "{problem}");
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["detail"], problem["error"]);
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        assert!(!problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty());
        assert_eq!([429, 503].contains(&self.status), self.headers.contains_key("retry-after"));
        problem
    }
}
