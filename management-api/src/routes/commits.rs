//! Following the log of commits, on behalf of web-server.

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, Uri};
use shared::commits::{CommitPage, CommitPosition};
use shared::event::FieldError;
use shared::http::{PreferWait, Problem, Query, parse_wait};

use super::openapi::{ReadProblems, Unauthorized};
use super::unavailable;
use crate::state::App;

/// What was committed after a position, by whichever replica; with `Prefer: wait` as soon as there is something.
#[utoipa::path(
    get, path = "/internal/commits", tag = "reading", security((), ("token" = [])),
    params(
        ("after" = Option<String>, Query, nullable = false, description = "A position; without it, the answer is that of now"),
        ("Prefer" = inline(Option<PreferWait>), Header, nullable = false, description = "`wait=SECONDS`, 0 to 30"),
    ),
    responses(
        (status = 200, description = "What comes next, or that the position is unknown or no longer served", body = CommitPage),
        ReadProblems, Unauthorized,
    )
)]
pub(super) async fn follow_commits(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<CommitPage>, Problem> {
    let wait = parse_wait(&headers).map_err(|error| Problem::invalid(vec![error]))?.unwrap_or_default();
    let mut query = Query::new(&uri);
    let after: Option<Result<CommitPosition, _>> = query.text("after").map(|text| text.parse());
    if matches!(after, Some(Err(_))) {
        query.refuse(FieldError::new("after", "must be a position in the log of commits"));
    }
    query.finish()?;
    let page = match after.and_then(Result::ok) {
        Some(after) => app.commits.follow(&after, wait).await,
        None => app.commits.begin().await,
    };
    page.map(Json).map_err(|error| unavailable(&error))
}
