//! A backlog into PostgreSQL, beside a client that does nothing but send the same rows.

use std::time::Duration;

use crate::{
    Section,
    backlog::{Buyers, produce},
    bare::Rows,
    row::{Row, Target, Unit, grouped},
    spread::{float, mebibytes, micros_each},
    world::{World, peak_rss_bytes, wait_recorded},
};
use stack::{
    Result, Service,
    error::{Doing, StackError},
};

const ROWS: u64 = 1_000_000;
const REPEATS: usize = 3;
/// Who buys in all backlogs: neither one user whose total is one row, nor a new one each time.
pub const BUYERS: Buyers = Buyers::Many(1_000);
/// Transactions at once, of management-api (its default) and of the bare client.
const LANES: usize = 2;
const DEADLINE: Duration = Duration::from_mins(10);

/// One backlog, recorded.
#[derive(Debug)]
pub struct Recording {
    /// From the first commit to the last.
    pub per_second: f64,
    /// management-api's CPU a row, in microseconds.
    pub cpu_micros: f64,
    /// PostgreSQL's.
    pub database_micros: f64,
    /// management-api's largest RSS.
    pub peak_rss_bytes: u64,
}

/// One backlog by management-api, UNNEST and COPY, in turns.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    const TOPIC: &str = "bench-record";
    const DATABASE: &str = "bench_record";
    let count = world.size.count(ROWS);
    produce(world, TOPIC, 0..count, BUYERS).await?;
    let rows = Rows::make(count, BUYERS, LANES)?;
    let (mut ours, mut unnest, mut copy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..world.size.repeats(REPEATS) {
        world.clear(DATABASE).await?;
        world.empty_tables(DATABASE).await?;
        unnest.push(rows.unnest(world, DATABASE).await?);
        world.clear(DATABASE).await?;
        ours.push(record(world, TOPIC, DATABASE, count).await?);
        world.clear(DATABASE).await?;
        world.empty_tables(DATABASE).await?;
        copy.push(rows.copy(world, DATABASE).await?);
    }
    world.clear(DATABASE).await?;
    Ok(table(count, &ours, &unnest, &copy))
}

fn table(count: u64, ours: &[Recording], unnest: &[f64], copy: &[f64]) -> Vec<Row> {
    let row = |what: &str, unit, value: fn(&Recording) -> f64| {
        let values: Vec<f64> = ours.iter().map(value).collect();
        Row::new(
            Section::Record,
            format!("recording a backlog of {}, 10 partitions: {what}", grouped(count)),
            unit,
            &values,
        )
    };
    let rate = || row("rows from first to last commit", Unit::PerSecond, |run| run.per_second);
    vec![
        rate()
            .beside("bare UNNEST with totals and indexes, as many connections", unnest)
            .target(Target::RatioAtLeast(0.85))
            .target(Target::AtLeast(70_000.0)),
        rate().beside("one bare COPY, indexes, no totals", copy),
        row("CPU of management-api a row", Unit::Micros, |run| run.cpu_micros),
        row("CPU of PostgreSQL a row", Unit::Micros, |run| run.database_micros).target(Target::AtMost(7.5)),
        row("largest RSS of management-api", Unit::Mebibytes, |run| mebibytes(run.peak_rss_bytes))
            .target(Target::AtMost(64.0)),
    ]
}

/// Records a topic from its beginning, with a management-api started for it.
pub async fn record(world: &World, topic: &str, database: &str, count: u64) -> Result<Recording> {
    world.postgres.create_database(database).await?;
    let before = world.postgres.cpu_time();
    let plan = world.management_api_plan(topic, database)?.with("RECORD_LANES", LANES);
    let mut service = Service::start(world.folder(), plan)?;
    wait_recorded(&mut service, count, DEADLINE).await?;
    let recording = Recording {
        cpu_micros: micros_each(service.cpu_time(), count),
        database_micros: micros_each(world.postgres.cpu_time().saturating_sub(before), count),
        peak_rss_bytes: peak_rss_bytes(service.process_id()),
        per_second: 0.0,
    };
    service.kill_9();
    Ok(Recording { per_second: commit_rate(world, database, count).await?, ..recording })
}

/// Rows a second, from the commit times in the newest `count` rows. The first commit's own rows took their time before it.
async fn commit_rate(world: &World, database: &str, count: u64) -> Result<f64> {
    const RATE: &str = "\
        WITH commits AS (SELECT recorded_at, count(*) AS rows FROM purchases GROUP BY recorded_at), \
        recent AS (SELECT *, sum(rows) OVER (ORDER BY recorded_at DESC) AS up_to FROM commits), \
        own AS (SELECT * FROM recent WHERE up_to <= $1::bigint) \
        SELECT extract(epoch FROM max(recorded_at) - min(recorded_at))::float8, sum(rows)::bigint, \
            (array_agg(rows ORDER BY recorded_at))[1] FROM own";
    let client = world.postgres.client_of(database).await?;
    let wanted = i64::try_from(count).unwrap_or(i64::MAX);
    let row = client.query_one(RATE, &[&wanted]).await.doing("reading commit times")?;
    let (seconds, rows, first): (f64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    if rows != wanted {
        return Err(StackError::Refused(format!("{rows} rows are there instead of {wanted}")));
    }
    Ok(float(u64::try_from(rows - first).unwrap_or(0)) / seconds.max(1e-3))
}
