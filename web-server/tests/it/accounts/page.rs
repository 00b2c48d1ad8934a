//! The page of accounts.

use serde_json::json;

use super::signer::{Signer, claims, token, with};
use crate::harness::{Answer, FakeAnswer, Server};

async fn page(server: &Server, query: &str, token: &str) -> Answer {
    let request = server.client.request("GET", &format!("/accounts_page{query}"));
    request.header("authorization", &format!("Bearer {token}")).send().await
}

#[tokio::test]
async fn administrators_see_all_accounts_as_text() {
    let server = Server::start().await;
    let signer = Signer::new();
    let account = json!({
        "account_id": super::ID, "username": "<script>alert(1)</script>", "email": "\"ann\"&co@example.com",
        "is_admin": true, "created_at": "2026-01-31T12:00:00.000Z",
    });
    let body = json!({ "accounts": [account], "next_cursor": super::ID }).to_string();
    signer.serve_with(&server, move |_| FakeAnswer::ok(body.clone()));
    page(&server, "", &token(&claims())).await.problem("forbidden");
    let admin = token(&with("scope", "read admin"));
    let answer = page(&server, "?limit=1", &admin).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
    let html = answer.text();
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
    assert!(html.contains("&quot;ann&quot;&amp;co@example.com") && html.contains("2026-01-31T12:00:00.000Z"), "{html}");
    let link = html.split_once("href=\"").unwrap().1.split_once('"').unwrap().0.replace("&amp;", "&");
    assert_eq!(link, format!("/accounts_page?limit=1&cursor={}", super::ID));
    assert_eq!(server.client.get(&link).await.status, 401, "not without a token");
    page(&server, "?limit=1", &admin).await;
    page(&server, link.trim_start_matches("/accounts_page"), &admin).await;
    let asked = server.management.seen().into_iter().filter(|seen| seen.target.contains("cursor=")).count();
    assert_eq!(asked, 1);
    for bad in ["?limit=0", "?limit=1001", "?cursor=x"] {
        assert_eq!(page(&server, bad, &admin).await.bad_fields().len(), 1, "{bad}");
    }
}
