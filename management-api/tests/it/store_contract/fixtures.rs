//! Purchases and batches.

use std::time::{Duration, Instant};

use management_api::store::{Batch, Cursor, OffsetMove, PageQuery, RecordError, Recorded, Store};
use shared::event::{Purchase, Timestamp};
use shared::price::Price;
use uuid::Uuid;

/// The life of the topic in which most cases happen.
pub const INCARNATION: &str = "cluster-1/topic-1";

/// A purchase of 10 by `alice`, one millisecond after the one before.
pub fn purchase(number: u32) -> Purchase {
    Purchase {
        purchase_id: Uuid::from_u128(u128::from(number)),
        userid: "alice".to_owned(),
        username: "Alice".to_owned(),
        price: price("10"),
        timestamp: Timestamp::from_millis(1_700_000_000_000 + i64::from(number)).unwrap(),
        recorded_at: None,
        callback_url: None,
    }
}

pub fn price(digits: &str) -> Price {
    Price::parse_json(digits).unwrap()
}

pub fn step(partition: i32, expected: i64, next: i64) -> OffsetMove {
    OffsetMove { partition, expected, expected_epoch: None, next, leader_epoch: None }
}

/// A batch of one partition, whose offset moves by as many as there are purchases.
pub fn batch(partition: i32, expected: i64, purchases: impl IntoIterator<Item = Purchase>) -> Batch {
    let rows: Vec<_> = purchases.into_iter().collect();
    let next = expected + i64::try_from(rows.len()).unwrap();
    Batch { incarnation: INCARNATION.into(), moves: vec![step(partition, expected, next)], rows, ..Batch::default() }
}

/// Records, trying again while another replica is in the way.
pub async fn record_in_the_end(store: &dyn Store, batch: &Batch) -> Result<Recorded, RecordError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match store.record(batch).await {
            Err(RecordError::Unavailable(error)) if Instant::now() < deadline => {
                tracing::debug!(%error, "again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            ended => return ended,
        }
    }
}

pub async fn next_offset(store: &dyn Store, partition: i32) -> i64 {
    let offsets = store.next_offsets(INCARNATION, &[partition]).await.unwrap();
    assert_eq!(offsets.iter().map(|offset| offset.partition).collect::<Vec<_>>(), [partition]);
    offsets[0].next_offset
}

/// Count and total of a user, as text.
pub async fn totals(store: &dyn Store, userid: &str) -> (u64, String) {
    let user = store.list_user_purchases(userid, 1).await.unwrap();
    (user.count, user.total_spent.to_string())
}

/// The ids of all purchases, newest first, read page by page.
pub async fn all_ids(store: &dyn Store, userid: Option<&str>, limit: u32) -> Vec<u128> {
    let mut ids = Vec::new();
    let mut query = PageQuery { userid: userid.map(str::to_owned), limit, cursor: None };
    loop {
        let page = store.list_purchases(&query).await.unwrap();
        assert!(page.purchases.len() <= usize::try_from(limit).unwrap());
        ids.extend(page.purchases.iter().map(|purchase| purchase.purchase_id.as_u128()));
        let Some(cursor) = page.next_cursor else { return ids };
        query.cursor = Some(Cursor::parse(&cursor).unwrap());
    }
}
