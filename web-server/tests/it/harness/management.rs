//! A management-api that answers as the test says and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use shared::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What is answered, and after how long.
#[derive(Clone, Debug)]
pub struct FakeAnswer {
    pub status: u16,
    pub body: String,
    pub delay: Duration,
}

impl FakeAnswer {
    pub fn ok(body: impl Into<String>) -> Self {
        Self::status(200, body)
    }

    pub fn status(status: u16, body: impl Into<String>) -> Self {
        Self { status, body: body.into(), delay: Duration::ZERO }
    }

    pub fn never() -> Self {
        Self { delay: Duration::from_hours(1), ..Self::ok("{}") }
    }
}

type Script = Box<dyn Fn(&Seen) -> FakeAnswer + Send>;

/// The fake.
pub struct FakeManagement {
    pub address: SocketAddr,
    state: Arc<Mutex<FakeState>>,
    ending: Shutdown,
    running: JoinHandle<std::io::Result<()>>,
}

struct FakeState {
    script: Script,
    seen: Vec<Seen>,
}

impl FakeManagement {
    /// Starts one that has nothing.
    pub async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Starts one at a place that others know already.
    pub fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let script: Script = Box::new(|_| FakeAnswer::status(404, r#"{"detail":"no such purchase"}"#));
        let state = Arc::new(Mutex::new(FakeState { script, seen: Vec::new() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let ending = Shutdown::new();
        let ended = ending.clone();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async move { ended.stopped().await });
        Self { address, state, ending, running: tokio::spawn(serving.into_future()) }
    }

    /// Ends it in order: what it was asked is answered, and nobody is there any more.
    pub async fn end(self) {
        self.ending.stop();
        self.running.await.unwrap().unwrap();
    }

    /// Answers every request by `script` from now on.
    pub fn answers(&self, script: impl Fn(&Seen) -> FakeAnswer + Send + 'static) {
        self.state.lock().unwrap().script = Box::new(script);
    }

    /// How many reads of callers it was asked so far; probes have a limit of their own.
    pub fn reads(&self) -> usize {
        self.state.lock().unwrap().seen.iter().filter(|seen| seen.target != "/purchases?limit=1").count()
    }

    /// What was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }
}

async fn answer(State(state): State<Arc<Mutex<FakeState>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let seen = Seen {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let answer = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen.clone());
        (state.script)(&seen)
    };
    tokio::time::sleep(answer.delay).await;
    (StatusCode::from_u16(answer.status).unwrap(), Body::from(answer.body)).into_response()
}
