//! What the time of a refused login tells about an account: nothing, as long as it is the same whatever is wrong.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use super::EMAIL;
use crate::{
    Section,
    row::{Row, Target, Unit},
    spread::{Spread, millis},
    world::World,
};
use stack::{Result, Service, StackError, http::post_json};

const TIMES: u64 = 400;
const DEADLINE: Duration = Duration::from_secs(10);
/// What is wrong with each, the one that others are held against first.
const LOGINS: [(&str, &str, &str); 3] = [
    ("an unknown e-mail address", "nobody@example.com", "correct horse"),
    ("a wrong password", EMAIL, "battery staple"),
    ("an empty password", EMAIL, ""),
];

/// Rows of refused logins, one at a time.
pub async fn measure(world: &World, web: &Service) -> Result<Vec<Row>> {
    let mut times = LOGINS.map(|_| Vec::new());
    for number in 0..usize::try_from(world.size.count(TIMES)).unwrap_or(0) {
        // In turns, and not always in the same order.
        for turn in 0..LOGINS.len() {
            let which = (number + turn) % LOGINS.len();
            times[which].push(refused(web, LOGINS[which]).await?);
        }
    }
    // Of the medians: what the machine does in between weighs on single ones.
    let [unknown, others @ ..] = times.map(|times| Spread::of(&times).median);
    let rows = LOGINS.iter().skip(1).zip(others).map(|((what, ..), median)| {
        Row::new(Section::FrontDoor, format!("a login with {what}, median"), Unit::Millis, &[median])
            .beside(LOGINS[0].0, &[unknown])
            .target(Target::RatioAtLeast(0.95))
            .target(Target::RatioAtMost(1.05))
    });
    Ok(rows.collect())
}

/// How long a login takes that is refused, in milliseconds.
async fn refused(web: &Service, (what, email, password): (&str, &str, &str)) -> Result<f64> {
    let body = json!({ "email": email, "password": password }).to_string();
    let begun = Instant::now();
    let answer = post_json(&web.address(), "/login", None, &body, DEADLINE).await?;
    let time = millis(begun.elapsed());
    if answer.status == StatusCode::UNAUTHORIZED {
        return Ok(time);
    }
    Err(StackError::Refused(format!("a login with {what} was answered {}: {}", answer.status, answer.body)))
}
