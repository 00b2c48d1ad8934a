//! Settings of the database, and what a database URL may say.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use shared::config::Settings;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::sqlite::SqliteConnectOptions;

/// Which database, and how many connections to it.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where it is.
    pub url: DatabaseUrl,
    /// Connections for recording: as many batches are recorded at once. SQLite always has one.
    pub record_connections: u32,
    /// Connections for everything else.
    pub read_connections: u32,
    /// How long a caller waits for a free connection, the making of a new one included.
    pub acquire_timeout: Duration,
}

impl StoreConfig {
    /// Reads the settings; mistakes are noted in `settings`. `lanes` is how many batches are recorded at once.
    pub fn read(settings: &mut Settings, lanes: usize) -> Self {
        const DEFAULT: &str = "sqlite:purchases.db";
        let help = "postgres://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:FILE (secret)";
        let url = settings.secret_or("DATABASE_URL", DEFAULT, help);
        let url = url.expose().trim().parse().unwrap_or_else(|error: InvalidDatabaseUrl| {
            settings.mistake("DATABASE_URL", error.0);
            DatabaseUrl(Backend::Sqlite(Box::default()))
        });
        let read_connections =
            settings.number("DATABASE_READ_CONNECTIONS", 8, 1..=1000, "connections to the database for reading");
        Self {
            url,
            record_connections: u32::try_from(lanes).unwrap_or(u32::MAX),
            read_connections: u32::try_from(read_connections).unwrap_or(u32::MAX),
            acquire_timeout: settings.millis(
                "DATABASE_ACQUIRE_TIMEOUT_MS",
                2_000,
                10..=60_000,
                "how long to wait for a free connection, ms",
            ),
        }
    }
}

/// A parsed database URL. It may hold a password, so it is never printed.
#[derive(Clone)]
pub struct DatabaseUrl(pub(super) Backend);

/// The kinds of database.
#[derive(Clone)]
pub(super) enum Backend {
    Postgres(Box<PgConnectOptions>),
    Sqlite(Box<SqliteConnectOptions>),
}

/// Why a text is no database URL; the text itself is not repeated, for it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDatabaseUrl(&'static str);

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let backend = match text.split_once(':') {
            Some(("postgres" | "postgresql", _)) => Backend::Postgres(Box::new(parse_postgres(text)?)),
            Some(("sqlite", file)) => Backend::Sqlite(Box::new(parse_sqlite(text, file)?)),
            _ => return Err(InvalidDatabaseUrl("must begin with postgres://, postgresql:// or sqlite:")),
        };
        Ok(Self(backend))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn parse_postgres(url: &str) -> Result<PgConnectOptions, InvalidDatabaseUrl> {
    let ssl_mode = parse_ssl_mode(url)?;
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| InvalidDatabaseUrl("must look like postgres://USER:PASSWORD@HOST:PORT/DATABASE"))?;
    Ok(options.ssl_mode(ssl_mode))
}

/// TLS is there and verified, or not there at all: a mode that falls back to plaintext, or takes any certificate, only
/// looks safe.
fn parse_ssl_mode(url: &str) -> Result<PgSslMode, InvalidDatabaseUrl> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut modes = pairs.filter(|(name, _)| ["sslmode", "ssl-mode"].contains(name)).map(|(_, mode)| mode);
    match modes.next_back() {
        None | Some("disable") => Ok(PgSslMode::Disable),
        Some("require" | "verify-ca" | "verify-full") if cfg!(feature = "tls") => Ok(PgSslMode::VerifyFull),
        Some("require" | "verify-ca" | "verify-full") => {
            Err(InvalidDatabaseUrl("sslmode needs a binary built with the cargo feature tls"))
        }
        Some("prefer" | "allow") => {
            Err(InvalidDatabaseUrl("sslmode prefer and allow fall back to plaintext: say disable or verify-full"))
        }
        Some(_) => Err(InvalidDatabaseUrl("sslmode must be disable or verify-full")),
    }
}

fn parse_sqlite(url: &str, file: &str) -> Result<SqliteConnectOptions, InvalidDatabaseUrl> {
    const WRONG: InvalidDatabaseUrl = InvalidDatabaseUrl("must look like sqlite:FILE, without parameters");
    // A database in memory would forget purchases that were acknowledged.
    if file.trim_start_matches('/').is_empty() || file.contains(['?', '#']) || file.contains(":memory:") {
        return Err(WRONG);
    }
    SqliteConnectOptions::from_str(url).map_err(|_| WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(url: &str) -> &'static str {
        url.parse::<DatabaseUrl>().expect_err(url).0
    }

    #[test]
    fn the_scheme_says_which_database() {
        for url in ["postgres://u:p@h:5432/d", "postgresql://h/d?sslmode=disable"] {
            assert!(matches!(url.parse(), Ok(DatabaseUrl(Backend::Postgres(_)))), "{url}");
        }
        for url in ["sqlite:purchases.db", "sqlite://a/b.db", "sqlite:///var/lib/a%20b.db"] {
            assert!(matches!(url.parse(), Ok(DatabaseUrl(Backend::Sqlite(_)))), "{url}");
        }
        for url in
            ["", "mysql://h/d", "sqlite:", "sqlite://", "sqlite::memory:", "sqlite:a?mode=memory", "postgres://h:x/d"]
        {
            assert!(!mistake(url).is_empty(), "{url}");
        }
    }

    #[test]
    fn tls_is_verified_or_off_and_never_only_perhaps() {
        let mode = |query: &str| parse_ssl_mode(&format!("postgres://h/d{query}")).map(|mode| format!("{mode:?}"));
        assert_eq!(mode(""), Ok("Disable".to_owned()));
        assert_eq!(mode("?sslmode=disable"), Ok("Disable".to_owned()));
        for refused in ["prefer", "allow", "VERIFY-FULL", ""] {
            assert!(mode(&format!("?sslmode={refused}")).is_err(), "{refused}");
            assert!(mode(&format!("?application_name=x&ssl-mode={refused}")).is_err(), "{refused}");
        }
        for strict in ["require", "verify-ca", "verify-full"] {
            let mode = mode(&format!("?sslmode={strict}"));
            let expected = cfg!(feature = "tls").then(|| "VerifyFull".to_owned());
            assert_eq!(mode.ok(), expected, "{strict}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: DatabaseUrl = "postgres://u:secret@h/d".parse().unwrap();
        assert!(!format!("{url:?}").contains("secret"));
        assert!(!mistake("postgres://u:secret@h:port/d").contains("secret"));
    }
}
