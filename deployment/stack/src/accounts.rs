//! Accounts for a trial: as many as are wanted, made through management-api's own door, which knows no rate.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    error::{Result, StackError},
    http::post_json,
};

/// How many are asked for at once: as many as may be, beside those that are being hashed.
const AT_ONCE: usize = 4;
/// How long one call may take.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// How long one account may take: passwords are hashed a few at a time, whoever asks.
const ACCOUNT_DEADLINE: Duration = Duration::from_mins(1);
/// The pause before who was told to come again does.
const PAUSE: Duration = Duration::from_millis(20);

/// Which accounts, and where.
#[derive(Debug, Clone, clap::Args)]
pub struct Population {
    /// How many: buyer-1 to buyer-COUNT, at example.com
    #[arg(long, env = "N", default_value_t = 1000)]
    pub count: u32,
    /// management-api, HOST:PORT
    #[arg(long, env = "MANAGEMENT_API", default_value = "127.0.0.1:30081")]
    pub address: String,
    /// What management-api asks of its callers, if it does
    #[arg(long, env = "MANAGEMENT_API_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The password of all of them
    #[arg(long, env = "ACCOUNTS_PASSWORD", hide_env_values = true, default_value = "correct horse battery")]
    pub password: String,
}

/// What became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Populated {
    /// Accounts that are new.
    pub made: usize,
    /// Accounts that were there before.
    pub found: usize,
}

/// Makes those that are not there yet.
///
/// # Errors
/// The first answer that is neither an account nor a word that it is there.
pub async fn populate(population: &Population) -> Result<Populated> {
    let mut answers =
        stream::iter(1..=population.count).map(|number| make(population, number)).buffer_unordered(AT_ONCE);
    let mut populated = Populated { made: 0, found: 0 };
    while let Some(is_new) = answers.next().await {
        if is_new? {
            populated.made += 1;
        } else {
            populated.found += 1;
        }
    }
    Ok(populated)
}

/// Makes one, and says whether it is new.
async fn make(population: &Population, number: u32) -> Result<bool> {
    let Population { address, token, password, .. } = population;
    let name = format!("buyer-{number}");
    let body = json!({ "username": name, "email": format!("{name}@example.com"), "password": password }).to_string();
    let deadline = Instant::now() + ACCOUNT_DEADLINE;
    loop {
        let answer = post_json(address, "/internal/accounts", token.as_deref(), &body, CALL_DEADLINE).await?;
        match answer.status {
            StatusCode::CREATED => return Ok(true),
            StatusCode::CONFLICT => return Ok(false),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE if Instant::now() < deadline => {
                sleep(PAUSE).await;
            }
            status => return Err(StackError::Refused(format!("{name}: {status} of {address}: {}", answer.body))),
        }
    }
}
