//! Classes of routes. A caller has a quota in each.

use serde::{Deserialize, Serialize};

/// How many classes there are.
pub const CLASSES: usize = 2;

/// What a request is for. Logins will be a class with a rate of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteClass {
    /// Brings purchases.
    Buy,
    /// Reads what is recorded.
    Read,
}

impl RouteClass {
    /// Every class, in the order of their indices.
    pub const ALL: [Self; CLASSES] = [Self::Buy, Self::Read];

    /// Its name, as the policy has it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Read => "read",
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Buy => 0,
            Self::Read => 1,
        }
    }
}
