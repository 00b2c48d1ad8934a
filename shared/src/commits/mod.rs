//! The log of commits: what was recorded, in the order in which it became visible, and positions in it.

mod position;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::position::{CommitPosition, InvalidPosition};

/// One batch that was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Commit {
    /// The first partition of the batch. Its owner alone commits there, so that numbers are in the order of commits.
    pub partition: i32,
    /// One more than that of the commit before it in this partition; the first is 1.
    pub number: i64,
    /// What was newly recorded.
    pub purchase_ids: Vec<Uuid>,
    /// [`userid_mark`] of each, index by index; nothing where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub userid_marks: Option<Vec<i32>>,
}

/// What follows a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommitPage {
    /// The position after these commits.
    #[schema(value_type = String)]
    pub position: CommitPosition,
    /// The commits after the position that was asked for, of each partition in their order; none if time ran out before there
    /// were any, or if that position is unknown or no longer served.
    pub commits: Vec<Commit>,
    /// Whether it is: then nobody knows what was missed, and `position` is that of now.
    pub is_reset: bool,
}

/// Tells userids apart, nearly always: whoever looks for one user's purchases need not look at those with another mark.
#[must_use]
pub fn userid_mark(userid: &str) -> i32 {
    crc32fast::hash(userid.as_bytes()).cast_signed()
}
