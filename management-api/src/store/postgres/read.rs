//! Reading purchases back.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::callbacks::CallbackUrl;
use shared::event::{Purchase, PurchasePage, Timestamp, UserPurchases};
use shared::price::{Amount, Price};
use sqlx::FromRow;
use sqlx::Row as _;
use sqlx::postgres::{PgPool, PgRow};
use uuid::Uuid;

use super::{PostgresStore, answer, session};
use crate::store::{PAGE_MAX, PageQuery, Reading, StoreError, page};

/// Where to call back is asked for here alone: it is a part of the content that a repeat must have too.
const FIND: &str = "
    SELECT purchase_id, userid, username, price::text, purchased_at, recorded_at, callback_url
    FROM purchases WHERE purchase_id = ANY ($1)";

/// One statement, and so one snapshot: count and total are those of the very moment of the list. A user without purchases
/// is one row with nothing but a count of 0. The order is the index's: NULLS LAST is what tells it from the other one.
const LIST_OF_USER: &str = "
    SELECT purchase_id, userid, username, price, purchased_at, recorded_at, purchase_count, total_spent
    FROM (
        SELECT coalesce(sum(purchase_count), 0)::bigint AS purchase_count, coalesce(sum(total_spent), 0) AS total_spent
        FROM user_totals WHERE userid = $1
    ) AS total
    LEFT JOIN LATERAL (
        SELECT purchase_id, userid, username, price::text, purchased_at, recorded_at
        FROM purchases WHERE userid = $1
        ORDER BY purchased_at DESC NULLS LAST, purchase_id DESC NULLS LAST LIMIT $2
    ) AS newest ON true
    ORDER BY purchased_at DESC, purchase_id DESC";

const PAGE: &str = "
    SELECT purchase_id, userid, username, price::text, purchased_at, recorded_at FROM purchases
    WHERE (purchased_at, purchase_id) < (coalesce($1, 'infinity'), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    ORDER BY purchased_at DESC, purchase_id DESC LIMIT $3";

const PAGE_OF_USER: &str = "
    SELECT purchase_id, userid, username, price::text, purchased_at, recorded_at FROM purchases
    WHERE userid = $4
        AND (purchased_at, purchase_id) < (coalesce($1, 'infinity'), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    ORDER BY purchased_at DESC NULLS LAST, purchase_id DESC NULLS LAST LIMIT $3";

#[async_trait]
impl Reading for PostgresStore {
    async fn find_purchases(&self, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError> {
        find_purchases(&self.reading, ids).await
    }

    async fn list_user_purchases(&self, userid: &str, limit: u32) -> Result<UserPurchases, StoreError> {
        let mut found = UserPurchases {
            userid: userid.to_owned(),
            purchases: Vec::new(),
            count: 0,
            total_spent: Amount::default(),
        };
        if cannot_be_stored(userid) {
            return Ok(found);
        }
        let query = sqlx::query(LIST_OF_USER).bind(userid).bind(i64::from(limit.clamp(1, PAGE_MAX)));
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(query.fetch_all(&mut *session)).await;
        for row in session.judge(rows)? {
            let count: i64 = row.try_get(6)?;
            found.count = count.unsigned_abs();
            found.total_spent = Amount::new(row.try_get(7)?);
            if row.try_get::<Option<Uuid>, _>(0)?.is_some() {
                found.purchases.push(StoredPurchase::from_row(&row)?.0);
            }
        }
        Ok(found)
    }

    async fn list_purchases(&self, query: &PageQuery) -> Result<PurchasePage, StoreError> {
        if query.userid.as_deref().is_some_and(cannot_be_stored) {
            return Ok(page(Vec::new(), query.limit));
        }
        let limit = query.limit.clamp(1, PAGE_MAX);
        let statement = sqlx::query_as(if query.userid.is_some() { PAGE_OF_USER } else { PAGE })
            .bind(query.cursor.map(|cursor| cursor.timestamp.datetime()))
            .bind(query.cursor.map(|cursor| cursor.purchase_id))
            // One more than asked for tells whether there is a next page.
            .bind(i64::from(limit) + 1);
        let statement = match &query.userid {
            Some(userid) => statement.bind(userid),
            None => statement,
        };
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(statement.fetch_all(&mut *session)).await;
        let rows: Vec<StoredPurchase> = session.judge(rows)?;
        Ok(page(rows.into_iter().map(|row| row.0).collect(), limit))
    }
}

pub(super) async fn find_purchases(pool: &PgPool, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError> {
    let mut session = session::acquire(pool).await?;
    let rows = answer(sqlx::query_as(FIND).bind(ids).fetch_all(&mut *session)).await;
    let rows: Vec<CalledBack> = session.judge(rows)?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// PostgreSQL's text has no NUL; asked for one, it answers with an error.
fn cannot_be_stored(userid: &str) -> bool {
    userid.contains('\0')
}

struct StoredPurchase(Purchase);

/// By position, the same in every statement. The price comes as its digits.
impl<'r> FromRow<'r, PgRow> for StoredPurchase {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let price = Price::parse_json(row.try_get(3)?);
        let time = |column: usize| row.try_get::<DateTime<Utc>, _>(column).map(Timestamp::new);
        Ok(Self(Purchase {
            purchase_id: row.try_get(0)?,
            userid: row.try_get(1)?,
            username: row.try_get(2)?,
            price: price.map_err(|error| sqlx::Error::Decode(error.into()))?,
            timestamp: time(4)?,
            recorded_at: Some(time(5)?),
            callback_url: None,
        }))
    }
}

/// The same, of statements that tell where to call back, too.
pub(super) struct CalledBack(pub(super) Purchase);

impl<'r> FromRow<'r, PgRow> for CalledBack {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let StoredPurchase(purchase) = StoredPurchase::from_row(row)?;
        let url: Option<&str> = row.try_get(6)?;
        Ok(Self(Purchase { callback_url: url.and_then(CallbackUrl::from_stored), ..purchase }))
    }
}
