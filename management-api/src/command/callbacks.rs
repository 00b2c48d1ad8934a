//! `management-api callbacks`: what was given up, and hosts that fail.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use shared::event::Timestamp;
use uuid::Uuid;

use crate::callbacks::{list_hosts, resend_dead, resend_one, switch_on};
use crate::store::{Cursor, DeadCallbacks, Store};

/// Callbacks that are read at once.
const PAGE: u32 = 1_000;

/// What to do about callbacks.
#[derive(Subcommand)]
pub enum CallbackAction {
    /// Print new keys for `CALLBACK_SIGNING_SECRET`: a secret (`v1`) and a key pair (`v1a`). Nothing is kept.
    NewSecret,
    /// Print the callbacks that were given up, as one JSON object a line.
    List(DeadArguments),
    /// Send one purchase's callback again, whatever became of it, or all of a time that were given up.
    Resend(ResendArguments),
    /// Print the hosts that fail, as one JSON object a line.
    Hosts,
    /// Switch a host on that has failed for too long. What was given up meanwhile is not sent again by that.
    SwitchOn {
        /// The host, as the list has it.
        host: String,
    },
}

/// Which of those that were given up.
#[derive(Args)]
pub struct DeadArguments {
    /// Of purchases recorded from then on, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_parser = Timestamp::parse)]
    since: Option<Timestamp>,
    /// Of purchases recorded before then.
    #[arg(long, value_parser = Timestamp::parse)]
    until: Option<Timestamp>,
    /// For this host alone.
    #[arg(long)]
    host: Option<String>,
}

/// Which to send again.
#[derive(Args)]
#[group(id = "which", required = true, multiple = true)]
pub struct ResendArguments {
    /// This purchase's.
    #[arg(long, conflicts_with_all = ["since", "until", "host"])]
    purchase: Option<Uuid>,
    /// Of purchases recorded from then on, such as 2026-01-31T12:00:00Z.
    #[arg(long, requires = "until", value_parser = Timestamp::parse)]
    since: Option<Timestamp>,
    /// Of purchases recorded before then.
    #[arg(long, requires = "since", value_parser = Timestamp::parse)]
    until: Option<Timestamp>,
    /// For this host alone.
    #[arg(long, requires = "since")]
    host: Option<String>,
}

impl CallbackAction {
    /// Does it, and gives what to print.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn run(self, store: &Arc<dyn Store>) -> Result<String, String> {
        let store = &**store;
        match self {
            // Is done without settings.
            Self::NewSecret => Ok(String::new()),
            Self::List(DeadArguments { since, until, host }) => {
                list(store, DeadCallbacks::recorded(since, until, host, PAGE)).await
            }
            Self::Resend(ResendArguments { purchase: Some(id), .. }) => {
                resend_one(store, store, id).await.map_err(|error| error.to_string())?;
                Ok("1 sent again\n".to_owned())
            }
            Self::Resend(ResendArguments { since, until, host, .. }) => {
                resend(store, DeadCallbacks::recorded(since, until, host, PAGE)).await
            }
            Self::Hosts => Ok(lines(&list_hosts(store).await.map_err(|error| error.to_string())?)),
            Self::SwitchOn { host } => {
                switch_on(store, &host).await.map_err(|error| error.to_string())?;
                Ok(String::new())
            }
        }
    }
}

async fn list(store: &dyn Store, mut which: DeadCallbacks) -> Result<String, String> {
    let mut text = String::new();
    loop {
        let page = store.list_dead_callbacks(&which).await.map_err(|error| error.to_string())?;
        text += &lines(&page);
        let Some(last) = page.last().filter(|_| page.len() >= PAGE as usize) else { return Ok(text) };
        which.after = Some(Cursor::after_dead(last));
    }
}

async fn resend(store: &dyn Store, mut which: DeadCallbacks) -> Result<String, String> {
    let mut resent = 0;
    loop {
        let (more, next) = resend_dead(store, &which).await.map_err(|error| error.to_string())?;
        resent += more;
        if next.is_none() {
            return Ok(format!("{resent} sent again\n"));
        }
        which.after = next;
    }
}

fn lines<T: Serialize>(rows: &[T]) -> String {
    rows.iter().fold(String::new(), |lines, row| lines + &json!(row).to_string() + "\n")
}
