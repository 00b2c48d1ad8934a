//! The same rows by a client that does nothing else: the most that this database takes on this machine.

use std::{pin::pin, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use rust_decimal::Decimal;
use tokio::time::Instant;
use tokio_postgres::{
    Client,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};
use uuid::Uuid;

use crate::{
    backlog::{Buyers, purchase},
    world::World,
};
use stack::error::{Doing, Result, StackError};

/// Rows in a transaction, as many as management-api takes at most.
const BATCH_ROWS: usize = 5_000;

const INSERT_ROWS: &str = "\
INSERT INTO purchases (purchase_id, userid, username, price, purchased_at, recorded_at)
SELECT unnest($1::uuid[]), unnest($2::text[]), unnest($3::text[]), unnest($4::numeric[]), unnest($5::timestamptz[]), now()";

const ADD_TOTALS: &str = "\
INSERT INTO user_totals AS total (userid, kafka_partition, purchase_count, total_spent)
SELECT userid, kafka_partition, count(*), sum(price)
FROM unnest($1::text[], $2::integer[], $3::numeric[]) AS given (userid, kafka_partition, price)
GROUP BY userid, kafka_partition
ON CONFLICT (userid, kafka_partition, rotation) DO UPDATE SET
    purchase_count = total.purchase_count + excluded.purchase_count,
    total_spent = total.total_spent + excluded.total_spent";

/// Rows as columns, ready to be sent.
#[derive(Debug, Default)]
pub struct Columns {
    ids: Vec<Uuid>,
    userids: Vec<String>,
    usernames: Vec<String>,
    prices: Vec<Decimal>,
    times: Vec<DateTime<Utc>>,
    partitions: Vec<i32>,
}

/// All rows, cut into transactions for each connection; made before the clock starts.
#[derive(Debug)]
pub struct Rows {
    count: u64,
    connections: Vec<Vec<Columns>>,
}

impl Rows {
    /// The purchases of a backlog, for so many connections with their own partitions each.
    pub fn make(count: u64, buyers: Buyers, connections: usize) -> Result<Self> {
        let mut rows = Self { count, connections: (0..connections).map(|_| vec![Columns::default()]).collect() };
        for number in 0..count {
            let (purchase, partition) = purchase(number, buyers)?;
            let batches = &mut rows.connections[usize::try_from(partition).unwrap_or(0) % connections];
            if batches.last().is_none_or(|batch| batch.ids.len() == BATCH_ROWS) {
                batches.push(Columns::default());
            }
            let Some(batch) = batches.last_mut() else { continue };
            // Ids are made in ascending order, so the rows of each batch are sorted by them.
            batch.ids.push(purchase.purchase_id);
            batch.times.push(purchase.timestamp.datetime());
            batch.prices.push(purchase.price.decimal());
            batch.userids.push(purchase.userid);
            batch.usernames.push(purchase.username);
            batch.partitions.push(partition);
        }
        Ok(rows)
    }

    /// Rows and totals by UNNEST, one transaction a batch, all connections at once: rows a second.
    pub async fn unnest(&self, world: &World, database: &str) -> Result<f64> {
        let mut clients = Vec::new();
        for _ in &self.connections {
            clients.push(world.postgres.client_of(database).await?);
        }
        let begun = Instant::now();
        let work = clients.iter_mut().zip(&self.connections).map(|(client, batches)| async move {
            let insert = client.prepare(INSERT_ROWS).await?;
            let add = client.prepare(ADD_TOTALS).await?;
            for batch in batches {
                let transaction = client.transaction().await?;
                let rows: [&(dyn ToSql + Sync); 5] =
                    [&batch.ids, &batch.userids, &batch.usernames, &batch.prices, &batch.times];
                transaction.execute(&insert, &rows).await?;
                transaction.execute(&add, &[&batch.userids, &batch.partitions, &batch.prices]).await?;
                transaction.commit().await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        });
        try_join_all(work).await.doing("recording by UNNEST")?;
        self.rate(world, database, begun.elapsed()).await
    }

    /// Rows alone, without totals, by one COPY on one connection: rows a second.
    pub async fn copy(&self, world: &World, database: &str) -> Result<f64> {
        let client = world.postgres.client_of(database).await?;
        let begun = Instant::now();
        self.copy_all(&client).await.doing("recording by COPY")?;
        self.rate(world, database, begun.elapsed()).await
    }

    async fn copy_all(&self, client: &Client) -> std::result::Result<(), tokio_postgres::Error> {
        const COLUMNS: [Type; 6] =
            [Type::UUID, Type::TEXT, Type::TEXT, Type::NUMERIC, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ];
        let statement = "COPY purchases (purchase_id, userid, username, price, purchased_at, recorded_at) \
                         FROM STDIN (FORMAT binary)";
        let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(statement).await?, &COLUMNS));
        let now = Utc::now();
        for batch in self.connections.iter().flatten() {
            for index in 0..batch.ids.len() {
                let row: [&(dyn ToSql + Sync); 6] = [
                    &batch.ids[index],
                    &batch.userids[index],
                    &batch.usernames[index],
                    &batch.prices[index],
                    &batch.times[index],
                    &now,
                ];
                writer.as_mut().write(&row).await?;
            }
        }
        writer.as_mut().finish().await.map(|_| ())
    }

    /// Rows a second, once it is sure that all of them are there.
    async fn rate(&self, world: &World, database: &str, elapsed: Duration) -> Result<f64> {
        let stored = world.count(database).await?;
        if stored != self.count {
            return Err(StackError::Refused(format!("{stored} rows are there instead of {}", self.count)));
        }
        Ok(super::spread::float(self.count) / elapsed.as_secs_f64())
    }
}
