//! Several servers that share their callers' limits.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use futures_util::future::join_all;
use futures_util::stream::repeat;
use tokio::net::TcpListener;
use tokio::time::interval;
use web_server::limits::CallerKey;

use crate::harness::{Client, FakeManagement, FakeServer, PromptPublisher, eventually};

const TOKEN: &str = "among-ourselves";
const HEARD: &str = r#"rate_limit_peers{state="heard"}"#;
const SILENT: &str = r#"rate_limit_peers{state="silent"}"#;

/// So many servers that know each other.
async fn fleet(servers: usize, limit: &str) -> Vec<FakeServer> {
    let listeners = join_all((0..servers).map(|_| TcpListener::bind("127.0.0.1:0"))).await;
    let listeners: Vec<_> = listeners.into_iter().map(Result::unwrap).collect();
    let peers: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    let fleet = join_all(listeners.into_iter().map(|listener| server(listener, limit, peers.join(",")))).await;
    for server in &fleet {
        heard(server, servers - 1).await;
    }
    fleet
}

async fn server(listener: TcpListener, limit: &str, peers: String) -> FakeServer {
    let settings = [("RATE_LIMIT_PER_SECOND", limit), ("RATE_LIMIT_PEERS", &peers), ("RATE_LIMIT_PEER_TOKEN", TOKEN)];
    FakeServer::on(listener, &settings, Arc::new(PromptPublisher)).await
}

async fn heard(server: &FakeServer, others: usize) {
    let expected = others.to_string().parse().ok();
    eventually("they hear each other", async || server.metric(HEARD).await == expected).await;
}

/// Asks a server so often, until the task is dropped; gives where it is counted what was let in.
fn load(client: &Client, per_second: u64) -> (Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let (admitted, client) = (Arc::new(AtomicUsize::new(0)), client.clone());
    let counter = Arc::clone(&admitted);
    let asking = tokio::spawn(async move {
        let mut ticks = interval(Duration::from_micros(1_000_000 / per_second));
        loop {
            ticks.tick().await;
            if client.buy().await.status == 202 {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    (admitted, asking)
}

/// What is let in a second under such loads, once it does not change any more.
async fn rate(servers: &[&FakeServer], per_second: &[u64]) -> f64 {
    let loads: Vec<_> =
        servers.iter().zip(per_second).map(|(server, load_of)| load(&server.client, *load_of)).collect();
    let count = || {
        f64::from(
            u32::try_from(loads.iter().map(|(admitted, _)| admitted.load(Ordering::Relaxed)).sum::<usize>()).unwrap(),
        )
    };
    // Two seconds to get to know each other's callers, and three that count.
    let mut marks = Vec::new();
    let mut seconds = interval(Duration::from_secs(1));
    for _ in 0..=5 {
        seconds.tick().await;
        marks.push((Instant::now(), count()));
    }
    for (_, asking) in &loads {
        asking.abort();
    }
    (marks[5].1 - marks[2].1) / (marks[5].0 - marks[2].0).as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_share_a_limit_whoever_is_asked() {
    let fleet = fleet(2, "60").await;
    let both: Vec<_> = fleet.iter().collect();
    let even = rate(&both, &[60, 60]).await;
    assert!((50.0..70.0).contains(&even), "{even} a second");
    let uneven = rate(&both, &[10, 110]).await;
    assert!((50.0..70.0).contains(&uneven), "{uneven} a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_servers_share_a_limit_and_one_that_goes_leaves_its_part_to_the_others() {
    let mut fleet = fleet(4, "80").await;
    let all: Vec<_> = fleet.iter().collect();
    let even = rate(&all, &[50; 4]).await;
    assert!((66.0..94.0).contains(&even), "{even} a second");
    drop(fleet.split_off(2));
    heard(&fleet[0], 1).await;
    let two = rate(&[&fleet[0], &fleet[1]], &[80, 80]).await;
    assert!((66.0..94.0).contains(&two), "{two} a second");
    assert_eq!(fleet[0].metric(SILENT).await, Some(2.0));
}

/// What a replica tells that is none.
fn report(number: usize, demands: &str) -> String {
    format!(r#"{{"instance":"00000000-0000-0000-0000-{number:012}","sequence":1,"demands":[{demands}]}}"#)
}

/// What it says that the caller of these tests asks for.
fn demand(per_window: &str) -> String {
    let caller = serde_json::to_string(&CallerKey::of_address([127, 0, 0, 1].into())).unwrap();
    format!(r#"{{"caller":{caller},"class":"buy","per_window":{per_window},"admitted":0}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_says_it_is_a_server_and_lies_gets_nobody_more_than_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = server(listener, "20", "127.0.0.1:9".to_owned()).await;
    let tell = async |token: &str, body: String| {
        let request = server.client.post("/internal/demand", body).header("authorization", &format!("Bearer {token}"));
        request.send_undocumented().await.status
    };
    assert_eq!(tell("guess", report(1, "")).await, 401);
    assert_eq!(server.client.post("/internal/demand", report(1, "")).send_undocumented().await.status, 401);
    for (number, rate) in ["-1e30", "0", "1e38", "20"].into_iter().enumerate() {
        assert_eq!(tell(TOKEN, report(number, &demand(rate))).await, 200, "{rate}");
    }
    for rate in ["NaN", "1e999", "null", "\"1\""] {
        assert_eq!(tell(TOKEN, report(7, &demand(rate))).await, 400, "{rate}");
    }
    assert_eq!(tell(TOKEN, report(7, &vec![demand("1"); 513].join(","))).await, 400, "too many");
    assert_eq!(tell(TOKEN, report(7, &" ".repeat(70_000))).await, 400, "too large");
    assert_eq!(tell(TOKEN, String::new()).await, 400);
    let mut admitted = 0;
    for _ in 0..100 {
        admitted += usize::from(server.client.buy().await.status == 202);
    }
    assert!((1..=21).contains(&admitted), "{admitted} at once");
    eventually("liars that fall silent are forgotten", async || server.metric(HEARD).await == Some(0.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_server_of_ours_or_never_answers_holds_nothing_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stranger = FakeManagement::start().await;
    let peers = format!("{},{},nowhere.invalid:1", silent.local_addr().unwrap(), stranger.address);
    let server = server(TcpListener::bind("127.0.0.1:0").await.unwrap(), "1000", peers).await;
    eventually("both are silent", async || server.metric(SILENT).await == Some(2.0)).await;
    for _ in 0..50 {
        let asked = Instant::now();
        assert_eq!(server.client.buy().await.status, 202);
        assert!(asked.elapsed() < Duration::from_secs(2));
    }
}

/// Answers whatever it is asked with this.
async fn stranger(answer: impl Fn() -> Body + Clone + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new().fallback(async move || answer());
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_with_lies_or_without_end_gets_nobody_more_than_the_limit() {
    let lie = report(1, &demand("1e38"));
    let liar = stranger(move || Body::from(lie.clone())).await;
    let endless = stranger(|| Body::from_stream(repeat(Ok::<_, Infallible>("[0,")))).await;
    let nonsense = stranger(|| Body::from("<html>")).await;
    let peers = format!("{liar},{endless},{nonsense}");
    let server = server(TcpListener::bind("127.0.0.1:0").await.unwrap(), "20", peers).await;
    heard(&server, 1).await;
    eventually("the others are silent", async || server.metric(SILENT).await == Some(2.0)).await;
    let answers = join_all((0..100).map(|_| server.client.buy())).await;
    let admitted = answers.iter().filter(|answer| answer.status == 202).count();
    assert!((1..=21).contains(&admitted), "{admitted} at once");
    assert_eq!(server.client.get("/livez").await.status, 200);
}

#[tokio::test]
async fn who_finds_only_itself_has_all_of_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let itself = listener.local_addr().unwrap().to_string();
    let settings = [
        ("RATE_LIMIT_PER_SECOND", "40"),
        ("RATE_LIMIT_PEERS", itself.as_str()),
        ("RATE_LIMIT_PEER_TOKEN", TOKEN),
        ("TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let server = FakeServer::on(listener, &settings, Arc::new(PromptPublisher)).await;
    let callers = AtomicUsize::new(0);
    eventually("a new caller has all of it", async || {
        let caller = format!("192.0.2.{}", callers.fetch_add(1, Ordering::Relaxed));
        let request = server.client.request("GET", "/purchases/x").header("x-forwarded-for", &caller);
        request.send().await.header("ratelimit") == r#""read";r=39;t=1"#
    })
    .await;
    eventually("it misses nobody", async || server.metric(SILENT).await == Some(0.0)).await;
    assert_eq!(server.metric(HEARD).await, Some(0.0));
}

#[tokio::test]
async fn where_there_is_a_port_for_operations_others_tell_there_alone() {
    let operations = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = [
        ("RATE_LIMIT_PER_SECOND", "40"),
        ("RATE_LIMIT_PEERS", "127.0.0.1:9"),
        ("RATE_LIMIT_PEER_TOKEN", TOKEN),
        ("OPERATIONS_LISTEN_ADDRESS", &operations.to_string()),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = FakeServer::on(listener, &settings, Arc::new(PromptPublisher)).await;
    let tell = async |client: &Client| {
        let request =
            client.post("/internal/demand", report(1, "")).header("authorization", &format!("Bearer {TOKEN}"));
        request.try_send().await.map(|answer| answer.status)
    };
    let operations = Client::new(operations);
    eventually("it is heard there", async || tell(&operations).await == Some(200)).await;
    assert_eq!(tell(&server.client).await, Some(404));
    let counted = operations.metric(r#"http_request_total{method="POST",path="unmatched",status="404"}"#).await;
    assert_eq!(counted, Some(1.0), "what replicas tell each other counts as no request");
}

#[tokio::test]
async fn where_no_others_are_set_nobody_can_tell_anything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let alone = FakeServer::on(listener, &[("RATE_LIMIT_PER_SECOND", "5")], Arc::new(PromptPublisher)).await;
    assert_eq!(alone.client.post("/internal/demand", "{}").send().await.status, 404);
}
