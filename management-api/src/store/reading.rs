//! What readers and waiters need of a database.

use async_trait::async_trait;
use shared::event::{Purchase, PurchasePage, UserPurchases};
use uuid::Uuid;

use super::{Cursor, StoreError};

/// The most purchases in one answer.
pub(super) const PAGE_MAX: u32 = 1000;

/// What readers and waiters need of it.
#[async_trait]
pub trait Reading: Send + Sync + 'static {
    /// The stored purchases among `ids`, in no particular order. Serves waiters, whatever replica recorded.
    async fn find_purchases(&self, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError>;

    /// A user's newest purchases with the exact count and total of all of them, from one snapshot.
    async fn list_user_purchases(&self, userid: &str, limit: u32) -> Result<UserPurchases, StoreError>;

    /// One page of purchases, newest first; stable while rows arrive.
    async fn list_purchases(&self, query: &PageQuery) -> Result<PurchasePage, StoreError>;
}

/// Which page of purchases.
#[derive(Clone, Debug, Default)]
pub struct PageQuery {
    /// Only this user's.
    pub userid: Option<String>,
    /// At most so many, 1 to 1000.
    pub limit: u32,
    /// After this position.
    pub cursor: Option<Cursor>,
}

/// A page from its purchases and the one after them, if there is one.
pub(super) fn page(mut purchases: Vec<Purchase>, limit: u32) -> PurchasePage {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = purchases.len() > limit;
    purchases.truncate(limit);
    let next_cursor = purchases.last().filter(|_| more).map(|last| Cursor::after(last).to_string());
    PurchasePage { purchases, next_cursor }
}
