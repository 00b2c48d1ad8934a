//! `GET /usage`: what keys have bought and asked, by day.

use axum::extract::{Request, State};
use axum::response::Response;
use shared::api_keys::{Day, UsageAnswer};
use shared::event::FieldError;
use shared::http::{Problem, Query};
use utoipa::IntoParams;
use uuid::Uuid;

use super::api_keys::{asked, read};
use crate::api_keys::Presented;
use crate::state::AppState;

/// Which days, and whose.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub(super) struct UsageParameters {
    /// The first day, by UTC; 30 days with the last one when not given, and 366 at most.
    #[param(inline, nullable = false)]
    from: Option<Day>,
    /// The last day; today when not given.
    #[param(inline, nullable = false)]
    to: Option<Day>,
    /// Whose keys, for who comes with an access token; one's own when not given. Another's is for administrators.
    #[param(nullable = false)]
    account_id: Option<Uuid>,
}

/// What keys have bought and asked: with an access token those of the account, with a key that one. Purchases are counted by the
/// transaction that records them, exactly; requests are told every five seconds.
#[utoipa::path(
    get, path = "/usage", tag = "api keys", security(("access_token" = []), ("api_key" = [])),
    params(UsageParameters),
    responses(
        (status = 200, description = "A row for each key and day, newest days first", body = UsageAnswer),
        (status = 400, description = "Parameters that are wrong or out of range: `errors` names them"),
        (status = 401, description = "Neither a good access token nor a good key"),
        (status = 403, description = "Another's account, and not an administrator's token"),
        (status = 429, description = "Over the caller's rate"),
        (status = 503, description = "Nobody answers, or accounts are not set up"),
    )
)]
pub(super) async fn list_usage(State(app): State<AppState>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut query = Query::new(&parts.uri);
    let whose = if Presented::of(&parts.headers) == Presented::Nothing {
        format!("account_id={}", asked(&app, &parts.headers, &parts.uri).await?.account_id)
    } else {
        let key = app.api_keys.check(&parts.headers, &app.tokens, &|| true).await?;
        if query.text("account_id").is_some() {
            query.refuse(FieldError::new("account_id", "is for access tokens: a key sees its own use alone"));
        }
        format!("key_id={}", key.key_id)
    };
    let mut target = format!("/internal/usage?{whose}");
    for name in ["from", "to"] {
        if let Some(day) = query.parsed(name, str::parse::<Day>) {
            target = format!("{target}&{name}={day}");
        }
    }
    query.finish()?;
    read(&app, &parts, target).await
}
