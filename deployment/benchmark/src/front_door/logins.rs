//! More logins than can be hashed: what those are told, and what buyers notice of it.

use std::time::Duration;

use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{EMAIL, PASSWORD};
use crate::{
    Section, buy,
    row::{Row, Target, Unit},
    spread::{float, mebibytes, millis},
    world::{World, peak_rss_bytes},
};
use stack::{Load, Result, Service, http::post_json, load::Latencies};

const PER_SECOND: u64 = 200;
const SECONDS: u64 = 10;
/// Far below what the machine does, so that a purchase lost or late is the logins' doing.
const PURCHASES_PER_SECOND: f64 = 500.0;
const DEADLINE: Duration = Duration::from_secs(10);
/// Two passwords are hashed at once, 19 MiB each; the rest is what connections and bodies take.
const GROWTH_MAX_MIB: f64 = 2.0 * 19.0 + 8.0;

/// What became of the logins.
#[derive(Default)]
struct Answers {
    good: u64,
    refused: Latencies,
    others: u64,
}

/// Rows of logins at 200 a second, with buyers beside.
pub async fn measure(world: &World, web: &Service, management: &Service) -> Result<Vec<Row>> {
    let time = world.size.time(SECONDS);
    let buyers = buy::open_loop_plan(web, PURCHASES_PER_SECOND, time);
    let before = mebibytes(management.rss_bytes());
    let mut alone = Load::run(buyers.clone()).await;
    let (mut beside, mut answers) = tokio::join!(Load::run(buyers), log_in(web.address(), time));
    let peak = mebibytes(peak_rss_bytes(management.process_id()));
    let row = |what: &str, unit, value: f64| {
        Row::new(
            Section::FrontDoor,
            format!("{PER_SECOND} logins/s beside {PURCHASES_PER_SECOND} purchases/s: {what}"),
            unit,
            &[value],
        )
    };
    Ok(vec![
        row("p99 of those refused with 503", Unit::Millis, millis(answers.refused.quantile(990)))
            .target(Target::AtMost(50.0))
            .note(format!("{} refused, {} signed in", answers.refused.count(), answers.good)),
        row("other answers", Unit::Count, float(answers.others)).target(Target::AtMost(0.0)),
        row("purchases not accepted", Unit::Count, float(beside.given_up)).target(Target::AtMost(0.0)),
        row("p99 of purchases", Unit::Millis, millis(beside.latencies.quantile(990)))
            .beside("without logins", &[millis(alone.latencies.quantile(990))]),
        row("memory of management-api, more at most", Unit::Mebibytes, peak - before)
            .target(Target::AtMost(GROWTH_MAX_MIB)),
    ])
}

/// Logs in at a fixed rate, whatever the answers.
async fn log_in(address: String, time: Duration) -> Answers {
    let body = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(PER_SECOND).unwrap_or(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (end, mut calls) = (Instant::now() + time, JoinSet::new());
    while Instant::now() < end {
        ticks.tick().await;
        let (address, body) = (address.clone(), body.clone());
        calls.spawn(async move {
            let begun = Instant::now();
            let answer = post_json(&address, "/login", None, &body, DEADLINE).await;
            (answer.map(|answer| answer.status.as_u16()), begun.elapsed())
        });
    }
    let mut answers = Answers::default();
    while let Some(Ok((status, time))) = calls.join_next().await {
        match status {
            Ok(200) => answers.good += 1,
            Ok(503) => answers.refused.add(time),
            _ => answers.others += 1,
        }
    }
    answers
}
