//! What happened to accounts, for who must be able to tell later: a log of its own target, without anything secret.

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

/// Writes it down. Without an account it is one that there is not.
pub(super) fn tell(event: Event, account_id: Option<Uuid>, request_id: &str) {
    let account_id = account_id.map(display);
    tracing::info!(target: "audit", event = event.label(), account_id, request_id, "account event");
}

/// The same of a key and its owner.
pub(super) fn tell_of_key(event: Event, account_id: Uuid, key_id: Uuid, request_id: &str) {
    let (account_id, key_id) = (display(account_id), display(key_id));
    tracing::info!(target: "audit", event = event.label(), account_id, key_id, request_id, "account event");
}
