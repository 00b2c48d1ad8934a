//! Connections, and the settings of a session: no statement, lock or silence lasts for ever on either side.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Postgres};
use tokio::time::timeout;

use super::sqlstate;

/// What our sessions are called in `pg_stat_activity`, whichever replica they belong to.
pub(super) const APPLICATION_NAME: &str = "management-api";

/// How long a connection that comes back to its pool may take to answer, when its last user did not wait for the answer.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings that a server does not know (`transaction_timeout` came with PostgreSQL 17) are left out.
const CONFIGURE: &str = "
    SELECT set_config(name, value, false)
    FROM unnest($1::text[], $2::text[]) AS setting (name, value)
    WHERE current_setting(name, true) IS NOT NULL";

/// Of every session. Our transactions are single statements, so nothing of ours is ever idle in one, except when its
/// process is frozen: then the server ends it.
const SETTINGS: &[(&str, &str)] = &[
    ("statement_timeout", "10s"),
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("transaction_timeout", "12s"),
    // A statement whose caller is gone is ended so soon.
    ("client_connection_check_interval", "500ms"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10000"),
    ("synchronous_commit", "on"),
    ("jit", "off"),
    // Every statement here has an index that finds its rows in the order it wants. A plan made while the tables were
    // empty, or their statistics old, must not make one read whole tables instead.
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// Of the session that migrates. It holds an advisory lock between statements: a frozen process may keep the others
/// waiting for this long and no longer.
const MIGRATION_SETTINGS: &[(&str, &str)] = &[
    ("statement_timeout", "60s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("idle_session_timeout", "10s"),
];

/// A session while it is used for one statement. If nobody waits for its answer any more it is closed, and the server ends
/// the statement: else it would run on, and its answer would be in the way of the next one.
pub(super) struct Session {
    connection: PoolConnection<Postgres>,
    is_answered: bool,
}

/// A free session of the pool, or a new one.
pub(super) async fn acquire(pool: &PgPool) -> Result<Session, sqlx::Error> {
    Ok(Session { connection: pool.acquire().await?, is_answered: false })
}

impl Session {
    /// Gives the session back after its statement, unless the error could stay with it. An answer that does not come is
    /// such an error.
    pub(super) fn judge<T>(mut self, work: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.is_answered = true;
        if let Err(error) = &work
            && sqlstate::of(error).0 == sqlstate::Session::Discard
        {
            self.discard();
        }
        work
    }

    /// Closes the session when it is done with.
    pub(super) fn discard(&mut self) {
        self.connection.close_on_drop();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_answered {
            self.discard();
        }
    }
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

pub(super) fn name(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().application_name(APPLICATION_NAME).disable_statement_logging()
}

pub(super) fn pool(connections: u32, acquire_timeout: Duration) -> PgPoolOptions {
    PoolOptions::<Postgres>::new()
        .max_connections(connections)
        .acquire_timeout(acquire_timeout)
        .after_connect(|connection, _| Box::pin(configure(connection, SETTINGS)))
        .after_release(|connection, _| {
            Box::pin(async { Ok(timeout(RETURN_TIMEOUT, connection.ping()).await.is_ok_and(|answer| answer.is_ok())) })
        })
}

pub(super) async fn connect_to_migrate(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    configure(&mut connection, MIGRATION_SETTINGS).await?;
    Ok(connection)
}

async fn configure(connection: &mut PgConnection, settings: &[(&str, &str)]) -> Result<(), sqlx::Error> {
    let (names, values): (Vec<&str>, Vec<&str>) = settings.iter().copied().unzip();
    sqlx::query(CONFIGURE).bind(names).bind(values).execute(connection).await?;
    Ok(())
}
