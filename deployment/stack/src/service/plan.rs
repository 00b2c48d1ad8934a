//! Which program a replica runs, and with what settings.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use crate::{
    error::{Result, StackError},
    folder::profile_folder,
    ports::free_port,
    process::Lifetime,
};

/// A program of this workspace. Each is built by the package of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Accepts purchases, serves reads.
    WebServer,
    /// Records purchases.
    ManagementApi,
    /// Both, with an in-process broker and SQLite.
    Embedded,
}

impl Program {
    /// The name of its executable and of its package.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebServer => "web-server",
            Self::ManagementApi => "management-api",
            Self::Embedded => "embedded",
        }
    }

    /// Its executable, built in the same profile as this program.
    ///
    /// # Errors
    /// When it has not been built; the error names the command that does.
    pub fn executable(self) -> Result<PathBuf> {
        let folder = profile_folder()?;
        let path = folder.join(self.name());
        if path.is_file() {
            return Ok(path);
        }
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            None | Some("debug") => String::new(),
            Some("release") => " --release".to_owned(),
            Some(other) => format!(" --profile {other}"),
        };
        Err(StackError::MissingBinary { path, build: format!("cargo build{profile} -p {}", self.name()) })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A replica before it is started. It sees these settings and nothing else of our environment.
#[derive(Debug, Clone)]
pub struct ServicePlan {
    /// Which program.
    pub program: Program,
    /// What it is called in logs and errors, such as `web-1`.
    pub name: String,
    /// Where it listens; `LISTEN_ADDRESS` is set from it.
    pub address: SocketAddr,
    /// Its other settings.
    pub settings: BTreeMap<String, String>,
    /// Whether it ends with this program.
    pub lifetime: Lifetime,
}

impl ServicePlan {
    /// A replica on a free port of 127.0.0.1 that ends with this program.
    ///
    /// # Errors
    /// When no port is free.
    pub fn new(program: Program, name: &str) -> Result<Self> {
        Ok(Self {
            program,
            name: name.to_owned(),
            address: (Ipv4Addr::LOCALHOST, free_port()?).into(),
            settings: BTreeMap::new(),
            lifetime: Lifetime::WithParent,
        })
    }

    /// Adds a setting or replaces it.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }
}
