//! Compares a ledger with the SQL table and with the read API.

use std::{
    collections::{BTreeMap, HashMap},
    str::FromStr,
    time::Duration,
};

use chrono::{DateTime, SubsecRound, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{Difference, Entry, Fate, Ledger, Outcome, Report};
use crate::{
    error::{Doing, Result, StackError},
    http,
    load::path_part,
};

const READ_DEADLINE: Duration = Duration::from_secs(5);
const VERIFY_INTERVAL: Duration = Duration::from_millis(250);

/// A stored purchase.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub purchase_id: Uuid,
    pub userid: String,
    pub username: String,
    pub price: Decimal,
    pub purchased_at: DateTime<Utc>,
}

/// What the read API says of a user; the sum as its digits, never as a binary float.
#[derive(Debug, Deserialize)]
struct Totals<'a> {
    count: u64,
    #[serde(borrow)]
    total_spent: &'a RawValue,
}

impl Ledger {
    /// Compares with the table `purchases`: every 2xx recorded exactly once with the content sent, nothing refused and
    /// nothing that nobody sent.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn verify(&self, client: &Client) -> Result<Report> {
        let rows = read_rows(client).await?;
        Ok(self.compare(&rows))
    }

    /// Verifies again and again until every acknowledged purchase is recorded, or something else is wrong, or the
    /// deadline is over: the last report.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn verify_when_recorded(&self, client: &Client, deadline: Duration) -> Result<Report> {
        let end = Instant::now() + deadline;
        loop {
            let report = self.verify(client).await?;
            let may_still_come = !report.differences.is_empty() && report.is_only_incomplete();
            if !may_still_come || Instant::now() >= end {
                return Ok(report);
            }
            sleep(VERIFY_INTERVAL).await;
        }
    }

    pub(super) fn compare(&self, rows: &[Row]) -> Report {
        let mut rows_by_username = HashMap::<&str, Vec<&Row>>::new();
        for row in rows {
            rows_by_username.entry(&row.username).or_default().push(row);
        }
        let mut report = Report { purchases: self.entries.len(), rows: rows.len(), ..Report::default() };
        for entry in &self.entries {
            let found = rows_by_username.remove(entry.username.as_str()).unwrap_or_default();
            let fate = entry.fate();
            report.acknowledged += usize::from(fate == Fate::Acknowledged);
            report.unknown += usize::from(fate == Fate::Unknown);
            report.unknown_recorded += usize::from(fate == Fate::Unknown && !found.is_empty());
            report.differences.extend(differences(entry, fate, &found));
        }
        let strangers = rows_by_username.into_values().flatten();
        report.differences.extend(
            strangers
                .map(|row| Difference::NobodySent { purchase_id: row.purchase_id, username: row.username.clone() }),
        );
        report
    }
}

/// What is wrong with the rows of one purchase.
fn differences(entry: &Entry, fate: Fate, rows: &[&Row]) -> Vec<Difference> {
    let username = || entry.username.clone();
    let mut found = Vec::new();
    if fate == Fate::Acknowledged && rows.is_empty() {
        found.push(Difference::Missing { username: username() });
    }
    if fate == Fate::Refused && !rows.is_empty() {
        found.push(Difference::RefusedButRecorded { username: username() });
    } else if rows.len() > entry.rows_max() {
        let purchase_ids = rows.iter().map(|row| row.purchase_id).collect();
        found.push(Difference::RecordedTwice { username: username(), purchase_ids });
    }
    let mut answered: Vec<Uuid> = entry.purchase_ids().collect();
    answered.dedup();
    if entry.key.is_some() && answered.len() > 1 {
        found.push(Difference::TwoIdsForOneKey { username: username(), purchase_ids: answered.clone() });
    }
    for row in rows {
        let contents = other_contents(entry, &answered, row);
        found.extend(contents.into_iter().map(|what| Difference::OtherContent { username: username(), what }));
    }
    found
}

/// Every field of a row that is not as it was sent, or as the answer said.
fn other_contents(entry: &Entry, answered: &[Uuid], row: &Row) -> Vec<String> {
    let mut found = Vec::new();
    if row.userid != entry.userid {
        found.push(format!("userid: sent {:?}, stored {:?}", entry.userid, row.userid));
    }
    if row.price != entry.price {
        found.push(format!("price: sent {}, stored {}", entry.price, row.price));
    }
    // Without a key an attempt that got no answer has an id that nobody knows.
    let every_id_is_known = entry.key.is_some() || entry.attempts.len() == 1;
    if every_id_is_known && !answered.is_empty() && !answered.contains(&row.purchase_id) {
        found.push(format!("purchase_id: answered {answered:?}, stored {}", row.purchase_id));
    }
    // Of repeated attempts the first that Kafka has counts, and that need not be the one that was answered.
    if let [only] = entry.attempts.as_slice()
        && let Outcome::Answered { timestamp: Some(timestamp), .. } = only.outcome
        && timestamp != row.purchased_at.trunc_subsecs(3)
    {
        found.push(format!("timestamp: answered {timestamp}, stored {}", row.purchased_at));
    }
    found
}

async fn read_rows(client: &Client) -> Result<Vec<Row>> {
    const SQL: &str = "SELECT purchase_id, userid, username, price::text, purchased_at FROM purchases";
    let rows = client.query(SQL, &[]).await.doing("reading the table purchases")?;
    let row = |row: &tokio_postgres::Row| {
        let price: &str = row.get(3);
        let price = Decimal::from_str(price).map_err(|error| StackError::Refused(format!("price {price}: {error}")))?;
        let purchased_at = row.get(4);
        Ok(Row { purchase_id: row.get(0), userid: row.get(1), username: row.get(2), price, purchased_at })
    };
    rows.iter().map(row).collect()
}

/// Compares each user's count and sum in management-api at `address` (`HOST:PORT`) with the rows, and adds what differs
/// to the report.
///
/// # Errors
/// When the table cannot be read or the API does not answer.
pub async fn verify_totals(client: &Client, address: &str, report: &mut Report) -> Result<()> {
    let mut users = BTreeMap::<String, (u64, Decimal)>::new();
    for row in read_rows(client).await? {
        let (count, sum) = users.entry(row.userid).or_default();
        *count += 1;
        *sum += row.price;
    }
    for (userid, rows) in users {
        let path = format!("/users/{}/purchases?limit=1", path_part(&userid));
        let answer = http::get(address, &path, READ_DEADLINE).await?;
        let totals = serde_json::from_str::<Totals<'_>>(&answer.body).ok();
        let read = totals.and_then(|totals| Some((totals.count, Decimal::from_str(totals.total_spent.get()).ok()?)));
        if read != Some(rows) {
            let api = format!("{} {}", answer.status, answer.body);
            report.differences.push(Difference::OtherTotals { userid, rows, api });
        }
        report.users_compared += 1;
    }
    Ok(())
}
