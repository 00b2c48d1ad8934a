//! Everything in one process: each answer is a 201, so each purchase is on disk.

use std::time::Duration;

use crate::{
    Section,
    row::{Row, Target, Unit},
    spread::mebibytes,
    world::{World, peak_rss_bytes},
    wrk::{self, WrkPlan},
};
use stack::{
    Result, Service,
    error::StackError,
    service::{Program, ServicePlan},
};

const CONNECTIONS: usize = 50;
const SECONDS: u64 = 10;
const REPEATS: usize = 3;
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// The guide's load against `make run`.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    let plan = ServicePlan::new(Program::Embedded, "embedded")?;
    let address = plan.address;
    let data = world.folder().join("embedded");
    let plan = plan
        .with("WEB_LISTEN_ADDRESS", address)
        .with("MANAGEMENT_LISTEN_ADDRESS", "127.0.0.1:0")
        .with("DATA_DIR", data.display());
    let mut service = Service::start(world.folder(), plan)?;
    service.wait_ready(READY_DEADLINE).await?;
    let (mut rate, mut p50, mut p99, mut rss) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut answered = 0;
    for _ in 0..world.size.repeats(REPEATS) {
        let time = world.size.time(SECONDS);
        let plan = WrkPlan::new(service.address(), CONNECTIONS, time);
        let load = wrk::run(world.folder(), &plan).await?.all_good()?;
        answered += load.requests;
        rate.push(load.per_second());
        p50.push(load.p50 / 1e3);
        p99.push(load.p99 / 1e3);
        rss.push(mebibytes(peak_rss_bytes(service.process_id())));
    }
    check_recorded(&service, answered).await?;
    let row = |what: &str, unit, values: &[f64]| {
        Row::new(Section::Embedded, format!("embedded mode, 50 connections: {what}"), unit, values)
    };
    Ok(vec![
        row("recorded purchases", Unit::PerSecond, &rate).target(Target::AtLeast(3_000.0)),
        row("p50", Unit::Millis, &p50),
        row("p99", Unit::Millis, &p99).target(Target::AtMost(60.0)),
        row("largest RSS", Unit::Mebibytes, &rss).target(Target::AtMost(128.0)),
    ])
}

/// Every answer was a purchase in the database; those that wrk did not wait for at its end may be there too.
async fn check_recorded(service: &Service, answered: u64) -> Result<()> {
    let body = service.get("/getAllUserBuys/loadtest?limit=1").await?.body;
    let count =
        body.split("\"count\":").nth(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    match count.and_then(|digits| digits.parse::<u64>().ok()) {
        Some(count) if count >= answered => Ok(()),
        _ => Err(StackError::Refused(format!("{answered} purchases were answered with 2xx, and the user has {body}"))),
    }
}
