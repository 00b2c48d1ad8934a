//! The database: a trait for each who asks (recording, readers, who follows the commits, who calls back, operators, accounts), PostgreSQL and SQLite behind them. SQL stands
//! nowhere else.

mod accounts;
mod api_keys;
mod callbacks;
mod commits;
mod config;
mod cursor;
mod dead_letters;
mod mending;
mod metering;
mod pending;
mod postgres;
mod reading;
mod recording;
mod sessions;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

pub use self::accounts::{Account, AccountKeeping, KnownAccount, NewAccount, PasswordChange};
pub use self::api_keys::{Creation, KEYS_MAX, KEYS_TOLD_MAX, KeyKeeping, NewKey, Rotated, Rotation, WhichKey};
pub use self::callbacks::{
    CallbackBatch, CallbackCounts, CallbackOutbox, Claim, Claimed, DeadCallbacks, FailedCallback, NextTry,
    RetriedCallback, Settlement,
};
pub use self::commits::CommitLog;
use self::config::Backend;
pub use self::config::{DatabaseUrl, InvalidDatabaseUrl, StoreConfig};
pub use self::cursor::{Cursor, InvalidCursor};
pub use self::dead_letters::{KeptLetter, Redriven, Redrives};
pub use self::mending::{Mending, Skipped};
pub use self::metering::{Metering, UsageQuery};
pub use self::pending::PendingRows;
use self::reading::{PAGE_MAX, page};
pub use self::reading::{PageQuery, Reading};
pub use self::recording::{Batch, OffsetMove, PartitionOffset, RecordError, Recorded, Recording};
pub use self::sessions::{NewSession, Revocation, Session, SessionKeeping, SpentToken, Standing, TokenHash};

/// The store that `config` names. Nothing is connected yet: the database may be away, now and at any later time.
#[must_use]
pub fn connect(config: &StoreConfig) -> Arc<dyn Store> {
    match &config.url.0 {
        Backend::Postgres(options) => Arc::new(postgres::PostgresStore::new(options, config)),
        Backend::Sqlite(options) => Arc::new(sqlite::SqliteStore::new(options, config)),
    }
}

/// Runs migrations, each with its name, in this order: their numbers count up from 1.
fn migrations(named: &[(&'static str, &'static str)]) -> Migrator {
    let migration = |(number, (name, sql)): (i64, &(&'static str, &'static str))| {
        Migration::new(number, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations((1..).zip(named).map(migration).collect());
    // While a new release rolls out, and after a roll-back, old replicas start on newer tables.
    migrator.set_ignore_missing(true);
    migrator
}

/// A database: what recording, readers, operators and accounts need of it, and how it is. Every method is safe to repeat after an
/// error.
#[async_trait]
pub trait Store:
    Recording + Reading + Mending + AccountKeeping + SessionKeeping + KeyKeeping + Metering + CommitLog + CallbackOutbox
{
    /// Whether the database answers and can do all that is asked of it, on a connection that nothing else waits for.
    async fn check(&self) -> Result<(), Unfit>;

    /// How many connections the pool holds now.
    fn connections(&self) -> Connections;

    /// Closes every connection.
    async fn close(&self);
}

/// Connections of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Open and unused.
    pub idle: u32,
    /// In use.
    pub used: u32,
}

/// The database did not do what was asked; a repeat may succeed. The text is for logs, never for callers.
#[derive(Debug, thiserror::Error)]
#[error("database: {0}")]
pub struct StoreError(pub String);

/// Why the database cannot do its work now, in words for everybody: without hosts, users or SQL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

impl From<StoreError> for Unfit {
    fn from(error: StoreError) -> Self {
        tracing::debug!(%error, "the database does not answer");
        Self("the database does not answer".to_owned())
    }
}

impl From<sqlx::Error> for Unfit {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}
