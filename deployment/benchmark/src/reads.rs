//! The first page and the totals of a user with few purchases and of one with very many.

use std::time::Duration;

use crate::{
    Section,
    backlog::{Buyers, produce},
    client::Client,
    row::{Row, Target, Unit, grouped},
    world::{World, wait_recorded},
};
use stack::{
    Result,
    error::{Doing, StackError},
};

const LIGHT: u64 = 10;
const HEAVY: u64 = 1_000_000;
const REPEATS: usize = 5;
const TIMES: u64 = 200;
const DEADLINE: Duration = Duration::from_mins(10);

/// Reads through web-server, one after the other on one connection.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    const TOPIC: &str = "bench-reads";
    const DATABASE: &str = "bench_reads";
    let heavy = world.size.count(HEAVY);
    produce(world, TOPIC, 0..LIGHT, Buyers::One("light")).await?;
    produce(world, TOPIC, 0..heavy, Buyers::One("heavy")).await?;
    let mut management = world.management_api(TOPIC, DATABASE).await?;
    let web = world.web_server(TOPIC, Some(&management)).await?;
    wait_recorded(&mut management, LIGHT + heavy, DEADLINE).await?;
    // What autovacuum would do a minute later.
    let client = world.postgres.client_of(DATABASE).await?;
    client.batch_execute("VACUUM ANALYZE purchases").await.doing("VACUUM ANALYZE")?;

    let mut client = Client::open(&web.address()).await?;
    check_count(&mut client, "light", LIGHT).await?;
    check_count(&mut client, "heavy", heavy).await?;
    let many = grouped(heavy);
    let cases = [
        (format!("user with {LIGHT} purchases, first page and totals"), "/getAllUserBuys/light", true),
        (format!("user with {many}, first page of 10 and totals"), "/getAllUserBuys/heavy?limit=10", true),
        (format!("user with {many}, first page of 1,000 (the default) and totals"), "/getAllUserBuys/heavy", true),
        (format!("page of 100 of user with {many}"), "/purchases?userid=heavy", false),
    ];
    let mut times = vec![(Vec::new(), Vec::new()); cases.len()];
    for _ in 0..world.size.repeats(REPEATS) {
        for ((_, path, _), (p50, p99)) in cases.iter().zip(&mut times) {
            let (median, most) = client.time(path, world.size.count(TIMES * 50).min(TIMES)).await?;
            p50.push(median);
            p99.push(most);
        }
    }
    let mut rows = Vec::new();
    for ((what, _, has_target), (p50, p99)) in cases.iter().zip(&times) {
        let row = |quantile: &str, values: &[f64]| {
            Row::new(Section::Reads, format!("read through web-server, {what}: {quantile}"), Unit::Millis, values)
        };
        let median = row("p50", p50);
        rows.push(if *has_target { median.target(Target::AtMost(5.0)) } else { median });
        rows.push(row("p99", p99));
    }
    Ok(rows)
}

async fn check_count(client: &mut Client, userid: &str, count: u64) -> Result<()> {
    let body = client.get(&format!("/getAllUserBuys/{userid}?limit=1")).await?;
    let text = String::from_utf8_lossy(&body);
    if text.contains(&format!("\"count\":{count},")) || text.contains(&format!("\"count\":{count}}}")) {
        return Ok(());
    }
    Err(StackError::Refused(format!("{userid} should have {count} purchases: {text}")))
}
