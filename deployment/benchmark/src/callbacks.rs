//! Callbacks: a thousand a second to a fast receiver, alone and while somebody keeps a snapshot open, and a host among a hundred that
//! hangs.

use std::{
    future::pending,
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Bytes, http::HeaderMap};
use chrono::Utc;
use serde::Deserialize;
use serde_json::json;
use shared::{event::Timestamp, testing::HttpClient};
use stack::{Load, LoadPlan, Result, Service, StackError, error::Doing, load::Purchases, service::Program};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Section,
    buy::{all_acknowledged, open_loop_plan},
    row::{Row, Target, Unit},
    spread::{float, micros_each},
    world::World,
};

const TOPIC: &str = "bench-callbacks";
const DATABASE: &str = "bench_callbacks";
/// Purchases a second, each with a callback, and how long; the last minute is what counts.
const PER_SECOND: f64 = 1_000.0;
const ALONE_SECONDS: u64 = 120;
const SNAPSHOT_SECONDS: u64 = 600;
const COUNTED: Duration = Duration::from_mins(1);
/// Hosts, one of which hangs, and for how long each gets ten callbacks a second.
const HOSTS: usize = 100;
const HOSTS_SECONDS: u64 = 60;
/// The last callbacks come within this.
const LAST: Duration = Duration::from_secs(3);

/// Rows of this section.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    let mut rows = fast_receiver(world).await?;
    rows.push(hanging_host(world).await?);
    Ok(rows)
}

/// What a receiver has had, in one phase.
struct Phase {
    per_second: f64,
    p99_ms: f64,
    /// CPU of management-api for each, recording with it.
    cpu_micros: f64,
}

async fn fast_receiver(world: &World) -> Result<Vec<Row>> {
    let receiver = Receiver::start(false).await?;
    let (management, web) = start(world).await?;
    let alone = phase(world, &management, &web, &receiver, ALONE_SECONDS).await?;
    let client = world.postgres.client_of(DATABASE).await?;
    let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM purchases";
    client.batch_execute(snapshot).await.doing(snapshot)?;
    let held = phase(world, &management, &web, &receiver, SNAPSHOT_SECONDS).await?;
    let sizes = "SELECT sum(pg_total_relation_size(oid))::float8 FROM pg_class WHERE relname IN ('callbacks', 'callback_batches')";
    let bytes: f64 = world.postgres.client_of(DATABASE).await?.query_one(sizes, &[]).await.doing(sizes)?.get(0);
    drop((client, web, management));
    world.clear(DATABASE).await?;
    let what = |what: &str| {
        let minutes = world.size.time(SNAPSHOT_SECONDS).as_secs() / 60;
        format!("callbacks, {PER_SECOND} purchases/s, {minutes} minutes with a snapshot open: {what}")
    };
    let row = |text: &str, unit, value| Row::new(Section::Callbacks, what(text), unit, &[value]);
    Ok(vec![
        row("delivered a second", Unit::PerSecond, held.per_second)
            .beside("without a snapshot", &[alone.per_second])
            .target(Target::RatioAtLeast(0.8)),
        row("p99 from recorded to received", Unit::Millis, held.p99_ms).beside("without a snapshot", &[alone.p99_ms]),
        row("CPU of management-api each, with its recording", Unit::Micros, held.cpu_micros)
            .beside("without a snapshot", &[alone.cpu_micros]),
        row("size of the outbox's tables", Unit::Mebibytes, bytes / 1024.0 / 1024.0),
    ])
}

async fn phase(world: &World, management: &Service, web: &Service, receiver: &Receiver, seconds: u64) -> Result<Phase> {
    let time = world.size.time(seconds);
    let body = json!({ "username": "test", "userid": "loadtest", "price": 10, "callback_url": receiver.url(1) });
    let purchases = Purchases::Same { body: body.to_string() };
    let load = Load::start(LoadPlan { purchases, ..open_loop_plan(web, PER_SECOND, time) });
    let counted = COUNTED.min(time / 2);
    sleep(time - counted).await;
    receiver.take();
    let before = management.cpu_time();
    all_acknowledged(&load.finish().await)?;
    let cpu = management.cpu_time().saturating_sub(before);
    let mut delays = receiver.take();
    sleep(LAST).await;
    receiver.take();
    let received = u64::try_from(delays.len()).unwrap_or(u64::MAX);
    Ok(Phase {
        per_second: float(received) / counted.as_secs_f64(),
        p99_ms: p99(&mut delays),
        cpu_micros: micros_each(cpu, received.max(1)),
    })
}

async fn hanging_host(world: &World) -> Result<Row> {
    let receiver = Receiver::start(true).await?;
    let (management, web) = start(world).await?;
    let (http, url) = (HttpClient::default(), format!("{}/buy/batch", web.base_url()));
    let purchase =
        |host| json!({ "username": "test", "userid": "loadtest", "price": 10, "callback_url": receiver.url(host) });
    let body = json!((1..=HOSTS).map(purchase).collect::<Vec<_>>()).to_string();
    let end = Instant::now() + world.size.time(HOSTS_SECONDS);
    let mut next = Instant::now();
    while next < end {
        sleep_until(next).await;
        next += Duration::from_millis(100);
        let answer = http.post_json(&url, body.clone()).await;
        if !answer.status.is_success() {
            return Err(StackError::Refused(format!("a batch is refused: {}", answer.text())));
        }
    }
    sleep(LAST).await;
    let mut delays = receiver.take();
    drop((web, management));
    world.clear(DATABASE).await?;
    let what = format!("callbacks to {HOSTS} hosts, one of which hangs: p99 of the others from recorded to received");
    Ok(Row::new(Section::Callbacks, what, Unit::Millis, &[p99(&mut delays)]).target(Target::AtMost(1_000.0)))
}

async fn start(world: &World) -> Result<(Service, Service)> {
    world.postgres.create_database(DATABASE).await?;
    let plan = world
        .management_api_plan(TOPIC, DATABASE)?
        .with("CALLBACK_SIGNING_SECRET", new_secret()?)
        .with("CALLBACK_ALLOW_HTTP", true)
        .with("CALLBACK_ALLOW_PRIVATE", true);
    let management = world.start(plan).await?;
    let web = world.web_server(TOPIC, Some(&management)).await?;
    Ok((management, web))
}

fn new_secret() -> Result<String> {
    let mut command = Command::new(Program::ManagementApi.executable()?);
    let output = command.args(["callbacks", "new-secret"]).output().doing("making keys of callbacks")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn p99(delays: &mut [f64]) -> f64 {
    delays.sort_unstable_by(f64::total_cmp);
    delays.get(delays.len() * 99 / 100).copied().unwrap_or(f64::INFINITY)
}

/// A receiver at every loopback address: how long after its commit each callback came, in milliseconds.
struct Receiver {
    port: u16,
    delays: Arc<Mutex<Vec<f64>>>,
    serving: JoinHandle<()>,
}

/// What a receiver looks at.
#[derive(Deserialize)]
struct Body {
    timestamp: Timestamp,
}

impl Receiver {
    /// If one host hangs, it is the first.
    async fn start(first_hangs: bool) -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], 0))).await.doing("opening a port")?;
        let port = listener.local_addr().doing("looking at a port")?.port();
        let delays: Arc<Mutex<Vec<f64>>> = Arc::default();
        let had = Arc::clone(&delays);
        let handler = move |headers: HeaderMap, body: Bytes| {
            let had = Arc::clone(&had);
            async move {
                let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
                if first_hangs && host.starts_with("127.0.0.1:") {
                    pending::<()>().await;
                }
                if let Ok(Body { timestamp }) = serde_json::from_slice(&body) {
                    let delay = (Utc::now() - timestamp.datetime()).as_seconds_f64() * 1e3;
                    had.lock().unwrap_or_else(PoisonError::into_inner).push(delay);
                }
            }
        };
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, Router::new().fallback(handler)).await;
        });
        Ok(Self { port, delays, serving })
    }

    fn url(&self, host: usize) -> String {
        format!("http://127.0.0.{host}:{}/", self.port)
    }

    /// What came since the last look.
    fn take(&self) -> Vec<f64> {
        std::mem::take(&mut self.delays.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
