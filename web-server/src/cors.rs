//! Which other web sites' pages may call us from a browser (CORS).

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use shared::config::Settings;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser need not ask again.
const MAX_AGE: Duration = Duration::from_mins(10);

/// Whose pages.
#[derive(Clone, Debug)]
pub enum CorsConfig {
    /// Nobody's but our own: no header is sent.
    Off,
    /// Everybody's. Without cookies, which browsers then leave out.
    Any,
    /// These origins', with cookies.
    Origins(Vec<HeaderValue>),
}

impl CorsConfig {
    /// Reads the settings; mistakes are kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let help = "origins whose pages may call us, comma-separated, such as https://shop.example, or *";
        let Some(text) = settings.optional("CORS_ALLOWED_ORIGINS", help) else { return Self::Off };
        if text.trim() == "*" {
            return Self::Any;
        }
        let mut origins = Vec::new();
        for origin in text.split(',').map(str::trim) {
            match parse_origin(origin) {
                Some(origin) => origins.push(origin),
                None => settings.mistake("CORS_ALLOWED_ORIGINS", "must be * or a list of http[s]://host[:port]"),
            }
        }
        Self::Origins(origins)
    }

    /// What answers browsers that ask.
    pub fn layer(&self) -> Option<CorsLayer> {
        let layer = CorsLayer::new()
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
            .allow_headers(ASKED)
            .expose_headers(ANSWERED)
            .max_age(MAX_AGE);
        match self {
            Self::Off => None,
            Self::Any => Some(layer.allow_origin(AllowOrigin::any())),
            Self::Origins(origins) => {
                Some(layer.allow_origin(AllowOrigin::list(origins.iter().cloned())).allow_credentials(true))
            }
        }
    }
}

/// What a page may send.
const ASKED: [HeaderName; 10] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_TYPE,
    header::IF_NONE_MATCH,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("prefer"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-request-id"),
];
/// What a page may read.
const ANSWERED: [HeaderName; 7] = [
    header::ETAG,
    header::LOCATION,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("x-request-id"),
];

/// An origin as browsers send it: no path, no user, no default port spelled out in another way.
fn parse_origin(text: &str) -> Option<HeaderValue> {
    let (scheme, authority) = text.split_once("://")?;
    let plain = authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
    let is_origin = ["http", "https"].contains(&scheme) && !authority.is_empty() && plain;
    is_origin.then(|| text.parse().ok()).flatten()
}
