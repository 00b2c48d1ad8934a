//! Sessions of our own whose process is frozen in the middle of a transaction.

use sqlx::postgres::PgPool;

use super::answer;
use super::session::{self, APPLICATION_NAME};
use crate::store::StoreError;

/// Each of our transactions is one short statement, so a session that is inside of one and has waited for its client for
/// seconds belongs to a frozen process: one stopped while it was sending, of which the server has seen one half. The
/// server's own time limits do not reach all of these before version 17.
const END_SESSIONS: &str = "
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
    FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = $1
        AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
        AND wait_event_type = 'Client' AND state_change < clock_timestamp() - interval '3 seconds'";

/// Ends such sessions, in any replica, and gives their number. What they held is free a moment later.
pub(super) async fn end_sessions(pool: &PgPool) -> Result<i64, StoreError> {
    let mut session = session::acquire(pool).await?;
    let ended = answer(sqlx::query_scalar(END_SESSIONS).bind(APPLICATION_NAME).fetch_one(&mut *session)).await;
    let ended = session.judge(ended)?;
    if ended > 0 {
        tracing::warn!(
            sessions = ended,
            "ended database sessions of a frozen process that kept this one from recording"
        );
    }
    Ok(ended)
}
