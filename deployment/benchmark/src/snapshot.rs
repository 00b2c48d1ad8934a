//! Many batches, small ones of one user and large ones of many, while somebody keeps a snapshot open, as a dump does for an hour: no dead version of a row
//! can be removed meanwhile, and each batch leaves some.

use std::ops::Range;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use shared::{commits::userid_mark, event::new_purchase_id};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    Section,
    row::{Row, Target, Unit, grouped},
    spread::micros_each,
    world::World,
};
use stack::{Result, error::Doing};

/// Purchases a call, and calls: as many as an hour of eleven a second, and of one large batch a second.
const SIZES: [(u64, u64); 2] = [(1, 40_000), (1_000, 3_600)];
/// Users of a large batch.
const USERS: u64 = 100;
/// Figures are of so many calls in a row, in percent of all.
const PORTION: u64 = 5;
/// "Flat": a call at the end costs at most so much of one at the beginning.
const GROWTH_MAX: f64 = 1.3;

/// By the service's own function.
pub const RECORD: &str = "\
    SELECT record_purchases_v6('bench', '{0}', ARRAY[$1::bigint], ARRAY[NULL::integer], ARRAY[$1::bigint + 1], \
        ARRAY[NULL::integer], $2::uuid[], $3::text[], $3, $4::numeric[], $5::timestamptz[], $6::integer[], \
        NULL, '{}', '{}', interval '0', '{}', '{}', '{}')";

/// As the service's sessions plan; commits wait for no disk.
pub const SETTINGS: &str =
    "SET synchronous_commit = off; SET enable_seqscan = off; SET enable_sort = off; SET jit = off";

/// The columns of a batch.
pub struct Batch {
    /// In their order, as the service sends them.
    pub ids: Vec<Uuid>,
    /// Who buys.
    pub users: Vec<String>,
    /// [`userid_mark`] of each.
    pub marks: Vec<i32>,
    /// What each pays.
    pub prices: Vec<Decimal>,
    /// When.
    pub times: Vec<DateTime<Utc>>,
}

impl Batch {
    /// So many purchases of so many users.
    pub fn new(purchases: u64, users: u64) -> Self {
        let mut ids: Vec<_> = (0..purchases).map(|_| new_purchase_id()).collect();
        ids.sort_unstable();
        let users: Vec<_> = (0..purchases).map(|number| format!("user-{}", number % users)).collect();
        let marks = users.iter().map(|user| userid_mark(user)).collect();
        let (prices, times) = (vec![Decimal::ONE; ids.len()], vec![Utc::now(); ids.len()]);
        Self { ids, users, marks, prices, times }
    }
}

/// The first calls and the last ones.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (purchases, calls) in SIZES {
        rows.extend(measure_size(world, purchases, world.size.count(calls)).await?);
    }
    Ok(rows)
}

async fn measure_size(world: &World, purchases: u64, calls: u64) -> Result<[Row; 2]> {
    const DATABASE: &str = "bench_snapshot";
    world.clear(DATABASE).await?;
    world.empty_tables(DATABASE).await?;
    let client = world.postgres.client_of(DATABASE).await?;
    client.batch_execute(SETTINGS).await.doing(SETTINGS)?;
    let dump = world.postgres.client_of(DATABASE).await?;
    let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM purchases";
    dump.batch_execute(snapshot).await.doing(snapshot)?;
    let portion = (calls * PORTION / 100).max(1);
    // What is warm at the end is warm at the beginning, too.
    record(world, &client, purchases, 0..portion).await?;
    let first = record(world, &client, purchases, portion..2 * portion).await?;
    record(world, &client, purchases, 2 * portion..calls - portion).await?;
    let last = record(world, &client, purchases, calls - portion..calls).await?;
    drop(dump);
    drop(client);
    world.clear(DATABASE).await?;
    let row = |when: &str, value| {
        let what = format!("a snapshot open, {} a call: CPU of PostgreSQL a call {when}", grouped(purchases));
        Row::new(Section::Snapshot, what, Unit::Micros, &[value])
    };
    let growth = row(&format!("after {}", grouped(calls)), last).beside("at first", &[first]);
    Ok([row("at first", first), growth.target(Target::RatioAtMost(GROWTH_MAX))])
}

/// These calls, each at its offset: PostgreSQL's CPU for each, in microseconds.
async fn record(world: &World, client: &Client, purchases: u64, calls: Range<u64>) -> Result<f64> {
    let statement = client.prepare(RECORD).await.doing("preparing")?;
    let (before, count) = (world.postgres.cpu_time(), calls.end - calls.start);
    for offset in calls {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let Batch { ids, users, marks, prices, times } = Batch::new(purchases, USERS);
        client.execute(&statement, &[&offset, &ids, &users, &prices, &times, &marks]).await.doing("recording")?;
    }
    Ok(micros_each(world.postgres.cpu_time().saturating_sub(before), count))
}
