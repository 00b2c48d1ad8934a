//! How far recording is, as one replica of management-api tells web-server.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far one replica is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordingState {
    /// Whether it is ready, as `/readyz` says.
    pub is_ready: bool,
    /// How many partitions it records.
    pub partitions: usize,
    /// How many there are; 0 until it knows.
    pub partitions_total: usize,
    /// Records of its partitions that are not recorded yet.
    pub lag_records: u64,
    /// The age of the oldest of them, in seconds.
    pub lag_seconds: f64,
}
