//! Another key of access tokens, as the README has it: the replicas of management-api are restarted one after the other, three times,
//! and no token is refused meanwhile.

use std::collections::HashSet;
use std::net::SocketAddr;

use http::Method;
use management_api::accounts::new_signing_key;
use management_api::app::Service;
use serde_json::{Value, json};
use shared::config::Settings;
use shared::kafka::InProcessBroker;
use shared::shutdown::Shutdown;
use shared::testing::{HttpClient, eventually, show_logs};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A broker and a database for all.
struct World {
    broker: InProcessBroker,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        show_logs();
        let broker = InProcessBroker::start(1).unwrap();
        broker.create_topic("purchases", 2).unwrap();
        broker.create_topic("purchases.dead-letter", 1).unwrap();
        Self { broker, folder: tempfile::tempdir().unwrap() }
    }

    fn settings(&self, more: &[(&str, &str)]) -> Settings {
        let database = format!("sqlite:{}", self.folder.path().join("purchases.db").display());
        let bootstrap = self.broker.bootstrap_servers();
        let shared = [
            ("LISTEN_ADDRESS", "127.0.0.1:0"),
            ("KAFKA_BOOTSTRAP_SERVERS", &*bootstrap),
            ("KAFKA_CREATE_TOPICS", "false"),
            ("KAFKA_FETCH_WAIT_MS", "10"),
            ("DATABASE_URL", &*database),
        ];
        Settings::from_pairs(shared.iter().chain(more).copied())
    }
}

/// One management-api.
struct Replica {
    address: SocketAddr,
    shutdown: Shutdown,
    running: JoinHandle<bool>,
}

impl Replica {
    /// Starts one, and waits until it tells its keys.
    async fn start(world: &World, address: SocketAddr, keys: &str) -> Self {
        let mut settings = world.settings(&[("JWT_SIGNING_KEY", keys)]);
        let config = management_api::config::Config::read(&mut settings);
        settings.finish().unwrap();
        let (listener, shutdown) = (TcpListener::bind(address).await.unwrap(), Shutdown::new());
        let address = listener.local_addr().unwrap();
        let running = tokio::spawn(Service::build(config, &shutdown).unwrap().run(listener));
        let (http, url) = (HttpClient::default(), format!("http://{address}/internal/token-keys"));
        eventually("it tells its keys", async || (http.get(&url).await.status == 200).then_some(())).await;
        Self { address, shutdown, running }
    }

    async fn end(self) -> SocketAddr {
        self.shutdown.stop();
        assert!(self.running.await.unwrap());
        self.address
    }
}

/// Who has signed in, goes on with its session, and shows its tokens to web-server.
struct Caller {
    http: HttpClient,
    url: String,
    refresh_token: Value,
    /// Those that must count.
    tokens: Vec<String>,
}

impl Caller {
    async fn sign_in(url: String) -> Self {
        let http = HttpClient::default();
        let account = json!({ "username": "ann", "email": "ann@example.com", "password": "correct horse" });
        let made = http.post_json(&format!("{url}/account"), account.to_string()).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let tokens = http.post_json(&format!("{url}/login"), account.to_string()).await;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        let refresh_token = tokens.json()["refresh_token"].clone();
        Self { http, url, refresh_token, tokens: vec![text(&tokens.json()["access_token"])] }
    }

    /// Takes a new token, and shows it with the oldest one. Gives the head of the new one, which names its key.
    async fn go_on(&mut self) -> String {
        let refresh = json!({ "refresh_token": self.refresh_token }).to_string();
        let answer = self.http.post_json(&format!("{}/refresh", self.url), refresh).await;
        // Whoever was asked may have ended: the same token is good again.
        if answer.status == 200 {
            self.refresh_token = answer.json()["refresh_token"].clone();
            self.tokens.push(text(&answer.json()["access_token"]));
        }
        assert!([200, 503, 504].contains(&answer.status.as_u16()), "{}", answer.text());
        let newest = self.tokens.last().unwrap();
        for token in [&self.tokens[0], newest] {
            let bearer = format!("Bearer {token}");
            let url = format!("{}/purchases", self.url);
            let read = self.http.request(Method::GET, &url, &[("authorization", &bearer)], "").await;
            assert_eq!(read.status, 200, "{}", read.text());
        }
        head(newest)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn head(token: &str) -> String {
    token.split('.').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_replicas_get_another_key_one_after_the_other_no_token_is_refused() {
    let (old, new) = (new_signing_key(), new_signing_key());
    let world = World::new();
    let anywhere = ([127, 0, 0, 1], 0).into();
    let mut replicas = vec![
        Replica::start(&world, anywhere, old.expose()).await,
        Replica::start(&world, anywhere, old.expose()).await,
    ];
    let urls: Vec<_> = replicas.iter().map(|replica| format!("http://{}", replica.address)).collect();
    let mut settings = world.settings(&[
        ("CUSTOMER_MGMT_API_URL", &urls.join(",")),
        ("MANAGEMENT_BALANCING", "round_robin"),
        ("AUTH", "jwt"),
        ("RATE_LIMIT_LOGIN_PER_MINUTE", "0"),
    ]);
    let config = web_server::Config::read(&mut settings);
    settings.finish().unwrap();
    let (listener, shutdown) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Shutdown::new());
    let url = format!("http://{}", listener.local_addr().unwrap());
    let web = tokio::spawn(web_server::run(config, listener, shutdown.clone()));
    let mut caller = Caller::sign_in(url).await;
    let of_old = caller.go_on().await;

    let (both, turned) = (format!("{}{}", old.expose(), new.expose()), format!("{}{}", new.expose(), old.expose()));
    for keys in [&both, &turned, new.expose()] {
        for number in 0..2 {
            let ending = tokio::spawn(replicas.remove(0).end());
            while !ending.is_finished() {
                caller.go_on().await;
            }
            let starting = Replica::start(&world, ending.await.unwrap(), keys);
            tokio::pin!(starting);
            let replica = loop {
                tokio::select! {
                    replica = &mut starting => break replica,
                    _ = caller.go_on() => {}
                }
            };
            replicas.push(replica);
            if keys == &turned && number == 0 {
                let mut seen = HashSet::new();
                eventually("one signs with each", async || {
                    seen.insert(caller.go_on().await);
                    (seen.len() == 2).then_some(())
                })
                .await;
            }
        }
        caller.go_on().await;
        if keys == &turned {
            let newest = caller.go_on().await;
            assert_ne!(newest, of_old, "both sign with the new one");
            // As if 16 minutes had passed: what the old one has signed is over.
            caller.tokens.retain(|token| head(token) != of_old);
        }
    }
    shutdown.stop();
    web.await.unwrap().unwrap();
    for replica in replicas {
        replica.end().await;
    }
}
