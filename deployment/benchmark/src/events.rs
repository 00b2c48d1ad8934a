//! Live events: how soon they come, what a stream costs, and what the log of commits costs recording.

use std::{net::SocketAddr, time::Duration};

use chrono::Utc;
use shared::{event::Purchase, testing::EventStream};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_postgres::Client;

use crate::{
    Section,
    buy::{self, Round, WARM_UP, all_acknowledged, open_loop_plan},
    row::{Row, Target, Unit, grouped},
    snapshot::{Batch, RECORD, SETTINGS},
    spread::{float, micros_each},
    world::World,
    wrk::WrkPlan,
};
use stack::{
    Load, LoadPlan, Result, Service, StackError,
    error::Doing,
    load::{GUIDE_BODY, Purchases},
};

const TOPIC: &str = "bench-events";
const DATABASE: &str = "bench_events";
/// Streams that are open and hear nothing.
const STREAMS: u64 = 10_000;
const ROUNDS: usize = 5;
const CONNECTIONS: usize = 64;
/// Users whose streams hear of purchases, at this rate.
const USERS: u64 = 200;
const PER_SECOND: f64 = 1_000.0;
const SECONDS: u64 = 20;
/// Once all is bought, the last events come within this.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// Recording: purchases a batch, and batches a round.
const PURCHASES: u64 = 1_000;
const BATCHES: u64 = 100;

/// What of the service's own function does not write the log.
const UNLOGGED: &str = "\
    SELECT record_purchase_rows('bench', '{0}', ARRAY[$1::bigint], ARRAY[NULL::integer], ARRAY[$1::bigint + 1], \
        ARRAY[NULL::integer], $2::uuid[], $3::text[], $3, $4::numeric[], $5::timestamptz[], NULL)";

/// Rows of this section.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    let management = [world.management_api(TOPIC, DATABASE).await?, world.management_api(TOPIC, DATABASE).await?];
    let plan = world
        .web_server_plan(TOPIC, None)?
        .with("CUSTOMER_MGMT_API_URL", management.each_ref().map(Service::base_url).join(","))
        // Room for all of them: each is counted with the buffers of its connection.
        .with("CONNECTIONS_MAX", 15_000)
        .with("EVENT_STREAMS_MAX", 15_000)
        .with("HTTP_MEMORY_MAX_KIB", 1_048_576);
    let web = world.start(plan).await?;
    let mut rows = delays(world, &web).await?;
    rows.extend(idle_streams(world, &web).await?);
    drop((web, management));
    world.clear(DATABASE).await?;
    rows.push(recording(world).await?);
    Ok(rows)
}

/// From the commit, as the row tells it, to the event, by one clock; half of the commits are another replica's than the one that is
/// asked.
async fn delays(world: &World, web: &Service) -> Result<Vec<Row>> {
    let purchases = Purchases::unique(USERS);
    let (stop, stopped) = watch::channel(());
    let mut listening = JoinSet::new();
    for userid in purchases.userids() {
        let stream = open(web, &userid.replace(' ', "%20")).await?;
        listening.spawn(listen(stream, stopped.clone()));
    }
    let load = LoadPlan { purchases, ..open_loop_plan(web, PER_SECOND, world.size.time(SECONDS)) };
    all_acknowledged(&Load::run(load).await)?;
    sleep(LAST_EVENTS).await;
    stop.send_replace(());
    let mut delays: Vec<f64> = listening.join_all().await.into_iter().flatten().collect();
    delays.sort_unstable_by(f64::total_cmp);
    let quantile = |thousandths: usize| delays.get(delays.len() * thousandths / 1000).copied().unwrap_or(f64::INFINITY);
    let row = |what: &str, value| {
        let what = format!("recorded to told, {PER_SECOND}/s, {USERS} streams, two replicas of management-api: {what}");
        Row::new(Section::Events, what, Unit::Millis, &[value])
    };
    Ok(vec![row("p50", quantile(500)), row("p99", quantile(990)).target(Target::AtMost(250.0))])
}

/// How long after its commit each event came, in milliseconds.
async fn listen(mut stream: EventStream, mut stopped: watch::Receiver<()>) -> Vec<f64> {
    let mut delays = Vec::new();
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            _ = stopped.changed() => None,
        };
        let Some(event) = event else { return delays };
        let told = Utc::now();
        let recorded = serde_json::from_str::<Purchase>(&event.data).ok().and_then(|purchase| purchase.recorded_at);
        if let Some(recorded) = recorded {
            delays.push((told - recorded.datetime()).as_seconds_f64() * 1e3);
        }
    }
}

/// `/buy` without streams and with many, and what each of those takes.
async fn idle_streams(world: &World, web: &Service) -> Result<Vec<Row>> {
    let streams = world.size.count(STREAMS);
    let (mut alone, mut beside, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..world.size.repeats(ROUNDS) {
        alone.push(round(world, web).await?);
        let before = web.rss_bytes();
        let mut open_streams = Vec::new();
        for number in 0..streams {
            open_streams.push(open(web, &format!("listener-{number}")).await?);
        }
        bytes.push(float(web.rss_bytes().saturating_sub(before)) / float(streams) / 1024.0);
        beside.push(round(world, web).await?);
        drop(open_streams);
        until_closed(web).await?;
    }
    let cpu = |rounds: &[Round]| rounds.iter().map(Round::cpu_micros).collect::<Vec<_>>();
    let what = format!("{} open streams: web-server's memory for each, in KiB", grouped(streams));
    let buy = format!(
        "/buy, {CONNECTIONS} connections, beside {} open streams: CPU of web-server a request",
        grouped(streams)
    );
    Ok(vec![
        Row::new(Section::Events, what, Unit::Count, &bytes).target(Target::AtMost(20.0)),
        Row::new(Section::Events, buy, Unit::Micros, &cpu(&beside))
            .beside("alone", &cpu(&alone))
            .target(Target::RatioAtMost(1.1)),
    ])
}

async fn round(world: &World, web: &Service) -> Result<Round> {
    let plan = WrkPlan { body: GUIDE_BODY.to_owned(), ..WrkPlan::new(web.address(), CONNECTIONS, WARM_UP) };
    buy::round(world, web, plan).await
}

async fn open(web: &Service, userid: &str) -> Result<EventStream> {
    let address: SocketAddr =
        web.address().parse().map_err(|error| StackError::Refused(format!("no address: {error}")))?;
    let mut stream =
        EventStream::try_open(address, &format!("/users/{userid}/events"), &[]).await.doing("opening a stream")?;
    if stream.status() != 200 {
        return Err(StackError::Refused(format!("a stream is refused: {:?}", stream.head)));
    }
    stream.opened().await;
    Ok(stream)
}

async fn until_closed(web: &Service) -> Result<()> {
    let end = Instant::now() + Duration::from_mins(1);
    while Instant::now() < end {
        let page = web.metrics().await?;
        if stack::metrics::sum(&page, "event_streams", "").is_some_and(|open| open < 0.5) {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(StackError::Refused("streams stay open".to_owned()))
}

/// The same batches with the log and without it, in turns.
async fn recording(world: &World) -> Result<Row> {
    world.empty_tables(DATABASE).await?;
    let client = world.postgres.client_of(DATABASE).await?;
    client.batch_execute(SETTINGS).await.doing(SETTINGS)?;
    let (mut logged, mut unlogged, mut offset) = (Vec::new(), Vec::new(), 0);
    for number in 0..=world.size.repeats(2 * ROUNDS) {
        let with = record(world, &client, RECORD, &mut offset).await?;
        let without = record(world, &client, UNLOGGED, &mut offset).await?;
        // What is cold at the beginning says nothing.
        if number > 0 {
            logged.push(with);
            unlogged.push(without);
        }
    }
    drop(client);
    world.clear(DATABASE).await?;
    let what =
        format!("recording batches of {}, with the log of commits: CPU of PostgreSQL a batch", grouped(PURCHASES));
    let row = Row::new(Section::Events, what, Unit::Micros, &logged).beside("without the log", &unlogged);
    Ok(row.target(Target::RatioAtMost(1.05)))
}

/// So many batches: PostgreSQL's CPU for each, in microseconds.
async fn record(world: &World, client: &Client, text: &str, offset: &mut i64) -> Result<f64> {
    let statement = client.prepare(text).await.doing("preparing")?;
    let (before, batches) = (world.postgres.cpu_time(), world.size.count(BATCHES).max(1));
    for _ in 0..batches {
        let Batch { ids, users, marks, prices, times } = Batch::new(PURCHASES, USERS);
        let recorded = if text == RECORD {
            client.execute(&statement, &[offset, &ids, &users, &prices, &times, &marks]).await
        } else {
            client.execute(&statement, &[offset, &ids, &users, &prices, &times]).await
        };
        recorded.doing("recording")?;
        *offset += 1;
    }
    Ok(micros_each(world.postgres.cpu_time().saturating_sub(before), batches))
}
