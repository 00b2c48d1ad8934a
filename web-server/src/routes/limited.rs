//! Rate limits around the routes: who asks, refused requests, and what callers are told of their quota
//! (draft-ietf-httpapi-ratelimit-headers-11).

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use shared::http::{Caller, Problem, RequestContext, kinds};
use uuid::Uuid;

use crate::access::Asker;
use crate::limits::table::Allowance;
use crate::limits::{CallerKey, Limits, Login, RouteClass, Verdict};
use crate::metrics::Refusal;
use crate::state::{App, AppState, Identified};

/// The path whose requests bring more than one thing.
const BATCH: &str = "/buy/batch";
const READ: &[Method] = &[Method::GET, Method::HEAD];
const POST: &[Method] = &[Method::POST];
const DELETE: &[Method] = &[Method::DELETE];
/// What callers' rates are for. Who looks after keys and accounts has the quota of reads.
const CLASSES: [(&str, &[Method], RouteClass); 24] = [
    ("/buy", POST, RouteClass::Buy),
    (BATCH, POST, RouteClass::Buy),
    ("/getAllUserBuys/{userid}", READ, RouteClass::Read),
    ("/purchases", READ, RouteClass::Read),
    ("/purchases/{purchase_id}", READ, RouteClass::Read),
    ("/purchases/{purchase_id}/events", READ, RouteClass::Read),
    ("/users/{userid}/events", READ, RouteClass::Read),
    ("/usage", READ, RouteClass::Read),
    ("/api-keys", READ, RouteClass::Read),
    ("/api-keys", POST, RouteClass::Read),
    ("/api-keys/{key_id}/rotate", POST, RouteClass::Read),
    ("/api-keys/{key_id}", DELETE, RouteClass::Read),
    ("/account", DELETE, RouteClass::Read),
    ("/accounts_page", READ, RouteClass::Read),
    ("/backends", READ, RouteClass::Read),
    ("/callbacks", READ, RouteClass::Read),
    ("/callbacks/resend", POST, RouteClass::Read),
    ("/callbacks/hosts", READ, RouteClass::Read),
    ("/callbacks/hosts/switch-on", POST, RouteClass::Read),
    ("/account", POST, RouteClass::Login),
    ("/account/password", POST, RouteClass::Login),
    ("/login", POST, RouteClass::Login),
    ("/refresh", POST, RouteClass::Refresh),
    ("/logout", POST, RouteClass::Refresh),
];

/// Whose quota a request has been taken from, for who finds out that it costs more.
#[derive(Clone, Copy)]
struct Charged(Allowance);

/// The address that wants to sign in.
#[derive(Clone, Copy)]
struct SigningIn(CallerKey);

/// Finds out who asks, and lets the request in if its caller's quota allows it, before anything of its body is read; tells the caller
/// what is left. Who asks with credentials that are not good is the address it asks from.
pub(super) async fn limit(State(app): State<AppState>, mut request: Request, next: Next) -> Response {
    let Some(class) = class_of(&request) else { return next.run(request).await };
    let limits = &app.limits;
    let Some(allowance) = allowance(&app, class, &mut request).await else { return next.run(request).await };
    let mut verdict = limits.ask(allowance);
    let mut response = if verdict.is_admitted {
        request.extensions_mut().insert(Charged(allowance));
        let is_batch = is_batch(&request);
        let response = next.run(request).await;
        if is_batch {
            // What it cost is known by now.
            verdict = limits.look(allowance);
        }
        response
    } else {
        limits.refuse(class, verdict).into_response()
    };
    tell(response.headers_mut(), allowance, verdict);
    response
}

/// Takes what a batch of so many items costs from its caller's quota. One item was paid for before its body was read.
///
/// # Errors
/// 429 if the caller has debts.
pub(super) fn charge(app: &App, head: &Parts, items: usize) -> Result<(), Problem> {
    let Some(Charged(allowance)) = head.extensions.get() else { return Ok(()) };
    let more = u16::try_from(items.saturating_sub(1)).unwrap_or(u16::MAX);
    let verdict = app.limits.charge(*allowance, more);
    if verdict.is_admitted { Ok(()) } else { Err(app.limits.refuse(allowance.quota.1, verdict)) }
}

/// Takes a login from the quota of the account it is for, whether or not there is one, unless it was signed in to from there: then
/// the address's own quota is all it needs.
///
/// # Errors
/// 429, whole, if nothing is left: what it says of the quota is about the account's.
pub(super) fn charge_login(app: &App, head: &Parts, body: &[u8]) -> Result<Option<Login>, Box<Response>> {
    let Some(SigningIn(address)) = head.extensions.get() else { return Ok(None) };
    let login = app.limits.logins.login(*address, &email_of(body));
    let Some(allowance) = app.limits.allowance(login.account, RouteClass::Login, None) else { return Ok(None) };
    if !app.limits.logins.is_known(login) {
        charge_signing_in(app, allowance)?;
    }
    Ok(Some(login))
}

/// Takes a look at an account's password from the quota of the account, for who has a token of it: what was stolen opens no way to guess.
///
/// # Errors
/// As above.
pub(super) fn charge_password(app: &App, account_id: Uuid) -> Result<(), Box<Response>> {
    let account = CallerKey::of_account(account_id).signing_in();
    app.limits.allowance(account, RouteClass::Login, None).map_or(Ok(()), |allowance| charge_signing_in(app, allowance))
}

fn charge_signing_in(app: &App, allowance: Allowance) -> Result<(), Box<Response>> {
    let verdict = app.limits.ask(allowance);
    if verdict.is_admitted {
        return Ok(());
    }
    let mut response = app.limits.refuse(RouteClass::Login, verdict).into_response();
    tell(response.headers_mut(), allowance, verdict);
    Err(Box::new(response))
}

/// Who asks, as its quota has it: an account, a key, or else an address.
pub(super) fn caller_of(app: &App, head: &Parts) -> CallerKey {
    let identified = head.extensions.get::<Identified>().and_then(Identified::caller);
    identified.map_or_else(|| address_of(app, &head.extensions, &head.headers), |(caller, _)| caller)
}

fn address_of(app: &App, found: &Extensions, headers: &HeaderMap) -> CallerKey {
    let caller = found.get::<RequestContext>().map_or_else(Caller::default, |context| context.caller);
    app.limits.address(caller, headers)
}

/// Finds out who asks for what, and what it may do; nothing if that is not limited.
async fn allowance(app: &App, class: RouteClass, request: &mut Request) -> Option<Allowance> {
    let address = address_of(app, request.extensions(), request.headers());
    if class.is_signing_in() {
        request.extensions_mut().insert(SigningIn(address));
        return app.limits.allowance(address.signing_in(), class, None);
    }
    // Who makes up keys from an address that has used up its quota has nobody asked about them.
    let may_ask = || {
        let of_address = app.limits.allowance(address, class, None);
        of_address.is_none_or(|allowance| app.limits.look(allowance).remaining > 0)
    };
    let identified = app.identify(request.headers(), &may_ask).await;
    let (caller, own) = identified.as_ref().and_then(Identified::caller).unwrap_or((address, None));
    if let Some(identified) = identified {
        request.extensions_mut().insert(identified);
    }
    app.limits.allowance(caller, class, own)
}

/// The e-mail address of a login. All in which none is found count together: management-api refuses them.
fn email_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Login {
        email: String,
    }
    serde_json::from_slice::<Login>(body).map_or_else(|_| String::new(), |login| login.email)
}

fn class_of(request: &Request) -> Option<RouteClass> {
    let path = request.extensions().get::<MatchedPath>()?.as_str();
    let is_it = |(known, methods, _): &(&str, &[Method], _)| *known == path && methods.contains(request.method());
    CLASSES.into_iter().find(is_it).map(|(_, _, class)| class)
}

fn is_batch(request: &Request) -> bool {
    request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str() == BATCH)
}

impl Identified {
    /// Whose quota its requests are taken from, and its own rate a second if it has one; nothing of who has not said who it is.
    fn caller(&self) -> Option<(CallerKey, Option<u32>)> {
        match self.0.as_ref().ok()? {
            Asker::Anybody => None,
            Asker::Account(claims) => Some((CallerKey::of_account(claims.sub), None)),
            Asker::Key(key) => Some((CallerKey::of_api_key(key.key_id), key.rate_per_second)),
        }
    }
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

/// What is left, and when there is more: a policy for each class, named like it. What was told before stays.
fn tell(headers: &mut HeaderMap, Allowance { quota: (_, class), limit }: Allowance, verdict: Verdict) {
    let Verdict { remaining, wait_seconds, .. } = verdict;
    let (name, window) = (class.text(), class.window_seconds());
    let policy = HeaderValue::try_from(format!("\"{name}\";q={limit};w={window}"));
    let state = HeaderValue::try_from(format!("\"{name}\";r={remaining};t={wait_seconds}"));
    if let (Ok(policy), Ok(state)) = (policy, state) {
        headers.entry("ratelimit-policy").or_insert(policy);
        headers.entry("ratelimit").or_insert(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::routes;

    #[test]
    fn every_route_has_a_class_or_is_open_to_everybody() {
        for (method, path, _) in routes().series() {
            let is_open = ["/", "/openapi.json", "/status"].contains(&path)
                || ["/docs", "/page/", "/.well-known/"].iter().any(|open| path.starts_with(open));
            let is_it = |methods: &[Method]| methods.iter().any(|it| it == method);
            let has_class = CLASSES.iter().any(|(known, methods, _)| *known == path && is_it(methods));
            assert_ne!(is_open, has_class, "{method} {path}: give it a class here");
        }
    }
}
