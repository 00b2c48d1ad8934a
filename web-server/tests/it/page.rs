//! The web page: its files, the cookie of its session, and how the pipeline stands.

use serde_json::{Value, json};

use crate::harness::{Answer, FakeAnswer, Seen, Server, eventually};

const TOKENS: &str = r#"{"access_token":"a.b.c","refresh_token":"prt_new","token_type":"Bearer","expires_in":900}"#;
const LOGIN: &str = r#"{"email":"ann@example.com","password":"correct horse"}"#;

/// The files that a page or module names.
fn named_files(text: &str) -> Vec<String> {
    let parts = text.split(['"', '\'']);
    let ours = parts.filter_map(|part| part.strip_prefix("/page/").or_else(|| part.strip_prefix("./")));
    ours.map(|name| format!("/page/{name}")).collect()
}

#[tokio::test]
async fn the_page_and_all_that_it_names_come_from_this_server_and_may_be_kept() {
    let server = Server::start().await;
    let page = server.client.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").to_owned();
    for part in ["default-src 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'", "base-uri 'none'"]
    {
        assert!(policy.split("; ").any(|given| given == part), "{part}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    assert_eq!((page.header("cache-control"), page.header("etag").is_empty()), ("no-cache", false));
    assert_eq!((page.header("x-content-type-options"), page.header("x-frame-options")), ("nosniff", "DENY"));
    let (mut seen, mut left, mut bytes) = (Vec::new(), named_files(&page.text()), page.body.len());
    assert!(left.len() > 2, "{left:?}");
    while let Some(file) = left.pop() {
        if seen.contains(&file) {
            continue;
        }
        let answer = server.client.get(&file).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "no-cache"), "{file}");
        let tag = answer.header("etag");
        assert!(tag.starts_with('"'), "{file}: {tag}");
        let again = server.client.request("GET", &file).header("if-none-match", tag).send().await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{file}");
        let kind = file.rsplit('.').next().unwrap();
        let expected = [("css", "text/css"), ("js", "text/javascript"), ("svg", "image/svg+xml")];
        let (_, expected) = expected.into_iter().find(|(ending, _)| *ending == kind).unwrap();
        assert!(answer.header("content-type").starts_with(expected), "{file}");
        bytes += answer.body.len();
        left.extend(named_files(&answer.text()));
        seen.push(file);
    }
    assert!(bytes <= 40 * 1024, "{bytes} bytes");
    server.client.get("/page/secrets.js").await.problem("not-found");
    let docs = server.client.get("/docs/index.html").await;
    assert_ne!(docs.header("content-security-policy"), policy);
}

/// Sends as the page of this server does, with more headers.
async fn send(server: &Server, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
    let request =
        if body.is_empty() { server.client.request("POST", path) } else { server.client.post(path, body.to_owned()) };
    let host = server.client.address.to_string();
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(name, &value.replace("HOST", &host)));
    request.send().await
}

const OWN: (&str, &str) = ("origin", "http://HOST");
const ASKS: (&str, &str) = ("x-session", "cookie");
const COOKIE: (&str, &str) = ("cookie", "other=1; refresh_token=prt_old");

fn posted(server: &Server) -> Option<Seen> {
    server.management.seen().into_iter().rfind(|seen| seen.method == "POST")
}

#[tokio::test]
async fn the_refresh_token_of_the_page_is_in_a_cookie_and_nowhere_else() {
    let server = Server::start().await;
    server.management.answers(|seen| FakeAnswer::ok(if seen.target == "/internal/logout" { "" } else { TOKENS }));
    let cookie = "refresh_token=prt_new; Path=/; HttpOnly; SameSite=Strict";
    let login = send(&server, "/login", LOGIN, &[OWN, ASKS]).await;
    assert_eq!((login.status, login.header("set-cookie")), (200, cookie));
    assert_eq!(login.json(), json!({ "access_token": "a.b.c", "token_type": "Bearer", "expires_in": 900 }));
    let refreshed = send(&server, "/refresh", "", &[OWN, COOKIE]).await;
    assert_eq!((refreshed.status, refreshed.header("set-cookie")), (200, cookie));
    assert!(!refreshed.text().contains("prt_"));
    let seen = posted(&server).unwrap();
    assert_eq!((seen.target.as_str(), seen.body.as_str()), ("/internal/refresh", r#"{"refresh_token":"prt_old"}"#));
    let left = send(&server, "/logout", "", &[OWN, COOKIE]).await;
    assert_eq!(left.status, 204);
    assert!(left.header("set-cookie").starts_with("refresh_token=; Max-Age=0; "), "{}", left.header("set-cookie"));
    assert_eq!(posted(&server).unwrap().body, r#"{"refresh_token":"prt_old"}"#);
    // Who asks for no cookie is answered as ever.
    let api = send(&server, "/login", LOGIN, &[]).await;
    assert_eq!((api.text().as_str(), api.header("set-cookie")), (TOKENS, ""));
    let api = send(&server, "/refresh", r#"{"refresh_token":"prt_old"}"#, &[COOKIE]).await;
    assert_eq!((api.text().as_str(), api.header("set-cookie")), (TOKENS, ""));
    let forgotten = server
        .client
        .raw(b"POST /refresh HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        .await;
    assert!(forgotten.starts_with("HTTP/1.1 415 "), "a body without its type: {forgotten}");
}

#[tokio::test]
async fn another_site_s_page_cannot_use_the_cookie() {
    let server = Server::start().await;
    server.management.answers(|_| FakeAnswer::ok(TOKENS));
    let others: [&[(&str, &str)]; 5] = [
        &[COOKIE],
        &[COOKIE, ("origin", "https://evil.example")],
        &[COOKIE, ("origin", "null")],
        &[COOKIE, OWN, ("sec-fetch-site", "cross-site")],
        &[COOKIE, ("origin", "http://HOST.evil.example"), ("sec-fetch-site", "same-origin")],
    ];
    for headers in others {
        for path in ["/refresh", "/logout"] {
            send(&server, path, "", headers).await.problem("forbidden");
        }
        let login: Vec<_> = headers.iter().copied().chain([ASKS]).collect();
        send(&server, "/login", LOGIN, &login).await.problem("forbidden");
    }
    assert!(posted(&server).is_none(), "nothing was spent");
}

#[tokio::test]
async fn who_has_no_session_is_told_so_and_the_browser_forgets_what_is_over() {
    let server = Server::start().await;
    send(&server, "/refresh", "", &[OWN]).await.problem("unauthorized");
    assert_eq!(send(&server, "/logout", "", &[OWN]).await.status, 204);
    assert!(posted(&server).is_none());
    server.management.answers(|_| FakeAnswer::status(403, "{}"));
    let over = send(&server, "/refresh", "", &[OWN, COOKIE]).await;
    over.problem("unauthorized");
    assert!(over.header("set-cookie").starts_with("refresh_token=; Max-Age=0; "));
    server.management.answers(|_| FakeAnswer::status(503, "{}"));
    let unknown = send(&server, "/refresh", "", &[OWN, COOKIE]).await;
    unknown.problem("outcome-unknown");
    assert_eq!(unknown.header("set-cookie"), "", "it may count still");
}

#[tokio::test]
async fn behind_a_proxy_with_https_the_cookie_is_for_https_and_this_host_alone() {
    let server = Server::with(&[("TRUSTED_PROXIES", "127.0.0.1")], |_| {}).await;
    server.management.answers(|_| FakeAnswer::ok(TOKENS));
    let (https, own) = (("x-forwarded-proto", "https"), ("origin", "https://HOST"));
    let login = send(&server, "/login", LOGIN, &[https, own, ASKS]).await;
    let cookie = "__Host-refresh_token=prt_new; Max-Age=2592000; Path=/; HttpOnly; SameSite=Strict; Secure";
    assert_eq!((login.status, login.header("set-cookie")), (200, cookie));
    send(&server, "/refresh", "", &[https, own, COOKIE]).await.problem("unauthorized");
    let named = ("cookie", "__Host-refresh_token=prt_old");
    assert_eq!(send(&server, "/refresh", "", &[https, own, named]).await.status, 200);
    send(&server, "/refresh", "", &[https, OWN, named]).await.problem("forbidden");
}

fn recording(partitions: usize) -> String {
    let state = json!({
        "is_ready": true, "partitions": partitions, "partitions_total": 10, "lag_records": 7, "lag_seconds": 1.5,
    });
    state.to_string()
}

async fn status(server: &Server) -> Value {
    let answer = server.client.get("/status").await;
    assert_eq!(answer.status, 200);
    answer.json()
}

#[tokio::test]
async fn the_status_says_what_is_known_and_asks_once_however_many_want_it() {
    let server = Server::start().await;
    let first = status(&server).await;
    assert_eq!((&first["replicas_ready"], &first["replicas_total"]), (&json!(0), &json!(1)));
    assert_eq!((&first["consumer_lag_records"], &first["auth"]), (&Value::Null, &json!("off")));
    server.management.answers(|_| FakeAnswer::ok(recording(10)));
    eventually("lag is known", async || status(&server).await["consumer_lag_records"] == 7).await;
    let known = status(&server).await;
    assert_eq!((&known["replicas_ready"], &known["consumer_lag_seconds"]), (&json!(1), &json!(1.5)));
    assert_eq!(known["is_kafka_reachable"], true);
    server.management.answers(|_| FakeAnswer::ok(recording(9)));
    eventually("a partition is nobody's", async || status(&server).await["consumer_lag_records"].is_null()).await;
    let asked = || server.management.seen().iter().filter(|seen| seen.target == "/internal/recording").count();
    let before = asked();
    let crowd = futures_util::future::join_all((0..100).map(|_| status(&server))).await;
    assert_eq!((crowd.len(), asked() <= before + 1), (100, true));
}

#[tokio::test]
async fn the_status_is_open_and_says_who_must_sign_in() {
    let server = Server::with(&[("AUTH", "jwt")], |_| {}).await;
    assert_eq!(status(&server).await["auth"], "jwt");
}
