//! Whether the database can do what is asked of it: told before anything is recorded, not found out record by record.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row as _};

use crate::store::Unfit;

/// A table that is missing has no right either.
const LOOK: &str = "
    SELECT
        (SELECT pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = current_database()) AS encoding,
        pg_is_in_recovery() AS is_standby,
        current_setting('transaction_read_only') = 'on' AS is_read_only,
        coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
        (SELECT min(needed.name) FROM unnest($1::text[]) AS needed (name)
            JOIN pg_class ON pg_class.oid = to_regclass(needed.name)
            WHERE NOT pg_has_role(relowner, 'USAGE')) AS table_of_others,
        (SELECT min(needed.name) FROM unnest($1::text[]) AS needed (name)
            WHERE to_regclass(needed.name) IS NULL) AS missing_table,
        (SELECT min(needed.privilege || ' on ' || needed.name) FROM unnest($1::text[], $2::text[]) AS needed (name, privilege)
            WHERE NOT has_table_privilege(to_regclass(needed.name), needed.privilege)) AS missing_privilege,
        (SELECT min(needed.name) FROM unnest($3::text[]) AS needed (name)
            WHERE NOT EXISTS (SELECT FROM pg_proc WHERE proname = needed.name AND pg_function_is_visible(oid)))
            AS missing_function,
        (SELECT min(needed.name) FROM unnest($3::text[]) AS needed (name)
            JOIN pg_proc ON proname = needed.name AND pg_function_is_visible(pg_proc.oid)
            WHERE NOT has_function_privilege(pg_proc.oid, 'EXECUTE')) AS missing_execute";

/// What the statements of this service need.
const PRIVILEGES: &[(&str, &str)] = &[
    // sqlx reads it at each start.
    ("_sqlx_migrations", "SELECT"),
    ("purchases", "SELECT"),
    ("purchases", "INSERT"),
    ("user_totals", "SELECT"),
    ("user_totals", "INSERT"),
    ("user_totals", "UPDATE"),
    ("consumer_offsets", "SELECT"),
    ("consumer_offsets", "INSERT"),
    ("consumer_offsets", "UPDATE"),
    ("recorded_partitions", "INSERT"),
    ("dead_letters", "SELECT"),
    ("dead_letters", "INSERT"),
    ("dead_letters", "UPDATE"),
    ("sent_dead_letters", "SELECT"),
    ("sent_dead_letters", "INSERT"),
    ("skipped_records", "SELECT"),
    ("skipped_records", "INSERT"),
    ("accounts", "SELECT"),
    ("accounts", "INSERT"),
    ("accounts", "UPDATE"),
    ("accounts", "DELETE"),
    ("sessions", "SELECT"),
    ("sessions", "INSERT"),
    ("sessions", "UPDATE"),
    ("sessions", "DELETE"),
    ("spent_tokens", "SELECT"),
    ("spent_tokens", "INSERT"),
    ("spent_tokens", "DELETE"),
    ("token_revocations", "SELECT"),
    ("token_revocations", "INSERT"),
    ("token_revocations", "UPDATE"),
    ("token_revocations", "DELETE"),
    ("api_keys", "SELECT"),
    ("api_keys", "INSERT"),
    ("api_keys", "UPDATE"),
    ("api_keys", "DELETE"),
    ("api_key_purchases", "SELECT"),
    ("api_key_purchases", "INSERT"),
    ("api_key_purchases", "UPDATE"),
    ("api_key_requests", "SELECT"),
    ("api_key_requests", "INSERT"),
    ("api_key_requests", "UPDATE"),
    ("usage_flushes", "SELECT"),
    ("usage_flushes", "INSERT"),
    ("usage_flushes", "UPDATE"),
    ("usage_flushes", "DELETE"),
    ("commits", "SELECT"),
    ("commits", "INSERT"),
    ("commits", "DELETE"),
    ("commit_log", "SELECT"),
    ("callback_batches", "SELECT"),
    ("callback_batches", "INSERT"),
    ("callback_batches", "UPDATE"),
    ("callback_batches", "DELETE"),
    ("callbacks", "SELECT"),
    ("callbacks", "INSERT"),
    ("callbacks", "UPDATE"),
    ("callbacks", "DELETE"),
    ("callback_hosts", "SELECT"),
    ("callback_hosts", "INSERT"),
    ("callback_hosts", "UPDATE"),
    ("callback_hosts", "DELETE"),
];

const FUNCTIONS: &[&str] = &["record_purchases_v6", "record_purchase_rows", "append_commit"];

/// What was seen.
#[derive(Debug)]
pub(super) struct Look {
    encoding: String,
    is_standby: bool,
    is_read_only: bool,
    /// Whether tables and functions can be made.
    may_create: bool,
    /// One that is there, and cannot be altered.
    table_of_others: Option<String>,
    missing_table: Option<String>,
    missing_privilege: Option<String>,
    missing_function: Option<String>,
    missing_execute: Option<String>,
}

impl<'r> FromRow<'r, PgRow> for Look {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            encoding: row.try_get("encoding")?,
            is_standby: row.try_get("is_standby")?,
            is_read_only: row.try_get("is_read_only")?,
            may_create: row.try_get("may_create")?,
            table_of_others: row.try_get("table_of_others")?,
            missing_table: row.try_get("missing_table")?,
            missing_privilege: row.try_get("missing_privilege")?,
            missing_function: row.try_get("missing_function")?,
            missing_execute: row.try_get("missing_execute")?,
        })
    }
}

/// Looks at everything.
pub(super) async fn look(connection: &mut PgConnection) -> Result<Look, sqlx::Error> {
    let (tables, privileges): (Vec<&str>, Vec<&str>) = PRIVILEGES.iter().copied().unzip();
    sqlx::query_as(LOOK).bind(tables).bind(privileges).bind(FUNCTIONS).fetch_one(connection).await
}

impl Look {
    /// Whether the database could ever hold what is accepted, and takes writes now: what must be so before the tables are
    /// made, or anything is written to them.
    pub(super) fn takes_everything(&self) -> Result<(), Unfit> {
        // Another encoding has no room for most names; SQL_ASCII does not know what it holds.
        if self.encoding != "UTF8" {
            return unfit(format!("the database has the encoding {}, and must have UTF8", self.encoding));
        }
        if self.is_standby {
            return unfit("the database is a standby, or still recovering, and takes no writes");
        }
        if self.is_read_only {
            return unfit("the database is read-only for this user");
        }
        Ok(())
    }

    /// Whether the tables and functions are there, and may be used.
    pub(super) fn is_ready(&self) -> Result<(), Unfit> {
        if let Some(table) = &self.missing_table {
            return unfit(format!("the database has no table {table} {}", self.why_not_yet()));
        }
        if let Some(function) = &self.missing_function {
            return unfit(format!("the database has no function {function} {}", self.why_not_yet()));
        }
        if let Some(privilege) = &self.missing_privilege {
            return unfit(format!("the database's user lacks the privilege {privilege}"));
        }
        if let Some(function) = &self.missing_execute {
            return unfit(format!("the database's user lacks the privilege EXECUTE on {function}"));
        }
        Ok(())
    }

    /// What keeps this service from making what is missing; it does so at its start, as a rule.
    fn why_not_yet(&self) -> String {
        match &self.table_of_others {
            _ if !self.may_create => "and its user lacks the privilege CREATE on the schema to make it".to_owned(),
            Some(table) => format!("and its user may not alter the tables to make it: {table} belongs to another role"),
            None => "yet".to_owned(),
        }
    }

    /// Whether the session itself may be what keeps it from writing: what it was told at its start stays with it.
    pub(super) fn stays_with_session(&self) -> bool {
        self.is_standby || self.is_read_only
    }
}

fn unfit(reason: impl Into<String>) -> Result<(), Unfit> {
    Err(Unfit(reason.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database that has everything.
    fn fit() -> Look {
        Look {
            encoding: "UTF8".to_owned(),
            is_standby: false,
            is_read_only: false,
            may_create: true,
            table_of_others: None,
            missing_table: None,
            missing_privilege: None,
            missing_function: None,
            missing_execute: None,
        }
    }

    #[test]
    fn a_standby_takes_nothing_and_another_session_may_find_another_server() {
        let standby = Look { is_standby: true, is_read_only: true, ..fit() };
        assert!(standby.takes_everything().unwrap_err().to_string().contains("standby"));
        assert!(standby.stays_with_session());
        let read_only = Look { is_read_only: true, ..fit() };
        assert!(read_only.takes_everything().unwrap_err().to_string().contains("read-only"));
        assert!(read_only.stays_with_session());
        assert!(fit().takes_everything().is_ok() && fit().is_ready().is_ok() && !fit().stays_with_session());
    }
}
