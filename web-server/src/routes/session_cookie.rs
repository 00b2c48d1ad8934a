//! The refresh token of the web page, in a cookie that no script can read (OWASP ASVS 5, 3.3). API clients keep theirs themselves and are
//! told as ever: the page asks for a cookie when it signs in, and then sends no body.

use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri, header};
use serde_json::{Map, Value, json};
use shared::http::{Problem, RequestContext, kinds};

use super::accounts::json;
use crate::state::App;

/// By which the page asks for the cookie.
const ASKING: (&str, &str) = ("x-session", "cookie");
const FIELD: &str = "refresh_token";
/// What browsers take for a cookie of this host alone, set over HTTPS (RFC 6265bis, 4.1.3.2). It must be for every path.
const SECURE_NAME: &str = "__Host-refresh_token";
/// The same where there is no HTTPS, on one's own machine. It goes to every port of the host, and ends with the browser.
const PLAIN_NAME: &str = "refresh_token";
/// As long as a session lasts that nobody uses.
const MAX_AGE_SECONDS: u32 = 30 * 24 * 60 * 60;

/// The cookie of one request, which has come from a page of this server.
pub(super) struct SessionCookie {
    is_secure: bool,
}

impl SessionCookie {
    /// That of a login, if it asks for one.
    ///
    /// # Errors
    /// 403 for another site's page.
    pub(super) fn asked_for(app: &App, head: &Parts) -> Result<Option<Self>, Problem> {
        let is_asked = head.headers.get(ASKING.0).is_some_and(|value| value.as_bytes() == ASKING.1.as_bytes());
        is_asked.then(|| Self::of(app, head)).transpose()
    }

    /// That of a request which goes on with a session or ends it, if it has no body.
    ///
    /// # Errors
    /// 403 for another site's page.
    pub(super) fn instead_of_body(app: &App, head: &Parts, body: &Body) -> Result<Option<Self>, Problem> {
        let has_none = body.is_end_stream() && !head.headers.contains_key(header::CONTENT_TYPE);
        has_none.then(|| Self::of(app, head)).transpose()
    }

    fn of(app: &App, head: &Parts) -> Result<Self, Problem> {
        let caller = RequestContext::of(&head.extensions, &head.headers).caller;
        let is_secure = app.config.tls.is_some() || app.limits.came_by_https(caller, &head.headers);
        if is_from_own_page(&head.headers, is_secure) {
            Ok(Self { is_secure })
        } else {
            Err(Problem::new(kinds::FORBIDDEN, "a session in a cookie is for pages of this server"))
        }
    }

    /// The body that a client would have sent; nothing without a cookie.
    pub(super) fn body(&self, headers: &HeaderMap) -> Option<Bytes> {
        let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, token) = pairs.find(|(name, value)| *name == self.name() && !value.is_empty())?;
        Some(json!({ FIELD: token }).to_string().into())
    }

    /// The tokens' answer, with the refresh token in the cookie and not in the body.
    ///
    /// # Errors
    /// 500 when there is none in it.
    pub(super) fn keep(&self, tokens: &[u8]) -> Result<Response, Problem> {
        let mut tokens: Map<String, Value> = serde_json::from_slice(tokens).unwrap_or_default();
        let Some(Value::String(token)) = tokens.remove(FIELD) else {
            tracing::error!("management-api's tokens are not understood");
            return Err(Problem::new(kinds::INTERNAL, "an internal error"));
        };
        let body = Value::Object(tokens).to_string();
        Ok(self.set(json(body.into()), &token, self.is_secure.then_some(MAX_AGE_SECONDS)))
    }

    /// An answer by which the browser forgets the cookie.
    pub(super) fn forget(&self, answer: impl IntoResponse) -> Response {
        self.set(answer.into_response(), "", Some(0))
    }

    fn set(&self, mut answer: Response, token: &str, max_age: Option<u32>) -> Response {
        let (name, secure) = (self.name(), if self.is_secure { "; Secure" } else { "" });
        let age = max_age.map_or_else(String::new, |seconds| format!("; Max-Age={seconds}"));
        let cookie = format!("{name}={token}{age}; Path=/; HttpOnly; SameSite=Strict{secure}");
        if let Ok(mut cookie) = HeaderValue::try_from(cookie) {
            cookie.set_sensitive(true);
            answer.headers_mut().append(header::SET_COOKIE, cookie);
        }
        answer
    }

    fn name(&self) -> &'static str {
        if self.is_secure { SECURE_NAME } else { PLAIN_NAME }
    }
}

/// Whether a browser says that a page of this very server asks: browsers let no page write these headers. Where the server is called by
/// HTTPS, its own pages are.
fn is_from_own_page(headers: &HeaderMap, is_secure: bool) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let origin: Option<Uri> = text(header::ORIGIN).and_then(|origin| origin.parse().ok());
    let (Some(origin), Some(host)) = (origin, text(header::HOST)) else { return false };
    let is_own = origin.authority().is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(host));
    let schemes: &[&str] = if is_secure { &["https"] } else { &["http", "https"] };
    let is_scheme = origin.scheme_str().is_some_and(|scheme| schemes.contains(&scheme));
    let site = text(header::HeaderName::from_static("sec-fetch-site"));
    is_own && is_scheme && site.is_none_or(|site| site == "same-origin")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_own(is_secure: bool, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)));
        is_from_own_page(&headers.collect(), is_secure)
    }

    #[test]
    fn only_a_page_of_this_server_has_its_origin() {
        let host = ("host", "shop.example:8080");
        let from = |origin| is_own(false, &[host, ("origin", origin)]);
        assert!(from("http://shop.example:8080") && from("https://SHOP.example:8080"));
        for other in [
            "http://shop.example",
            "http://evil.example:8080",
            "http://shop.example:8080.evil.example",
            "null",
            "",
            "file://",
        ] {
            assert!(!from(other), "{other}");
        }
        assert!(!is_own(false, &[host]), "a form of old, or no browser");
        assert!(
            !is_own(true, &[host, ("origin", "http://shop.example:8080")]),
            "whoever is between may have written it"
        );
        for (site, expected) in [("same-origin", true), ("same-site", false), ("cross-site", false), ("none", false)] {
            let headers = [host, ("origin", "http://shop.example:8080"), ("sec-fetch-site", site)];
            assert_eq!(is_own(false, &headers), expected, "{site}");
        }
    }
}
