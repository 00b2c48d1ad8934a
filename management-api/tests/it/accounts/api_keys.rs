//! API keys through the front door: made, known by their hashes, followed by others, revoked, and what they have done.

use http::Method;
use serde_json::{Value, json};
use shared::api_keys::{API_KEY_HEADER, ApiKeySecret, Day};
use shared::event::Timestamp;
use shared::kafka::OutgoingRecord;
use shared::testing::{Answer, eventually};

use super::harness::Accounts;
use crate::harness::{Kafka, TOPIC, value};

/// Its keys, on behalf of one account.
struct Keys<'a> {
    accounts: &'a Accounts,
    account_id: String,
}

impl<'a> Keys<'a> {
    async fn start(accounts: &'a Accounts) -> Self {
        let made = accounts.create("ann", "ann@example.com", "correct horse").await;
        Self { accounts, account_id: made.json()["account_id"].as_str().unwrap().to_owned() }
    }

    async fn create(&self, body: Value) -> Answer {
        self.accounts.post(&format!("api-keys?account_id={}", self.account_id), body.to_string()).await
    }

    async fn made(&self) -> (String, String) {
        let made = self.create(json!({ "name": "till 7" })).await;
        assert_eq!(made.status, 201, "{}", made.text());
        (text(&made, "key_id"), text(&made, "api_key"))
    }

    /// What is told to who presents it.
    async fn known(&self, api_key: &str) -> Value {
        let hash = ApiKeySecret::hash_of(api_key).expect("a well-formed key");
        self.accounts.api.get(&format!("/internal/known-keys/{hash}")).await.json()["key"].clone()
    }

    async fn rotate(&self, key_id: &str, body: Value) -> Answer {
        let path = format!("api-keys/{key_id}/rotate?account_id={}", self.account_id);
        self.accounts.post(&path, body.to_string()).await
    }

    async fn list(&self) -> Value {
        let path = format!("/internal/api-keys?account_id={}", self.account_id);
        self.accounts.api.get(&path).await.json()["api_keys"].clone()
    }

    async fn changed(&self) -> Value {
        self.accounts.api.get("/internal/token-keys").await.json()["changed_keys"].clone()
    }
}

fn text(answer: &Answer, name: &str) -> String {
    answer.json()[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", answer.text())).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_known_followed_by_another_and_revoked() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let keys = Keys::start(&accounts).await;
    let (key_id, api_key) = keys.made().await;
    let known = keys.known(&api_key).await;
    assert_eq!(
        (&known["key_id"], &known["account_id"], &known["scopes"], &known["ends_at"]),
        (&json!(key_id), &json!(keys.account_id), &json!(["buy", "read"]), &Value::Null)
    );
    let listed = keys.list().await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (1, &json!("till 7")));
    assert!(!listed.to_string().contains(&api_key) && api_key.starts_with(listed[0]["secret_start"].as_str().unwrap()));
    assert_eq!(keys.changed().await, json!([]));

    let rotated = keys.rotate(&key_id, json!({ "overlap_seconds": 60 })).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    let new_secret = text(&rotated, "api_key");
    assert_eq!(keys.changed().await, json!([{ "key_id": key_id, "version": 1 }]));
    assert_eq!(keys.known(&api_key).await["ends_at"], rotated.json()["old_ends_at"]);
    assert_eq!(keys.known(&new_secret).await["version"], 1);
    accounts.pass(60);
    assert_eq!(keys.known(&api_key).await, Value::Null);
    let at_once = text(&keys.rotate(&key_id, json!({ "overlap_seconds": 0 })).await, "api_key");
    assert_eq!(keys.known(&new_secret).await, Value::Null);

    for _ in 0..2 {
        let revoked = accounts.post(&format!("api-keys/{key_id}/revoke?account_id={}", keys.account_id), "").await;
        assert_eq!(revoked.status, 204, "{}", revoked.text());
    }
    assert_eq!(keys.known(&at_once).await, Value::Null);
    assert_eq!(keys.rotate(&key_id, json!({})).await.status, 403, "what is revoked stays so");
    assert!(keys.list().await[0]["revoked_at"].is_string());
    assert_eq!(keys.changed().await, json!([{ "key_id": key_id, "version": 3 }]));
    accounts.pass(18 * 60);
    assert_eq!(keys.changed().await, json!([]), "nobody knows it any more as it was");
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_secret_is_not_cut_short_by_a_rotation_that_is_repeated() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let keys = Keys::start(&accounts).await;
    let (key_id, first) = keys.made().await;
    let rotated = keys.rotate(&key_id, json!({ "overlap_seconds": 600 })).await;
    let (second, until) = (text(&rotated, "api_key"), text(&rotated, "old_ends_at"));
    for body in [json!({}), json!({ "overlap_seconds": 1 })] {
        let refused = keys.rotate(&key_id, body).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
        let detail = text(&refused, "detail");
        assert!(detail.starts_with(&format!("an earlier secret counts until {until}: wait, or rotate")), "{detail}");
    }
    assert_eq!((&keys.known(&first).await["version"], &keys.known(&second).await["version"]), (&json!(1), &json!(1)));
    let third = text(&keys.rotate(&key_id, json!({ "overlap_seconds": 0 })).await, "api_key");
    assert_eq!((keys.known(&first).await, keys.known(&second).await), (Value::Null, Value::Null));
    accounts.pass(1);
    assert_eq!(keys.rotate(&key_id, json!({})).await.status, 200, "all but the present one are over");
    assert_eq!(keys.known(&third).await["version"], 3);
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_too_many_keys_is_told_what_to_do() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let keys = Keys::start(&accounts).await;
    let mut made = Vec::new();
    let create = async || keys.create(json!({ "name": "n" })).await;
    let revoke = async |key_id: &str| {
        let path = format!("api-keys/{key_id}/revoke?account_id={}", keys.account_id);
        assert_eq!(accounts.post(&path, "").await.status, 204);
    };
    for _ in 0..100 {
        made.push(text(&create().await, "key_id"));
    }
    let refused = create().await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(text(&refused, "detail").ends_with("100 keys, as many as it may have: revoke one that is not needed"));
    for key_id in &made {
        revoke(key_id).await;
        revoke(&text(&create().await, "key_id")).await;
    }
    let refused = create().await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    let detail = text(&refused, "detail");
    assert!(
        detail.contains("revoked in the last 17 minutes the account has 200 keys") && detail.contains("wait"),
        "{detail}"
    );
    assert_eq!(keys.changed().await.as_array().unwrap().len(), 200, "no more than that is told");
    accounts.pass(18 * 60);
    assert_eq!(create().await.status, 201);
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_ends_when_it_was_to_end_and_with_its_account() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let keys = Keys::start(&accounts).await;
    let end = Timestamp::from_millis(Timestamp::now().millis() + 60_000).unwrap();
    let wish = json!({ "name": "n", "expires_at": end.to_string(), "rate_per_second": 5 });
    assert_eq!(keys.create(wish.clone()).await.status, 403, "nobody lifts its own rate");
    let path = format!("api-keys?account_id={}&may_serve=true", keys.account_id);
    let made = accounts.post(&path, wish.to_string()).await;
    let api_key = text(&made, "api_key");
    let known = keys.known(&api_key).await;
    assert_eq!((&known["ends_at"], &known["rate_per_second"]), (&json!(end), &json!(5)));
    accounts.pass(61);
    assert_eq!(keys.known(&api_key).await, Value::Null);
    let (key_id, api_key) = keys.made().await;
    assert_eq!(accounts.post(&format!("accounts/{}/delete", keys.account_id), "").await.status, 204);
    assert_eq!(keys.known(&api_key).await, Value::Null);
    let changed = keys.changed().await;
    assert!(changed.as_array().unwrap().iter().any(|key| key["key_id"] == json!(key_id)), "{changed}");
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_what_it_does_not_have_or_touches_what_is_not_its_own() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let keys = Keys::start(&accounts).await;
    let wish = json!({ "name": "n", "scopes": ["service", "buy", "buy"] });
    assert_eq!(keys.create(wish.clone()).await.status, 403);
    let path = format!("api-keys?account_id={}&may_serve=true", keys.account_id);
    let given = accounts.post(&path, wish.to_string()).await;
    assert_eq!(keys.known(&text(&given, "api_key")).await["scopes"], json!(["buy", "service"]));

    let (key_id, api_key) = keys.made().await;
    let other = accounts.create("bob", "bob@example.com", "correct horse").await.json()["account_id"].clone();
    let other = other.as_str().unwrap();
    for what in ["rotate", "revoke"] {
        let tried = accounts.post(&format!("api-keys/{key_id}/{what}?account_id={other}"), "{}").await;
        assert_eq!(tried.status, 403, "{what}");
    }
    assert_eq!(keys.known(&api_key).await["version"], 0);
    let nobody = accounts.post(&format!("api-keys?account_id={key_id}"), r#"{"name":"n"}"#).await;
    assert_eq!((nobody.status.as_u16(), &nobody.json()["errors"][0]["field"]), (400, &json!("account_id")));

    let all_bad = json!({ "name": " ", "scopes": ["admin"], "expires_at": 7, "rate_per_second": 0 });
    let refused = keys.create(all_bad).await.json();
    let fields: Vec<_> = refused["errors"].as_array().unwrap().iter().map(|error| error["field"].clone()).collect();
    assert_eq!(fields, ["name", "scopes", "expires_at", "rate_per_second"]);
    for body in [
        json!({}),
        json!({ "name": "x".repeat(65) }),
        json!({ "name": "n", "scopes": [] }),
        json!({ "name": "n", "expires_at": "2020-01-01T00:00:00Z" }),
        json!([]),
    ] {
        assert_eq!(keys.create(body.clone()).await.status, 400, "{body}");
    }
    assert_eq!(keys.rotate(&key_id, json!({ "overlap_seconds": 604_801 })).await.status, 400);
    assert_eq!(accounts.api.get("/internal/known-keys/zz").await.status, 400);
    assert!(accounts.api.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_buys_and_asks_is_counted_whatever_strangers_write() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let keys = Keys::start(&accounts).await;
    let (key_id, _) = keys.made().await;
    let id = b"019a0000-0000-7000-8000-000000000009";
    let again =
        format!(r#"{{"purchase_id":"{}","userid":"ann","username":"n","price":1}}"#, str::from_utf8(id).unwrap());
    let stranger = b"019a0000-0000-7000-8000-000000000001".as_slice();
    let plain = value("ann", "1");
    // One without a key, one of a key that there is not, three that name none, one that is bought twice, one that is no purchase.
    let records: [(&str, Option<&[u8]>); 9] = [
        (&plain, Some(key_id.as_bytes())),
        (&plain, None),
        (&plain, Some(stranger)),
        (&plain, Some(b"till 7")),
        (&plain, Some(b"")),
        (&plain, Some(b"\xff\xfe")),
        (&again, Some(key_id.as_bytes())),
        (&again, Some(key_id.as_bytes())),
        ("nonsense", Some(key_id.as_bytes())),
    ];
    for (value, key) in records {
        let headers = [(API_KEY_HEADER.as_bytes(), key)];
        let headers = if key.is_some() { headers.as_slice() } else { &[] };
        let (topic, partition, value) = (TOPIC, Some(0), Some(value.as_bytes()));
        let record = OutgoingRecord { topic, partition, key: None, value, headers, timestamp_ms: None };
        kafka.producer.send_record(&record).await;
    }
    accounts.api.user_with("ann", 7).await;
    kafka.dead_letters(1).await;
    let today = Day::of(Timestamp::now());
    let count = |class: &str, requests: u32| json!({ "key_id": key_id, "day": today, "class": class, "requests": requests, "last_at": Timestamp::now() });
    let flush = json!({ "flush_id": stranger_id(stranger), "counts": [count("read", 3), count("batch", 1)] });
    for _ in 0..3 {
        assert_eq!(accounts.post("usage", flush.to_string()).await.status, 204);
    }
    let twice = json!({ "flush_id": key_id, "counts": [count("read", 3), count("read", 1)] });
    assert_eq!(accounts.post("usage", twice.to_string()).await.status, 400);
    let path = format!("/internal/usage?account_id={}", keys.account_id);
    let usage = eventually("counted", async || {
        let usage = accounts.api.get(&path).await.json();
        (usage["usage"][0]["purchases"] == 2).then_some(usage)
    })
    .await;
    let row = json!({
        "key_id": key_id, "name": "till 7", "account_id": keys.account_id, "day": today, "purchases": 2,
        "requests": { "buy": 0, "batch": 1, "read": 3 },
    });
    assert_eq!(usage, json!({ "usage": [row], "is_complete": true }));
    assert!(keys.list().await[0]["last_used_at"].is_string());
    for bad in ["from=2026-1-1", "to=2026-01-01&from=2026-01-02", "from=2020-01-01&to=2026-01-01", "key_id=7"] {
        assert_eq!(accounts.api.get(&format!("/internal/usage?{bad}")).await.status, 400, "{bad}");
    }
    let none = accounts.api.get(&format!("{path}&to=2026-01-01")).await.json();
    assert_eq!(none["usage"], json!([]));
    assert!(accounts.api.stop().await);
}

fn stranger_id(id: &[u8]) -> &str {
    str::from_utf8(id).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_accounts_there_are_no_keys() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[("JWT_SIGNING_KEY", "")]).await;
    let url = format!("{}/internal/usage", accounts.api.url);
    assert_eq!(accounts.api.http.request(Method::GET, &url, &[], "").await.status, 404);
    assert!(accounts.api.stop().await);
}

/// Runs `management-api api-keys …` to its end; gives whether it ended well, and what it printed.
async fn command(kafka: &Kafka, folder: &tempfile::TempDir, arguments: &[&str]) -> (bool, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_management-api"));
    command.env_clear().arg("api-keys").args(arguments);
    command.env("KAFKA_BOOTSTRAP_SERVERS", &kafka.config.bootstrap_servers);
    command.env("DATABASE_URL", format!("sqlite:{}", folder.path().join("purchases.db").display()));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("pak_"), "a secret in the log");
    let is_told = log.contains(r#""actor":"command line""#);
    assert_eq!(is_told, output.status.success() && arguments[0] != "list", "{log}");
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_looks_after_keys_by_command() {
    let (kafka, folder) = (Kafka::start(), tempfile::tempdir().unwrap());
    let accounts = Accounts::start(&kafka, &folder, &[]).await;
    let keys = Keys::start(&accounts).await;
    let run = async |arguments: &[&str]| command(&kafka, &folder, arguments).await;
    let wish = [
        "create",
        "--account",
        "Ann@Example.com",
        "--name",
        "shop",
        "--scopes",
        "buy,service",
        "--rate-per-second",
        "9",
    ];
    let (is_good, made) = run(&wish).await;
    assert!(is_good, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let (key_id, api_key) = (made["key_id"].as_str().unwrap(), made["api_key"].as_str().unwrap());
    let known = keys.known(api_key).await;
    assert_eq!((&known["scopes"], &known["rate_per_second"]), (&json!(["buy", "service"]), &json!(9)));
    let (_, listed) = run(&["list", "--account", &keys.account_id]).await;
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap(), keys.list().await[0]);
    let (_, rotated) = run(&["rotate", key_id, "--overlap-seconds", "0"]).await;
    let rotated: Value = serde_json::from_str(&rotated).unwrap();
    assert_eq!(keys.known(api_key).await, Value::Null);
    assert_eq!(keys.known(rotated["api_key"].as_str().unwrap()).await["version"], 1);
    assert!(run(&["revoke", key_id]).await.0);
    assert_eq!(keys.known(rotated["api_key"].as_str().unwrap()).await, Value::Null);
    for bad in [
        &["rotate", key_id][..],
        &["revoke", "019a0000-0000-7000-8000-000000000001"],
        &["list", "--account", "bob@example.com"],
        &["create", "--account", "ann@example.com", "--name", "n", "--scopes", "admin"],
        &["create", "--account", "ann@example.com", "--name", " "],
        &["create", "--account", "ann@example.com", "--name", "n", "--expires-at", "2020-01-01T00:00:00Z"],
    ] {
        let (is_good, printed) = run(bad).await;
        assert!(!is_good && printed.is_empty(), "{bad:?}: {printed}");
    }
    assert!(accounts.api.stop().await);
}
