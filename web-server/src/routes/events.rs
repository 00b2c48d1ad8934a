//! Live events, as server-sent events (WHATWG HTML): what is recorded, told as it comes.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use rand::RngExt;
use shared::api_keys::{RequestClass, Scope};
use shared::commits::CommitPosition;
use shared::event::{FieldError, Purchase, check_name};
use shared::http::{Endless, Name, Problem, RequestContext};
use tokio::time::{Interval, MissedTickBehavior};
use utoipa::IntoParams;
use uuid::Uuid;

use super::limited::caller_of;
use super::purchases::{ReadProblems, no_such_purchase};
use crate::access::Asker;
use crate::events::{CannotListen, Event, Subscription};
use crate::management_client::Route;
use crate::metrics::{Refusal, StreamEnd};
use crate::state::{AppState, Identified};

/// How often something is said, so that nobody between takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often it is looked whether the caller may still listen: what is revoked counts no more within five seconds.
const ACCESS_INTERVAL: Duration = Duration::from_secs(3);
/// Callers whose streams end at once come back within so many milliseconds, each at a moment of its own.
const RETRY_MS: std::ops::Range<u32> = 500..5_500;
/// How long it may take to find out whether a purchase is recorded already.
const FIND_TIMEOUT: Duration = Duration::from_secs(2);

/// From where on.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct LastEventId {
    /// The last `id` that was received: what came after it is told first.
    #[param(rename = "Last-Event-ID", nullable = false)]
    last_event_id: Option<String>,
}

/// A stream of events under way.
struct Events {
    app: AppState,
    subscription: Subscription,
    listener: Listener,
    heartbeat: Interval,
    access: Option<Access>,
    /// What is said before anything else.
    first: String,
    /// Why it ends, once that is known.
    end: Option<StreamEnd>,
}

/// What is listened for.
enum Listener {
    /// One purchase, if it is of whom this one may act for; the stream is over with it.
    Purchase(Asker),
    /// A user's purchases.
    User,
}

/// Whether the caller may still listen.
struct Access {
    credentials: HeaderMap,
    userid: Option<String>,
    looks: Interval,
}

/// A purchase, as soon as it is recorded: one event `recorded` with the purchase, then the stream ends.
#[utoipa::path(
    get, path = "/purchases/{purchase_id}/events", tag = "reading",
    security((), ("access_token" = []), ("api_key" = [])),
    params(("purchase_id" = Uuid, Path)),
    responses(
        (status = 200, description = "Server-sent events", content_type = "text/event-stream", body = String),
        ReadProblems,
        (status = 404, description = "No UUID"),
    )
)]
pub async fn purchase_events(
    State(app): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let purchase_id = path.ok().and_then(|Path(text)| Uuid::try_parse(&text).ok());
    let asker = app.asker_for(RequestClass::Read, &parts.extensions)?;
    let Some(purchase_id) = purchase_id else { return Err(no_such_purchase()) };
    // First listened, then looked: what is recorded between is not missed.
    let subscription = app
        .events
        .of_purchase(caller_of(&app, &parts), purchase_id)
        .await
        .map_err(|error| cannot_listen(&app, error))?;
    let context = RequestContext::of(&parts.extensions, &parts.headers);
    let found = app.read(Route::Purchase, format!("/purchases/{purchase_id}"), FIND_TIMEOUT, &context).await;
    let recorded = match found {
        Ok(json) => serde_json::from_slice::<Purchase>(&json).ok().filter(|found| asker.may_act_for(&found.userid)),
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => None,
        Err(problem) => return Err(problem),
    };
    let access = Access::of(&parts, None, &asker);
    let mut events = Events::new(app, subscription, Listener::Purchase(asker), access);
    if let Some(purchase) = recorded {
        let told = events.recorded(&purchase, None);
        events.first.push_str(&told);
    }
    Ok(events.into_response())
}

/// A user's purchases from now on, or from `Last-Event-ID` on: one event `recorded` with each. `reset` says that something may have
/// been missed: read anew.
#[utoipa::path(
    get, path = "/users/{userid}/events", tag = "reading", security((), ("access_token" = []), ("api_key" = [])),
    params(("userid" = inline(Name), Path), LastEventId),
    responses(
        (status = 200, description = "Server-sent events", content_type = "text/event-stream", body = String),
        ReadProblems,
    )
)]
pub async fn user_events(
    State(app): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let userid = path.map_err(|_| "must be UTF-8").and_then(|Path(userid)| check_name(&userid).map(|()| userid));
    let userid = userid.map_err(|message| Problem::invalid(vec![FieldError::new("userid", message)]))?;
    let asker = app.asker_for(RequestClass::Read, &parts.extensions)?;
    asker.require(&userid)?;
    let last_id = parts.headers.get("last-event-id").filter(|id| !id.is_empty());
    let after: Option<Result<CommitPosition, _>> = last_id.map(|id| id.to_str().unwrap_or_default().parse());
    let is_unknown = matches!(after, Some(Err(_)));
    let subscription = app.events.of_user(caller_of(&app, &parts), &userid, after.and_then(Result::ok)).await;
    let subscription = subscription.map_err(|error| cannot_listen(&app, error))?;
    let access = Access::of(&parts, Some(userid), &asker);
    let mut events = Events::new(app, subscription, Listener::User, access);
    if is_unknown {
        // The position of now comes next.
        events.app.metrics.events.resets.increment(1);
        events.first.push_str("event: reset\ndata: {}\n\n");
    }
    Ok(events.into_response())
}

fn cannot_listen(app: &AppState, error: CannotListen) -> Problem {
    match error {
        CannotListen::Crowded => app.refuse(Refusal::InFlight),
        CannotListen::Unknown => Problem::unavailable("no management-api replica says what is recorded: try again", 1),
    }
}

impl Events {
    fn new(app: AppState, subscription: Subscription, listener: Listener, access: Option<Access>) -> Self {
        let first = format!("retry: {}\n\n", rand::rng().random_range(RETRY_MS));
        Self { app, subscription, listener, heartbeat: every(HEARTBEAT), access, first, end: None }
    }

    fn into_response(self) -> Response {
        let parts = stream::unfold(self, |mut events| async move {
            let text = events.next().await?;
            Some((Ok::<_, Infallible>(Bytes::from(text)), events))
        });
        let headers = [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-store, no-transform"),
            // nginx would keep events back until it has a buffer full of them.
            (header::HeaderName::from_static("x-accel-buffering"), "no"),
        ];
        (Extension(Endless), headers, Body::from_stream(parts)).into_response()
    }

    /// What is said next; nothing when the stream is over.
    async fn next(&mut self) -> Option<String> {
        if !self.first.is_empty() {
            return Some(std::mem::take(&mut self.first));
        }
        while self.end.is_none() {
            tokio::select! {
                biased;
                () = self.app.shutdown.draining() => {
                    self.end = Some(StreamEnd::Draining);
                    return Some(format!("retry: {}\n\n", rand::rng().random_range(RETRY_MS)));
                }
                () = Access::due(self.access.as_mut()) => {
                    if !self.may_listen().await {
                        self.end = Some(StreamEnd::Access);
                    }
                }
                event = self.subscription.next() => match event {
                    Some(event) => if let Some(text) = self.told(event) { return Some(text) },
                    None => self.end = Some(StreamEnd::Slow),
                },
                _ = self.heartbeat.tick() => return Some(":\n\n".to_owned()),
            }
        }
        None
    }

    /// Whether the caller may still listen.
    async fn may_listen(&self) -> bool {
        let Some(Access { credentials, userid, .. }) = &self.access else { return true };
        let Some(Identified(Ok(asker))) = self.app.identify(credentials, &|| true).await else { return false };
        let is_own = userid.as_ref().is_none_or(|userid| asker.may_act_for(userid));
        is_own && asker.require_scope(Scope::Read).is_ok()
    }

    fn told(&mut self, event: Event) -> Option<String> {
        match (event, &self.listener) {
            (Event::Recorded(purchase, position), Listener::User) => Some(self.recorded(&purchase, Some(&position))),
            (Event::Recorded(purchase, _), Listener::Purchase(asker)) => {
                // Of another's purchase no more is told than of one that is not there.
                asker.may_act_for(&purchase.userid).then(|| self.recorded(&purchase, None))
            }
            (Event::Reached(position), Listener::User) => Some(format!("id: {position}\n\n")),
            (Event::Reset(position), Listener::User) => {
                self.app.metrics.events.resets.increment(1);
                Some(format!("event: reset\nid: {position}\ndata: {{}}\n\n"))
            }
            (Event::Reached(_) | Event::Reset(_), Listener::Purchase(_)) => None,
        }
    }

    fn recorded(&mut self, purchase: &Purchase, position: Option<&CommitPosition>) -> String {
        self.app.metrics.events.sent.increment(1);
        if position.is_none() {
            self.end = Some(StreamEnd::Complete);
        }
        let id = position.map_or_else(String::new, |position| format!("id: {position}\n"));
        // On one line: JSON escapes what would end it.
        let json = serde_json::to_string(purchase).unwrap_or_default();
        format!("event: recorded\n{id}data: {json}\n\n")
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Who reads nothing is never told that it was let go of.
        let unsaid = if self.subscription.is_over() { StreamEnd::Slow } else { StreamEnd::Left };
        self.app.metrics.events.ended.of(self.end.unwrap_or(unsaid)).increment(1);
    }
}

impl Access {
    /// Nothing where nobody is asked who it is.
    fn of(parts: &Parts, userid: Option<String>, asker: &Asker) -> Option<Self> {
        if matches!(asker, Asker::Anybody) {
            return None;
        }
        let shown = [header::AUTHORIZATION, header::HeaderName::from_static("x-api-key")];
        let shown = shown.into_iter().filter_map(|name| Some((name.clone(), parts.headers.get(&name)?.clone())));
        Some(Self { credentials: shown.collect(), userid, looks: every(ACCESS_INTERVAL) })
    }

    /// Comes back when it is to be looked again; never where nobody is asked who it is.
    async fn due(access: Option<&mut Self>) {
        match access {
            Some(access) => drop(access.looks.tick().await),
            None => std::future::pending().await,
        }
    }
}

fn every(time: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + time, time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
