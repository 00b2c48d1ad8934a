//! The end of work that nobody waits for any more.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use shared::http::{Problem, time_left};

/// Ends a request when the time that its caller gave is over, down to the statement in the database.
pub(super) async fn keep(request: Request, next: Next) -> Result<Response, Problem> {
    let Some(time) = time_left(request.headers()) else { return Ok(next.run(request).await) };
    let answered = tokio::time::timeout(time, next.run(request)).await;
    answered.map_err(|_| Problem::unavailable("the time that the caller gave is over", 1))
}
