//! Rate limits around the routes: refused requests, and what callers are told of their quota
//! (draft-ietf-httpapi-ratelimit-headers-11).

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use shared::http::{Caller, Problem, RequestContext, kinds};

use crate::limits::table::Quota;
use crate::limits::{Limits, RouteClass, Verdict};
use crate::metrics::Refusal;
use crate::state::App;

/// The path whose requests bring more than one thing.
const BATCH: &str = "/buy/batch";
/// The paths that callers' rates are for.
const CLASSES: [(&str, RouteClass); 5] = [
    ("/buy", RouteClass::Buy),
    (BATCH, RouteClass::Buy),
    ("/getAllUserBuys/{userid}", RouteClass::Read),
    ("/purchases", RouteClass::Read),
    ("/purchases/{purchase_id}", RouteClass::Read),
];

/// Whose quota a request has been taken from, for who finds out that it costs more.
#[derive(Clone, Copy)]
struct Charged(Quota);

/// Lets a request in if its caller's quota allows it, before anything of its body is read, and tells the caller what is left.
pub(super) async fn limit(State(limits): State<Arc<Limits>>, mut request: Request, next: Next) -> Response {
    let Some(class) = class_of(&request) else { return next.run(request).await };
    let context = request.extensions().get::<RequestContext>();
    let caller = context.map_or_else(Caller::default, |context| context.caller);
    let quota = (limits.caller(caller, request.headers()), class);
    let mut verdict = limits.ask(quota);
    let mut response = if verdict.is_admitted {
        request.extensions_mut().insert(Charged(quota));
        let is_batch = is_batch(&request);
        let response = next.run(request).await;
        if is_batch {
            // What it cost is known by now.
            verdict = limits.look(quota);
        }
        response
    } else {
        limits.refuse(class, verdict).into_response()
    };
    tell(response.headers_mut(), limits.per_second, class, verdict);
    response
}

/// Takes what a batch of so many items costs from its caller's quota. One item was paid for before its body was read.
///
/// # Errors
/// 429 if the caller has debts.
pub(super) fn charge(app: &App, head: &Parts, items: usize) -> Result<(), Problem> {
    let (Some(limits), Some(Charged(quota))) = (&app.limits, head.extensions.get()) else { return Ok(()) };
    let more = u16::try_from(items.saturating_sub(1)).unwrap_or(u16::MAX);
    let verdict = limits.charge(*quota, more);
    if verdict.is_admitted { Ok(()) } else { Err(limits.refuse(quota.1, verdict)) }
}

fn class_of(request: &Request) -> Option<RouteClass> {
    let path = request.extensions().get::<MatchedPath>()?.as_str();
    let (_, class) = CLASSES.into_iter().find(|(known, _)| *known == path)?;
    let is_served = match class {
        RouteClass::Buy => request.method() == Method::POST,
        RouteClass::Read => [Method::GET, Method::HEAD].contains(request.method()),
    };
    is_served.then_some(class)
}

fn is_batch(request: &Request) -> bool {
    request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str() == BATCH)
}

impl Limits {
    /// Counts a refused request and makes its answer.
    fn refuse(&self, class: RouteClass, verdict: Verdict) -> Problem {
        self.count_refusal();
        Problem::new(kinds::TOO_MANY_REQUESTS, Refusal::Rate.advice())
            .with("violated-policies", vec![class.text()])
            .with_retry_after(verdict.wait_seconds)
    }
}

/// What is left, and when there is more: a policy for each class, named like it.
fn tell(headers: &mut HeaderMap, per_second: u32, class: RouteClass, verdict: Verdict) {
    let Verdict { remaining, wait_seconds, .. } = verdict;
    let name = class.text();
    let policy = HeaderValue::try_from(format!("\"{name}\";q={per_second};w=1"));
    let state = HeaderValue::try_from(format!("\"{name}\";r={remaining};t={wait_seconds}"));
    if let (Ok(policy), Ok(state)) = (policy, state) {
        headers.insert("ratelimit-policy", policy);
        headers.insert("ratelimit", state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::routes;

    /// Passwords are hashed few at a time whoever asks, and what needs a token is for who has signed in.
    const OPEN: [&str; 10] = [
        "/openapi.json",
        "/account",
        "/login",
        "/refresh",
        "/accounts_page",
        "/api-keys",
        "/api-keys/{key_id}/rotate",
        "/api-keys/{key_id}",
        "/usage",
        "/backends",
    ];

    #[test]
    fn every_route_has_a_class_or_is_open_to_everybody() {
        for (method, path, _) in routes().series() {
            let is_open = OPEN.contains(&path) || path.starts_with("/docs");
            assert_ne!(
                is_open,
                CLASSES.iter().any(|(known, _)| *known == path),
                "{method} {path}: give it a class here"
            );
        }
    }
}
