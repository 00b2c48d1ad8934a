//! What it costs to know who buys, and how often: `/buy` with a known token, with a known API key, and with a rate, beside none of these.
//! And logins: what their times tell, and a crowd of them.

mod login_times;
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

const EMAIL: &str = "buyer@example.com";
const PASSWORD: &str = "correct horse";

/// A buyer who has signed in, and has a key.
struct Buyer {
    account_id: String,
    token: String,
    api_key: String,
}

#[derive(Deserialize)]
struct Created {
    account_id: String,
}

#[derive(Deserialize)]
struct SignedIn {
    access_token: String,
}

#[derive(Deserialize)]
struct NewKey {
    api_key: String,
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
    let buyers = [
        ("without", web("AUTH", "off".to_owned()).await?, None),
        ("with a known token", web("AUTH", "jwt".to_owned()).await?, Some(&buyer.token)),
        ("with a known API key", web("AUTH", "api_key".to_owned()).await?, Some(&buyer.api_key)),
        ("with a rate", web("RATE_LIMIT_PER_SECOND", RATE.to_string()).await?, None),
    ];
    let mut cpu = [const { Vec::new() }; 4];
    for number in 0..world.size.repeats(ROUNDS) {
        // In turns, and not always in the same order.
        for turn in 0..buyers.len() {
            let which = (number + turn) % buyers.len();
            let (_, web, credentials) = &buyers[which];
            cpu[which].push(round(world, web, &buyer.account_id, credentials.cloned()).await?.cpu_micros());
        }
    }
    let mut rows: Vec<_> =
        buyers.iter().zip(&cpu).skip(1).map(|((what, ..), micros)| row(what, micros, &cpu[0])).collect();
    let no_login_rate = web("RATE_LIMIT_LOGIN_PER_MINUTE", "0".to_owned()).await?;
    rows.extend(login_times::measure(world, &no_login_rate).await?);
    rows.extend(logins::measure(world, &no_login_rate, &management).await?);
    Ok(rows)
}

fn row(what: &str, micros: &[f64], without: &[f64]) -> Row {
    let what = format!("/buy, {CONNECTIONS} connections, {what}: CPU of web-server a request");
    Row::new(Section::FrontDoor, what, Unit::Micros, micros).beside("without", without).target(Target::RatioAtMost(1.1))
}

/// One caller's purchases, with its token or key or without one.
async fn round(world: &World, web: &Service, account_id: &str, token: Option<String>) -> Result<Round> {
    // The same purchase for all: an account's id is longer than the guide's.
    let body = json!({ "username": "test", "userid": account_id, "price": 10 }).to_string();
    let plan = WrkPlan { body, token, ..WrkPlan::new(web.address(), CONNECTIONS, WARM_UP) };
    buy::round(world, web, plan).await
}

async fn sign_in(management: &Service) -> Result<Buyer> {
    let account = json!({ "username": "buyer", "email": EMAIL, "password": PASSWORD });
    let Created { account_id } = post(management, "/internal/accounts", &account).await?;
    let SignedIn { access_token: token } = post(management, "/internal/login", &account).await?;
    let key = json!({ "name": "till 7" });
    let NewKey { api_key } = post(management, &format!("/internal/api-keys?account_id={account_id}"), &key).await?;
    Ok(Buyer { account_id, token, api_key })
}

async fn post<T: for<'a> Deserialize<'a>>(management: &Service, path: &str, body: &Value) -> Result<T> {
    let answer = post_json(&management.address(), path, None, &body.to_string(), DEADLINE).await?;
    serde_json::from_str(&answer.body)
        .map_err(|error| StackError::Refused(format!("{path} answered {}: {error}", answer.status)))
}
