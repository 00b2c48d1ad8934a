//! One signed request to where a buyer wants to be told. Which are due, and what becomes of one that failed, is decided by who calls
//! [`CallbackClient::send`].

mod addresses;
mod client;
mod config;
mod connections;
mod connector;
mod outcome;
mod resolve;
mod signing;

pub use self::addresses::AddressRules;
pub use self::client::{CallbackClient, CallbackRequest};
pub use self::config::SendingConfig;
pub use self::outcome::{AttemptOutcome, RETRY_AFTER_MAX, Unreachable};
pub use self::resolve::{Resolve, SystemResolver};
pub use self::signing::{InvalidKeys, SigningKeys, new_secret};
