//! Backlogs of nothing but strange records, beside good ones: they may cost more, but not stand in the way.

use std::time::Duration;

use shared::kafka::HeaderRef;
use tokio::time::Instant;

use crate::{
    Section,
    backlog::{produce, produce_alike},
    record::BUYERS,
    row::{Row, Target, Unit, grouped},
    world::{World, wait_recorded},
};
use stack::{Result, Service};

const RECORDS: u64 = 50_000;
const REPEATS: usize = 3;
const DEADLINE: Duration = Duration::from_mins(10);
const DATABASE: &str = "bench_poison";

/// What no buyer sends: each field is wrong, which is found without asking the database.
const POISON: &[u8] = br#"{"userid":"","username":7,"price":-1,"timestamp":"yesterday"}"#;
/// A purchase that is named by its place.
const PURCHASE: &[u8] = br#"{"userid":"u1","username":"n","price":1}"#;
/// The headers of a dead letter that was sent back: the database is asked whether it was.
const CLAIM: [HeaderRef<'_>; 5] = [
    (b"original_incarnation", Some(b"none")),
    (b"original_partition", Some(b"0")),
    (b"original_offset", Some(b"0")),
    (b"original_timestamp", Some(b"1")),
    (b"dead_letter_redrive", Some(b"1")),
];

/// Each kind in turns with good records.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    let count = world.size.count(RECORDS);
    let topics = ["bench-good", "bench-poison", "bench-claims"];
    produce(world, topics[0], 0..count, BUYERS).await?;
    produce_alike(world, topics[1], count, POISON, &[]).await?;
    produce_alike(world, topics[2], count, PURCHASE, &CLAIM).await?;
    let mut millis: [Vec<f64>; 3] = Default::default();
    for _ in 0..world.size.repeats(REPEATS) {
        for (topic, millis) in topics.iter().zip(&mut millis) {
            world.clear(DATABASE).await?;
            world.empty_tables(DATABASE).await?;
            millis.push(time_to_deal_with(world, topic, count).await?);
        }
    }
    world.clear(DATABASE).await?;
    let [good, poison, claims] = &millis;
    let row = |what: &str, strange: &[f64]| {
        let row = Row::new(Section::Poison, format!("a backlog of {} {what}", grouped(count)), Unit::Millis, strange);
        row.beside("as many good records, until all are recorded", good).target(Target::RatioAtMost(10.0))
    };
    Ok(vec![
        row("that can never be stored, until all are dead letters", poison),
        row("that only claim to be dead letters sent back, until all are recorded", claims),
    ])
}

/// From the assignment of the partitions to the last record, in milliseconds.
async fn time_to_deal_with(world: &World, topic: &str, count: u64) -> Result<f64> {
    let mut service = Service::start(world.folder(), world.management_api_plan(topic, DATABASE)?)?;
    wait_recorded(&mut service, 1, DEADLINE).await?;
    let begun = Instant::now();
    wait_recorded(&mut service, count, DEADLINE).await?;
    service.kill_9();
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
