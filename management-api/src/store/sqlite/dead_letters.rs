//! Dead letters that SQLite keeps.

use std::collections::HashSet;

use async_trait::async_trait;
use shared::event::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::{BEGIN_WRITING, SqliteStore, json_list, skipped};
use crate::letter::{DeadLetter, Sending};
use crate::store::dead_letters::{
    Columns, KeptLetter, PAGE_BYTES, PAGE_LETTERS, PendingLetters, Redriven, Redrives, encode_headers, storable,
};
use crate::store::{Mending, OffsetMove, RecordError, Skipped, StoreError};

/// What is kept is never overwritten; why it is dead may change while it is the same.
const KEEP: &str = "
    INSERT INTO dead_letters AS letter (
        letter_id, topic_incarnation, kafka_partition, kafka_offset, original_time_ms, kept_at,
        record_key, record_value, record_headers, reason, error, redrives_returned
    ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, min(?12, 1 + coalesce((
        -- A record can claim any number; one more than is known may be true, for the sending is written down afterwards.
        SELECT max(redrives_sent, redrives_returned) FROM dead_letters WHERE letter_id = ?1
    ), 0)))
    ON CONFLICT (letter_id) DO UPDATE SET
        kept_at = coalesce(letter.kept_at, excluded.kept_at),
        record_key = iif(letter.kept_at IS NULL, excluded.record_key, letter.record_key),
        record_value = iif(letter.kept_at IS NULL, excluded.record_value, letter.record_value),
        record_headers = iif(letter.kept_at IS NULL, excluded.record_headers, letter.record_headers),
        reason = iif(
            letter.kept_at IS NULL OR letter.record_value IS excluded.record_value, excluded.reason, letter.reason
        ),
        error = iif(letter.kept_at IS NULL OR letter.record_value IS excluded.record_value, excluded.error, letter.error),
        redrives_returned = max(letter.redrives_returned, excluded.redrives_returned)";

const LIST: &str = "
    SELECT number, topic_incarnation, kafka_partition, kafka_offset, original_time_ms, record_key, record_value,
        record_headers, reason, error, redrives_sent, redrives_returned, kept_at
    FROM dead_letters JOIN (
        SELECT chosen, sum(bytes) OVER (ORDER BY chosen ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW) AS before
        FROM (
            -- Asked for nothing else, SQLite knows a value's length without reading it.
            SELECT number AS chosen,
                coalesce(length(record_key), 0) + coalesce(length(record_value), 0) + length(record_headers) AS bytes
            FROM dead_letters WHERE number > ?1 AND kept_at IS NOT NULL ORDER BY number LIMIT ?2
        )
    ) ON number = chosen
    WHERE coalesce(before, 0) < ?3 ORDER BY number";

const FIND_REDRIVES: &str = "
    SELECT letter_id, redrives_sent, redrives_returned, kept_at IS NOT NULL
    FROM dead_letters WHERE letter_id IN (SELECT value FROM json_each(?1))";

const ANNOUNCE: &str = "INSERT INTO sent_dead_letters VALUES (?1, ?2) ON CONFLICT DO NOTHING";

const FIND_ANNOUNCED: &str = "
    SELECT letter_id, content_digest FROM sent_dead_letters WHERE letter_id IN (SELECT value FROM json_each(?1))";

const MARK_REDRIVEN: &str = "
    INSERT INTO dead_letters AS letter (
        letter_id, topic_incarnation, kafka_partition, kafka_offset, original_time_ms,
        redrives_sent, redriven_at
    ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (letter_id) DO UPDATE SET
        redrives_sent = max(letter.redrives_sent, excluded.redrives_sent),
        redriven_at = excluded.redriven_at";

const COUNT: &str = "
    SELECT count(*) FROM dead_letters WHERE kept_at IS NOT NULL AND redrives_returned >= redrives_sent";

#[async_trait]
impl Mending for SqliteStore {
    async fn skip(&self, incarnation: &str, step: &OffsetMove, reason: &str) -> Result<(), RecordError> {
        skipped::skip(&self.writing, incarnation, step, reason).await
    }

    async fn list_skipped(&self) -> Result<Vec<Skipped>, StoreError> {
        skipped::list_skipped(&self.reading).await
    }

    async fn list_dead_letters(&self, after: i64) -> Result<Vec<KeptLetter>, StoreError> {
        let query = sqlx::query_as(LIST).bind(after).bind(PAGE_LETTERS).bind(PAGE_BYTES);
        let rows: Vec<StoredLetter> = query.fetch_all(&self.reading).await?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn find_redrives(&self, ids: &[Uuid]) -> Result<Vec<Redrives>, StoreError> {
        let query = sqlx::query_as(FIND_REDRIVES).bind(json_list(ids.iter().copied()));
        let rows: Vec<StoredRedrives> = query.fetch_all(&self.reading).await?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn keep(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let mut connection = self.writing.acquire().await?;
        Ok(keep(&mut connection, std::slice::from_ref(letter), Timestamp::now()).await?)
    }

    async fn announce(&self, sendings: &[Sending]) -> Result<(), StoreError> {
        let mut transaction = self.writing.begin_with(BEGIN_WRITING).await?;
        for sending in sendings {
            let query = sqlx::query(ANNOUNCE).bind(sending.letter_id.to_string()).bind(sending.digest.as_slice());
            query.execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn mark_redriven(&self, redriven: &[Redriven]) -> Result<(), StoreError> {
        let now = Timestamp::now().to_string();
        let mut transaction = self.writing.begin_with(BEGIN_WRITING).await?;
        for Redriven { original, number } in redriven {
            let query = sqlx::query(MARK_REDRIVEN)
                .bind(original.id().to_string())
                .bind(storable(&original.incarnation))
                .bind(original.partition)
                .bind(original.offset)
                .bind(original.timestamp_ms)
                .bind(number)
                .bind(&now);
            query.execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn count_dead_letters(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(COUNT).fetch_one(&self.control).await?;
        Ok(count.unsigned_abs())
    }
}

pub(super) async fn keep(
    connection: &mut SqliteConnection,
    letters: &[DeadLetter],
    kept_at: Timestamp,
) -> Result<(), sqlx::Error> {
    for (id, letter) in PendingLetters::new(letters).iter() {
        let query = sqlx::query(KEEP)
            .bind(id.to_string())
            .bind(storable(&letter.original.incarnation))
            .bind(letter.original.partition)
            .bind(letter.original.offset)
            .bind(letter.original.timestamp_ms)
            .bind(kept_at.to_string())
            .bind(letter.key.as_deref())
            .bind(letter.value.as_deref())
            .bind(encode_headers(&letter.headers))
            .bind(letter.reason.label())
            .bind(storable(&letter.error))
            .bind(letter.redrive);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn find_announced(pool: &SqlitePool, sendings: &[Sending]) -> Result<Vec<Sending>, StoreError> {
    let query = sqlx::query_as(FIND_ANNOUNCED).bind(json_list(sendings.iter().map(|sending| sending.letter_id)));
    let sent: HashSet<(String, Vec<u8>)> = query.fetch_all(pool).await?.into_iter().collect();
    let is_sent = |sending: &&Sending| sent.contains(&(sending.letter_id.to_string(), sending.digest.to_vec()));
    Ok(sendings.iter().filter(is_sent).copied().collect())
}

struct StoredLetter(KeptLetter);

/// By position.
impl<'r> FromRow<'r, SqliteRow> for StoredLetter {
    fn from_row(row: &'r SqliteRow) -> Result<Self, sqlx::Error> {
        let kept_at = Timestamp::parse(row.try_get(12)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
        let columns = Columns {
            number: row.try_get(0)?,
            incarnation: row.try_get(1)?,
            partition: row.try_get(2)?,
            offset: row.try_get(3)?,
            timestamp_ms: row.try_get(4)?,
            key: row.try_get(5)?,
            value: row.try_get(6)?,
            headers: row.try_get(7)?,
            reason: row.try_get(8)?,
            error: row.try_get(9)?,
            sent: row.try_get(10)?,
            returned: row.try_get(11)?,
        };
        Ok(Self(columns.into_letter(kept_at)))
    }
}

struct StoredRedrives(Redrives);

/// By position.
impl<'r> FromRow<'r, SqliteRow> for StoredRedrives {
    fn from_row(row: &'r SqliteRow) -> Result<Self, sqlx::Error> {
        let id = Uuid::try_parse(row.try_get(0)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(Self(Redrives { id, sent: row.try_get(1)?, returned: row.try_get(2)?, kept: row.try_get(3)? }))
    }
}
