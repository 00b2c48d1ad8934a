//! Request bodies, bounded in size and time.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{Problem, kinds};

/// How large a body may be and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Inclusive.
    pub bytes: usize,
    /// From the first look at the body to its end.
    pub timeout: Duration,
}

/// Reads a body that must be `application/json`.
///
/// # Errors
/// 415, 413, 408, or 400 when the connection breaks in the middle.
pub async fn read_json_body(headers: &HeaderMap, body: Body, limits: BodyLimits) -> Result<Bytes, Problem> {
    if !is_json(headers) {
        return Err(Problem::new(kinds::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json"));
    }
    let collected = tokio::time::timeout(limits.timeout, Limited::new(body, limits.bytes).collect());
    match collected.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::new(kinds::BODY_TOO_LARGE, format!("the body must be at most {} bytes", limits.bytes)))
        }
        Ok(Err(_)) => Err(Problem::new(kinds::INVALID_INPUT, "the body ended early")),
        Err(_) => {
            let seconds = limits.timeout.as_secs_f64();
            Err(Problem::new(kinds::BODY_TOO_SLOW, format!("the body must arrive within {seconds} s")))
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}
