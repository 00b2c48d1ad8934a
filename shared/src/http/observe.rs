//! The one middleware around every route: request id, metrics, log line, and the rendering of problems.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderValue, Method, StatusCode};

use super::answers::is_admitted;
use super::security_headers::secure;
use super::{ByteBudget, Problem, RequestContext, kinds};
use crate::metrics::HttpMetrics;

/// Counted for a request whose caller hung up before the answer. No standard has it; nginx made the number known.
const HUNG_UP: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::REQUEST_TIMEOUT,
};

/// What the middleware needs.
#[derive(Clone)]
pub struct Observer {
    /// Counts and times.
    pub metrics: Arc<HttpMetrics>,
    /// Room for answers.
    pub budget: ByteBudget,
}

/// Names, counts, times and logs a request; turns a [`Problem`] or a panic into its answer.
pub async fn observe(State(observer): State<Observer>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let context = RequestContext::new(request.extensions(), request.headers());
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    request.extensions_mut().insert(context.clone());

    let _in_flight = observer.metrics.enter();
    let mut answering = Answering {
        metrics: &observer.metrics,
        context: &context,
        method: &method,
        path: path.as_ref(),
        started,
        status: HUNG_UP,
    };
    let mut response = if is_admitted(&request, answering.path()) {
        let outcome = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        outcome.unwrap_or_else(|_| Problem::new(kinds::INTERNAL, "an internal error").into_response())
    } else {
        observer.budget.refuse().into_response()
    };
    response = observer.budget.hold_answer(response, answering.path());
    let problem = response.extensions_mut().remove::<Problem>();
    if let Some(problem) = &problem {
        response = render(problem, &response, context.request_id());
    }
    let headers = response.headers_mut();
    headers.insert("x-request-id", context.request_id.clone());
    secure(headers);

    answering.status = response.status();
    log(&method, answering.path(), &response, &context, problem.as_ref());
    response
}

/// A request under way. It is counted when it ends, also when its caller hangs up and nobody is left to answer.
struct Answering<'a> {
    metrics: &'a HttpMetrics,
    context: &'a RequestContext,
    method: &'a Method,
    path: Option<&'a MatchedPath>,
    started: Instant,
    status: StatusCode,
}

impl Answering<'_> {
    fn path(&self) -> &str {
        self.path.map_or("unmatched", MatchedPath::as_str)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.metrics.observe(self.method, self.path(), self.status, self.started.elapsed());
        if self.status == HUNG_UP {
            let (method, path, request_id) = (self.method, self.path(), self.context.request_id());
            tracing::debug!(%method, path, request_id, caller = self.context.caller.text(), "the caller hung up");
        }
    }
}

/// The problem's answer, keeping headers that the route has set, such as `Allow`.
fn render(problem: &Problem, response: &Response, request_id: &str) -> Response {
    let mut rendered = problem.render(request_id);
    for (name, value) in response.headers() {
        if !rendered.headers().contains_key(name) {
            rendered.headers_mut().insert(name, HeaderValue::clone(value));
        }
    }
    rendered
}

fn log(method: &Method, path: &str, response: &Response, context: &RequestContext, problem: Option<&Problem>) {
    let status = response.status();
    let detail = problem.map_or("", Problem::detail);
    let (request_id, trace_id, caller) = (context.request_id(), context.trace, context.caller);
    // 503 is refusal, not failure: metrics count it, and an outage may bring thousands a second.
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        let (trace_id, caller) = (trace_id.trace_id(), caller.text());
        tracing::warn!(%method, path, status = status.as_u16(), request_id, trace_id, caller, detail, "request failed");
    } else if tracing::enabled!(tracing::Level::DEBUG) {
        let (trace_id, caller) = (trace_id.trace_id(), caller.text());
        tracing::debug!(%method, path, status = status.as_u16(), request_id, trace_id, caller, detail, "request answered");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use axum::{Extension, Router};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::http::Server;
    use crate::http::operations::LIMITS;
    use crate::metrics::{Gauge, Registry};
    use crate::shutdown::Shutdown;

    #[tokio::test]
    async fn a_handler_knows_the_other_end_of_the_connection_whatever_a_request_says() {
        let (times, bounds) = HttpMetrics::buckets("");
        let registry = Registry::new(&[(&times, bounds)]);
        let budget = ByteBudget::unseen(1024 * 1024);
        let metrics = Arc::new(HttpMetrics::register(&registry, "", &[]));
        let observer = Observer { metrics, budget: budget.clone() };
        let tell = async |Extension(context): Extension<RequestContext>| context.caller.text().unwrap_or_default();
        let router = Router::new().route("/", get(tell)).layer(axum::middleware::from_fn_with_state(observer, observe));
        let server = Server { router, limits: LIMITS, budget, connections: Gauge::noop(), certificate: None };
        let (listener, shutdown) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Shutdown::new());
        let mut connection = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let serving = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { server.serve(listener, &shutdown).await }
        });
        let request = b"GET / HTTP/1.1\r\nhost: h\r\nforwarded: for=1.2.3.4\r\nconnection: close\r\n\r\n";
        connection.write_all(request).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(&connection.local_addr().unwrap().to_string()), "{answer}");
        shutdown.stop();
        assert_eq!(serving.await.unwrap(), 0);
    }
}
