//! What a browser may do with our answers, after OWASP's cheat sheets for REST and for headers.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue};

/// Of a page of ours: scripts and styles of this server alone, in nobody's frame.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'",
);
/// Of everything else: it is data, and loads nothing.
const DATA_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Adds what the route has not set itself.
pub(super) fn secure(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Who may keep an answer is told by those that may be kept.
    headers.entry(CACHE_CONTROL).or_insert(const { HeaderValue::from_static("no-store") });
    let is_page = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(if is_page { PAGE_POLICY } else { DATA_POLICY });
    if is_page {
        // For browsers that do not know `frame-ancestors`.
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
}
