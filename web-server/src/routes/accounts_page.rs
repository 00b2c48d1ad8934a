//! The page of all accounts, for administrators.

use std::fmt::Write as _;

use axum::extract::{Request, State};
use axum::response::{Html, IntoResponse};
use http::{HeaderValue, header};
use shared::accounts::{AccountPage, AccountRow};
use shared::http::{Problem, Query, RequestContext, kinds};
use utoipa::IntoParams;
use uuid::Uuid;

use super::accounts::read_told;
use crate::state::AppState;

/// The most accounts of a page, and how many it has when the caller does not say.
const LIMIT: (u32, u32) = (1000, 100);
/// Whatever is in a name, a browser runs nothing and asks nobody.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";
/// In the style of the page at `/`.
const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Accounts</title>\n\
    <link rel=icon href=/page/icon.svg>\n<link rel=stylesheet href=/page/page.css>\n</head>\n<body>\n\
    <header><h1>Accounts</h1></header>\n<main>\n<section class=\"whole\">\n<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Accounts\">\n\
    <table>\n<thead><tr><th scope=\"col\">Id</th><th scope=\"col\">Username</th><th scope=\"col\">E-mail</th>\
    <th scope=\"col\">Administrator</th><th scope=\"col\">Since</th></tr></thead>\n<tbody>\n";

/// Which accounts.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub(super) struct AccountsParameters {
    /// The most accounts of the page.
    #[param(minimum = 1, maximum = 1000, default = 100, nullable = false)]
    limit: Option<u32>,
    /// Where the page begins: the link on the page before has it.
    #[param(nullable = false)]
    cursor: Option<Uuid>,
}

/// All accounts, newest first, as a page for people.
#[utoipa::path(
    get, path = "/accounts_page", tag = "accounts", security(("access_token" = [])),
    params(AccountsParameters),
    responses(
        (status = 200, description = "One page", content_type = "text/html", body = String),
        (status = 400, description = "Parameters that are out of range: `errors` names them"),
        (status = 401, description = "No access token, or not a good one"),
        (status = 403, description = "Not an administrator's"),
        (status = 429, description = "Over the caller's rate"),
        (status = 503, description = "Nobody answers, or accounts are not set up"),
    )
)]
pub(super) async fn accounts_page(State(app): State<AppState>, request: Request) -> Result<impl IntoResponse, Problem> {
    app.tokens.check_admin(request.headers(), "this page is for administrators").await?;
    let mut query = Query::new(request.uri());
    let limit = query.number("limit", LIMIT.1, 1..=LIMIT.0);
    let mut target = format!("/internal/accounts?limit={limit}");
    let parse = |text: &str| Uuid::try_parse(text).map_err(|_| "must be that of the link on an earlier page");
    if let Some(cursor) = query.parsed("cursor", parse) {
        target = format!("{target}&cursor={cursor}");
    }
    query.finish()?;
    let context = RequestContext::of(request.extensions(), request.headers());
    let found = read_told(&app, target, &context).await?;
    let page: AccountPage = serde_json::from_slice(&found).map_err(|error| {
        tracing::error!(%error, "management-api's page of accounts is not understood");
        Problem::new(kinds::INTERNAL, "an internal error")
    })?;
    let policy = [(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))];
    Ok((policy, Html(render(&page, limit))))
}

fn render(page: &AccountPage, limit: u32) -> String {
    let mut html = HEAD.to_owned();
    for AccountRow { account_id, username, email, is_admin, created_at } in &page.accounts {
        let (username, email, is_admin) = (escape(username), escape(email), if *is_admin { "yes" } else { "" });
        let _ = writeln!(
            html,
            "<tr><td>{account_id}</td><td>{username}</td><td>{email}</td><td>{is_admin}</td><td>{created_at}</td></tr>"
        );
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
    if let Some(cursor) = page.next_cursor {
        let _ =
            writeln!(html, "<p><a href=\"/accounts_page?limit={limit}&amp;cursor={cursor}\">Older accounts</a></p>");
    }
    html.push_str("</section>\n</main>\n</body>\n</html>\n");
    html
}

/// Text as text, whatever it looks like.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use shared::event::Timestamp;

    use super::*;

    #[test]
    fn names_are_text_and_nothing_else() {
        let (account_id, created_at) = (Uuid::nil(), Timestamp::from_millis(0).unwrap());
        let username = "<script>alert('\"&')</script>".to_owned();
        let row = AccountRow { account_id, username, email: "a@b".to_owned(), is_admin: true, created_at };
        let html = render(&AccountPage { accounts: vec![row], next_cursor: Some(account_id) }, 1);
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert(&#39;&quot;&amp;&#39;)"), "{html}");
        assert!(html.contains("limit=1&amp;cursor=00000000-"), "{html}");
    }
}
