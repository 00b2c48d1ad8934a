//! What it costs to know who buys, and how often: `/buy` with a known token, and with a rate, beside neither.

mod logins;

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Section,
    buy::{self, Round, WARM_UP},
    row::{Row, Target, Unit},
    world::World,
    wrk::WrkPlan,
};
use stack::{Result, Service, StackError, http::post_json, service::make_signing_key};

const ROUNDS: usize = 5;
const CONNECTIONS: usize = 64;
/// No caller reaches it: what is measured is the counting.
const RATE: u32 = 1_000_000;
const DEADLINE: Duration = Duration::from_secs(10);

/// A buyer who has signed in.
struct Buyer {
    account_id: String,
    token: String,
}

#[derive(Deserialize)]
struct Created {
    account_id: String,
}

#[derive(Deserialize)]
struct SignedIn {
    access_token: String,
}

/// Rows of this section.
pub async fn measure(world: &mut World) -> Result<Vec<Row>> {
    const TOPIC: &str = "bench-front-door";
    let key = world.folder().join("jwt-signing-key.pem");
    make_signing_key(&key)?;
    world.postgres.create_database("front_door").await?;
    let plan = world.management_api_plan(TOPIC, "front_door")?.with("JWT_SIGNING_KEY_FILE", key.display());
    let management = world.start(plan).await?;
    let buyer = sign_in(&management).await?;
    let web = async |name: &str, value: String| {
        world.start(world.web_server_plan(TOPIC, Some(&management))?.with(name, value)).await
    };
    let [open, with_tokens, with_rate] = [
        web("AUTH", "off".to_owned()).await?,
        web("AUTH", "jwt".to_owned()).await?,
        web("RATE_LIMIT_PER_SECOND", RATE.to_string()).await?,
    ];
    let [mut neither, mut token, mut rate] = [(); 3].map(|()| Vec::new());
    for number in 0..world.size.repeats(ROUNDS) {
        // In turns, and not always in the same order.
        for turn in 0..3 {
            match (number + turn) % 3 {
                0 => neither.push(round(world, &open, &buyer, false).await?),
                1 => token.push(round(world, &with_tokens, &buyer, true).await?),
                _ => rate.push(round(world, &with_rate, &buyer, false).await?),
            }
        }
    }
    let cpu = |rounds: &[Round]| rounds.iter().map(Round::cpu_micros).collect::<Vec<_>>();
    let row = |what: &str, rounds: &[Round]| {
        let what = format!("/buy, {CONNECTIONS} connections, {what}: CPU of web-server a request");
        Row::new(Section::FrontDoor, what, Unit::Micros, &cpu(rounds))
            .beside("without", &cpu(&neither))
            .target(Target::RatioAtMost(1.1))
    };
    let mut rows = vec![row("with a known token", &token), row("with a rate", &rate)];
    rows.extend(logins::measure(world, TOPIC, &management).await?);
    Ok(rows)
}

/// One caller's purchases, with its token or without one.
async fn round(world: &World, web: &Service, buyer: &Buyer, with_token: bool) -> Result<Round> {
    // The same purchase for all: an account's id is longer than the guide's.
    let body = json!({ "username": "test", "userid": buyer.account_id, "price": 10 }).to_string();
    let token = with_token.then(|| buyer.token.clone());
    let plan = WrkPlan { body, token, ..WrkPlan::new(web.address(), CONNECTIONS, WARM_UP) };
    buy::round(world, web, plan).await
}

async fn sign_in(management: &Service) -> Result<Buyer> {
    let (email, password) = ("buyer@example.com", "correct horse");
    let account = json!({ "username": "buyer", "email": email, "password": password });
    let Created { account_id } = post(management, "/internal/accounts", &account).await?;
    let login = json!({ "email": email, "password": password });
    let SignedIn { access_token: token } = post(management, "/internal/login", &login).await?;
    Ok(Buyer { account_id, token })
}

async fn post<T: for<'a> Deserialize<'a>>(management: &Service, path: &str, body: &Value) -> Result<T> {
    let answer = post_json(&management.address(), path, None, &body.to_string(), DEADLINE).await?;
    serde_json::from_str(&answer.body)
        .map_err(|error| StackError::Refused(format!("{path} answered {}: {error}", answer.status)))
}
