//! Many small batches of one user while somebody keeps a snapshot open, as a dump does for an hour: no dead version of a row
//! can be removed meanwhile, and each batch leaves some.

use chrono::Utc;
use shared::event::new_purchase_id;
use tokio_postgres::Client;

use super::{
    Section,
    row::{Row, Target, Unit, grouped},
    spread::micros_each,
    world::World,
};
use crate::{Result, error::Doing};

/// As many as an hour of eleven a second.
const CALLS: u64 = 40_000;
/// Figures are of so many calls in a row.
const PORTION: u64 = 2_000;
/// "Flat": a call at the end costs at most so much of one at the beginning.
const GROWTH_MAX: f64 = 1.3;

/// One purchase a call, by the service's own function.
const RECORD: &str = "\
    SELECT record_purchases_v2('bench', '{0}', ARRAY[$1::bigint], ARRAY[NULL::integer], \
        ARRAY[$1::bigint + 1], ARRAY[NULL::integer], ARRAY[$2::uuid], '{busy}', '{Busy}', '{1}', ARRAY[$3::timestamptz], false)";

/// The first calls and the last ones.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    const DATABASE: &str = "bench_snapshot";
    world.clear(DATABASE).await?;
    world.empty_tables(DATABASE).await?;
    let client = world.postgres.client_of(DATABASE).await?;
    let settings = "SET synchronous_commit = off; SET enable_seqscan = off; SET enable_sort = off; SET jit = off";
    client.batch_execute(settings).await.doing(settings)?;
    let dump = world.postgres.client_of(DATABASE).await?;
    let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM purchases";
    dump.batch_execute(snapshot).await.doing(snapshot)?;
    let calls = world.size.count(CALLS);
    let portion = PORTION.min(calls / 4);
    // What is warm at the end is warm at the beginning, too.
    record(world, &client, 0, portion).await?;
    let first = record(world, &client, portion, portion).await?;
    record(world, &client, 2 * portion, calls - 3 * portion).await?;
    let last = record(world, &client, calls - portion, portion).await?;
    drop(dump);
    drop(client);
    world.clear(DATABASE).await?;
    let row = |what: String, value| Row::new(Section::Snapshot, what, Unit::Micros, &[value]);
    Ok(vec![
        row("a snapshot open, one purchase a call: CPU of PostgreSQL a call at first".to_owned(), first),
        row(format!("a snapshot open, one purchase a call: CPU of PostgreSQL a call after {}", grouped(calls)), last)
            .beside("at first", &[first])
            .target(Target::RatioAtMost(GROWTH_MAX)),
    ])
}

/// So many calls from this offset on: PostgreSQL's CPU for each, in microseconds.
async fn record(world: &World, client: &Client, from: u64, count: u64) -> Result<f64> {
    let statement = client.prepare(RECORD).await.doing("preparing")?;
    let before = world.postgres.cpu_time();
    for offset in from..from + count {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        client.execute(&statement, &[&offset, &new_purchase_id(), &Utc::now()]).await.doing("recording")?;
    }
    Ok(micros_each(world.postgres.cpu_time().saturating_sub(before), count))
}
