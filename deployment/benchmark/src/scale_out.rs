//! A backlog of the guide's own purchase, all of one user, drained by 1, 2 and 5 consumers: what more of them bring, by
//! how records are spread over partitions.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep};

use crate::{
    Section,
    buy::all_acknowledged,
    row::{Row, Target, Unit, grouped},
    spread::float,
    world::{PARTITIONS, World},
};
use stack::{Load, LoadPlan, Result, Service, StackError, error::Doing, load::Purchases, metrics};

const CONSUMERS: [usize; 3] = [1, 2, 5];
const REPEATS: usize = 3;
const DEADLINE: Duration = Duration::from_mins(2);
/// Longer than consumers are frozen while the backlog is made.
const SESSION_TIMEOUT: Duration = Duration::from_mins(2);

/// How consumers record, and how large the backlog is.
struct Trial {
    name: &'static str,
    /// The pause before each transaction, and its records.
    slow: Option<(Duration, u64)>,
    records: u64,
}

const TRIALS: [Trial; 2] = [
    // As to a database far away: a consumer waits instead of using the cores that all of them share here.
    Trial {
        name: "100 ms before each transaction of 100",
        slow: Some((Duration::from_millis(100), 100)),
        records: 8_000,
    },
    Trial { name: "no pause", slow: None, records: 200_000 },
];

/// `KAFKA_PARTITION_BY`.
const MODES: [&str; 2] = ["balanced", "userid"];

/// Drain times by trial, partitioning and number of consumers.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for trial in &TRIALS {
        for mode in MODES {
            let mut one = Vec::new();
            for consumers in CONSUMERS {
                let millis = drain(world, trial, mode, consumers).await?;
                rows.push(row(world, (trial, mode, consumers), &millis, &one));
                if consumers == 1 {
                    one = millis;
                }
            }
        }
    }
    Ok(rows)
}

fn row(world: &World, (trial, mode, consumers): (&Trial, &str, usize), millis: &[f64], one: &[f64]) -> Row {
    let backlog = grouped(world.size.count(trial.records));
    let plural = if consumers == 1 { "" } else { "s" };
    let what = format!("backlog of {backlog} by one user, {mode}, {}: {consumers} consumer{plural}", trial.name);
    let row = Row::new(Section::ScaleOut, what, Unit::Millis, millis);
    if consumers == 1 {
        return row;
    }
    let row = row.beside("1 consumer", one);
    match (mode, trial.slow) {
        ("balanced", Some(_)) => row.target(Target::RatioAtMost(if consumers == 2 { 0.6 } else { 0.3 })),
        ("userid", Some(_)) => row.target(Target::RatioAtLeast(0.9)).note("one partition: nothing to gain"),
        _ => row,
    }
}

/// Milliseconds from the moment that waiting consumers see the backlog to the last commit.
async fn drain(world: &World, trial: &Trial, mode: &str, consumers: usize) -> Result<Vec<f64>> {
    const DATABASE: &str = "bench_scale_out";
    let pause = trial.slow.map_or(0, |(pause, _)| pause.as_millis());
    let topic = format!("bench-scale-out-{mode}-{pause}-{consumers}");
    world.clear(DATABASE).await?;
    world.postgres.create_database(DATABASE).await?;
    let mut group = Vec::new();
    for number in 1..=consumers {
        group.push(consumer(world, trial, &topic, (number, DATABASE))?);
    }
    wait_for(world, "every consumer has its share", async || {
        let share = f64::from(PARTITIONS) / float(u64::try_from(consumers).unwrap_or(1));
        let assigned = each(&group, "kafka_consumer_assigned_partitions").await;
        assigned.iter().all(|count| (count - share).abs() < 0.5)
    })
    .await?;
    let web = world.web_server_plan(&topic, None)?.with("KAFKA_PARTITION_BY", mode);
    let mut web = Service::start(world.folder(), web)?;
    web.wait_ready(DEADLINE).await?;
    let (mut millis, mut total) = (Vec::new(), 0);
    for _ in 0..world.size.repeats(REPEATS) {
        group.iter().for_each(Service::sigstop);
        let records = world.size.count(trial.records);
        let purchases = Purchases::of_the_guide();
        let plan = LoadPlan { purchases, purchases_max: Some(records), ..LoadPlan::new(vec![web.address()], 64) };
        all_acknowledged(&Load::run(plan).await)?;
        total += records;
        let begun = Utc::now();
        group.iter().for_each(Service::sigcont);
        wait_for(world, "the backlog is recorded", async || {
            let done: f64 = each(&group, "kafka_messages_processed_total").await.iter().sum();
            done >= float(total)
        })
        .await?;
        millis.push(until_last_commit(world, DATABASE, begun, total).await?);
    }
    Ok(millis)
}

fn consumer(world: &World, trial: &Trial, topic: &str, (number, database): (usize, &str)) -> Result<Service> {
    let mut plan =
        world.management_api_plan(topic, database)?.with("KAFKA_SESSION_TIMEOUT_MS", SESSION_TIMEOUT.as_millis());
    plan.name = format!("consumer-{number}");
    if let Some((pause, records)) = trial.slow {
        plan = plan.with("RECORD_BATCH_DELAY_MS", pause.as_millis()).with("RECORD_BATCH_MAX_RECORDS", records);
    }
    Service::start(world.folder(), plan)
}

/// A metric of each replica, summed over its labels; 0 of one that does not answer.
async fn each(group: &[Service], name: &str) -> Vec<f64> {
    let mut values = Vec::new();
    for service in group {
        let page = service.metrics().await.unwrap_or_default();
        values.push(metrics::sum(&page, name, "").unwrap_or(0.0));
    }
    values
}

async fn wait_for(world: &World, what: &str, condition: impl AsyncFn() -> bool) -> Result<()> {
    const INTERVAL: Duration = Duration::from_millis(50);
    let end = Instant::now() + DEADLINE;
    while !condition().await {
        if Instant::now() >= end {
            let logs = world.folder().display();
            return Err(StackError::Refused(format!("not after {DEADLINE:?}: {what}, see the logs in {logs}")));
        }
        sleep(INTERVAL).await;
    }
    Ok(())
}

/// From `begun` to the last row's commit; each of `total` purchases must be there once.
async fn until_last_commit(world: &World, database: &str, begun: DateTime<Utc>, total: u64) -> Result<f64> {
    const LAST: &str = "\
        SELECT 1000 * extract(epoch FROM max(recorded_at) - $1::timestamptz)::float8, count(*), \
            (SELECT sum(purchase_count)::bigint FROM user_totals) FROM purchases";
    let client = world.postgres.client_of(database).await?;
    let row = client.query_one(LAST, &[&begun]).await.doing("reading commit times")?;
    let (rows, counted): (i64, i64) = (row.get(1), row.get(2));
    if i64::try_from(total) != Ok(rows) || rows != counted {
        return Err(StackError::Refused(format!("{total} accepted, {rows} rows, totals of {counted}")));
    }
    Ok(row.get(0))
}
