//! What an error of PostgreSQL means for the session that it came from and for the batch: one table for all of them.
//!
//! The codes are those of the manual's appendix A; a class is the first two characters of a code.

use sqlx::error::DatabaseError;

/// What becomes of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Something passes: the same again, later.
    Retry,
    /// Another session holds a lock for too long.
    Blocked,
    /// One of the ids is stored already.
    Stored,
    /// An expected offset was not there.
    Fenced,
    /// Some row can never be stored: a dead letter, once it is found.
    Reject,
    /// Somebody has to do something. It is told, and tried again until they have.
    Tell,
}

/// What becomes of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// The error is over with the statement.
    Keep,
    /// The error may stay with it, whatever becomes of the server: the next attempt gets a new one.
    Discard,
}

use Meaning::{Blocked, Fenced, Reject, Retry, Stored, Tell};
use Session::{Discard, Keep};

/// Codes before classes: the first line whose prefix fits decides.
const TABLE: &[(&str, Session, Meaning)] = &[
    // Our own functions.
    ("PUR01", Keep, Fenced),
    // Connection exceptions.
    ("08", Discard, Retry),
    // A prepared statement's result has changed with the tables.
    ("0A000", Discard, Retry),
    // Data exceptions: what a value holds.
    ("22", Keep, Reject),
    ("23505", Keep, Stored),
    ("23", Keep, Reject),
    // Transaction states: read-only after a failover or by a setting of this session, aborted, or ended for idleness.
    ("25", Discard, Retry),
    // The prepared statement is gone; somebody between us and the server has reset the session.
    ("26000", Discard, Retry),
    // Wrong password, no such role, no such database.
    ("28", Discard, Tell),
    ("3D", Discard, Tell),
    // Serialization failures, deadlocks, and commits whose end is not known.
    ("40", Keep, Retry),
    // A missing table, function or right. A session may remember what it resolved names to.
    ("42", Discard, Tell),
    // Disk full: nothing of the session's.
    ("53100", Keep, Tell),
    // Out of memory, too many connections, a configured limit.
    ("53", Discard, Retry),
    // Limits of the program: a row too large for its index, an array too large.
    ("54", Keep, Reject),
    ("55P03", Keep, Blocked),
    ("55", Keep, Retry),
    // A statement cancelled, by its time limit or somebody's wish.
    ("57014", Keep, Retry),
    // Shutdown, crash, start-up, a dropped database, an idle session ended.
    ("57P04", Discard, Tell),
    ("57", Discard, Retry),
    // Errors outside of PostgreSQL: input and output, missing files.
    ("58", Discard, Tell),
    // Snapshot too old.
    ("72", Keep, Retry),
    ("F0", Discard, Tell),
    // Internal errors, and data or an index that is corrupted.
    ("XX", Discard, Tell),
];

/// What nobody has thought of stays with nobody.
const UNKNOWN: (Session, Meaning) = (Discard, Tell);

/// What a code says.
fn decide(code: &str) -> (Session, Meaning) {
    let line = TABLE.iter().find(|(prefix, _, _)| code.starts_with(prefix));
    line.map_or(UNKNOWN, |(_, session, meaning)| (*session, *meaning))
}

/// What an error says. One that is not the server's is the connection's, or the pool's: it passes.
pub(super) fn of(error: &sqlx::Error) -> (Session, Meaning) {
    match error.as_database_error().and_then(DatabaseError::code) {
        Some(code) => decide(&code),
        None => (Discard, Retry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_was_met_is_decided() {
        let decisions: &[(&str, Session, Meaning)] = &[
            ("PUR01", Keep, Fenced),
            ("08000", Discard, Retry),
            ("08006", Discard, Retry),
            ("08P01", Discard, Retry),
            ("0A000", Discard, Retry),
            ("22003", Keep, Reject),
            ("22021", Keep, Reject),
            ("22P05", Keep, Reject),
            ("23502", Keep, Reject),
            ("23505", Keep, Stored),
            ("23514", Keep, Reject),
            ("25006", Discard, Retry),
            ("25P02", Discard, Retry),
            ("25P03", Discard, Retry),
            ("25P04", Discard, Retry),
            ("26000", Discard, Retry),
            ("28P01", Discard, Tell),
            ("3D000", Discard, Tell),
            ("40001", Keep, Retry),
            ("40P01", Keep, Retry),
            ("42501", Discard, Tell),
            ("42883", Discard, Tell),
            ("42P01", Discard, Tell),
            ("53100", Keep, Tell),
            ("53200", Discard, Retry),
            ("53300", Discard, Retry),
            ("54000", Keep, Reject),
            ("55000", Keep, Retry),
            ("55P03", Keep, Blocked),
            ("57014", Keep, Retry),
            ("57P01", Discard, Retry),
            ("57P02", Discard, Retry),
            ("57P03", Discard, Retry),
            ("57P04", Discard, Tell),
            ("57P05", Discard, Retry),
            ("58030", Discard, Tell),
            ("58P01", Discard, Tell),
            ("72000", Keep, Retry),
            ("XX000", Discard, Tell),
            ("XX001", Discard, Tell),
            ("XX002", Discard, Tell),
            ("P0001", Discard, Tell),
            ("", Discard, Tell),
        ];
        for (code, session, meaning) in decisions {
            assert_eq!(decide(code), (*session, *meaning), "{code}");
        }
    }

    #[test]
    fn no_line_hides_another() {
        for (index, (prefix, _, _)) in TABLE.iter().enumerate() {
            let first = TABLE.iter().position(|(other, _, _)| prefix.starts_with(other));
            assert_eq!(first, Some(index), "{prefix}");
        }
    }

    #[test]
    fn what_is_not_the_servers_word_costs_the_session_and_nothing_else() {
        for error in [sqlx::Error::PoolTimedOut, sqlx::Error::WorkerCrashed, sqlx::Error::Protocol(String::new())] {
            assert_eq!(of(&error), (Discard, Retry), "{error}");
        }
    }
}
