//! Cost against work: a row must cost the same in a large backlog and in a large table, and memory must not grow.

use crate::{
    Section,
    backlog::produce,
    record::{BUYERS, Recording, record},
    row::{Row, Target, Unit, grouped},
    spread::mebibytes,
    world::World,
};
use stack::{Result, error::Doing};

const BACKLOGS: [u64; 3] = [100_000, 1_000_000, 3_000_000];
const TABLES: [u64; 3] = [100_000, 1_000_000, 10_000_000];
/// What is recorded into each table.
const TABLE_BACKLOG: u64 = 200_000;
/// "Linear" and "flat": the largest costs at most so much of the smallest.
const GROWTH_MAX: f64 = 1.3;
/// The same of memory.
const MEMORY_GROWTH_MAX: f64 = 1.2;

/// Rows as management-api stores them, of as many users, a second apart. Ids are of the past, in ascending order.
const FILL: &str = "\
    INSERT INTO purchases (purchase_id, userid, username, price, purchased_at, recorded_at) \
    SELECT uuidv7(make_interval(secs => number - 20000000)), 'user-' || number % 1000, 'Buyer ' || number % 10000, \
        number % 500 + 1, now() + make_interval(secs => number - 20000000), now() \
    FROM generate_series($1::bigint, $2::bigint - 1) AS number";

/// A figure: what, in what, and where it stands.
type Figure = (&'static str, Unit, f64, fn(&Recording) -> f64);

/// Growing backlogs into empty tables, then the same backlog into growing tables.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    const DATABASE: &str = "bench_scaling";
    let mut backlogs = Vec::new();
    for size in BACKLOGS.map(|size| world.size.count(size)) {
        let topic = format!("bench-backlog-{size}");
        produce(world, &topic, 0..size, BUYERS).await?;
        world.clear(DATABASE).await?;
        backlogs.push((format!("backlog of {}", grouped(size)), record(world, &topic, DATABASE, size).await?));
    }
    world.clear(DATABASE).await?;
    world.empty_tables(DATABASE).await?;
    let (mut tables, mut filled) = (Vec::new(), 0);
    let count = world.size.count(TABLE_BACKLOG);
    for size in TABLES.map(|size| world.size.count(size)) {
        fill(world, DATABASE, filled, size).await?;
        filled = size;
        let topic = format!("bench-table-{size}");
        produce(world, &topic, 0..count, BUYERS).await?;
        tables.push((format!("table of {}", grouped(size)), record(world, &topic, DATABASE, count).await?));
    }
    world.clear(DATABASE).await?;
    Ok([compare(&backlogs), compare(&tables)].concat())
}

async fn fill(world: &World, database: &str, from: u64, to: u64) -> Result<()> {
    let client = world.postgres.client_of(database).await?;
    let bound = |number| i64::try_from(number).unwrap_or(i64::MAX);
    client.execute(FILL, &[&bound(from), &bound(to)]).await.doing("filling the table")?;
    client.batch_execute("VACUUM ANALYZE purchases").await.doing("VACUUM ANALYZE")?;
    client.batch_execute("CHECKPOINT").await.doing("CHECKPOINT")
}

/// Each size beside the smallest one.
fn compare(runs: &[(String, Recording)]) -> Vec<Row> {
    let figures: [Figure; 3] = [
        ("CPU of management-api a row", Unit::Micros, GROWTH_MAX, |run| run.cpu_micros),
        ("CPU of PostgreSQL a row", Unit::Micros, GROWTH_MAX, |run| run.database_micros),
        ("largest RSS of management-api", Unit::Mebibytes, MEMORY_GROWTH_MAX, |run| mebibytes(run.peak_rss_bytes)),
    ];
    let mut rows = Vec::new();
    for (what, unit, most, value) in figures {
        for (number, (name, run)) in runs.iter().enumerate() {
            let row = Row::new(Section::Scaling, format!("{name}: {what}"), unit, &[value(run)]);
            let (first_name, first) = &runs[0];
            let growth = |row: Row| row.beside(first_name, &[value(first)]).target(Target::RatioAtMost(most));
            rows.push(if number == 0 { row } else { growth(row) });
        }
    }
    rows
}
