//! How often callers may come who have no rate of their own.

use super::RouteClass;

/// How many times as often sessions may go on as they may begin: browsers of many people behind one address do every quarter of an
/// hour, and nobody guesses a refresh token.
const REFRESHES_TO_LOGINS: u32 = 60;

/// What each caller may do, at all replicas together; 0 for no limit.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Requests a second, buying and reading each.
    pub per_second: u32,
    /// Logins a minute.
    pub login_per_minute: u32,
}

impl Rates {
    /// How many requests a window of this class has.
    #[must_use]
    pub fn of(self, class: RouteClass) -> u32 {
        match class {
            RouteClass::Buy | RouteClass::Read => self.per_second,
            RouteClass::Login => self.login_per_minute,
            RouteClass::Refresh => self.login_per_minute * REFRESHES_TO_LOGINS,
        }
    }

    /// The same, to divide.
    #[must_use]
    pub fn limit(self, class: RouteClass) -> f32 {
        limit(self.of(class))
    }
}

/// So many requests, to divide.
#[expect(clippy::cast_precision_loss, reason = "settings allow no more than a few millions")]
pub(super) fn limit(requests: u32) -> f32 {
    requests as f32
}
