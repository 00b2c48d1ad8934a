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
    /// A token was used long after it was spent: its session is over.
    RefreshReuse,
    AccountDeleted,
}

impl Event {
    fn label(self) -> &'static str {
        match self {
            Self::AccountCreated => "account_created",
            Self::AdminAppointed => "admin_appointed",
            Self::Login => "login",
            Self::LoginFailed => "login_failed",
            Self::Refresh => "refresh",
            Self::RefreshReuse => "refresh_reuse",
            Self::AccountDeleted => "account_deleted",
        }
    }
}

/// Writes it down. Without an account it is one that there is not.
pub(super) fn tell(event: Event, account_id: Option<Uuid>, request_id: &str) {
    let account_id = account_id.map(display);
    tracing::info!(target: "audit", event = event.label(), account_id, request_id, "account event");
}
