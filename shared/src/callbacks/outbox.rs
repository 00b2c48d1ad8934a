//! What administrators see of callbacks, and do to them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::event::Timestamp;

/// A callback that is not tried any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadCallback {
    /// Its purchase.
    pub purchase_id: Uuid,
    /// Whom it was for: host, and port where it is not the usual one.
    #[schema(example = "shop.example")]
    pub host: String,
    /// When the purchase was recorded.
    pub recorded_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// What became of it at last, in words.
    #[schema(example = "no answer in time")]
    pub outcome: String,
    /// Since when it is not tried any more.
    pub dead_since: Timestamp,
}

/// One page of them, in the order in which their purchases were recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadCallbackPage {
    /// The callbacks of this page.
    pub callbacks: Vec<DeadCallback>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Which callbacks are to be sent again: one purchase's, whatever became of it, or those that are dead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResendBody {
    /// This purchase's. Without it, `since` and `until` are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub purchase_id: Option<Uuid>,
    /// Of purchases recorded from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub since: Option<Timestamp>,
    /// Of purchases recorded before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub until: Option<Timestamp>,
    /// For this host alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub host: Option<String>,
}

/// How many are due again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResendAnswer {
    /// So many.
    pub resent: u64,
    /// Whether that is all of them; else ask again.
    pub is_all: bool,
}

/// A host of which nothing was delivered since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailingHost {
    /// Its name, with the port where it is not the usual one.
    #[schema(example = "shop.example")]
    pub host: String,
    /// Since when.
    pub failing_since: Timestamp,
    /// When it failed last.
    pub failed_at: Timestamp,
    /// How.
    #[schema(example = "no answer in time")]
    pub outcome: String,
    /// Since when it gets nothing, until somebody switches it on.
    #[schema(required)]
    pub switched_off_at: Option<Timestamp>,
}

/// Hosts that fail, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailingHosts {
    /// At most a thousand.
    pub hosts: Vec<FailingHost>,
}

/// Which host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostBody {
    /// Its name, as in the list.
    #[schema(example = "shop.example")]
    pub host: String,
}
