//! A receiver of callbacks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a receiver was sent.
#[derive(Clone, Debug)]
pub struct ReceivedCallback {
    /// Its stable id.
    pub id: String,
    /// Where it was sent.
    pub path: String,
    /// All of its headers.
    pub headers: HeaderMap,
    /// JSON.
    pub body: Bytes,
}

/// What a receiver answers.
#[derive(Clone, Copy, Debug)]
pub enum CallbackAnswer {
    /// This status, at once.
    Status(u16),
    /// 200, after so long.
    Later(Duration),
    /// Nothing, ever.
    Never,
}

type Script = dyn Fn(&ReceivedCallback) -> CallbackAnswer + Send + Sync;

/// A receiver of callbacks on this machine, over plain HTTP; it ends with its owner.
pub struct CallbackReceiver {
    /// Where it listens.
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<ReceivedCallback>>>,
    serving: JoinHandle<()>,
}

impl CallbackReceiver {
    /// One that answers as `script` says.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(script: impl Fn(&ReceivedCallback) -> CallbackAnswer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        let address = listener.local_addr().expect("it has an address");
        let (received, script): (Arc<Mutex<_>>, Arc<Script>) = (Arc::default(), Arc::new(script));
        let seen = Arc::clone(&received);
        let handler = move |request: Request| receive(request, Arc::clone(&seen), Arc::clone(&script));
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, Router::new().fallback(handler)).await;
        });
        Self { address, received, serving }
    }

    /// Where to call back, at this path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All that it was sent so far.
    #[must_use]
    pub fn received(&self) -> Vec<ReceivedCallback> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often each id came.
    #[must_use]
    pub fn times_by_id(&self) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for callback in self.received.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *times.entry(callback.id.clone()).or_default() += 1;
        }
        times
    }
}

impl ReceivedCallback {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

impl Drop for CallbackReceiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(request: Request, seen: Arc<Mutex<Vec<ReceivedCallback>>>, script: Arc<Script>) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let id = parts.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let callback = ReceivedCallback { id, path: parts.uri.path().to_owned(), headers: parts.headers, body };
    let answer = script(&callback);
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(callback);
    match answer {
        CallbackAnswer::Status(status) => StatusCode::from_u16(status).unwrap_or_default().into_response(),
        CallbackAnswer::Later(time) => {
            tokio::time::sleep(time).await;
            StatusCode::OK.into_response()
        }
        CallbackAnswer::Never => std::future::pending().await,
    }
}
