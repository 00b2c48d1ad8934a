//! Errors as callers see them: `application/problem+json` (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::event::FieldError;

/// What a 401 asks for (RFC 6750, 3: the scheme is never alone).
const CHALLENGE: &str = r#"Bearer realm="purchase""#;
/// The same to who has shown something else.
const INVALID_TOKEN: &str = r#"Bearer realm="purchase", error="invalid_token""#;

/// A kind of problem: its stable name, status and title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// What follows `urn:purchase:` in `type`.
    pub name: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// The same words for every problem of the kind.
    pub title: &'static str,
}

/// Every kind of problem there is.
pub mod kinds {
    use super::{Kind, StatusCode};

    const fn kind(name: &'static str, status: StatusCode, title: &'static str) -> Kind {
        Kind { name, status, title }
    }

    /// Invalid input.
    pub const INVALID_INPUT: Kind = kind("invalid-input", StatusCode::BAD_REQUEST, "Invalid input");
    /// Not authorized.
    pub const UNAUTHORIZED: Kind = kind("unauthorized", StatusCode::UNAUTHORIZED, "Not authorized");
    /// Forbidden.
    pub const FORBIDDEN: Kind = kind("forbidden", StatusCode::FORBIDDEN, "Forbidden");
    /// Not found.
    pub const NOT_FOUND: Kind = kind("not-found", StatusCode::NOT_FOUND, "Not found");
    /// Method not allowed.
    pub const METHOD_NOT_ALLOWED: Kind =
        kind("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
    /// Body too slow.
    pub const BODY_TOO_SLOW: Kind = kind("body-too-slow", StatusCode::REQUEST_TIMEOUT, "Body too slow");
    /// Conflict.
    pub const CONFLICT: Kind = kind("conflict", StatusCode::CONFLICT, "Conflict");
    /// Body too large.
    pub const BODY_TOO_LARGE: Kind = kind("body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "Body too large");
    /// Unsupported media type.
    pub const UNSUPPORTED_MEDIA_TYPE: Kind =
        kind("unsupported-media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type");
    /// Unsupported content encoding.
    pub const UNSUPPORTED_ENCODING: Kind =
        kind("unsupported-content-encoding", StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported content encoding");
    /// Idempotency key used with other content.
    pub const KEY_CONFLICT: Kind =
        kind("idempotency-key-conflict", StatusCode::UNPROCESSABLE_ENTITY, "Idempotency key used with other content");
    /// Too many requests.
    pub const TOO_MANY_REQUESTS: Kind = kind("too-many-requests", StatusCode::TOO_MANY_REQUESTS, "Too many requests");
    /// Internal error.
    pub const INTERNAL: Kind = kind("internal", StatusCode::INTERNAL_SERVER_ERROR, "Internal error");
    /// Unavailable.
    pub const UNAVAILABLE: Kind = kind("unavailable", StatusCode::SERVICE_UNAVAILABLE, "Unavailable");
    /// Outcome unknown.
    pub const OUTCOME_UNKNOWN: Kind = kind("outcome-unknown", StatusCode::GATEWAY_TIMEOUT, "Outcome unknown");
}

/// An error on its way to the caller. The observing middleware renders it, because it knows the request's id.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
    detail: Box<str>,
    errors: Vec<FieldError>,
    members: Map<String, Value>,
    retry_after_seconds: Option<u32>,
    has_invalid_token: bool,
}

impl Problem {
    /// A problem; `detail` says what the caller should do and never shows internals.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into().into(),
            errors: Vec::new(),
            members: Map::new(),
            retry_after_seconds: None,
            has_invalid_token: false,
        }
    }

    /// 400 with every bad field at once.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        Self::new(kinds::INVALID_INPUT, "").with_errors(errors)
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(detail: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(kinds::UNAVAILABLE, detail).with_retry_after(retry_after_seconds)
    }

    /// Names bad fields, of which the detail then speaks.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        if !errors.is_empty() {
            self.detail = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ").into();
            self.errors = errors;
        }
        self
    }

    /// Says when the caller may come again.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Says of a 401 that a token was shown, and was not good (RFC 6750, 3.1).
    #[must_use]
    pub fn with_invalid_token(mut self) -> Self {
        self.has_invalid_token = true;
        self
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.kind.status
    }

    /// What the caller is told.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The members of the body, for answers that carry several problems.
    #[must_use]
    pub fn body<'a>(&'a self, request_id: &'a str) -> ProblemBody<'a> {
        ProblemBody {
            r#type: format!("urn:purchase:{}", self.kind.name),
            title: self.kind.title,
            status: self.kind.status.as_u16(),
            detail: &self.detail,
            error: &self.detail,
            request_id,
            errors: &self.errors,
            members: &self.members,
        }
    }

    /// The whole answer.
    pub(super) fn render(&self, request_id: &str) -> Response {
        let body = serde_json::to_vec(&self.body(request_id)).unwrap_or_default();
        let mut response = (self.kind.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.kind == kinds::UNSUPPORTED_ENCODING {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if self.kind == kinds::UNAUTHORIZED {
            let challenge = if self.has_invalid_token { INVALID_TOKEN } else { CHALLENGE };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The JSON of a problem (RFC 9457). Some kinds have further members.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// The kind's stable name.
    #[schema(format = "uri", example = "urn:purchase:invalid-input")]
    r#type: String,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request.
    detail: &'a str,
    /// The same text as `detail`, for clients that read this name.
    error: &'a str,
    /// Names the request in logs.
    request_id: &'a str,
    /// Every bad field at once.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [FieldError],
    #[serde(flatten)]
    #[schema(ignore)]
    members: &'a Map<String, Value>,
}

/// Answers a path that there is not.
pub async fn not_found() -> Problem {
    Problem::new(kinds::NOT_FOUND, "no such path")
}

/// Answers a method that the path does not have.
pub async fn method_not_allowed() -> Problem {
    Problem::new(kinds::METHOD_NOT_ALLOWED, "this path does not take that method")
}
