//! What can go wrong while starting and watching processes, said so that the reader knows what to do next.

use std::{fmt, io, path::PathBuf};

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, StackError>;

/// Why a part of the stack could not be installed, started, watched or stopped.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// Programs that must be on the machine; one line each, with what to install.
    #[error("missing on this machine:\n{0}")]
    MissingTools(String),
    /// A service's executable has not been built.
    #[error("{path} is missing: build it with `{build}`")]
    MissingBinary {
        /// Where it was looked for.
        path: PathBuf,
        /// The command that makes it.
        build: String,
    },
    /// A fixed port belongs to somebody else.
    #[error("port {port} for {what} is taken: stop what listens there, or choose another one with {setting}")]
    PortTaken {
        /// The port.
        port: u16,
        /// Who wanted it.
        what: String,
        /// The setting that changes it.
        setting: String,
    },
    /// A process ended, or did not do what was awaited in time.
    #[error("{what} {why}\n--- the end of {log}\n{tail}---")]
    Process {
        /// The process's name.
        what: String,
        /// What it did, or did not do.
        why: String,
        /// Its log file.
        log: PathBuf,
        /// That file's last lines.
        tail: String,
    },
    /// The operating system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// An HTTP exchange failed before an answer was complete.
    #[error("{method} {url}: {why}")]
    Http {
        /// What was asked.
        method: http::Method,
        /// The whole address.
        url: String,
        /// How it failed.
        why: String,
    },
    /// SQL refused, or its server went away.
    #[error("{doing}: {source}")]
    Sql {
        /// What was being done.
        doing: String,
        /// What the client library said.
        source: tokio_postgres::Error,
    },
    /// Anything else that only its reader can put right.
    #[error("{0}")]
    Refused(String),
}

/// Says what was being done when the operating system or the SQL server refused.
pub trait Doing<T> {
    /// Wraps the error with `doing`, a phrase like "reading FILE".
    ///
    /// # Errors
    /// The error it was given, wrapped.
    fn doing(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|source| StackError::Io { doing: doing.to_string(), source })
    }
}

impl<T> Doing<T> for std::result::Result<T, tokio_postgres::Error> {
    fn doing(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|source| StackError::Sql { doing: doing.to_string(), source })
    }
}
