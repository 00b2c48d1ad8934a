//! Classes of routes. A caller has a quota in each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CallerKey, Moment};

/// How many classes any caller asks for: who signs in is another one (`CallerKey::signing_in`).
pub const LANES: usize = 2;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteClass {
    /// Brings purchases.
    Buy,
    /// Reads what is recorded, or looks after keys and accounts.
    Read,
    /// Begins a session, or makes an account: by the minute.
    Login,
    /// Goes on with a session: by the minute.
    Refresh,
}

impl RouteClass {
    /// Its name, as the policy has it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Read => "read",
            Self::Login => "login",
            Self::Refresh => "refresh",
        }
    }

    /// In how many seconds a quota may be used.
    #[must_use]
    pub fn window_seconds(self) -> u16 {
        window_seconds(self.is_signing_in())
    }

    /// Whether it is for callers who sign in.
    #[must_use]
    pub fn is_signing_in(self) -> bool {
        matches!(self, Self::Login | Self::Refresh)
    }

    /// The moment so long after the beginning, in windows of this class.
    #[must_use]
    pub fn moment(self, now: Duration) -> Moment {
        Moment::at(now / self.window_seconds().into())
    }

    pub(super) fn lane(self) -> usize {
        match self {
            Self::Buy | Self::Login => 0,
            Self::Read | Self::Refresh => 1,
        }
    }
}

/// The moment so long after the beginning, in windows of what this caller asks for.
pub(super) fn moment_of(caller: CallerKey, now: Duration) -> Moment {
    Moment::at(now / window_seconds(caller.is_signing_in()).into())
}

fn window_seconds(is_signing_in: bool) -> u16 {
    if is_signing_in { 60 } else { 1 }
}
