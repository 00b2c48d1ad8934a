//! How soon work goes on when a consumer or a broker is killed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    Section,
    buy::all_acknowledged,
    row::{Row, Target, Unit},
    spread::millis,
    world::World,
};
use stack::{
    KafkaCluster, Load, LoadPlan, Result, Service,
    error::Doing,
    load::{Pace, Progress},
    metrics,
};

const REPEATS: usize = 3;
const PER_SECOND: f64 = 500.0;
const CALLERS: usize = 200;
const BROKERS: usize = 3;
/// A load runs for so long before the kill, and after it.
const BEFORE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(15);
/// How long a caller repeats a purchase, with its key.
const RETRY_FOR: Duration = Duration::from_mins(1);
/// How often is looked how far a load is.
const LOOK: Duration = Duration::from_millis(20);
const READY: Duration = Duration::from_mins(2);

/// Kills both.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    let mut rows = vec![kill_consumers(world).await?];
    rows.extend(kill_brokers(world).await?);
    Ok(rows)
}

/// One of two consumers under a steady load: the longest that a purchase waited until it was recorded.
async fn kill_consumers(world: &World) -> Result<Row> {
    const DATABASE: &str = "bench_killed";
    let topic = "bench-killed";
    let mut services = [world.management_api(topic, DATABASE).await?, world.management_api(topic, DATABASE).await?];
    let web = world.web_server(topic, None).await?;
    let mut waited = Vec::new();
    for number in 0..world.size.repeats(REPEATS) {
        share_partitions(&mut services).await?;
        let plan = LoadPlan { pace: Pace::PerSecond(PER_SECOND), ..LoadPlan::new(vec![web.address()], CALLERS) };
        let load = Load::start(plan);
        sleep(BEFORE).await;
        let victim = &mut services[number % 2];
        victim.kill_9();
        sleep(AFTER).await;
        all_acknowledged(&load.stop().await)?;
        waited.push(longest_wait(world, DATABASE).await?);
        let victim = &mut services[number % 2];
        victim.start_again()?;
        victim.wait_ready(READY).await?;
    }
    drop(services);
    world.clear(DATABASE).await?;
    let what = "one of two consumers killed at 500 purchases a second: the longest from accepted to recorded";
    Ok(Row::new(Section::Faults, what.to_owned(), Unit::Millis, &waited).target(Target::AtMost(4_000.0)))
}

/// Waits until each has partitions.
async fn share_partitions(services: &mut [Service; 2]) -> Result<()> {
    for service in services {
        let end = Instant::now() + READY;
        loop {
            let page = service.metrics().await.unwrap_or_default();
            if metrics::sum(&page, "kafka_consumer_assigned_partitions", "").unwrap_or(0.0) > 0.0 {
                break;
            }
            if Instant::now() >= end {
                return Err(stack::StackError::Refused("a consumer has got no partition".to_owned()));
            }
            sleep(LOOK).await;
        }
    }
    Ok(())
}

/// Among the purchases of the last load, in milliseconds.
async fn longest_wait(world: &World, database: &str) -> Result<f64> {
    const LONGEST: &str = "\
        SELECT extract(epoch FROM max(recorded_at - purchased_at))::float8 FROM purchases \
        WHERE purchased_at > now() - $1::float8 * interval '1 second'";
    let client = world.postgres.client_of(database).await?;
    let row = client.query_one(LONGEST, &[&(BEFORE + AFTER).as_secs_f64()]).await.doing("reading commit times")?;
    Ok(row.get::<_, Option<f64>>(0).unwrap_or(0.0) * 1e3)
}

/// Each of three brokers in turn, under callers of two kinds: the longest time in which no purchase was accepted.
async fn kill_brokers(world: &World) -> Result<Vec<Row>> {
    let mut kafka = KafkaCluster::start(&world.folder().join("three-brokers"), BROKERS).await?;
    let plan = world.web_server_plan("bench-brokers", None)?.with("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers());
    let mut web = Service::start(world.folder(), plan)?;
    web.wait_ready(READY).await?;
    let mut rows = Vec::new();
    for (name, pace) in
        [("200 a second", Pace::PerSecond(200.0)), ("200 callers one after the other", Pace::ClosedLoop)]
    {
        let mut pauses = Vec::new();
        for broker in 1..=world.size.repeats(BROKERS) {
            kafka.wait_in_sync(READY).await?;
            pauses.push(kill_broker(&mut kafka, broker, &web, pace).await?);
        }
        let what = format!("one of three brokers killed, {name}: the longest without an accepted purchase");
        let row = Row::new(Section::Faults, what, Unit::Millis, &pauses);
        rows.push(row.target(Target::AtMost(1_000.0)));
    }
    Ok(rows)
}

async fn kill_broker(kafka: &mut KafkaCluster, broker: usize, web: &Service, pace: Pace) -> Result<f64> {
    let load = Load::start(LoadPlan { pace, retry_for: RETRY_FOR, ..LoadPlan::new(vec![web.address()], CALLERS) });
    sleep(BEFORE).await;
    kafka.kill_9(broker);
    let pause = longest_pause(load.progress()).await;
    all_acknowledged(&load.stop().await)?;
    kafka.start_broker(broker).await?;
    Ok(millis(pause))
}

/// The longest time without progress from now on.
async fn longest_pause(progress: &Progress) -> Duration {
    let end = Instant::now() + AFTER;
    let (mut seen, mut since, mut longest) = (progress.acknowledged(), Instant::now(), Duration::ZERO);
    while Instant::now() < end {
        sleep(LOOK).await;
        longest = longest.max(since.elapsed());
        let now = progress.acknowledged();
        if now > seen {
            (seen, since) = (now, Instant::now());
        }
    }
    longest
}
