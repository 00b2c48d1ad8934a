//! Accounts through all of it, as a program: every flow that the README shows, and what its log says of them.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use shared::testing::{Answer, HttpClient, eventually};

pub const ADMIN: (&str, &str) = ("root@example.com", "an administrator's password");
pub const PASSWORD: &str = "correct horse battery";
const NEW_PASSWORD: &str = "another horse battery";

/// All that our own code can log, and what sees requests and statements; Kafka's client knows of no account, and says a lot.
const LOG_LEVEL: &str =
    "audit=trace,embedded=trace,management_api=trace,shared=trace,web_server=trace,hyper=debug,sqlx=debug";

/// The program; it ends with the test.
pub struct Program {
    process: Child,
    pub url: String,
    pub management_url: String,
    pub http: HttpClient,
}

impl Program {
    pub async fn start(data: &Path) -> Self {
        Self::start_with(data, "off").await
    }

    pub async fn start_with(data: &Path, auth: &str) -> Self {
        Self::start_set(data, &[("AUTH", auth)]).await
    }

    /// Starts one with more settings.
    pub async fn start_set(data: &Path, more: &[(&str, &str)]) -> Self {
        let log = data.join("log");
        let file = || File::options().create(true).append(true).open(&log).unwrap();
        let settings = [
            ("DATA_DIR", data.to_str().unwrap()),
            ("WEB_LISTEN_ADDRESS", "127.0.0.1:0"),
            ("MANAGEMENT_LISTEN_ADDRESS", "127.0.0.1:0"),
            ("ADMIN_EMAIL", ADMIN.0),
            ("ADMIN_PASSWORD", ADMIN.1),
            ("LOG_LEVEL", LOG_LEVEL),
            ("LOG_FORMAT", "json"),
        ];
        let before = fs::read_to_string(&log).map_or(0, |text| text.len());
        let mut command = Command::new(env!("CARGO_BIN_EXE_embedded"));
        let process = command
            .env_clear()
            .envs(settings)
            .envs(more.iter().copied())
            .stdout(file())
            .stderr(file())
            .spawn()
            .unwrap();
        let (url, management_url) = eventually("it says where it listens", async || {
            let text = fs::read_to_string(&log).ok()?;
            let url_after = |words| {
                let (_, rest) = text.get(before..)?.split_once(words)?;
                rest.split_whitespace().next().map(str::to_owned)
            };
            text.get(before..)?.contains("kafka protocol").then_some(())?;
            url_after("buy and read").zip(url_after("management-api"))
        })
        .await;
        let program = Self { process, url, management_url, http: HttpClient::default() };
        let ready = format!("{}/readyz", program.url);
        eventually("ready", async || (program.http.get(&ready).await.status == 200).then_some(())).await;
        program
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.http.post_json(&format!("{}{path}", self.url), body.to_string()).await
    }

    pub async fn login(&self, (email, password): (&str, &str)) -> Answer {
        self.post("/login", &json!({ "email": email, "password": password })).await
    }

    pub async fn with_token(&self, method: Method, path: &str, token: &Value) -> Answer {
        let authorization = format!("Bearer {}", token.as_str().unwrap());
        let url = format!("{}{path}", self.url);
        self.http.request(method, &url, &[("authorization", &authorization)], "").await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn secret(answer: &Answer, name: &str) -> String {
    answer.json()[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", answer.text())).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_live_through_a_restart_and_nothing_secret_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path()).await;
    let new = json!({ "username": "ann", "email": "ann@example.com", "password": PASSWORD });
    let ann = secret(&program.post("/account", &new).await, "account_id");
    assert_eq!(program.post("/account", &new).await.status, 409);
    assert_eq!(program.login(("ann@example.com", "not my password")).await.status, 401);
    let tokens = program.login(("Ann@Example.com", PASSWORD)).await;
    let mut secrets = vec![PASSWORD.to_owned(), ADMIN.1.to_owned(), "not my password".to_owned(), "$argon2".to_owned()];
    secrets.extend([secret(&tokens, "access_token"), secret(&tokens, "refresh_token")]);
    drop(program);

    let program = Program::start(folder.path()).await;
    let refresh = json!({ "refresh_token": tokens.json()["refresh_token"] });
    let next = program.post("/refresh", &refresh).await;
    let again = program.post("/refresh", &refresh).await;
    assert_eq!(secret(&next, "refresh_token"), secret(&again, "refresh_token"));
    assert_eq!(next.header("cache-control"), "no-store");
    secrets.extend([secret(&next, "access_token"), secret(&next, "refresh_token"), secret(&again, "access_token")]);
    let token = &next.json()["access_token"];

    let admin = eventually("an administrator", async || {
        let answer = program.login(ADMIN).await;
        (answer.status == 200).then(|| answer.json()["access_token"].clone())
    })
    .await;
    assert_eq!(program.with_token(Method::GET, "/accounts_page", token).await.status, 403);
    let page = program.with_token(Method::GET, "/accounts_page", &admin).await;
    assert!(page.text().contains("ann@example.com") && page.text().contains(ADMIN.0), "{}", page.text());
    assert_eq!(program.with_token(Method::DELETE, "/account", token).await.status, 204);
    let began = Instant::now();
    eventually("its token counts no more", async || {
        (program.with_token(Method::GET, "/accounts_page", token).await.status == 401).then_some(())
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(5), "after {:?}", began.elapsed());
    let refresh = json!({ "refresh_token": next.json()["refresh_token"] });
    assert_eq!(program.post("/refresh", &refresh).await.status, 401);
    drop(program);

    let key = folder.path().join("jwt-signing-key.pem");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    secrets.push(fs::read_to_string(&key).unwrap().lines().nth(1).unwrap().to_owned());
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert_nothing_is_said_of(&secrets, &log);
    assert_audited("service", &["account_created", "admin_appointed", "login_failed"], &log);
    assert_audited(&ann, &["login", "refresh", "account_deleted"], &log);
}

fn assert_nothing_is_said_of(secrets: &[String], log: &str) {
    for secret in secrets {
        assert!(!log.contains(secret), "the log has {secret}");
    }
}

fn assert_audited(actor: &str, events: &[&str], log: &str) {
    let audit: Vec<_> = log.lines().filter(|line| line.contains(r#""target":"audit""#)).collect();
    for event in events {
        let parts = [format!(r#""event":"{event}""#), format!(r#""actor":"{actor}""#)];
        let is_told = audit.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(is_told, "no {event} by {actor} in {audit:#?}");
    }
    assert!(audit.iter().all(|line| line.contains("request_id") && !line.contains('@')), "{audit:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_its_password_stays_and_all_others_go_and_who_signs_out_goes() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path()).await;
    let new = json!({ "username": "ann", "email": "ann@example.com", "password": PASSWORD });
    let ann = secret(&program.post("/account", &new).await, "account_id");
    let [own, other] =
        [program.login(("ann@example.com", PASSWORD)).await, program.login(("ann@example.com", PASSWORD)).await];
    let token = secret(&own, "access_token");
    let change = async |old: &str, new: &str| {
        let body = json!({ "old_password": old, "new_password": new }).to_string();
        let headers = [("content-type", "application/json"), ("authorization", &*format!("Bearer {token}"))];
        program.http.request(Method::POST, &format!("{}/account/password", program.url), &headers, body).await
    };
    assert_eq!(change("not my password", NEW_PASSWORD).await.status, 403);
    assert_eq!(change(PASSWORD, NEW_PASSWORD).await.status, 204);
    let refresh = async |of: &Answer| {
        program.post("/refresh", &json!({ "refresh_token": secret(of, "refresh_token") })).await.status.as_u16()
    };
    let counts_no_more = async |of: &Answer| {
        let token = json!(secret(of, "access_token"));
        let is_refused = async || program.with_token(Method::GET, "/accounts_page", &token).await.status == 401;
        eventually("its token counts no more", async || is_refused().await.then_some(())).await;
    };
    assert_eq!((refresh(&own).await, refresh(&other).await), (200, 401));
    counts_no_more(&other).await;
    assert_eq!(program.login(("ann@example.com", PASSWORD)).await.status, 401);
    let next = program.login(("ann@example.com", NEW_PASSWORD)).await;
    let sign_out = json!({ "refresh_token": secret(&next, "refresh_token") });
    for _ in 0..2 {
        assert_eq!(program.post("/logout", &sign_out).await.status, 204);
    }
    assert_eq!((refresh(&own).await, refresh(&next).await), (200, 401));
    counts_no_more(&next).await;
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    let mut secrets = vec![PASSWORD.to_owned(), NEW_PASSWORD.to_owned(), "not my password".to_owned()];
    secrets.extend([&own, &other, &next].map(|tokens| secret(tokens, "refresh_token")));
    assert_nothing_is_said_of(&secrets, &log);
    assert_audited(&ann, &["password_refused", "password_changed", "logout"], &log);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tokens_asked_for_an_account_buys_and_reads_as_itself() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start_with(folder.path(), "jwt").await;
    let new = json!({ "username": "ann", "email": "ann@example.com", "password": PASSWORD });
    let ann = program.post("/account", &new).await.json()["account_id"].as_str().unwrap().to_owned();
    let token = secret(&program.login(("ann@example.com", PASSWORD)).await, "access_token");
    let buy = async |userid: &str, authorization: &str| {
        let purchase = json!({ "username": "ann", "userid": userid, "price": 5 }).to_string();
        let headers = [("content-type", "application/json"), ("authorization", authorization)];
        program.http.request(Method::POST, &format!("{}/buy", program.url), &headers, purchase).await
    };
    let bearer = format!("Bearer {token}");
    let bought = buy(&ann, &bearer).await;
    assert_eq!(bought.status, 201, "{}", bought.text());
    assert_eq!(buy("somebody", &bearer).await.status, 403);
    assert_eq!(buy(&ann, "").await.status, 401);
    let token = json!(token);
    let id = bought.json()["purchase_id"].as_str().unwrap().to_owned();
    for path in ["/purchases".to_owned(), format!("/getAllUserBuys/{ann}"), format!("/purchases/{id}")] {
        let read = program.with_token(Method::GET, &path, &token).await;
        assert!(read.status == 200 && read.text().contains(&id), "{path}: {}", read.text());
    }
    assert_eq!(program.with_token(Method::GET, "/getAllUserBuys/somebody", &token).await.status, 403);
}

#[test]
fn accounts_are_for_nobody_who_reaches_the_port_without_a_token() {
    let data = tempfile::tempdir().unwrap();
    let settings = [("DATA_DIR", data.path().to_str().unwrap()), ("MANAGEMENT_LISTEN_ADDRESS", "0.0.0.0:0")];
    let ended = Command::new(env!("CARGO_BIN_EXE_embedded")).env_clear().envs(settings).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(78), "{told}");
    assert!(told.contains("MANAGEMENT_API_TOKEN: is needed"), "{told}");
}
