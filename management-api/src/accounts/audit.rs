//! What happened to accounts, for who must be able to tell later: a log of its own target, without anything secret.

use std::fmt;

use tracing::field::display;
use uuid::Uuid;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    AccountCreated,
    AdminAppointed,
    Login,
    LoginFailed,
    Refresh,
    Logout,
    /// A token was used long after it was spent: its session is over.
    RefreshReuse,
    PasswordChanged,
    /// Somebody with a token of the account did not know its password.
    PasswordRefused,
    AccountDeleted,
    KeyCreated,
    KeyRotated,
    KeyRevoked,
}

impl Event {
    fn label(self) -> &'static str {
        match self {
            Self::AccountCreated => "account_created",
            Self::AdminAppointed => "admin_appointed",
            Self::Login => "login",
            Self::LoginFailed => "login_failed",
            Self::Refresh => "refresh",
            Self::Logout => "logout",
            Self::RefreshReuse => "refresh_reuse",
            Self::PasswordChanged => "password_changed",
            Self::PasswordRefused => "password_refused",
            Self::AccountDeleted => "account_deleted",
            Self::KeyCreated => "api_key_created",
            Self::KeyRotated => "api_key_rotated",
            Self::KeyRevoked => "api_key_revoked",
        }
    }
}

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Who has signed in to this account.
    Account(Uuid),
    /// A service, for somebody who has not said who it is, or of its own accord.
    Service,
    /// An operator.
    CommandLine,
}

/// Who has something done, and in which request.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// Who.
    pub actor: Actor,
    /// The request's id, or what stands for one.
    pub request_id: &'a str,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(account_id) => account_id.fmt(f),
            Self::Service => f.write_str("service"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// Writes it down. Without an account it is one that there is not.
pub(super) fn tell(event: Event, account_id: Option<Uuid>, by: By<'_>) {
    let (account_id, actor, request_id) = (account_id.map(display), display(by.actor), by.request_id);
    tracing::info!(target: "audit", event = event.label(), actor, account_id, request_id, "account event");
}

/// The same of a key and its owner.
pub(super) fn tell_of_key(event: Event, account_id: Uuid, key_id: Uuid, by: By<'_>) {
    let (account_id, key_id, actor) = (display(account_id), display(key_id), display(by.actor));
    let request_id = by.request_id;
    tracing::info!(target: "audit", event = event.label(), actor, account_id, key_id, request_id, "account event");
}
