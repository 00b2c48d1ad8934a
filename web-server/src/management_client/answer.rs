//! What a replica has answered, and its problems in our own words.

use axum::body::Bytes;
use http::StatusCode;
use serde::Deserialize;
use shared::event::FieldError;
use shared::http::{Kind, Problem, kinds};

/// A replica's answer that settles its call.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// When a caller who came too often may come again, in seconds.
    pub retry_after_seconds: Option<u32>,
    /// The body as it came.
    pub body: Bytes,
}

/// What we read of a replica's problem, to make it anew for our own caller.
#[derive(Deserialize)]
struct ForeignProblem {
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<ForeignError>,
}

#[derive(Deserialize)]
struct ForeignError {
    field: String,
    message: String,
}

impl Answer {
    /// The JSON of a good answer.
    ///
    /// # Errors
    /// The replica's problem, of the same kind.
    pub fn into_json(self) -> Result<Bytes, Problem> {
        if self.status.is_success() { Ok(self.body) } else { Err(self.problem()) }
    }

    fn problem(&self) -> Problem {
        let kind = kind_of(self.status);
        let foreign = serde_json::from_slice(&self.body)
            .unwrap_or(ForeignProblem { detail: kind.title.to_lowercase(), errors: Vec::new() });
        let errors = foreign.errors.into_iter().map(|error| FieldError::new(error.field, error.message));
        let problem = Problem::new(kind, foreign.detail).with_errors(errors.collect());
        match self.retry_after_seconds {
            Some(seconds) => problem.with_retry_after(seconds),
            None => problem,
        }
    }
}

fn kind_of(status: StatusCode) -> Kind {
    match status {
        StatusCode::UNAUTHORIZED => kinds::UNAUTHORIZED,
        StatusCode::FORBIDDEN => kinds::FORBIDDEN,
        StatusCode::NOT_FOUND | StatusCode::GONE => kinds::NOT_FOUND,
        StatusCode::CONFLICT => kinds::CONFLICT,
        StatusCode::PAYLOAD_TOO_LARGE => kinds::BODY_TOO_LARGE,
        StatusCode::UNPROCESSABLE_ENTITY => kinds::KEY_CONFLICT,
        StatusCode::TOO_MANY_REQUESTS => kinds::TOO_MANY_REQUESTS,
        _ => kinds::INVALID_INPUT,
    }
}
