//! Reads that a caller may have already (RFC 9110, section 13): `ETag`, `If-None-Match`, 304.

use std::hash::{DefaultHasher, Hasher};

use axum::Extension;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use shared::http::Counted;
use utoipa::{IntoParams, IntoResponses};

/// How long a caller's own cache may keep an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As long as it asks each time whether it has changed.
    AndAsk,
    /// For ever: what is recorded never changes.
    Unchanged,
    /// As the first, and whatever stands between may, too: it is the same for everybody.
    Public,
}

/// Asking only for what is new.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct IfNoneMatch {
    /// An `ETag` of an earlier answer: if it is still the same, 304 says so.
    #[param(rename = "If-None-Match", nullable = false)]
    if_none_match: Option<String>,
}

/// What a conditional read can be answered besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub enum NotModified {
    /// The caller has it: `If-None-Match` names its `ETag`.
    #[response(status = 304)]
    NotModified,
}

impl Keep {
    fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::AndAsk => "private, no-cache",
            Self::Unchanged => "private, max-age=31536000, immutable",
            Self::Public => "no-cache",
        })
    }
}

/// management-api's JSON, whose bytes were counted as they came from there, or 304 for who has it.
pub fn answer(asked: &HeaderMap, body: Bytes, keep: Keep) -> Response {
    let tag = entity_tag(&body);
    let content_type = HeaderValue::from_static("application/json");
    answer_as(asked, tag, keep, ([(header::CONTENT_TYPE, content_type)], Extension(Counted), body))
}

/// A file that comes with the program, or 304 for who has it.
pub fn answer_file(asked: &HeaderMap, content_type: &'static str, bytes: &'static [u8]) -> Response {
    let content_type = HeaderValue::from_static(content_type);
    answer_as(
        asked,
        entity_tag(bytes),
        Keep::Public,
        ([(header::CONTENT_TYPE, content_type)], Bytes::from_static(bytes)),
    )
}

fn answer_as(asked: &HeaderMap, tag: String, keep: Keep, whole: impl IntoResponse) -> Response {
    let has_it = asked.get_all(header::IF_NONE_MATCH).iter().any(|value| names(value, &tag));
    let mut response = if has_it { StatusCode::NOT_MODIFIED.into_response() } else { whole.into_response() };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, keep.header());
    headers.extend(HeaderValue::try_from(tag).map(|tag| (header::ETAG, tag)));
    response
}

/// The same bytes have the same tag, at every replica.
fn entity_tag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("\"{:016x}-{:x}\"", hasher.finish(), body.len())
}

/// Whether a list of tags has this one, or is `*`. Weak tags count as well.
fn names(list: &HeaderValue, tag: &str) -> bool {
    let Ok(list) = list.to_str() else { return false };
    list.split(',').map(str::trim).any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(if_none_match: &str, body: &'static str) -> u16 {
        let asked = HeaderMap::from_iter([(header::IF_NONE_MATCH, if_none_match.parse().unwrap())]);
        answer(&asked, Bytes::from_static(body.as_bytes()), Keep::AndAsk).status().as_u16()
    }

    #[test]
    fn who_names_the_tag_is_told_that_nothing_has_changed() {
        let tag = entity_tag(b"{}");
        for list in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            assert_eq!(status(&list, "{}"), 304, "{list}");
            assert!(list == "*" || status(&list, "[]") == 200, "{list}");
        }
        for list in ["", "x", "\"x\"", tag.trim_matches('"')] {
            assert_eq!(status(list, "{}"), 200, "{list}");
        }
    }
}
