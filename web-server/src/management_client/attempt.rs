//! One request to one replica.

use std::fmt;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use shared::http::{ByteBudget, NotCollected, RequestContext, TIMEOUT_MS, collect};

use super::answer::Answer;
use super::calls::{CallKind, Verdict};
use super::connector::Connector;
use super::hedging::Route;
use super::replica::Replica;
use crate::metrics::ManagementOutcome;

/// The largest answer that is read: a thousand purchases with the longest names have room.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// So much longer than we wait may a replica work on: else it would say in our place that the time is over.
const TIMEOUT_MARGIN: Duration = Duration::from_millis(25);

/// The pooled connections to all replicas.
pub type Connections = Client<Connector, Full<Bytes>>;

/// What a call asks of management-api.
pub struct Call<'a> {
    /// What it is for.
    pub kind: CallKind,
    /// The route by whose times it is hedged; none if it is not.
    pub route: Option<Route>,
    /// GET or POST.
    pub method: Method,
    /// Path and query, escaped.
    pub target: String,
    /// JSON to send, if any.
    pub body: Bytes,
    /// Seconds to wait, passed on as `Prefer`.
    pub wait: Option<Duration>,
    /// The request that this call serves.
    pub context: &'a RequestContext,
}

/// Why an attempt has no answer. Its text goes to callers: no host, no internals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer in so long a time.
    Timeout(Duration),
    /// No connection.
    Unreachable,
    /// The connection broke, or the answer is larger than it may be.
    Broken,
    /// An answer for which there is no room among what callers make us hold.
    NoRoom,
    /// A status that settles nothing.
    Status(StatusCode),
}

impl Failure {
    /// The failure as a metric's label.
    pub fn outcome(self) -> ManagementOutcome {
        match self {
            Self::Timeout(_) => ManagementOutcome::Timeout,
            Self::Unreachable => ManagementOutcome::Unavailable,
            Self::Broken | Self::NoRoom | Self::Status(_) => ManagementOutcome::Error,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(time) => write!(f, "no answer in {} ms", time.as_millis()),
            Self::Unreachable => f.write_str("not reachable"),
            Self::Broken => f.write_str("the answer broke off"),
            Self::NoRoom => f.write_str("no room for the answer"),
            Self::Status(status) => write!(f, "answered with status {}", status.as_u16()),
        }
    }
}

/// What every attempt goes by.
pub struct Way {
    /// The pooled connections.
    pub connections: Connections,
    /// What callers may make the service hold.
    pub budget: ByteBudget,
    /// What the service's own questions may.
    pub own_budget: ByteBudget,
    /// The bearer token, if the replicas want one.
    pub token: Option<HeaderValue>,
}

/// Asks one replica, until `deadline`.
pub async fn attempt(way: &Way, replica: &Replica, call: &Call<'_>, deadline: Instant) -> Result<Answer, Failure> {
    let time = deadline.saturating_duration_since(Instant::now());
    let request = call.request(replica, way.token.as_ref(), time).map_err(|_| Failure::Broken)?;
    tokio::time::timeout(time, exchange(way, request, call.kind)).await.unwrap_or(Err(Failure::Timeout(time)))
}

async fn exchange(way: &Way, request: Request<Full<Bytes>>, kind: CallKind) -> Result<Answer, Failure> {
    let response = way
        .connections
        .request(request)
        .await
        .map_err(|error| if error.is_connect() { Failure::Unreachable } else { Failure::Broken })?;
    let status = response.status();
    if kind.judge(status) != Verdict::Settled {
        return Err(Failure::Status(status));
    }
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    // Counted as it comes: it is held for a caller, who may be slow to take it.
    let is_own = matches!(kind, CallKind::Own | CallKind::KeyCheck | CallKind::Stream);
    let budget = if is_own { &way.own_budget } else { &way.budget };
    let body = collect(response.into_body(), ANSWER_BYTES_MAX, 1, budget).await.map_err(|error| match error {
        NotCollected::NoRoom => Failure::NoRoom,
        NotCollected::TooLarge | NotCollected::Broken => Failure::Broken,
    })?;
    Ok(Answer { status, retry_after_seconds: retry_after, body })
}

impl<'a> Call<'a> {
    /// Asks for `target`.
    pub fn get(target: String, context: &'a RequestContext) -> Self {
        Self { kind: CallKind::Read, route: None, method: Method::GET, target, body: Bytes::new(), wait: None, context }
    }

    /// Sends `body` to `target`.
    pub fn post(target: String, body: Bytes, context: &'a RequestContext) -> Self {
        Self { kind: CallKind::Command, method: Method::POST, body, ..Self::get(target, context) }
    }

    fn request(
        &self,
        replica: &Replica,
        token: Option<&HeaderValue>,
        time: Duration,
    ) -> http::Result<Request<Full<Bytes>>> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(replica.address.to_string())
            .path_and_query(format!("{}{}", replica.base, self.target))
            .build()?;
        let mut request = Request::builder()
            .method(&self.method)
            .uri(uri)
            .header(HOST, &replica.authority)
            .header(ACCEPT, "application/json")
            .header("x-request-id", &self.context.request_id)
            .header("traceparent", self.context.trace.to_string())
            .header(TIMEOUT_MS, (time + TIMEOUT_MARGIN).as_millis().to_string());
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        if let Some(wait) = self.wait {
            request = request.header("prefer", format!("wait={}", wait.as_secs()));
        }
        if !self.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(self.body.clone()))
    }
}
