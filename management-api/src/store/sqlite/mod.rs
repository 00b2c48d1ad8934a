//! SQLite: one file, for one process.

mod accounts;
mod api_keys;
mod callbacks;
mod commits;
mod dead_letters;
mod fault;
mod metering;
mod read;
mod record;
mod sessions;
mod skipped;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, Transaction};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use self::fault::Fault;
use super::{Connections, Store, StoreConfig, StoreError, Unfit, migrations};

/// How long a statement waits for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it looks, where SQLite does not wait by itself.
const BUSY_INTERVAL: Duration = Duration::from_millis(20);
const TABLES_ARE_THERE: &str = "
    SELECT count(*) = 20 FROM sqlite_schema WHERE type = 'table' AND name IN (
        'purchases', 'user_totals', 'consumer_offsets', 'leader_epochs', 'dead_letters', 'sent_dead_letters', 'skipped_records',
        'accounts', 'sessions', 'spent_tokens', 'token_revocations', 'api_keys', 'api_key_purchases', 'api_key_requests',
        'usage_flushes', 'commits', 'commit_log', 'callback_batches', 'callbacks', 'callback_hosts'
    )";
/// Takes the lock for writing at once: a transaction that began as a reader could fail when it comes to write.
const BEGIN_WRITING: &str = "BEGIN IMMEDIATE";

/// Purchases in an SQLite file. There is one writer at a time, so recording has one connection.
pub(super) struct SqliteStore {
    file: Box<Path>,
    writing: SqlitePool,
    reading: SqlitePool,
    /// For looking at the database, however busy the others are.
    control: SqlitePool,
    /// Accounts have the writer's connection one after the other, so that recording waits for one of them at most.
    account_turns: Semaphore,
}

/// The writer's connection, while something is done for an account.
struct AccountWriter<'a> {
    connection: PoolConnection<Sqlite>,
    _turn: SemaphorePermit<'a>,
}

impl SqliteStore {
    pub(super) fn new(options: &SqliteConnectOptions, config: &StoreConfig) -> Self {
        let options = options.clone().busy_timeout(BUSY_TIMEOUT).disable_statement_logging();
        let writer = options
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An acknowledged purchase survives a power cut, not just the end of this process.
            .synchronous(SqliteSynchronous::Full)
            // 16 MiB of pages in memory, and as many of the log before they are copied into the file: a batch of many
            // users touches many pages. The third cuts the log's file back after a rare long one.
            .pragma("cache_size", "-16384")
            .pragma("wal_autocheckpoint", "4096")
            .pragma("journal_size_limit", "67108864")
            .pragma("temp_store", "MEMORY");
        let reader = options.create_if_missing(false).pragma("query_only", "ON").pragma("temp_store", "MEMORY");
        let pool = |connections| {
            PoolOptions::<Sqlite>::new().max_connections(connections).acquire_timeout(config.acquire_timeout)
        };
        Self {
            file: writer.get_filename().into(),
            writing: pool(1)
                .after_release(|connection, _| Box::pin(is_fit_for_another_transaction(connection)))
                .connect_lazy_with(writer),
            reading: pool(config.read_connections).connect_lazy_with(reader.clone()),
            control: pool(1).connect_lazy_with(reader),
            account_turns: Semaphore::new(1),
        }
    }

    /// The very first connection switches the file to its log. For the lock of that, SQLite does not wait by itself.
    async fn begin_writing_a_new_file(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        let deadline = Instant::now() + BUSY_TIMEOUT;
        loop {
            match self.writing.begin_with(BEGIN_WRITING).await {
                Err(error) if Fault::of(&error) == Fault::Busy && Instant::now() < deadline => {
                    sleep(BUSY_INTERVAL).await;
                }
                begun => return begun,
            }
        }
    }

    async fn account_writer(&self) -> Result<AccountWriter<'_>, StoreError> {
        let turn = self.account_turns.acquire().await.map_err(|error| StoreError(error.to_string()))?;
        Ok(AccountWriter { connection: self.writing.acquire().await?, _turn: turn })
    }

    async fn run_migrations(&self) -> Result<(), StoreError> {
        if let Some(folder) = self.file.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(|error| StoreError(error.to_string()))?;
        }
        // sqlx has no lock for SQLite; the file's own keeps other processes out until the commit.
        let mut transaction = self.begin_writing_a_new_file().await?;
        let migrated = migrator().run_direct(None, &mut *transaction, false).await;
        migrated.map_err(|error| StoreError(error.to_string()))?;
        Ok(transaction.commit().await?)
    }
}

/// On a full disk SQLite rolls back by itself; sqlx then counts a transaction that is no more, and could begin no other. Such
/// a connection is closed. The ping first lets a roll-back of our own end.
async fn is_fit_for_another_transaction(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// What became of it. The connection is closed where a fault could stay with it.
fn judge<T>(mut writer: AccountWriter<'_>, work: Result<T, sqlx::Error>) -> Result<T, StoreError> {
    work.map_err(|error| {
        if Fault::of(&error).stays_with_connection() {
            writer.connection.close_on_drop();
        }
        error.into()
    })
}

/// Ids as a list for `json_each`: SQLite has no arrays.
fn json_list(ids: impl Iterator<Item = Uuid>) -> String {
    ids.map(|id| id.to_string()).collect::<serde_json::Value>().to_string()
}

fn migrator() -> Migrator {
    migrations(&[
        ("purchases", include_str!("../../../migrations/sqlite/0001_purchases.sql")),
        ("dead letters", include_str!("../../../migrations/sqlite/0002_dead_letters.sql")),
        ("sent dead letters", include_str!("../../../migrations/sqlite/0003_sent_dead_letters.sql")),
        ("accounts", include_str!("../../../migrations/sqlite/0004_accounts.sql")),
        ("api keys", include_str!("../../../migrations/sqlite/0005_api_keys.sql")),
        ("commits", include_str!("../../../migrations/sqlite/0006_commits.sql")),
        ("callbacks", include_str!("../../../migrations/sqlite/0007_callbacks.sql")),
    ])
}

#[async_trait]
impl Store for SqliteStore {
    async fn check(&self) -> Result<(), Unfit> {
        let tables: Result<bool, _> = sqlx::query_scalar(TABLES_ARE_THERE).fetch_one(&self.control).await;
        match tables {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unfit("the database's tables are not there yet".to_owned())),
            Err(error) => {
                Err(Fault::of(&error).unfit().map_or_else(|| error.into(), |reason| Unfit(reason.to_owned())))
            }
        }
    }

    fn connections(&self) -> Connections {
        let pools = [&self.writing, &self.reading, &self.control];
        let size: u32 = pools.iter().map(|pool| pool.size()).sum();
        let idle = u32::try_from(pools.iter().map(|pool| pool.num_idle()).sum::<usize>()).unwrap_or(u32::MAX);
        Connections { idle, used: size.saturating_sub(idle) }
    }

    async fn close(&self) {
        // The readers first: the last connection to close folds the log into the file.
        self.reading.close().await;
        self.control.close().await;
        self.writing.close().await;
    }
}
