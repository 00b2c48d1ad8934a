//! `management-api api-keys`: keys, for who has no token at hand.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use shared::api_keys::{RATE_MAX, Scope};
use shared::event::Timestamp;
use uuid::Uuid;

use crate::accounts::{Actor, ApiKeys, By, Clock, Email, KeyError, KeyWish, parse_key_name};
use crate::store::{Store, WhichKey};

/// Stands in the audit log where requests have their id.
const BY_COMMAND: By<'static> = By { actor: Actor::CommandLine, request_id: "command" };

/// What to do when nobody knows whether a key was made, or has another secret.
const MAYBE_MADE: &str =
    "it may be made all the same, and its secret cannot be shown again: list the keys, and revoke it";
const MAYBE_ROTATED: &str =
    "it may have a new secret all the same, which cannot be shown again: rotate with an overlap of 0";

/// What to do with keys.
#[derive(Subcommand)]
pub enum KeyAction {
    /// Make a key, and print it as JSON: nobody is shown it again.
    Create(CreateArguments),
    /// Print an account's keys, as one JSON object a line.
    List {
        /// Whose: id or e-mail address.
        #[arg(long)]
        account: String,
    },
    /// Give a key a new secret, and print it as JSON.
    Rotate {
        /// The key's id.
        key_id: Uuid,
        /// Seconds that the old secret still counts.
        #[arg(long, default_value_t = 3_600, value_parser = clap::value_parser!(u32).range(0..=604_800))]
        overlap_seconds: u32,
    },
    /// Revoke a key: it counts no more within five seconds.
    Revoke {
        /// The key's id.
        key_id: Uuid,
    },
}

/// A key to be made.
#[derive(Args)]
pub struct CreateArguments {
    /// Whose it is to be: id or e-mail address.
    #[arg(long)]
    account: String,
    /// Its name.
    #[arg(long, value_parser = parse_key_name)]
    name: String,
    /// What it may be used for: buy, read, or service (for all users).
    #[arg(long, value_delimiter = ',', default_value = "buy,read")]
    scopes: Vec<Scope>,
    /// When it ends, such as 2026-12-31T00:00:00Z.
    #[arg(long, value_parser = Timestamp::parse)]
    expires_at: Option<Timestamp>,
    /// Requests a second, instead of those of everybody.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    rate_per_second: Option<u32>,
}

impl KeyAction {
    /// Does it, and gives what to print.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn run(self, store: &Arc<dyn Store>) -> Result<String, String> {
        let keys = ApiKeys::new(Arc::clone(store), Clock::default());
        let secret = match self {
            Self::Create(arguments) => {
                let account_id = find_account(&**store, &arguments.account).await?;
                let CreateArguments { name, scopes, expires_at, rate_per_second, .. } = arguments;
                let wish = KeyWish { account_id, name, scopes, expires_at, rate_per_second };
                keys.create(wish, BY_COMMAND).await.map_err(|error| told(&error, MAYBE_MADE))
            }
            Self::Rotate { key_id, overlap_seconds } => {
                let overlap = Duration::from_secs(overlap_seconds.into());
                let rotated = keys.rotate(anybodys(key_id), overlap, BY_COMMAND).await;
                rotated.map_err(|error| told(&error, MAYBE_ROTATED))
            }
            Self::Revoke { key_id } => {
                keys.revoke(anybodys(key_id), BY_COMMAND).await.map_err(|error| error.to_string())?;
                return Ok(String::new());
            }
            Self::List { account } => {
                let account_id = find_account(&**store, &account).await?;
                let listed = keys.list(account_id).await.map_err(|error| error.to_string())?;
                return Ok(listed.iter().fold(String::new(), |lines, key| lines + &json!(key).to_string() + "\n"));
            }
        };
        secret.map(|secret| format!("{}\n", json!(secret)))
    }
}

/// What went wrong, with what to do where nobody knows whether it was done.
fn told(error: &KeyError, advice: &str) -> String {
    if matches!(error, KeyError::Store(_)) { format!("{error}; {advice}") } else { error.to_string() }
}

fn anybodys(key_id: Uuid) -> WhichKey {
    WhichKey { key_id, account_id: None }
}

async fn find_account(store: &dyn Store, text: &str) -> Result<Uuid, String> {
    if let Ok(account_id) = Uuid::try_parse(text) {
        return Ok(account_id);
    }
    let email = Email::parse(text).map_err(|message| format!("--account: must be a UUID, or {message}"))?;
    let known = store.find_account(&email.key).await.map_err(|error| error.to_string())?;
    known.map(|known| known.account.account_id).ok_or_else(|| "there is no such account".to_owned())
}
