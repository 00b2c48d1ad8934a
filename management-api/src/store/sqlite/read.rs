//! Reading purchases back.

use async_trait::async_trait;
use rust_decimal::Decimal;
use shared::callbacks::CallbackUrl;
use shared::event::{Purchase, PurchasePage, Timestamp, UserPurchases};
use shared::price::{Amount, Price};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::{SqliteStore, json_list};
use crate::store::{PAGE_MAX, PageQuery, Reading, StoreError, page};

/// Where to call back is asked for here alone: it is a part of the content that a repeat must have too.
const FIND: &str = "
    SELECT purchase_id, userid, username, price, purchased_at, recorded_at, callback_url
    FROM purchases WHERE purchase_id IN (SELECT value FROM json_each(?1))";

const TOTALS: &str = "SELECT purchase_count, total_spent FROM user_totals WHERE userid = ?1";

/// `~` is behind every time and every id.
const PAGE: &str = "
    SELECT purchase_id, userid, username, price, purchased_at, recorded_at
    FROM purchases INDEXED BY purchases_by_time
    WHERE (purchased_at, purchase_id) < (coalesce(?1, '~'), coalesce(?2, '~'))
    ORDER BY purchased_at DESC, purchase_id DESC LIMIT ?3";

const PAGE_OF_USER: &str = "
    SELECT purchase_id, userid, username, price, purchased_at, recorded_at
    FROM purchases INDEXED BY purchases_by_user
    WHERE userid = ?4 AND (purchased_at, purchase_id) < (coalesce(?1, '~'), coalesce(?2, '~'))
    ORDER BY purchased_at DESC, purchase_id DESC LIMIT ?3";

#[async_trait]
impl Reading for SqliteStore {
    async fn find_purchases(&self, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError> {
        let mut connection = self.reading.acquire().await?;
        Ok(find_purchases(&mut connection, ids).await?)
    }

    async fn list_user_purchases(&self, userid: &str, limit: u32) -> Result<UserPurchases, StoreError> {
        // One transaction, and so one snapshot: count and total are those of the very moment of the list.
        let mut transaction = self.reading.begin().await?;
        let totals: Vec<(i64, String)> = sqlx::query_as(TOTALS).bind(userid).fetch_all(&mut *transaction).await?;
        let limit = limit.clamp(1, PAGE_MAX);
        let query = PageQuery { userid: Some(userid.to_owned()), limit, cursor: None };
        let purchases = fetch_page(&mut transaction, &query, limit).await?;
        let mut found =
            UserPurchases { userid: userid.to_owned(), purchases, count: 0, total_spent: Amount::default() };
        for (count, total) in totals {
            found.count += count.unsigned_abs();
            found.total_spent = Amount::new(add(found.total_spent.decimal(), decimal(&total)?)?);
        }
        Ok(found)
    }

    async fn list_purchases(&self, query: &PageQuery) -> Result<PurchasePage, StoreError> {
        let limit = query.limit.clamp(1, PAGE_MAX);
        let mut connection = self.reading.acquire().await?;
        // One more than asked for tells whether there is a next page.
        Ok(page(fetch_page(&mut connection, query, limit + 1).await?, limit))
    }
}

pub(super) async fn find_purchases(
    connection: &mut SqliteConnection,
    ids: &[Uuid],
) -> Result<Vec<Purchase>, sqlx::Error> {
    let rows: Vec<CalledBack> = sqlx::query_as(FIND).bind(json_list(ids.iter().copied())).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

async fn fetch_page(
    connection: &mut SqliteConnection,
    query: &PageQuery,
    limit: u32,
) -> Result<Vec<Purchase>, sqlx::Error> {
    let statement = sqlx::query_as(if query.userid.is_some() { PAGE_OF_USER } else { PAGE })
        .bind(query.cursor.map(|cursor| cursor.timestamp.to_string()))
        .bind(query.cursor.map(|cursor| cursor.purchase_id.to_string()))
        .bind(limit);
    let statement = match &query.userid {
        Some(userid) => statement.bind(userid),
        None => statement,
    };
    let rows: Vec<StoredPurchase> = statement.fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Exact digits as stored.
pub(super) fn decimal(digits: &str) -> Result<Decimal, sqlx::Error> {
    Decimal::from_str_exact(digits).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// An exact sum. Past 28 digits (7,000,000,000 purchases at the highest price) it would be rounded: that is an error.
pub(super) fn add(sum: Decimal, value: Decimal) -> Result<Decimal, sqlx::Error> {
    let exact = |total: &Decimal| total.scale() == sum.scale().max(value.scale());
    let total = sum.checked_add(value).filter(exact);
    total.ok_or_else(|| sqlx::Error::Decode("the total has more than 28 digits".into()))
}

struct StoredPurchase(Purchase);

/// By position, the same in every statement.
impl<'r> FromRow<'r, SqliteRow> for StoredPurchase {
    fn from_row(row: &'r SqliteRow) -> Result<Self, sqlx::Error> {
        let id = Uuid::try_parse(row.try_get(0)?).map_err(|error| sqlx::Error::Decode(error.into()));
        let price = Price::parse_json(row.try_get(3)?).map_err(|error| sqlx::Error::Decode(error.into()));
        let time =
            |column: usize| Timestamp::parse(row.try_get(column)?).map_err(|error| sqlx::Error::Decode(error.into()));
        Ok(Self(Purchase {
            purchase_id: id?,
            userid: row.try_get(1)?,
            username: row.try_get(2)?,
            price: price?,
            timestamp: time(4)?,
            recorded_at: Some(time(5)?),
            callback_url: None,
        }))
    }
}

/// The same, of statements that tell where to call back, too.
pub(super) struct CalledBack(pub(super) Purchase);

impl<'r> FromRow<'r, SqliteRow> for CalledBack {
    fn from_row(row: &'r SqliteRow) -> Result<Self, sqlx::Error> {
        let StoredPurchase(purchase) = StoredPurchase::from_row(row)?;
        let url: Option<&str> = row.try_get(6)?;
        Ok(Self(Purchase { callback_url: url.and_then(CallbackUrl::from_stored), ..purchase }))
    }
}
