//! Reads over three replicas of management-api that are well, and over three that are not. The replicas are stand-ins which
//! answer by the clock, so that what is measured is web-server's way to them.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::{
    Section,
    client::Client,
    row::{Row, Target, Unit},
    spread::{float, millis},
    world::World,
};
use stack::{
    Result, Service, StackError,
    load::Latencies,
    ports::free_port,
    stand_ins::{Pace, StandIn},
};

const ROUNDS: usize = 3;
const CALLERS: usize = 8;
const READS: u64 = 4_000;
const SLOW_READS: u64 = 1_200;
const SLOW_CALLERS: usize = 128;
const READY: Duration = Duration::from_mins(1);

/// Rows of this section.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    let (mut well, mut unwell, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..world.size.repeats(ROUNDS) {
        well.push(read_well(world).await?);
        unwell.push(read_unwell(world).await?);
        attempts.push(attempts_when_all_are_slow(world).await?);
    }
    let row = |what: &str, unit, values: &[f64]| Row::new(Section::Hedging, what, unit, values);
    let faulty = "reads, one of three replicas takes 300 ms for 5 % of calls, one is dead: p99";
    Ok(vec![
        row(faulty, Unit::Millis, &unwell)
            .beside("three that are well, 2 to 5 ms", &well)
            .target(Target::RatioAtMost(3.0)),
        row("reads, all three replicas take 1 s: attempts a call", Unit::Count, &attempts).target(Target::AtMost(1.1)),
    ])
}

async fn read_well(world: &World) -> Result<f64> {
    let replicas = three(Pace::Well).await?;
    let web = web_server(world, replicas.each_ref().map(|replica| replica.address)).await?;
    p99(&web, CALLERS, world.size.count(READS)).await
}

async fn read_unwell(world: &World) -> Result<f64> {
    let (one, other) = (StandIn::start(0, Pace::Well).await?, StandIn::start(0, Pace::Hiccups).await?);
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let web = web_server(world, [one.address, other.address, dead]).await?;
    p99(&web, CALLERS, world.size.count(READS)).await
}

async fn attempts_when_all_are_slow(world: &World) -> Result<f64> {
    let replicas = three(Pace::Slow).await?;
    let web = web_server(world, replicas.each_ref().map(|replica| replica.address)).await?;
    let reads = world.size.count(SLOW_READS).max(200);
    p99(&web, SLOW_CALLERS, reads).await?;
    Ok(replicas.iter().map(|replica| float(replica.asked())).sum::<f64>() / float(reads))
}

async fn three(pace: Pace) -> Result<[StandIn; 3]> {
    Ok([StandIn::start(0, pace).await?, StandIn::start(0, pace).await?, StandIn::start(0, pace).await?])
}

async fn web_server(world: &World, replicas: [SocketAddr; 3]) -> Result<Service> {
    let urls = replicas.map(|address| format!("http://{address}")).join(",");
    let plan = world.web_server_plan("bench-hedging", None)?.with("CUSTOMER_MGMT_API_URL", urls);
    let mut service = Service::start(world.folder(), plan)?;
    service.wait_ready(READY).await?;
    Ok(service)
}

/// The 99th percentile, in milliseconds, of reads by so many callers, each of which waits for its answer before it asks again.
async fn p99(web: &Service, callers: usize, reads: u64) -> Result<f64> {
    let left = AtomicU64::new(reads);
    let caller = async || {
        let mut client = Client::open(&web.address()).await?;
        let mut latencies = Latencies::default();
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let begun = Instant::now();
            client.get("/purchases?limit=10").await?;
            latencies.add(begun.elapsed());
        }
        Ok::<_, StackError>(latencies)
    };
    let mut all = Latencies::default();
    for latencies in try_join_all((0..callers).map(|_| caller())).await? {
        all.merge(&latencies);
    }
    Ok(millis(all.quantile(990)))
}
