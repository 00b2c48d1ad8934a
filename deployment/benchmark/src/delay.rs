//! From the moment a purchase is accepted to the moment it is recorded.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    Section,
    buy::{all_acknowledged, open_loop_plan},
    row::{Row, Target, Unit},
    spread::millis,
    world::{World, wait_recorded},
};
use stack::{Load, LoadPlan, Result, Service, error::Doing};

const SECONDS: u64 = 20;
const REPEATS: usize = 3;
const DEADLINE: Duration = Duration::from_mins(1);
/// The first purchases after a pause are no steady state.
const WARM_UP: TimeDelta = TimeDelta::seconds(1);

/// Both services at a steady rate.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    const DATABASE: &str = "bench_delay";
    let mut management = world.management_api("bench-delay", DATABASE).await?;
    let web = world.web_server("bench-delay", Some(&management)).await?;
    let mut sent = 0;
    let mut rows = Vec::new();
    for (per_second, name) in [(1_000.0, "1,000"), (5_000.0, "5,000")] {
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for _ in 0..world.size.repeats(REPEATS) {
            let since = Utc::now() + WARM_UP;
            let report = Load::run(open_loop_plan(&web, per_second, world.size.time(SECONDS))).await;
            all_acknowledged(&report)?;
            sent += u64::try_from(report.latencies.count()).unwrap_or(u64::MAX);
            wait_recorded(&mut management, sent, DEADLINE).await?;
            let (median, most) = recorded_delays(world, DATABASE, since).await?;
            p50.push(median);
            p99.push(most);
        }
        let row = |what: &str, values: &[f64]| {
            Row::new(Section::Delay, format!("accepted to recorded at {name}/s: {what}"), Unit::Millis, values)
        };
        rows.push(row("p50", &p50).target(Target::AtMost(20.0)));
        rows.push(row("p99", &p99).target(Target::AtMost(100.0)));
    }
    rows.extend(waited_for(world, &web).await?);
    Ok(rows)
}

/// What the rows themselves say, in milliseconds.
async fn recorded_delays(world: &World, database: &str, since: DateTime<Utc>) -> Result<(f64, f64)> {
    const DELAYS: &str = "\
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY delay), percentile_cont(0.99) WITHIN GROUP (ORDER BY delay) \
        FROM (SELECT 1000 * extract(epoch FROM recorded_at - purchased_at)::float8 AS delay \
            FROM purchases WHERE purchased_at >= $1) AS delays";
    let client = world.postgres.client_of(database).await?;
    let row = client.query_one(DELAYS, &[&since]).await.doing("reading delays")?;
    Ok((row.get::<_, Option<f64>>(0).unwrap_or(0.0), row.get::<_, Option<f64>>(1).unwrap_or(0.0)))
}

/// The same as a client sees it that waits for the record: request to 201, commit and both services' answers included.
async fn waited_for(world: &World, web: &Service) -> Result<Vec<Row>> {
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..world.size.repeats(REPEATS) {
        let plan =
            LoadPlan { prefer_wait_seconds: Some(10), ..open_loop_plan(web, 1_000.0, world.size.time(SECONDS / 2)) };
        let mut report = Load::run(plan).await;
        all_acknowledged(&report)?;
        p50.push(millis(report.latencies.quantile(500)));
        p99.push(millis(report.latencies.quantile(990)));
    }
    let row = |what: &str, values: &[f64]| {
        Row::new(Section::Delay, format!("Prefer: wait at 1,000/s, request to 201: {what}"), Unit::Millis, values)
    };
    Ok(vec![row("p50", &p50), row("p99", &p99)])
}
