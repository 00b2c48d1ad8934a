//! Dead letters that PostgreSQL keeps.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::event::Timestamp;
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, Postgres, Row as _};
use uuid::Uuid;

use super::{PostgresStore, answer, record, session, skipped};
use crate::letter::{DeadLetter, Original, Sending};
use crate::store::dead_letters::{
    Columns, KeptLetter, PAGE_BYTES, PAGE_LETTERS, PendingLetters, Redriven, Redrives, encode_headers, storable,
};
use crate::store::{Mending, OffsetMove, RecordError, Skipped, StoreError};

/// Records a batch and keeps its dead letters, in one statement. What is kept is never overwritten; why it is dead may change
/// while it is the same.
pub(super) const RECORD_AND_KEEP: &str = "
    WITH recorded AS (
        SELECT record_purchases_v6(
            $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30
        ) AS recording_time
    ), kept AS (
        INSERT INTO dead_letters AS letter (
            letter_id, topic_incarnation, kafka_partition, kafka_offset, original_time_ms, kept_at,
            record_key, record_value, record_headers, reason, error, redrives_returned
        )
        SELECT given.id, given.incarnation, given.partition, given.position, given.time, recording_time,
            given.key, given.value, given.headers, given.reason, given.error,
            -- A record can claim any number; one more than is known may be true, for the sending is written down afterwards.
            least(given.redrive, greatest(known.redrives_sent, known.redrives_returned, 0) + 1)
        FROM recorded, unnest(
            $1::uuid[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bytea[],
            $8::bytea[], $9::text[], $10::text[], $11::integer[]
        ) AS given (id, incarnation, partition, position, time, key, value, headers, reason, error, redrive)
        LEFT JOIN dead_letters AS known ON known.letter_id = given.id
        ORDER BY given.id
        ON CONFLICT (letter_id) DO UPDATE SET
            kept_at = coalesce(letter.kept_at, excluded.kept_at),
            record_key = CASE WHEN letter.kept_at IS NULL THEN excluded.record_key ELSE letter.record_key END,
            record_value = CASE WHEN letter.kept_at IS NULL THEN excluded.record_value ELSE letter.record_value END,
            record_headers = CASE WHEN letter.kept_at IS NULL THEN excluded.record_headers ELSE letter.record_headers END,
            reason = CASE WHEN letter.kept_at IS NULL OR letter.record_value IS NOT DISTINCT FROM excluded.record_value
                THEN excluded.reason ELSE letter.reason END,
            error = CASE WHEN letter.kept_at IS NULL OR letter.record_value IS NOT DISTINCT FROM excluded.record_value
                THEN excluded.error ELSE letter.error END,
            redrives_returned = greatest(letter.redrives_returned, excluded.redrives_returned)
    )
    SELECT recording_time FROM recorded";

/// Sizes are known without a look at the bytes.
const LIST: &str = "
    SELECT number, topic_incarnation, kafka_partition, kafka_offset, original_time_ms, record_key, record_value,
        record_headers, reason, error, redrives_sent::bigint, redrives_returned::bigint, kept_at
    FROM (
        SELECT *, sum(coalesce(octet_length(record_key), 0) + coalesce(octet_length(record_value), 0)
            + octet_length(record_headers)) OVER (ORDER BY number ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW) AS before
        FROM dead_letters WHERE number > $1 AND kept_at IS NOT NULL ORDER BY number LIMIT $2
    ) AS page
    WHERE coalesce(before, 0) < $3 ORDER BY number";

const FIND_REDRIVES: &str = "
    SELECT letter_id, redrives_sent::bigint, redrives_returned::bigint, kept_at IS NOT NULL
    FROM dead_letters WHERE letter_id = ANY ($1)";

const ANNOUNCE: &str = "
    INSERT INTO sent_dead_letters (letter_id, content_digest)
    SELECT DISTINCT letter_id, digest FROM unnest($1::uuid[], $2::bytea[]) AS given (letter_id, digest) ORDER BY 1, 2
    ON CONFLICT DO NOTHING";

const FIND_ANNOUNCED: &str = "
    SELECT letter_id, content_digest
    FROM sent_dead_letters JOIN unnest($1::uuid[], $2::bytea[]) AS given (id, digest)
        ON letter_id = given.id AND content_digest = given.digest";

const MARK_REDRIVEN: &str = "
    INSERT INTO dead_letters AS letter (
        letter_id, topic_incarnation, kafka_partition, kafka_offset, original_time_ms,
        redrives_sent, redriven_at
    )
    SELECT DISTINCT ON (id) id, incarnation, partition, position, time, number, clock_timestamp()
    FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::integer[])
        AS given (id, incarnation, partition, position, time, number)
    ORDER BY id, number DESC
    ON CONFLICT (letter_id) DO UPDATE SET
        redrives_sent = greatest(letter.redrives_sent, excluded.redrives_sent),
        redriven_at = excluded.redriven_at";

const COUNT: &str = "
    SELECT count(*) FROM dead_letters WHERE kept_at IS NOT NULL AND redrives_returned >= redrives_sent";

#[async_trait]
impl Mending for PostgresStore {
    async fn skip(&self, incarnation: &str, step: &OffsetMove, reason: &str) -> Result<(), RecordError> {
        skipped::skip(&self.recording, incarnation, step, reason).await
    }

    async fn list_skipped(&self) -> Result<Vec<Skipped>, StoreError> {
        skipped::list_skipped(&self.reading).await
    }

    async fn list_dead_letters(&self, after: i64) -> Result<Vec<KeptLetter>, StoreError> {
        let query = sqlx::query_as(LIST).bind(after).bind(PAGE_LETTERS).bind(PAGE_BYTES);
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(query.fetch_all(&mut *session)).await;
        let rows: Vec<StoredLetter> = session.judge(rows)?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn find_redrives(&self, ids: &[Uuid]) -> Result<Vec<Redrives>, StoreError> {
        let query = sqlx::query_as(FIND_REDRIVES).bind(ids);
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(query.fetch_all(&mut *session)).await;
        let rows: Vec<StoredRedrives> = session.judge(rows)?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn keep(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        record::keep(&self.recording, letter).await
    }

    async fn announce(&self, sendings: &[Sending]) -> Result<(), StoreError> {
        let (ids, digests) = columns(sendings);
        let mut session = session::acquire(&self.recording).await?;
        let announced = answer(sqlx::query(ANNOUNCE).bind(ids).bind(digests).execute(&mut *session)).await;
        session.judge(announced)?;
        Ok(())
    }

    async fn mark_redriven(&self, redriven: &[Redriven]) -> Result<(), StoreError> {
        let originals = || redriven.iter().map(|redriven| &redriven.original);
        let numbers = redriven.iter().map(|redriven| i32::try_from(redriven.number).unwrap_or(i32::MAX));
        let query = sqlx::query(MARK_REDRIVEN)
            .bind(originals().map(Original::id).collect::<Vec<_>>())
            .bind(originals().map(|original| storable(&original.incarnation)).collect::<Vec<_>>())
            .bind(originals().map(|original| original.partition).collect::<Vec<_>>())
            .bind(originals().map(|original| original.offset).collect::<Vec<_>>())
            .bind(originals().map(|original| original.timestamp_ms).collect::<Vec<_>>())
            .bind(numbers.collect::<Vec<_>>());
        let mut session = session::acquire(&self.recording).await?;
        let marked = answer(query.execute(&mut *session)).await;
        session.judge(marked)?;
        Ok(())
    }

    async fn count_dead_letters(&self) -> Result<u64, StoreError> {
        let mut session = session::acquire(&self.control).await?;
        let count = answer(sqlx::query_scalar(COUNT).fetch_one(&mut *session)).await;
        let count: i64 = session.judge(count)?;
        Ok(count.unsigned_abs())
    }
}

pub(super) fn bind_to<'q, O>(
    query: QueryAs<'q, Postgres, O, PgArguments>,
    letters: &'q [DeadLetter],
) -> QueryAs<'q, Postgres, O, PgArguments> {
    fn column<'a, T>(letters: &PendingLetters<'a>, value: impl Fn(&'a DeadLetter) -> T) -> Vec<T> {
        letters.iter().map(|(_, letter)| value(letter)).collect()
    }
    let letters = PendingLetters::new(letters);
    query
        .bind(letters.iter().map(|(id, _)| id).collect::<Vec<_>>())
        .bind(column(&letters, |letter| storable(&letter.original.incarnation)))
        .bind(column(&letters, |letter| letter.original.partition))
        .bind(column(&letters, |letter| letter.original.offset))
        .bind(column(&letters, |letter| letter.original.timestamp_ms))
        .bind(column(&letters, |letter| letter.key.as_deref()))
        .bind(column(&letters, |letter| letter.value.as_deref()))
        .bind(column(&letters, |letter| encode_headers(&letter.headers)))
        .bind(column(&letters, |letter| letter.reason.label()))
        .bind(column(&letters, |letter| storable(&letter.error)))
        .bind(column(&letters, |letter| i32::try_from(letter.redrive).unwrap_or(i32::MAX)))
}

pub(super) async fn find_announced(pool: &PgPool, sendings: &[Sending]) -> Result<Vec<Sending>, StoreError> {
    let (ids, digests) = columns(sendings);
    let query = sqlx::query_as(FIND_ANNOUNCED).bind(ids).bind(digests);
    let mut session = session::acquire(pool).await?;
    let rows = answer(query.fetch_all(&mut *session)).await;
    let rows: Vec<(Uuid, [u8; 32])> = session.judge(rows)?;
    Ok(rows.into_iter().map(|(letter_id, digest)| Sending { letter_id, digest }).collect())
}

fn columns(sendings: &[Sending]) -> (Vec<Uuid>, Vec<&[u8]>) {
    sendings.iter().map(|sending| (sending.letter_id, sending.digest.as_slice())).unzip()
}

struct StoredLetter(KeptLetter);

/// By position.
impl<'r> FromRow<'r, PgRow> for StoredLetter {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
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
        Ok(Self(columns.into_letter(Timestamp::new(row.try_get::<DateTime<Utc>, _>(12)?))))
    }
}

struct StoredRedrives(Redrives);

/// By position.
impl<'r> FromRow<'r, PgRow> for StoredRedrives {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let count = |column: usize| Ok::<_, sqlx::Error>(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0));
        Ok(Self(Redrives { id: row.try_get(0)?, sent: count(1)?, returned: count(2)?, kept: row.try_get(3)? }))
    }
}
