//! PostgreSQL 15 and later.

mod accounts;
mod api_keys;
mod callbacks;
mod commits;
mod dead_letters;
mod fitness;
mod frozen;
mod metering;
mod read;
mod record;
mod session;
mod sessions;
mod skipped;
mod sqlstate;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Connection as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use tokio::time::timeout;

use self::fitness::Look;
use super::{Connections, Store, StoreConfig, StoreError, Unfit, migrations};

/// How long one statement may take until its answer is here. The server itself gives up earlier; past this, it does not
/// answer at all, or the network does not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(13);
/// The same for the question whether the database answers.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for a migration.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(70);
/// How long closing waits for what still runs.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Purchases in PostgreSQL. Recording has connections of its own, so that no crowd of readers holds it up.
pub(super) struct PostgresStore {
    options: PgConnectOptions,
    recording: PgPool,
    /// Also of accounts, whose few rows nobody waits for but who signs in.
    reading: PgPool,
    /// One connection for looking at the database and at how things stand: however busy the others are, it is free.
    control: PgPool,
    /// Whether the batch that was recorded last had purchases that were stored before.
    duplicates: AtomicBool,
    /// Which callbacks were looked for.
    callbacks_looked: callbacks::Looked,
}

impl PostgresStore {
    pub(super) fn new(options: &PgConnectOptions, config: &StoreConfig) -> Self {
        let options = session::name(options);
        Self {
            recording: session::pool(config.record_connections, config.acquire_timeout)
                .connect_lazy_with(options.clone()),
            reading: session::pool(config.read_connections, config.acquire_timeout).connect_lazy_with(options.clone()),
            control: session::pool(1, config.acquire_timeout).connect_lazy_with(options.clone()),
            options,
            duplicates: AtomicBool::new(false),
            callbacks_looked: callbacks::Looked::default(),
        }
    }

    async fn look(&self) -> Result<Look, sqlx::Error> {
        let mut session = session::acquire(&self.control).await?;
        let look = answer_within(CHECK_TIMEOUT, fitness::look(&mut session)).await;
        if look.as_ref().is_ok_and(Look::stays_with_session) {
            session.discard();
        }
        session.judge(look)
    }

    async fn run_migrations(&self) -> Result<(), StoreError> {
        let migrated = timeout(MIGRATION_TIMEOUT, self.run_missing_migrations()).await;
        migrated.map_err(|_| StoreError("no answer in time".to_owned()))?
    }

    async fn run_missing_migrations(&self) -> Result<(), StoreError> {
        // Its own connection: what a frozen process would hold ends with the session's time limits.
        let mut connection = session::connect_to_migrate(&self.options).await?;
        let look = fitness::look(&mut connection).await?;
        look.takes_everything().map_err(|unfit| StoreError(unfit.to_string()))?;
        if look.is_ready().is_ok() && is_up_to_date(&mut connection).await {
            // Made by another user, who owns them: this one need not be allowed to.
            return Ok(connection.close().await?);
        }
        migrator().run_direct(None, &mut connection, false).await.map_err(|error| StoreError(error.to_string()))?;
        Ok(connection.close().await?)
    }
}

fn migrator() -> Migrator {
    migrations(&[
        ("purchases", include_str!("../../../migrations/postgres/0001_purchases.sql")),
        ("dead letters", include_str!("../../../migrations/postgres/0002_dead_letters.sql")),
        ("record purchases", include_str!("../../../migrations/postgres/0003_record_purchases.sql")),
        ("sent dead letters", include_str!("../../../migrations/postgres/0004_sent_dead_letters.sql")),
        ("accounts", include_str!("../../../migrations/postgres/0005_accounts.sql")),
        ("api keys", include_str!("../../../migrations/postgres/0006_api_keys.sql")),
        ("commits", include_str!("../../../migrations/postgres/0007_commits.sql")),
        ("callbacks", include_str!("../../../migrations/postgres/0008_callbacks.sql")),
    ])
}

/// Whether every migration has run. No, when nobody tells.
async fn is_up_to_date(connection: &mut PgConnection) -> bool {
    let versions: Vec<i64> = migrator().iter().map(|migration| migration.version).collect();
    let query = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations WHERE success AND version = ANY ($1)");
    let run: Result<i64, _> = query.bind(&versions).fetch_one(connection).await;
    run.is_ok_and(|run| usize::try_from(run) == Ok(versions.len()))
}

/// Runs a session's statement, and ends the wait for an answer that does not come.
async fn answer<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    answer_within(ANSWER_TIMEOUT, work).await
}

async fn answer_within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let late = |_| sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"));
    timeout(limit, work).await.map_err(late)?
}

#[async_trait]
impl Store for PostgresStore {
    async fn check(&self) -> Result<(), Unfit> {
        let look =
            timeout(CHECK_TIMEOUT, self.look()).await.map_err(|_| StoreError("no answer in time".to_owned()))??;
        look.takes_everything()?;
        look.is_ready()
    }

    fn connections(&self) -> Connections {
        let pools = [&self.recording, &self.reading, &self.control];
        let size: u32 = pools.iter().map(|pool| pool.size()).sum();
        let idle = u32::try_from(pools.iter().map(|pool| pool.num_idle()).sum::<usize>()).unwrap_or(u32::MAX);
        Connections { idle, used: size.saturating_sub(idle) }
    }

    async fn close(&self) {
        let closed = async { tokio::join!(self.recording.close(), self.reading.close(), self.control.close()) };
        // What still runs ends with the process.
        let _ = timeout(CLOSE_TIMEOUT, closed).await;
    }
}
