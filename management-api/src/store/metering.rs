//! What counting the use of keys needs of a database.

use async_trait::async_trait;
use shared::api_keys::{Day, KeyUsage, UsageFlush};
use shared::event::Timestamp;
use uuid::Uuid;

use super::StoreError;

/// Flushes that are forgotten with each new one, at most.
pub(super) const FLUSHES_FORGOTTEN_MAX: u32 = 1000;

/// What counting the use of keys needs of it. Purchases are counted where they are recorded.
#[async_trait]
pub trait Metering: Send + Sync + 'static {
    /// Adds what was counted elsewhere. Gives whether it was added: not, when that flush was before. Flushes from before
    /// `forgets_before` are forgotten.
    async fn add_usage(&self, flush: &UsageFlush, at: Timestamp, forgets_before: Timestamp)
    -> Result<bool, StoreError>;

    /// The use of keys that there are, newest days first.
    async fn list_usage(&self, query: &UsageQuery) -> Result<Vec<KeyUsage>, StoreError>;
}

/// Whose use, and when.
#[derive(Clone, Copy, Debug)]
pub struct UsageQuery {
    /// Of this account's keys alone.
    pub account_id: Option<Uuid>,
    /// Of this key alone.
    pub key_id: Option<Uuid>,
    /// The first day.
    pub from: Day,
    /// The last one.
    pub to: Day,
    /// Rows at most.
    pub limit: u32,
}
