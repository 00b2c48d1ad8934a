//! The bearer token between the services.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header;
use shared::http::{Problem, kinds};

use crate::state::App;

/// Lets a request pass that carries the token, or any when none is set.
pub(super) async fn require(State(app): State<App>, request: Request, next: Next) -> Result<Response, Problem> {
    if let Some(token) = &app.token {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer "));
        if !given.is_some_and(|given| token.matches(given)) {
            return Err(Problem::new(kinds::UNAUTHORIZED, "a valid bearer token is required"));
        }
    }
    Ok(next.run(request).await)
}
