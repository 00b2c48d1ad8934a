//! Sends one callback, once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use shared::callbacks::CallbackUrl;
use shared::event::Timestamp;
use tokio::time::timeout;
use uuid::Uuid;

use super::connections::{Connection, Connections};
use super::connector::Connector;
use super::{AttemptOutcome, Resolve, SendingConfig, SigningKeys, SystemResolver, Unreachable};

/// Who sends.
const AGENT: &str = concat!("purchase-callbacks/", env!("CARGO_PKG_VERSION"));
/// The most of an answer's body that is read, and for how long, to use its connection again. Nobody looks at what it says.
const BODY_BYTES_MAX: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct CallbackRequest<'a> {
    /// Names it, the same in each attempt: receivers know by it what they have already.
    pub id: Uuid,
    /// Where to.
    pub url: &'a CallbackUrl,
    /// JSON.
    pub body: Bytes,
    /// The trace that it belongs to (W3C Trace Context).
    pub traceparent: Option<&'a str>,
}

/// Sends callbacks. There is one for all, because it keeps connections.
pub struct CallbackClient {
    keys: Arc<SigningKeys>,
    allow_http: bool,
    timeout: Duration,
    connector: Connector,
    connections: Arc<Connections>,
}

impl CallbackClient {
    /// Nothing is open yet.
    #[must_use]
    pub fn new(config: &SendingConfig) -> Self {
        Self::with_resolver(config, Arc::new(SystemResolver::default()))
    }

    /// One that is told addresses by another than the system.
    #[must_use]
    pub fn with_resolver(config: &SendingConfig, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            keys: Arc::clone(&config.keys),
            allow_http: config.allow_http,
            timeout: config.timeout,
            connector: Connector::new(config, resolver),
            connections: Arc::default(),
        }
    }

    /// Sends a callback once, signed as of now, and tells what became of it. A receiver may have it whatever this says, and may be
    /// asked twice where it closed its connection: its id says that it is the same.
    pub async fn send(&self, callback: &CallbackRequest<'_>) -> AttemptOutcome {
        if !self.allow_http && !callback.url.is_encrypted() {
            return AttemptOutcome::Forbidden;
        }
        timeout(self.timeout, self.attempt(callback)).await.unwrap_or(AttemptOutcome::Timeout)
    }

    async fn attempt(&self, callback: &CallbackRequest<'_>) -> AttemptOutcome {
        // What was read as a URL can be written as a request.
        let Some(request) = self.request(callback) else { return AttemptOutcome::Forbidden };
        let origin = callback.url.origin();
        if let Some(connection) = self.connections.take(origin).await {
            match self.exchange(origin, connection, request.clone()).await {
                // The receiver has ended it meanwhile, as it may at any time.
                AttemptOutcome::Unreachable(Unreachable::NoAnswer) => {}
                outcome => return outcome,
            }
        }
        match self.connector.connect(callback.url).await {
            Ok(sender) => self.exchange(origin, Connection::new(sender), request).await,
            Err(outcome) => outcome,
        }
    }

    async fn exchange(
        &self,
        origin: &str,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
    ) -> AttemptOutcome {
        let response = match connection.sender.send_request(request).await {
            Ok(response) => response,
            Err(error) if error.is_parse() => return AttemptOutcome::Unreachable(Unreachable::BadAnswer),
            Err(_) => return AttemptOutcome::Unreachable(Unreachable::NoAnswer),
        };
        let outcome = AttemptOutcome::of_answer(response.status(), response.headers(), SystemTime::now());
        if is_read_to_its_end(response.into_body()).await {
            self.connections.keep(origin, connection);
        }
        outcome
    }

    fn request(&self, callback: &CallbackRequest<'_>) -> Option<Request<Full<Bytes>>> {
        let seconds = Timestamp::now().millis() / 1000;
        let id = callback.id.to_string();
        let signature = self.keys.sign(&id, seconds, &callback.body);
        let mut request = Request::post(callback.url.target())
            .header(HOST, callback.url.host())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT)
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature);
        if let Some(traceparent) = callback.traceparent.and_then(|text| HeaderValue::try_from(text).ok()) {
            request = request.header("traceparent", traceparent);
        }
        request.body(Full::new(callback.body.clone())).ok()
    }
}

async fn is_read_to_its_end(body: Incoming) -> bool {
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return false;
    }
    let read = timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    matches!(read, Ok(Ok(_)))
}
